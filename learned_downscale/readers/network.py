"""What our classifier networks share: storage, input scale, choice of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale import pretrained
from learned_downscale.core.arguments import check_number, check_whole


class ClassifierNetwork(nn.Module):
    """A classifier of images of any height and width.

    (N, 3, H, W) in [0, 1], RGB -> logits (N, classes). The input is first resampled (bicubic): so
    that its short side has `input_side` px or, where that is 0, by `input_scale`. `features` gives
    the means of the last feature map, which `classify` reads.

    arguments: those of the constructor, but for `architecture`.
    """

    kind: ClassVar[str] = "classifier"
    file: ClassVar[str] = pretrained.MODEL
    sha256: ClassVar[str] = "sha256"
    float16: ClassVar[bool] = True
    architecture: ClassVar[str]

    classify: nn.Linear

    def __init__(self, architecture: str, **arguments: Any) -> None:
        super().__init__()
        if architecture != self.architecture:
            raise ValueError(f"architecture is {architecture!r}, not {self.architecture!r}")
        check_whole("classes", arguments["classes"], 1, 2**16)
        check_whole("stem_stride", arguments["stem_stride"], 1, 16)
        check_number("input_scale", arguments["input_scale"], 1 / 64, 64)
        check_whole("input_side", arguments["input_side"], 0, 2**12)
        self.arguments = arguments

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this network again."""
        return {"architecture": self.architecture, **self.arguments}

    @property
    def input_scale(self) -> float:
        return float(self.arguments["input_scale"])

    @property
    def input_side(self) -> int:
        return int(self.arguments["input_side"])

    def feature_map(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), resampled already -> the last feature map (N, C, h, w)."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, C), the means of the last feature map."""
        side = self.input_side
        x = with_short_side(x, side) if side else rescaled(x, self.input_scale)
        return self.feature_map(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

    def changed(self, **arguments: Any) -> Self:
        """A copy with the same weights and other arguments of the constructor."""
        copy = type(self)(**{**self.config, **arguments})
        copy.load_state_dict(self.state_dict())
        return copy.to(self.classify.weight.device).train(self.training)

    def choose(self, outputs: Sequence[int]) -> None:
        """Keep only these of the classes, in this order."""
        chosen = nn.Linear(self.classify.in_features, len(outputs))
        with torch.no_grad():
            chosen.weight.copy_(self.classify.weight[list(outputs)])
            chosen.bias.copy_(self.classify.bias[list(outputs)])
        self.classify = chosen
        self.arguments["classes"] = len(outputs)


def rescaled(x: Tensor, scale: float) -> Tensor:
    """x (N, 3, H, W) in [0, 1] by bicubic to `scale` times its height and width, antialiased
    below 1."""
    if scale == 1:
        return x
    height, width = (round(side * scale) for side in x.shape[-2:])
    return resized(x, (height, width))


def with_short_side(x: Tensor, side: int) -> Tensor:
    """x (N, 3, H, W) in [0, 1] by bicubic, so that its short side has `side` px."""
    height, width = x.shape[-2:]
    size = round(height * side / min(height, width)), round(width * side / min(height, width))
    # antialiased in both directions: for enlarging that is the same bicubic with another constant,
    # and the ONNX graph, which learns sizes late, has one form
    return F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (N, 3, H, W) in [0, 1] by bicubic to `size` (height, width), antialiased where a side
    becomes smaller."""
    smaller = size[0] < x.shape[-2] or size[1] < x.shape[-1]
    return F.interpolate(x, size, mode="bicubic", antialias=smaller).clamp(0, 1)


def folded(weight: Tensor, norm: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm after it folded in.

    w' = w gamma / sqrt(var + eps), b' = beta - mean gamma / sqrt(var + eps).

    norm: gamma, beta, mean, var.
    """
    gamma, beta, mean, variance = norm
    scale = gamma.double() / (variance.double() + eps).sqrt()
    return (weight * scale.view(-1, 1, 1, 1)).float(), (beta - mean * scale).float()
