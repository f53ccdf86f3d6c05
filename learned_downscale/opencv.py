"""OpenCV's `resize` with a learned interpolation: change the import, keep the calls.

    from learned_downscale import opencv
    small = opencv.resize(image, (320, 240))

Every other interpolation, and every enlargement, is OpenCV's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

from learned_downscale.core.resampling import Array
from learned_downscale.resizer import Resizer

# No number of cv2's.
INTER_LEARNED = 100


def resize(
    src: Array,
    dsize: Sequence[int] | None,
    dst: Array | None = None,
    fx: float = 0,
    fy: float = 0,
    interpolation: int = INTER_LEARNED,
    *,
    value_range: tuple[float, float] | None = None,
) -> Array:
    """`cv2.resize`. With INTER_LEARNED, the pixels are those of `learned_downscale.resize`.

    Args:
        src: (H, W) or (H, W, C); C is 1 (grey), 2 (grey, alpha), 3 (BGR) or 4 (BGR, alpha: colours
            are weighted by it, where OpenCV bleeds). uint8, uint16, int16, float16, float32 or
            float64.
        dsize: (width, height); None or (0, 0): by fx and fy.
        dst: an array of the result's shape and dtype, which is filled and returned.
        fx, fy: shares of the width and the height, such as 0.25; they may differ. Rounded as OpenCV
            does, half to even.
        interpolation: INTER_LEARNED, or an interpolation of cv2, which does all then. An
            enlargement along either side is cv2's INTER_CUBIC.
        value_range: as for `learned_downscale.resize`, for floats outside [0, 1].

    Returns:
        An array of the same dtype; (H, W, 1) stays (h, w, 1), which cv2 squeezes.

    Raises:
        TypeError: src is no array; an interpolation in dst's place (cv2 takes it for a picture).
        ValueError: neither dsize nor fx and fy, or what `learned_downscale.resize` refuses.
        cv2.error: what cv2 refuses, where it computes.
    """
    if not isinstance(src, np.ndarray):
        raise TypeError(f"src is a {type(src).__name__}; expected a numpy array (H, W[, C])")
    if dst is not None and not isinstance(dst, np.ndarray):
        raise TypeError(
            f"dst is {dst!r}; the third place is an array for the result, the interpolation is "
            "named: interpolation=..."
        )
    if interpolation != INTER_LEARNED:
        return _kept(src, cv2.resize(src, dsize, dst, fx, fy, interpolation))
    width, height = _target(src, dsize, fx, fy)
    if width > src.shape[1] or height > src.shape[0]:
        return _kept(src, cv2.resize(src, (width, height), dst, interpolation=cv2.INTER_CUBIC))
    small = _resizer((width, height), value_range)(src)
    if dst is None:
        return small
    if dst.shape != small.shape or dst.dtype != small.dtype:
        raise ValueError(
            f"dst is {dst.dtype} {dst.shape}, the result {small.dtype} {small.shape}; leave dst out"
        )
    dst[...] = small
    return dst


def letterbox(
    src: Array,
    dsize: tuple[int, int],
    color: int | Sequence[int] = 114,
    interpolation: int = INTER_LEARNED,
    enlarge: bool = True,
) -> tuple[Array, float, tuple[int, int]]:
    """The image in the middle of one of `dsize` (width, height), with its aspect ratio, as
    detectors take it.

    Args:
        color: around it; one number for all channels, or one for each.
        interpolation: as for `resize`; for masks, cv2.INTER_NEAREST.
        enlarge: whether a smaller image becomes larger.

    Returns:
        The image, its scale (new by old pixels), and (left, top), px: a point (x, y) of the image
        is at (left + scale * x, top + scale * y). Sides are rounded half to even.
    """
    height, width = src.shape[:2]
    scale = min(dsize[0] / width, dsize[1] / height)
    scale = scale if enlarge else min(scale, 1.0)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    small = src if inner == (width, height) else resize(src, inner, interpolation=interpolation)
    out = np.empty((dsize[1], dsize[0], *src.shape[2:]), src.dtype)
    out[...] = color
    left, top = (dsize[0] - inner[0]) // 2, (dsize[1] - inner[1]) // 2
    out[top : top + inner[1], left : left + inner[0]] = small
    return out, scale, (left, top)


@cache
def _resizer(size: tuple[int, int], value_range: Any) -> Resizer:
    return Resizer(size, channel_order="bgr", value_range=value_range)


def _target(src: Array, dsize: Sequence[int] | None, fx: float, fy: float) -> tuple[int, int]:
    if dsize is not None and tuple(dsize) != (0, 0):
        width, height = dsize
        return int(width), int(height)
    if not (fx > 0 and fy > 0):
        raise ValueError(
            f"dsize is {dsize}, fx {fx}, fy {fy}; give dsize=(width, height), or fx and fy above 0"
        )
    return round(src.shape[1] * fx), round(src.shape[0] * fy)


def _kept(src: Array, out: Array) -> Array:
    """With the channel that cv2 drops."""
    return out[..., None] if src.ndim == 3 and out.ndim == 2 else out
