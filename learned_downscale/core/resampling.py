"""Antialiased bicubic of a part of an axis: which samples it reads, and with which weights.

Pillow's filter (a = -0.5): the kernel is widened by the scale, and weights that would fall outside
the data are left out and the others brought back to a sum of 1. Of 8-bit samples it is computed in
whole numbers as `torch.nn.functional.interpolate` does it, and equals that bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FINE_BITS = 22  # of the weights, after the point, where Pillow computes
SUPPORT = 2  # of the kernel, on each side, in samples of the coarser grid


@dataclass(frozen=True)
class Axis:
    """Samples [start, stop) of an axis that is brought from `source` to `target` samples.

    source: not whole where the last sample stands for less than a whole one.
    first: of the source samples that the data holds.
    alone: the data, resampled by itself, gives these samples: it is the whole axis, or a part
        whose ends fall on the target's grid.
    grid: each target sample covers the same whole number of source samples.
    """

    source: float
    target: int
    start: int
    stop: int
    first: int
    alone: bool
    grid: bool

    @property
    def scale(self) -> float | None:
        """Of the targets, where it does not follow from the numbers of samples."""
        return None if self.source % 1 == 0 else self.target / self.source


def span(source: float, target: int, start: int, stop: int) -> tuple[int, int]:
    """[first, last) of the source samples that target samples [start, stop) are made of."""
    scale = source / target
    reach = SUPPORT * max(scale, 1.0) + 1
    return (
        max(0, math.floor((start + 0.5) * scale - reach)),
        min(math.ceil(source), math.ceil((stop - 0.5) * scale + reach)),
    )


def taps(axis: Axis, length: int) -> tuple[Array, Array]:
    """index (n, k) of data samples, and their weights (n, k), float64, for each of the n target
    samples of the axis; each row has the sum 1. `length` is the data's, in samples."""
    scale = axis.source / axis.target
    widened = max(scale, 1.0)
    centre = (np.arange(axis.start, axis.stop) + 0.5) * scale
    first = np.maximum((centre - SUPPORT * widened + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + SUPPORT * widened + 0.5).astype(np.int64), math.ceil(axis.source))
    index = first[:, None] + np.arange(2 * math.ceil(SUPPORT * widened) + 1)
    weights = cubic((index - centre[:, None] + 0.5) / widened)
    index -= axis.first
    outside = (index + axis.first >= last[:, None]) | (index < 0) | (index >= length)
    weights[outside] = 0
    weights /= weights.sum(1, keepdims=True)
    return index.clip(0, length - 1), weights


def whole_taps(axis: Axis, length: int, bits: int | None = None) -> tuple[Array, Array, int]:
    """As `taps`, with weights that are whole numbers, and how many bits of them are after the
    point: of 16, as many as the axis' largest weight leaves room for, as torch has them."""
    index, weights = taps(axis, length)
    bits = _bits(axis.source, axis.target) if bits is None else bits
    return index, np.trunc(weights * (1 << bits) + np.copysign(0.5, weights)), bits


@lru_cache(maxsize=1024)
def _bits(source: float, target: int) -> int:
    largest = 0.0
    for start in range(0, target, 4096):  # parts, so that little memory is needed
        axis = Axis(source, target, start, min(target, start + 4096), 0, True, False)
        largest = max(largest, taps(axis, math.ceil(source))[1].max())
    bits = 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    return bits


def quarters(source: int, target: int, start: int, stop: int, factor: int) -> tuple[Array, Array]:
    """Where the patches of thumbnail samples [start, stop) begin, of `factor` source samples each:
    whole samples, and quarters of a sample beyond (0 to 3), both (stop - start,).

    The patch lies around the middle of its thumbnail sample, at the nearest quarter (half to even,
    so that a mirrored axis has mirrored patches), and within the source.

    Source: ours.
    """
    middle = (2 * np.arange(start, stop) + 1) * source - factor * target  # of 2 * target
    whole, rest = np.divmod(2 * middle, target)
    whole += (2 * rest > target) | ((2 * rest == target) & (whole % 2 == 1))
    begin = whole.clip(0, 4 * (source - factor))
    return begin // 4, begin % 4


def cubic(x: Array) -> Array:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resample(x: Array, axis: Axis, dimension: int, bits: int | None = None) -> Array:
    """One axis of x, in numpy: uint8 -> uint8, clipped and rounded; float32 stays as it comes.
    bits: of the weights, after the point; default: torch's (`whole_taps`)."""
    exact = x.dtype == np.uint8
    kind: type[np.int32 | np.float32] = np.int32 if exact else np.float32
    length = x.shape[dimension]
    found = whole_taps(axis, length, bits) if exact else (*taps(axis, length), 0)
    index, weights, bits = found
    shape = [1] * x.ndim
    shape[dimension] = len(index)
    total: Array = np.full((), (1 << bits) >> 1, kind)
    for k in range(index.shape[1]):
        weight = weights[:, k].reshape(shape).astype(kind)
        if weight.any():
            total = total + x.take(index[:, k], dimension) * weight
    return (total >> bits).clip(0, 255).astype(np.uint8) if exact else total
