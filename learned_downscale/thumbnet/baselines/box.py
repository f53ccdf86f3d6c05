"""Pillow's BOX filter."""

import torch
from torch import Tensor, nn

from learned_downscale.thumbnet.baselines._separable import separable


class Downscale(nn.Module):
    """Pillow's; it differs from `area` by a second rounding."""

    taps = 1

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, H/f, W/f); the sides are multiples of f."""
        return separable(x, self.factor, torch.ones_like, 0.5)
