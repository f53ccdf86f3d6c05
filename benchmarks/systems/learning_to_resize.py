"""Learning to Resize: a small convolutional resizer with a bilinear skip, trained with the
classifier by its loss alone. Source: Talebi and Milanfar, ICCV 2021; one residual block."""

from __future__ import annotations

import torch.nn.functional as F
from run import System
from torch import Tensor, nn

from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader

WIDTH = 16


class Resizer(nn.Module):
    """(N, 3, H, W) in [0, 1] -> (N, 3, H/f, W/f)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.first = nn.Sequential(
            nn.Conv2d(3, WIDTH, 7, padding=3),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, WIDTH, 1),
            nn.LeakyReLU(0.2),
            nn.BatchNorm2d(WIDTH),
        )
        self.block = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
        )
        self.after = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)
        )
        self.last = nn.Conv2d(WIDTH, 3, 7, padding=3)
        nn.init.zeros_(self.last.weight)  # ours: it begins as bilinear, which T's weights fit
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        small = self.resized(self.first(x))
        y = small + self.block(small)
        return self.last(small + self.after(y)) + self.resized(x)

    def resized(self, x: Tensor) -> Tensor:
        size = [side // self.factor for side in x.shape[-2:]]
        return F.interpolate(x, size, mode="bilinear", antialias=True)


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    front = Resizer(factor)
    return System(nn.Sequential(front, teacher.copied()), None, front, [*front.parameters()])
