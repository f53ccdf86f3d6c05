"""Methods: how the thumbnails that `verify` compares are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from learned_downscale.core.filters import FILTERS, Filter
from learned_downscale.files import FORMATS, Metadata, coloured, encode
from learned_downscale.readers.bundled import rgb
from learned_downscale.resizer import Resizer

if TYPE_CHECKING:
    from learned_downscale.core.decoder import Decoder

    Make = Callable[[Image.Image, tuple[int, int]], Image.Image]

GIVEN = "given"  # the name of the user's thumbnails among the methods
METHODS = ("learned", *FILTERS)


@dataclass(frozen=True)
class Maker:
    """How the thumbnails of a method are made and read.

    make: (upright image, (width, height)) -> thumbnail; None for the user's, which are files.
    lossless: whether the thumbnails carry a payload that JPEG destroys.
    decoder: reconstructs the photo in front of the reader; None: the thumbnail itself is read.
    """

    make: Make | None
    lossless: bool = False
    decoder: Decoder | None = None

    def encoded(
        self,
        image: Image.Image,
        size: tuple[int, int],
        suffix: str,
        quality: int,
        metadata: Metadata,
    ) -> bytes:
        """The thumbnail's file, with the suffix of the original; PNG where JPEG would destroy the
        payload."""
        assert self.make is not None
        if self.lossless and FORMATS[suffix.lower()] == "JPEG":
            suffix = ".png"
        small = self.make(image, size)
        return encode(small, suffix, quality, self.lossless, metadata=metadata)


def maker(method: str) -> Maker:
    """The maker of a method: "learned", a fixed filter, or weights by name.

    Raises:
        ValueError: the name is unknown, or the weights cannot be used.
        OSError: the Hub cannot be reached or has no such model.
    """
    if method == GIVEN:
        raise ValueError(
            f"{GIVEN!r} is the name of the thumbnails that you have; rename the weights"
        )
    if method == "learned":
        return Maker(_learned)
    if method in FILTERS:
        return Maker(partial(filtered, FILTERS[method]))
    try:
        resizer = Resizer(1, weights=method)
    except FileNotFoundError as error:
        raise ValueError(
            f"no method {method!r}: choose from {', '.join(METHODS)}, or name weights ({error})"
        ) from error
    return Maker(partial(_learned, weights=method), resizer.needs_lossless, resizer.decoder())


def _learned(image: Image.Image, size: tuple[int, int], weights: str | None = None) -> Image.Image:
    # one thread: photos are compared in several
    resizer = Resizer(size, weights=weights, num_threads=1)
    thumbnail, plan = resizer.planned([coloured(image) if resizer.needs_rgb else image])[0]
    if resizer.needs_lossless and plan.learned is None:
        raise ValueError(
            "it has the thumbnail's size already, and a copy would carry no payload; ask for a "
            "smaller size"
        )
    return thumbnail


def filtered(fixed: Filter, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The thumbnail that a fixed filter makes, with the library's function for it."""
    if fixed.library == "OpenCV":
        return area(image, size)
    assert fixed.resampling is not None
    return _without_palette(image).resize(size, fixed.resampling)


def area(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """OpenCV's area average. Grey and RGB images keep their mode, with or without transparency;
    images of other modes become RGB."""
    import cv2

    image = _without_palette(image)
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image, info = Image.fromarray(rgb(image)), image.info
        image.info = info
    weighted = image.convert(f"{image.mode[:-1]}a") if image.mode in ("LA", "RGBA") else image
    small = cv2.resize(np.asarray(weighted), size, interpolation=cv2.INTER_AREA)
    out = Image.frombytes(weighted.mode, size, small.tobytes()).convert(image.mode)
    out.info = dict(image.info)
    return out


def _without_palette(image: Image.Image) -> Image.Image:
    """Palettes, bits and transparent colours as colours and alpha: Pillow would take the nearest
    pixel of palettes and bits, and blend a transparent colour with others."""
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        return image.convert("LA" if image.mode == "L" else "RGBA")
    return coloured(image) if image.mode in ("1", "P", "PA") else image
