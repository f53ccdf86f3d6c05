"""ThiNet: filter pruning, on whole photos, at the multiply-adds of T on thumbnails. In each block
the channels between its layers go whose removal changes the next layer's output least, by greedy
choice; what is left is scaled by least squares. torch-pruning takes the channels out. Source: Luo
et al., ICCV 2017. As there, the blocks' outputs keep their channels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torch_pruning
from run import SIDE, System
from torch import Tensor, nn

from learned_downscale.thumbnet.costs import multiply_adds
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader

PHOTOS, PLACES = 16, 16  # photos, and places of the output in each, that the criterion looks at


def pairs(network: Reader) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
    """A layer that loses output channels, and the next one, from the input to the output."""
    for stage in network.network.stages:
        for block in stage:
            yield block.layers[0], block.layers[1]
            yield block.layers[1], block.layers[2]


@torch.no_grad()
def contributions(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """(samples, channels): what each input channel adds to outputs of the layer, at places and in
    filters drawn by chance; x: its input (N, C, h, w)."""
    taps = layer.kernel_size[0]
    columns = F.unfold(x, taps, padding=layer.padding, stride=layer.stride)
    places = torch.randint(columns.shape[-1], (PLACES,))
    columns = columns[..., places].reshape(len(x), x.shape[1], taps**2, PLACES)
    filters = layer.weight[torch.randint(layer.out_channels, (PLACES,))]
    filters = filters.reshape(PLACES, x.shape[1], taps**2)
    return torch.einsum("nctp,pct->npc", columns, filters).reshape(-1, x.shape[1])


@torch.no_grad()
def removal_order(z: Tensor) -> list[int]:
    """Channels, from the first to go to the last: each changes the sum of the removed ones least.
    z: as `contributions` gives it."""
    gram = (z.T @ z).double()
    removed: list[int] = []
    left = list(range(len(gram)))
    cross = torch.zeros(len(gram), dtype=torch.float64)
    while left:
        cost = gram.diagonal()[left] + 2 * cross[left]
        removed.append(left.pop(int(cost.argmin())))
        cross += gram[:, removed[-1]]
    return removed


@torch.no_grad()
def all_contributions(network: Reader, x: Tensor) -> list[Tensor]:
    """`contributions` to the second layer of each pair, for photos x."""
    found: list[Tensor] = []
    hooks = [
        following.register_forward_pre_hook(
            lambda layer, given: found.append(contributions(layer, given[0]))
        )
        for _, following in pairs(network)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def pruned(teacher: Reader, orders: list[list[int]], sums: list[Tensor], share: float) -> nn.Module:
    """T with `share` of the channels inside its blocks."""
    network = teacher.copied()
    example = torch.zeros(1, 3, SIDE, SIDE)
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(network, example)
    for (layer, following), order, z in zip(pairs(network), orders, sums, strict=True):
        keep = max(1, round(share * len(order)))
        gone, kept = order[: len(order) - keep], sorted(order[len(order) - keep :])
        scale = torch.linalg.lstsq(z[:, kept], z.sum(1, keepdim=True)).solution[:, 0]
        prune = torch_pruning.prune_conv_out_channels
        graph.get_pruning_group(layer, prune, idxs=gone).prune()
        following.weight *= scale[None, :, None, None]
    return network.requires_grad_(True)


def smaller(teacher: Reader, images: Tensor, most: float) -> nn.Module:
    """T with as many channels as `most` multiply-adds allow, for images (M, 3, h, w) uint8."""
    torch.manual_seed(0)
    x = images[torch.randperm(len(images))[:PHOTOS]].float() / 255
    sums = all_contributions(teacher, x)
    orders = [removal_order(z) for z in sums]
    low, high = 0.01, 1.0
    for _ in range(7):
        share = (low + high) / 2
        fits = multiply_adds(pruned(teacher, orders, sums, share), x[:1]) <= most
        low, high = (share, high) if fits else (low, share)
    network = pruned(teacher, orders, sums, low)
    needed = multiply_adds(network, x[:1])
    if needed > most:
        raise ValueError(f"at least {needed / 1e9:.2f} G are needed, above {most / 1e9:.2f} G")
    print(f"  share {low:.3f}: {needed / 1e9:.3f} of {most / 1e9:.3f} G", flush=True)
    return network


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    thumbnail = torch.zeros(1, 3, SIDE // factor, SIDE // factor)
    return System(smaller(teacher, photos.images, multiply_adds(teacher, thumbnail)))
