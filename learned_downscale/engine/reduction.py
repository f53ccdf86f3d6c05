"""Means of whole blocks of pixels, where an image is much larger than its thumbnail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from learned_downscale.core.resampling import Array
from learned_downscale.core.source import Source

_MODES = {
    (1, False): "L",
    (2, True): "LA",
    (3, False): "RGB",
    (4, False): "RGBX",
    (4, True): "RGBA",
}


def strips(source: Source, block: int, pixels: int) -> list[slice]:
    """Rows of about so many pixels, in whole blocks."""
    each = max(1, pixels // (source.width * block)) * block
    return [slice(top, min(source.height, top + each)) for top in range(0, source.height, each)]


def reduce_rows(source: Source, image: int, rows: slice, block: int) -> Array:
    """(h, w, C): the means of block x block samples (colours weighted by alpha), of rows as
    `strips` gives them."""
    x = source.read(slice(image, image + 1), rows, slice(0, source.width))[0]
    mode = _MODES[x.shape[-1], source.alpha]
    picture = Image.frombuffer(mode, x.shape[1::-1], x, "raw", mode, 0, 1)
    return np.atleast_3d(np.asarray(picture.reduce(block)))


def reduced_source(source: Source, pixels: Array, block: int) -> Source:
    """The source after its means (N, h, w, C) have been taken."""
    return replace(
        source,
        height=pixels.shape[1],
        width=pixels.shape[2],
        read=lambda i, r, c: pixels[i, r, c],
        extent=(source.height / block, source.width / block),
    )
