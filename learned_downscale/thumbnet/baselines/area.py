"""OpenCV's INTER_AREA: the mean of the pixels that a thumbnail pixel covers."""

import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.core.downscaler import quantise


class Downscale(nn.Module):
    """OpenCV's to within one level (it rounds halves to even)."""

    taps = 1

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, H/f, W/f); the sides are multiples of f."""
        return quantise(F.avg_pool2d(x, self.factor), 255)
