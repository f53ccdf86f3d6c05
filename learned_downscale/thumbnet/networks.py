"""T and S around E, and the feature decoder D."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.core.decoder import Decoder
from learned_downscale.core.filters import FILTERS
from learned_downscale.readers import huggingface
from learned_downscale.readers.efficientnet_lite import VARIANTS, load_published
from learned_downscale.readers.labels import match_classes
from learned_downscale.readers.network import ClassifierNetwork, rescaled
from learned_downscale.readers.resnet import ResNet

SIDE = 128  # of the image with which feature maps are found, px


class Foreign(nn.Module):
    """A classifier of another library or of the user, with its normalisation, on a choice of its
    classes; called like a `ClassifierNetwork`."""

    mean: Tensor
    std: Tensor
    outputs: Tensor

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], outputs: Sequence[int]
    ) -> None:
        super().__init__()
        self.model, self.input_scale = model.to(memory_format=torch.channels_last), 1.0  # type: ignore[call-overload]
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.register_buffer("outputs", torch.tensor(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = (rescaled(x, self.input_scale) - self.mean) / self.std
        out = self.model(x.contiguous(memory_format=torch.channels_last))
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits[:, self.outputs]

    def changed(self, input_scale: float = 1.0, **ours: int) -> Self:
        """A copy with another input scale."""
        if ours:
            raise ValueError(f"{', '.join(ours)} is for ResNet and EfficientNet-Lite; leave it out")
        other = copy.deepcopy(self)
        other.input_scale = input_scale
        return other


class Reader(nn.Module):
    """A classifier of the photos' classes, which also gives its feature maps. T is one; S is one,
    perhaps with a decoder in front of the network.

    (N, 3, H, W) in [0, 1], RGB -> logits (N, classes), float32.
    """

    def __init__(
        self, network: ClassifierNetwork | Foreign, decoder: Decoder | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.decoder: nn.Module = nn.Identity() if decoder is None else decoder

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(self.decoder(x))
        return logits.float()

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and the last feature map (N, C, h, w)."""
        with self._kept(self.layers[-1]) as kept:
            return self(x), kept[0]

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """The last feature map (N, C, h, w) at each stride from 4 on; without the decoder."""
        with self._kept(*self.layers) as kept:
            self.network(x)
            return kept

    @cached_property
    def layers(self) -> list[str]:
        """Of the feature maps; looked for when they are wanted: not every network has some."""
        return _last_at_each_stride(self.network)

    @contextmanager
    def _kept(self, *layers: str) -> Iterator[list[Tensor]]:
        """What the layers give meanwhile, in their order."""
        kept: list[Tensor] = []
        with ExitStack() as hooks:
            for layer in map(self.network.get_submodule, layers):
                hook = layer.register_forward_hook(lambda module, inputs, out: kept.append(out))
                hooks.callback(hook.remove)
            yield kept

    def copied(
        self, decoder: Decoder | None = None, input_scale: float = 1.0, **ours: int
    ) -> Reader:
        """A network of the same architecture and weights, to be trained. Batch norm stays at its
        statistics: in training mode it forgets them within the first hundreds of steps of small
        batches, and S never recovers (measured)."""
        given = {name: value for name, value in ours.items() if value}
        network = self.network.changed(input_scale=input_scale, **given)
        return Reader(network, decoder).eval().requires_grad_(True)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device


def _last_at_each_stride(network: ClassifierNetwork | Foreign) -> list[str]:
    """The last sub-module at each stride from 4 on to give a feature map of more than one pixel, in
    their order; the very last one, if there is none. Raises ValueError where there is no map, or
    the network refuses an image of 128 px."""
    found: dict[int, str] = {}

    def look(module: nn.Module, inputs: Any, output: Any, name: str) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            found.pop(output.shape[-1], None)
            found[output.shape[-1]] = name

    try:
        with torch.no_grad(), ExitStack() as hooks:
            for name, module in list(network.named_modules())[1:]:
                hooks.callback(module.register_forward_hook(partial(look, name=name)).remove)
            network(torch.zeros(1, 3, SIDE, SIDE, device=next(network.parameters()).device))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the network's feature maps cannot be found, as it refuses an image of {SIDE} px "
            f"({error}); choose another network, or leave L_FM out"
        ) from error
    if not found:
        raise ValueError("the network has no feature map (N, C, h, w); leave L_FM out")
    largest = SIDE * network.input_scale / 4
    return [name for width, name in found.items() if width <= largest] or [*found.values()][-1:]


