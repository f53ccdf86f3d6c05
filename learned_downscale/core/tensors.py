"""Pillow's bicubic on tensors, and roundings that pass the gradient."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learned_downscale.core.resampling import Axis, quarters, taps


def quantise(x: Tensor, levels: int | None) -> Tensor:
    """Round x in [0, 1] to multiples of 1 / levels; the gradient is that of the identity."""
    if levels is None:
        return x
    return pass_gradient(x, (x * levels + 0.5).floor() / levels)


def bicubic(
    x: Tensor,
    size: tuple[int, int],
    levels: int | None = 255,
    extent: tuple[float, float] | None = None,
) -> Tensor:
    """Antialiased bicubic (a = -0.5) of x (N, C, H, W) to size (height, width), as Pillow does it.
    extent: (height, width) of what x shows where its last row and column are of less than a pixel.

    Pillow filters the rows, clips and rounds, then filters the columns, clips and rounds;
    so does this, with `levels` = 255 for 8 bits, 65535 for 16, None for no rounding.
    """
    sides = extent or (x.shape[-2], x.shape[-1])
    for dimension in (1, 0):
        if sides[dimension] != size[dimension]:
            x = quantise(
                _along(x, dimension, sides[dimension], size[dimension]).clamp(0, 1), levels
            )
    return x


def _along(x: Tensor, dimension: int, extent: float, target: int) -> Tensor:
    """One of the last two dimensions of x, which shows `extent` samples, to `target`."""
    axis = Axis(extent, target, 0, target, 0, True, False)
    size = [x.shape[-2], x.shape[-1]]
    size[dimension] = target
    # torch has no such operator on MPS, and a wrong one for images of one column
    if x.device.type == "mps" or 1 in (size[1], x.shape[-1]):
        return along_by_matrix(x, axis, dimension)
    scales: list[float | None] = [None, None]
    scales[dimension] = axis.scale
    # what F.interpolate calls, which takes no scales together with a size
    result: Tensor = torch.ops.aten._upsample_bicubic2d_aa(x, size, False, *scales)
    return result


def along_by_matrix(x: Tensor, axis: Axis, dimension: int) -> Tensor:
    """`F.interpolate(x, size, mode="bicubic", antialias=True)` of one of the last two dimensions,
    for devices that lack it."""
    length = x.shape[2 + dimension]
    index, weights = (torch.from_numpy(a) for a in taps(axis, length))
    matrix = torch.zeros(axis.target, length, device="cpu", dtype=torch.float64)
    matrix = matrix.scatter_add_(1, index, weights).to(x)
    return x @ matrix.T if dimension else matrix @ x


def block_means(x: Tensor, block: int) -> Tensor:
    """Means of block x block pixels of x (N, C, H, W), in 8-bit levels; at the ends, of less."""
    means = F.avg_pool2d(x, block, ceil_mode=True, count_include_pad=False)
    return quantise(means, 255)


def patches(x: Tensor, size: tuple[int, int], factor: int) -> Tensor:
    """The image (N, C, f*h, f*w) that is put together of patches of x (N, C, H, W), in 8-bit
    levels, for thumbnails of size (h, w); see `core.resampling.quarters`."""
    x = round_through(x * 255)
    for dimension, target in enumerate(size, 2):
        begin, quarter = quarters(x.shape[dimension], target, 0, target, factor)
        index = torch.from_numpy((begin[:, None] + np.arange(factor)).ravel()).to(x.device)
        share = torch.from_numpy(quarter.repeat(factor) / 4).to(x)
        share = share.view([-1 if d == dimension else 1 for d in range(4)])
        near = x.index_select(dimension, index)
        far = x.index_select(dimension, (index + 1).clamp(max=x.shape[dimension] - 1))
        x = round_through(near + share * (far - near))
    return x / 255


def pass_gradient(x: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of x."""
    return x + (value - x).detach() if x.requires_grad else value


def round_through(x: Tensor) -> Tensor:
    return pass_gradient(x, x.round())
