"""S made narrower than T: fewer channels inside its residual blocks, fitted to T without labels.

Whole channels are taken out by the optimal brain surgeon (Hassibi and Stork 1993), so the others
make up for them, and each layer is fitted, by least squares, to what T's layer gives, whatever the
layers before it have lost (He et al. 2017). It is FM in closed form: S's layers see what is rebuilt
of thumbnails, T's the photos. Source: the two; that S's input differs from T's is ours.
"""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.thumbnet.networks import Classifier

PHOTOS = 512  # a few minutes on one core
_PLACES = 40  # of each photo's map, at which a layer is fitted
_RIDGE = 1e-3  # of the mean variance: keeps weights that nothing asks for where they are
_BATCH = 32


def check(S: Classifier) -> None:
    """Raise ValueError if S is no ResNet of transformers, which `cut` and `fit` know."""
    _blocks(S)


def cut(S: Classifier, width: float) -> None:
    """Leave `width` of the channels inside S's residual blocks, the first ones: the layers that
    `fit` leaves, for weights to be loaded."""
    for block in _blocks(S):
        for before, after in pairwise(block.layer):
            weight = after.convolution.weight.detach()
            stay = torch.arange(_kept(weight.shape[1], width), device=weight.device)
            _keep(before, after, stay, weight[:, stay])


@torch.no_grad()
def fit(S: Classifier, width: float, seen: Tensor, photos: Tensor) -> None:
    """Leave `width` of the channels inside S's residual blocks, those that are missed least, and
    fit the layers that read them, so that S sees in `seen` what it saw in `photos`.

    Args:
        width: a part; each layer keeps the nearest multiple of 8 channels, at least 8.
        seen: (M, 3, h, w) in [0, 1], what S's layers see of the thumbnails of M photos.
        photos: the photos at the same sides.
    """
    T = copy.deepcopy(S)
    mine, wanted = _embedded(S, seen), _embedded(T, photos)
    for block, whole in zip(_blocks(S), _blocks(T), strict=True):
        for i in range(1, len(block.layer)):
            _fit_layer(block, whole, i, width, mine, wanted)
        mine, wanted = _mapped(block, mine), _mapped(whole, wanted)


def _fit_layer(block: Any, whole: Any, i: int, width: float, mine: Tensor, wanted: Tensor) -> None:
    """Take channels out between the layers i - 1 and i of S's block, and fit layer i to T's."""
    before, after = block.layer[i - 1], block.layer[i]
    convolution = after.convolution
    places = convolution.kernel_size[0] * convolution.kernel_size[1]
    zeros = partial(torch.zeros, dtype=torch.float64, device=mine.device)
    inputs, outputs = convolution.in_channels * places, convolution.out_channels
    squares = zeros(inputs, inputs)
    products = zeros(outputs, inputs)
    mean_x, mean_y, count = zeros(inputs), zeros(outputs), 0
    generator = torch.Generator().manual_seed(0)
    for x, y in zip(mine.split(_BATCH), wanted.split(_BATCH), strict=True):
        rows, columns = _inputs(block, i, x), _target(block, whole, i, x, y)
        shape = len(rows), rows.shape[-1]
        chosen = torch.rand(shape, generator=generator).topk(min(_PLACES, shape[1])).indices
        rows, columns = (
            t.gather(2, chosen.to(t.device)[:, None].expand(-1, t.shape[1], -1))
            .transpose(1, 2)
            .flatten(0, 1)
            for t in (rows, columns)
        )
        squares += (rows.T @ rows).double()
        products += (columns.T @ rows).double()
        mean_x, mean_y = mean_x + rows.double().sum(0), mean_y + columns.double().sum(0)
        count += len(rows)
    mean_x, mean_y = mean_x / count, mean_y / count
    squares = squares / count - torch.outer(mean_x, mean_x)
    products = products / count - torch.outer(mean_y, mean_x)
    ridge = _RIDGE * squares.diagonal().mean()
    squares.diagonal().add_(ridge)
    products += ridge * convolution.weight.flatten(1).double()
    weight = torch.linalg.solve(squares, products.T).T

    keep = _kept(convolution.in_channels, width)
    stay, weight = surgeon(weight.float(), squares.float(), places, keep)
    mean_x = mean_x.view(-1, places)[stay].flatten()
    _keep(before, after, stay, weight.view(outputs, keep, *convolution.kernel_size))
    # the convolution has no bias: its batch norm takes it
    after.normalization.running_mean -= (mean_y - weight.double() @ mean_x).float()


