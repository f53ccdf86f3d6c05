"""The fixed filters that learned downscalers are compared with: one list for training, `verify`
and `bench`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from learned_downscale.core.resampling import Array, cubic

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Filter:
    """A filter that makes images smaller.

    library: whose pixels these are: "Pillow" or "OpenCV".
    resampling: Pillow's number of it (`PIL.Image.Resampling`); None: Pillow has none.
    support: source pixels that a thumbnail pixel is made of, to each side, in units of the factor.
    kernel: weight by the distance in thumbnail pixels, zero from `support` on; None: the nearest
        pixel alone.
    """

    name: str
    library: str
    resampling: int | None
    support: float
    kernel: Callable[[Array], Array] | None

    @property
    def taps(self) -> float:
        """Source pixels along each axis of a thumbnail pixel, in units of the factor."""
        return 2 * self.support

    def __call__(self, x: Tensor, factor: int) -> Tensor:
        """x (N, C, H, W) in [0, 1] -> (N, C, H/f, W/f), sides rounded up, in 8-bit levels.

        The library's pixels to within one level; area, where the sides are multiples of f.
        """
        from learned_downscale.core.tensors import bicubic, quantise

        height, width = (-(-side // factor) for side in x.shape[-2:])
        if self.name == "bicubic":
            return bicubic(x, (height, width))
        once = self.name == "area"  # OpenCV rounds the mean once, Pillow after rows and columns
        rows, columns = (
            _matrix(self, length, target).to(x)
            for length, target in ((x.shape[-2], height), (x.shape[-1], width))
        )
        across = x @ columns.T
        across = across if once else quantise(across.clamp(0, 1), 255)
        return quantise((rows @ across).clamp(0, 1), 255)

    def enlarge(self, x: Tensor, factor: int) -> Tensor:
        """x (N, C, h, w) in [0, 1] -> (N, C, f*h, f*w), in 8-bit levels, as Pillow enlarges, to
        within one level.

        Raises:
            ValueError: the filter has no kernel (nearest).
        """
        from learned_downscale.core.tensors import quantise

        if self.kernel is None:
            raise ValueError(f"{self.name} has no kernel to enlarge with; choose another filter")
        rows, columns = (_matrix(self, length, factor * length).to(x) for length in x.shape[-2:])
        across = quantise((x @ columns.T).clamp(0, 1), 255)
        return quantise((rows @ across).clamp(0, 1), 255)


def _matrix(chosen: Filter, length: int, target: int) -> Any:
    """(target, length): the weight of each pixel in each pixel of the result. Where that is
    smaller, the kernel is as much wider."""
    import torch

    scale = length / target
    centre = (np.arange(target)[:, None] + 0.5) * scale
    if chosen.kernel is None:
        weights = (np.arange(length) == np.floor(centre)).astype(np.float64)
    else:
        distance = (np.arange(length) + 0.5 - centre) / max(scale, 1)
        weights = chosen.kernel(distance) * (np.abs(distance) < chosen.support)
    return torch.from_numpy(weights / weights.sum(1, keepdims=True))


def _hamming(x: Array) -> Array:
    return np.sinc(x) * (0.54 + 0.46 * np.cos(math.pi * x))


def _lanczos(x: Array) -> Array:
    return np.sinc(x) * np.sinc(x / 3)


def _triangle(x: Array) -> Array:
    return 1 - np.abs(x)


# The numbers are those of PIL.Image.Resampling.
FILTERS = {
    chosen.name: chosen
    for chosen in (
        Filter("area", "OpenCV", None, 0.5, np.ones_like),
        Filter("bicubic", "Pillow", 3, 2, cubic),
        Filter("bilinear", "Pillow", 2, 1, _triangle),
        Filter("box", "Pillow", 4, 0.5, np.ones_like),
        Filter("hamming", "Pillow", 5, 1, _hamming),
        Filter("lanczos", "Pillow", 1, 3, _lanczos),
        Filter("nearest", "Pillow", 0, 0.5, None),
    )
}