class FeatureDecoder(nn.Module):
    """The D of FM: reconstructs T's feature map of the photo from S's of the thumbnail.

    (N, inside, h, w) and a size (H, W) -> (N, outside, H, W). Source: the paper names it; the
    layers are ours: two 3x3 convolutions, enlarged (bilinear) in between.
    """

    def __init__(self, inside: int, outside: int, width: int = 256) -> None:
        super().__init__()
        self.inner = nn.Conv2d(inside, width, 3, padding=1)
        self.outer = nn.Conv2d(width, outside, 3, padding=1)

    def forward(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        x = F.interpolate(F.relu(self.inner(feature_map)), size, mode="bilinear")
        return self.outer(x)


class FixedFilter(nn.Module):
    """A filter of `core.filters` in E's place: (N, 3, H, W) -> (N, 3, H/f, W/f), in [0, 1]."""

    def __init__(self, kind: str, factor: int) -> None:
        super().__init__()
        self.kind, self.factor = kind, factor

    def forward(self, x: Tensor) -> Tensor:
        return FILTERS[self.kind](x, self.factor)


def fingerprint(network: nn.Module) -> str:
    """Changes with the architecture, the weights, the normalisation and the choice of classes."""
    digest = hashlib.sha256()
    for module in network.modules():
        if isinstance(module, ClassifierNetwork):
            digest.update(json.dumps(module.config).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_reader(name: str | Path, classes: Sequence[str] | None) -> Reader:
    """T, or another image classifier, on a choice of its classes, frozen.

    Args:
        name: "efficientnet-lite0" (1, 2) or the .pth file of one (`load_published`); a Hugging
            Face model id or folder; or "module:callable", which returns an `nn.Module` that takes
            (N, 3, H, W) normalised by its attributes `mean` and `std` (default: in [0, 1]) and
            gives logits, named by its attribute `labels` (default: the 1000 classes of ImageNet).
        classes: class folders, as `match_classes` knows them; None: all that it knows.

    Raises:
        ImportError: the weights' package or transformers is not installed.
        OSError: there is no such model, or it cannot be downloaded.
        ValueError: it does not know the classes, or its normalisation is unknown.
    """
    text, labels = str(name), [f"class {i}" for i in range(1000)]
    ours: ClassifierNetwork | None = None
    if text in VARIANTS or text.endswith(".pth"):
        ours = load_published(name)
    elif ":" in text and not Path(name).exists():
        module, _, function = text.partition(":")
        try:
            model = getattr(import_module(module), function)()
        except (ImportError, AttributeError) as error:
            raise OSError(f"no network {text!r}: {error}") from error
        labels = getattr(model, "labels", labels)
        mean, std = getattr(model, "mean", [0.0] * 3), getattr(model, "std", [1.0] * 3)
    else:
        model, processor, labels = huggingface.load(name)
        mean, std = (getattr(processor, name, None) for name in ("image_mean", "image_std"))
        if mean is None or std is None:
            raise ValueError(f"{name} has no image_mean and image_std; give it as module:callable")
        ours = ResNet.from_transformers(model, mean, std)
    every = list(range(len(labels)))
    outputs = every if classes is None else match_classes(classes, labels)
    if ours is not None:
        ours.choose(outputs)
    network = Foreign(model, mean, std, outputs) if ours is None else ours
    return Reader(network).eval().requires_grad_(False)
