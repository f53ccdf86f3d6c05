"""Pillow's LANCZOS filter."""

import torch
from torch import Tensor, nn

from learned_downscale.thumbnet.baselines._separable import separable


class Downscale(nn.Module):
    """Pillow's to within one level."""

    taps = 6

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, H/f, W/f); the sides are multiples of f."""
        return separable(x, self.factor, _lanczos, 3)


def _lanczos(distance: Tensor) -> Tensor:
    return torch.sinc(distance) * torch.sinc(distance / 3)