def _inputs(block: Any, i: int, x: Tensor) -> Tensor:
    """What the convolution of layer i sees at each place of its map, (N, channels * places, L)."""
    convolution = block.layer[i].convolution
    seen: list[Tensor] = []
    # not the output of layer i - 1: S may crop it first
    hook = convolution.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0]))
    convolution(block.layer[:i](x))
    hook.remove()
    return F.unfold(
        seen[0], convolution.kernel_size, padding=convolution.padding, stride=convolution.stride
    )


def _target(block: Any, whole: Any, i: int, x: Tensor, y: Tensor) -> Tensor:
    """What that convolution must give, (N, outputs, L), where S's block sees x and T's y."""
    output: Tensor = whole.layer[i].convolution(whole.layer[:i](y))
    if i + 1 == len(whole.layer):
        # its sum with the shortcut counts: what S's has lost is made up for, too
        norm = whole.layer[i].normalization
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        scale = torch.where(scale.abs() > 1e-3, scale, torch.inf)  # others add nothing
        output = output + (whole.shortcut(y) - block.shortcut(x)) / scale[:, None, None]
    return output.flatten(2)


def surgeon(weight: Tensor, squares: Tensor, places: int, keep: int) -> tuple[Tensor, Tensor]:
    """Which `keep` channels of a layer's input stay, and its weights on them.

    Taking out channel c and having the others make up for it costs tr(W_c (H^-1)_cc^-1 W_c^T);
    the cheapest ones go, a sixteenth of those left at a time, until few enough stay:
    W <- W - W_c (H^-1)_cc^-1 (H^-1)_c.

    Args:
        weight: W, (outputs, channels * places), the least squares' own.
        squares: H, mean products of the inputs, (channels * places, channels * places).
        places: of the kernel; 1, 9.

    Returns:
        The channels that stay, in their order, and W (outputs, keep * places).
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(squares))
    at = torch.arange(places, device=weight.device)
    left = torch.arange(len(squares) // places, device=weight.device)
    while len(left) > keep:
        count = len(left)
        each = torch.arange(count, device=weight.device)
        own = inverse.view(count, places, count, places)[each, :, each]
        parts = weight.view(-1, count, places).transpose(0, 1)
        cost = (parts @ torch.linalg.inv(own) * parts).sum((1, 2))
        gone = cost.topk(min(max(1, count // 16), count - keep), largest=False).indices
        stays = torch.ones(count, dtype=torch.bool, device=weight.device)
        stays[gone] = False
        out, rest = ((places * each[mask][:, None] + at).flatten() for mask in (~stays, stays))
        made_up = torch.linalg.solve(inverse[out][:, out], inverse[out][:, rest])
        weight = weight[:, rest] - weight[:, out] @ made_up
        inverse = inverse[rest][:, rest] - inverse[rest][:, out] @ made_up
        left = left[stays]
    return left, weight


def _keep(before: Any, after: Any, stay: Tensor, weight: Tensor) -> None:
    """Layers of a block in which only the channels that `stay` lead from one to the next."""
    norm = before.normalization
    kept = before.convolution.weight.detach()[stay], weight
    for layer, values in zip((before, after), kept, strict=True):
        values = values.contiguous(memory_format=torch.channels_last)
        layer.convolution.weight = nn.Parameter(values)
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name).detach()[stay].clone()))
    for name in ("running_mean", "running_var"):
        setattr(norm, name, getattr(norm, name)[stay].clone())
    before.convolution.out_channels = norm.num_features = after.convolution.in_channels = len(stay)


def _kept(channels: int, width: float) -> int:
    return min(channels, max(8, 8 * round(width * channels / 8)))


def _blocks(network: Classifier) -> list[Any]:
    from transformers.models.resnet import modeling_resnet as resnet

    kinds = (resnet.ResNetBasicLayer, resnet.ResNetBottleNeckLayer)
    blocks = [module for module in network.model.modules() if isinstance(module, kinds)]
    if not blocks:
        raise ValueError(
            "width below 1 is for S whose architecture is a ResNet of transformers; "
            "set width to 1, or name another student"
        )
    return blocks


def _embedded(network: Classifier, x: Tensor) -> Tensor:
    """What the first block sees."""
    from transformers.models.resnet.modeling_resnet import ResNetEmbeddings

    embedder = next(m for m in network.model.modules() if isinstance(m, ResNetEmbeddings))
    return _mapped(embedder, (x - network.mean) / network.std)


def _mapped(module: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([module(part) for part in x.split(_BATCH)])
