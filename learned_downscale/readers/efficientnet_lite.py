"""S as a product: EfficientNet-Lite with its first stride removed, for thumbnails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale import pretrained

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
_MEAN, _STD = 127 / 255, 128 / 255


class ThumbnailNetwork(nn.Module):
    """EfficientNet-Lite without batch norm (it is folded into the convolutions).

    With `stem_stride` 2 it is the published network, T; with 1 it is S: the same layers see a
    thumbnail at twice the resolution, at a quarter of T's operations for a quarter of T's sides.
    It may `rescale` its thumbnails first: sides times that factor, by bicubic.

    Inside, images stand on their heads: T was trained with TensorFlow's padding, which before a
    stride of 2 pads even sides at the right and the bottom only. Turned, that is at the left and
    the top, which the usual padding does, and a copy of every map is saved.

    Called with (N, 3, H, W) in [0, 1], RGB, of any H and W, gives logits (N, classes).
    Source: the layers are EfficientNet-Lite's; removing the stride is ours.
    """

    kind: ClassVar[str] = "classifier"
    file: ClassVar[str] = pretrained.MODEL
    sha256: ClassVar[str] = "sha256"
    half: ClassVar[bool] = True

    def __init__(
        self, width: float, depth: float, stem_stride: int, classes: int, input_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "width": width,
            "depth": depth,
            "stem_stride": stem_stride,
            "classes": classes,
            "input_scale": input_scale,
        }
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

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 1280), means over the positions of the last map."""
        x = rescaled(x, self.config["input_scale"])
        x = ((x - _MEAN) / _STD).flip(2, 3).contiguous(memory_format=torch.channels_last)
        return self.head(self.blocks(self.stem(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

    def choose(self, outputs: Sequence[int]) -> None:
        """Keep only these of the classes, in this order."""
        chosen = nn.Linear(FEATURES, len(outputs))
        with torch.no_grad():
            chosen.weight.copy_(self.classify.weight[list(outputs)])
            chosen.bias.copy_(self.classify.bias[list(outputs)])
        self.classify = chosen
        self.config["classes"] = len(outputs)


def rescaled(x: Tensor, scale: float) -> Tensor:
    """x (N, 3, H, W) in [0, 1] by bicubic to sides times `scale`, antialiased below 1."""
    if scale == 1:
        return x
    height, width = (round(side * scale) for side in x.shape[-2:])
    return resized(x, (height, width))


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (N, 3, H, W) in [0, 1] by bicubic to `size` (height, width), antialiased where that is
    smaller."""
    smaller = size < (x.shape[-2], x.shape[-1])
    return F.interpolate(x, size, mode="bicubic", antialias=smaller).clamp(0, 1)


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
