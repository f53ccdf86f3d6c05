"""Pillow's bicubic on tensors, and roundings that pass the gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from learned_downscale.core.resampling import Axis, taps


def quantise(x: Tensor, levels: int | None) -> Tensor:
    """Round x in [0, 1] to multiples of 1 / levels; the gradient is that of the identity."""
    if levels is None:
        return x
    return pass_gradient(x, (x * levels + 0.5).floor() / levels)


def bicubic(x: Tensor, size: tuple[int, int], levels: int | None = 255) -> Tensor:
    """Antialiased bicubic (a = -0.5) of x (N, C, H, W) to size (height, width), as Pillow does it.

    Pillow filters the rows, clips and rounds, then filters the columns, clips and rounds;
    so does this, with `levels` = 255 for 8 bits, 65535 for 16, None for no rounding.
    """
    height, width = size
    for target in ((x.shape[-2], width), (height, width)):
        if x.shape[-2:] != target:
            x = quantise(_interpolate(x, target).clamp(0, 1), levels)
    return x


def _interpolate(x: Tensor, size: tuple[int, int]) -> Tensor:
    # torch has no such operator on MPS, and a wrong one for images of one column
    if x.device.type == "mps" or 1 in (size[1], x.shape[-1]):
        return interpolate_by_matrices(x, size)
    return F.interpolate(x, size, mode="bicubic", antialias=True)


def interpolate_by_matrices(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.interpolate(x, size, mode="bicubic", antialias=True)` for devices that lack it."""
    for dimension, target in ((3, size[1]), (2, size[0])):
        length = x.shape[dimension]
        index, weights = (
            torch.from_numpy(a)
            for a in taps(Axis(length, target, 0, target, 0, True, False), length)
        )
        matrix = torch.zeros(target, length, device="cpu", dtype=torch.float64)
        matrix = matrix.scatter_add_(1, index, weights).to(x)
        x = x @ matrix.T if dimension == 3 else matrix @ x
    return x


def pass_gradient(x: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of x."""
    return x + (value - x).detach() if x.requires_grad else value


def round_through(x: Tensor) -> Tensor:
    return pass_gradient(x, x.round())
