"""Pillow's own functions with a learned filter: change the import, keep the calls.

    from learned_downscale.pillow import resize, thumbnail
    small = resize(image, (320, 240))

Every other filter, and every enlargement, is Pillow's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

from PIL import Image, ImageOps

from learned_downscale.pixels.pictures import promoted
from learned_downscale.resizer import DEFAULT_WEIGHTS, Resizer

LEARNED: Literal["learned"] = "learned"
Resample: TypeAlias = "Literal['learned'] | Image.Resampling | int"
Box: TypeAlias = "tuple[float, float, float, float]"


def resize(
    image: Image.Image,
    size: Sequence[int],
    resample: Resample | None = LEARNED,
    box: Box | None = None,
    reducing_gap: float | None = None,
) -> Image.Image:
    """`Image.resize`. With LEARNED, the pixels are those of `learned_downscale.resize`.

    Args:
        size: (width, height). Where a side is above that of the box, the result is Pillow's
            bicubic.
        resample: LEARNED, or a filter of Pillow, which does all then. None: LEARNED.
        box: (left, top, right, bottom) of the part of the image, px, perhaps with fractions. Where
            it has some, that part is first brought to 4 or 2 times the size by Pillow's bicubic.
        reducing_gap: of Pillow's filters. LEARNED by itself averages blocks of pixels where the
            image is over 8 times the thumbnail.

    Returns:
        A new image with the same mode and `.info`; but palettes (P, PA) and bits (1) become L or
        RGB, with alpha where one of their colours is transparent, where Pillow would take the
        nearest pixel.

    Raises:
        ValueError: a box that is no part of the image, a size below 1, an unknown filter.
    """
    if resample is not None and resample != LEARNED:
        return image.resize(tuple(size), resample, box, reducing_gap)  # type: ignore[arg-type]
    if isinstance(size, str) or len(size) != 2:
        raise ValueError(f"size is {size!r}; expected (width, height)")
    target = size[0], size[1]
    whole = (0, 0, *image.size)
    box = whole if box is None else box
    _check_box(box, image.size)
    width, height = box[2] - box[0], box[3] - box[1]
    if target[0] <= width and target[1] <= height:
        if all(float(edge).is_integer() for edge in box):
            left, top, right, bottom = map(int, box)
            part = image if box == whole else image.crop((left, top, right, bottom))
            return _resizer(target)(part)
        for factor in sorted(DEFAULT_WEIGHTS, reverse=True):
            fine = factor * target[0], factor * target[1]
            if fine[0] <= math.ceil(width) and fine[1] <= math.ceil(height):
                prepared = promoted(image).resize(fine, Image.Resampling.BICUBIC, box)
                return _resizer(target)(prepared)
    return promoted(image).resize(target, Image.Resampling.BICUBIC, box)


def thumbnail(
    image: Image.Image,
    size: tuple[float, float],
    resample: Resample | None = LEARNED,
    reducing_gap: float | None = 2.0,
) -> None:
    """`Image.thumbnail`: make the image at most `size` (width, height), in place, with its aspect
    ratio; one that is small enough stays.

    A JPEG that is not loaded yet is decoded at a part of its size (`draft`) where that leaves 4
    times the thumbnail, which the network takes; with `reducing_gap=None`, it is not. Other
    arguments as for `resize`.
    """
    if resample is not None and resample != LEARNED:
        image.thumbnail(size, resample, reducing_gap)  # type: ignore[arg-type]
        return
    target = _within(image.size, size)
    if target is None:
        return
    box: Any = None
    if reducing_gap is not None:
        gap = max(*DEFAULT_WEIGHTS, math.ceil(reducing_gap))
        drafted = image.draft(None, (gap * target[0], gap * target[1]))
        if drafted is not None:  # a last pixel that stands for less than a whole one is left out
            box = tuple(map(math.floor, drafted[1]))
    if image.size != target:
        small = resize(image, target, LEARNED, box)
        # what Pillow's own method sets
        image.im, image._size, image._mode = small.im, small._size, small._mode
        image.palette = small.palette
        image.info = small.info
    image.readonly = 0


def contain(image: Image.Image, size: tuple[int, int], method: Resample = LEARNED) -> Image.Image:
    """`ImageOps.contain`: as large as fits into `size`, with its aspect ratio."""
    return ImageOps.contain(_Learned(image), size, method)  # type: ignore[arg-type]


def cover(image: Image.Image, size: tuple[int, int], method: Resample = LEARNED) -> Image.Image:
    """`ImageOps.cover`: as small as covers `size`, with its aspect ratio."""
    return ImageOps.cover(_Learned(image), size, method)  # type: ignore[arg-type]


def fit(
    image: Image.Image,
    size: tuple[int, int],
    method: Resample = LEARNED,
    bleed: float = 0.0,
    centering: tuple[float, float] = (0.5, 0.5),
) -> Image.Image:
    """`ImageOps.fit`: cropped to the aspect ratio of `size`, then resized to it."""
    return ImageOps.fit(_Learned(image), size, method, bleed, centering)  # type: ignore[arg-type]


def pad(
    image: Image.Image,
    size: tuple[int, int],
    method: Resample = LEARNED,
    color: str | int | tuple[int, ...] | None = None,
    centering: tuple[float, float] = (0.5, 0.5),
) -> Image.Image:
    """`ImageOps.pad`: as `contain`, then padded to `size` with a colour (default: black)."""
    return ImageOps.pad(_Learned(image), size, method, color, centering)  # type: ignore[arg-type]


class _Learned:
    """An image as ImageOps takes it, whose `resize` is the one above."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image, name)

    def resize(self, size: Any, resample: Any = LEARNED, box: Any = None) -> Image.Image:
        return resize(self._image, size, resample, box)


@cache
def _resizer(size: tuple[int, int]) -> Resizer:
    return Resizer(size)


def _check_box(box: Box, size: tuple[int, int]) -> None:
    left, top, right, bottom = box
    inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    if not inside:
        raise ValueError(
            f"box is {tuple(box)}; expected (left, top, right, bottom) within the image of "
            f"{size[0]} x {size[1]} pixels, not empty"
        )


def _within(source: tuple[int, int], size: tuple[float, float]) -> tuple[int, int] | None:
    """The (width, height) that `Image.thumbnail` gives; None: the image stays."""
    x, y = map(math.floor, size)
    width, height = source
    if x >= width and y >= height:
        return None
    aspect = width / height
    if x / y >= aspect:
        near = {math.floor(y * aspect), math.ceil(y * aspect)}
        return max(1, min(near, key=lambda n: abs(aspect - n / y))), y
    near = {math.floor(x / aspect), math.ceil(x / aspect)}
    return x, max(1, min(near, key=lambda n: abs(aspect - x / n) if n else 0))
