"""MULLER: bilinear, and two bands of detail with a learned weight and offset each. A baseline only:
the method is under a patent application. Source: Tu et al., ICCV 2023."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from run import System
from torch import Tensor, nn

from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader

BANDS, TAPS, SIGMA = 2, 5, 1.0


class Muller(nn.Module):
    """(N, 3, H, W) in [0, 1] -> (N, 3, H/f, W/f)."""

    blur: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.zeros(BANDS))
        self.offset = nn.Parameter(torch.zeros(BANDS))
        line = torch.exp(-0.5 * ((torch.arange(TAPS) - TAPS // 2) / SIGMA) ** 2)
        kernel = torch.outer(line, line) / line.sum() ** 2
        self.register_buffer("blur", kernel.expand(3, 1, TAPS, TAPS).clone())

    def forward(self, x: Tensor) -> Tensor:
        small = self.resized(x)
        for weight, offset in zip(self.weight, self.offset, strict=True):
            padded = F.pad(x, [TAPS // 2] * 4, mode="reflect")
            blurred = F.conv2d(padded, self.blur, groups=3)
            small = small + torch.tanh(weight * self.resized(x - blurred) + offset)
            x = blurred
        return small

    def resized(self, x: Tensor) -> Tensor:
        size = [side // self.factor for side in x.shape[-2:]]
        return F.interpolate(x, size, mode="bilinear", antialias=True)


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    front = Muller(factor)
    return System(nn.Sequential(front, teacher.copied()), None, front, [*front.parameters()])
