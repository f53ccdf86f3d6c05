"""Which values an image may have, and how they become samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from learned_downscale.core.resampling import Array

ChannelOrder = Literal["rgb", "bgr"]
# (N, h, w, C) as `engine.tiles.downscale` gives them -> an image of the kind that came in
Pack = Callable[[Array], Any]
Range = tuple[float, float]

# The values of black and white of each dtype.
RANGES: dict[str, Range] = {
    "uint8": (0, 255),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "float16": (0, 1),
    "bfloat16": (0, 1),
    "float32": (0, 1),
    "float64": (0, 1),
}
# Floats may leave their range by this share of it (half an 8-bit level: rounding, not another
# range).
SLACK = 1 / 512


@dataclass(frozen=True)
class Values:
    """The values of an image's samples.

    levels: 255 or 65535: whole numbers up to it, which stay as they are; None: they are brought
        from [low, high] to [0, 1].
    whole: whether the image has whole numbers.
    """

    levels: int | None
    low: float
    high: float
    whole: bool

    @property
    def mapped(self) -> bool:
        """Whether samples and values differ."""
        return self.levels is None and (self.low, self.high) != (0, 1)

    def check(self, x: Any) -> None:
        """Raise ValueError for values outside the range, and for NaN."""
        if self.levels is not None or (self.low, self.high) == RANGES["int16"]:
            return
        low, high = self.check_finite(x)
        slack = 0 if self.whole else SLACK * (self.high - self.low)
        if low >= self.low - slack and high <= self.high + slack:
            return
        if self.mapped:
            raise ValueError(
                f"value_range is {self.low:g} to {self.high:g}, but the image has values from "
                f"{low:.6g} to {high:.6g}; clip them, or give a wider range"
            )
        raise ValueError(
            f"float images lie in [0, 1], got {low:.4g} to {high:.4g}; divide by 255 (or the "
            "maximum), resize before normalising, and clip what overshoots; or name the values of "
            "black and white: value_range=(low, high)"
        )

    @staticmethod
    def check_finite(x: Any) -> Range:
        """The least and the largest value; raises ValueError for NaN and infinity."""
        low, high = float(x.min()), float(x.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                "the image holds NaN or infinity, which would spread to the pixels around; replace "
                "them first (numpy.nan_to_num)"
            )
        return low, high

    def samples(self, x: Array) -> Array:
        """As `Source.read` gives them: contiguous uint8, or float32."""
        if self.levels == 255:
            return np.ascontiguousarray(x)
        if self.mapped:
            x = (x.astype(np.float64) - self.low) / (self.high - self.low)
        x = np.ascontiguousarray(x, np.float32)
        return x.clip(0, 1) if self.levels is None else x

    def restored(self, x: Array, dtype: Any) -> Array:
        """The values of samples."""
        if self.mapped:
            x = self.low + x.astype(np.float64) * (self.high - self.low)
            x = np.rint(x) if self.whole else x
        return x.astype(dtype, copy=False)


def values_of(dtype: str, value_range: Range | None = None) -> Values:
    """The values of images of a dtype.

    Raises:
        TypeError: the dtype is not in RANGES.
        ValueError: value_range is not a pair of finite numbers, the second one larger; or the
            dtype is uint8.
    """
    if dtype not in RANGES:
        raise TypeError(
            f"images of {dtype} have no agreed range; convert to one of {', '.join(RANGES)} first"
            + (" (masks want nearest-neighbour, not a downscaler)" if dtype == "bool" else "")
        )
    whole = "int" in dtype
    if value_range is None:
        low, high = RANGES[dtype]
        return Values({"uint8": 255, "uint16": 65535}.get(dtype), low, high, whole)
    if dtype == "uint8":
        raise ValueError("value_range is for images of floats and 16 bits; uint8 has 0 to 255")
    return Values(None, *value_range, whole)


def check_range(value_range: Any) -> None:
    """Raise ValueError unless it is None or a pair of finite numbers, the second one larger."""
    if value_range is None:
        return
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"value_range is {value_range!r}; expected the values of black and white, (low, high), "
            "finite, the second one larger"
        )


def reorder(x: Array, channel_order: ChannelOrder) -> Array:
    """The last dimension from `channel_order` to RGB, and back."""
    if channel_order == "rgb" or x.shape[-1] < 3:
        return x
    return x[..., ::-1] if x.shape[-1] == 3 else x[..., [2, 1, 0, 3]]
