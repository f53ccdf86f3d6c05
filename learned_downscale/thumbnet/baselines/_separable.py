"""Filters as Pillow applies them: rows, rounding to 8 bits, columns, rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from learned_downscale.core.downscaler import quantise

Kernel = Callable[[Tensor], Tensor]


def separable(x: Tensor, factor: int, kernel: Kernel, support: float) -> Tensor:
    """x (N, C, H, W) in [0, 1] -> (N, C, H/f, W/f); the sides are multiples of f.

    kernel: of the distance in thumbnail pixels; zero from `support` on.
    """
    for rows in (True, False):
        weights = _matrix(x.shape[-1 if rows else -2], factor, kernel, support).to(x)
        x = x @ weights.T if rows else weights @ x
        x = quantise(x.clamp(0, 1), 255)
    return x


def _matrix(length: int, factor: int, kernel: Kernel, support: float) -> Tensor:
    """(length / f, length): what each pixel counts for each thumbnail pixel."""
    centre = (torch.arange(length // factor, dtype=torch.float64)[:, None] + 0.5) * factor
    place = torch.arange(length, dtype=torch.float64) + 0.5
    distance = (place - centre) / factor
    weights = kernel(distance) * (distance.abs() < support)
    return weights / weights.sum(1, keepdim=True)
