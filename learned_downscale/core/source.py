"""A batch of images that is read in parts, whatever the images are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from learned_downscale.core.resampling import Array

# (images, rows, columns) -> their samples (n, height, width, C)
Read = Callable[[slice, slice, slice], Array]


@dataclass(frozen=True)
class Source:
    """A batch of images of one size, read in parts.

    count, height, width: of the batch.
    colours: 1 (grey) or 3 (RGB).
    alpha: whether another channel, the last one, is opacity.
    levels: 255 or 65535: samples are whole numbers up to it; None: floats in [0, 1].
    read: gives uint8 for 255 levels, else float32.
    padded: of opaque RGB: whether it gives a fourth channel, which means nothing.
    mapped: whether the samples were brought to [0, 1] from another range.
    extent: (height, width) where the last row and column stand for less than a whole sample.
    """

    count: int
    height: int
    width: int
    colours: int
    alpha: bool
    levels: int | None
    read: Read
    padded: bool = False
    extent: tuple[float, float] | None = None
    mapped: bool = False

    @property
    def channels(self) -> int:
        """That `read` gives."""
        return self.colours + (self.alpha or self.padded)

    @property
    def plain(self) -> bool:
        """Opaque 8-bit colours or grey."""
        return self.levels == 255 and not self.alpha


def stack(sources: Sequence[Source]) -> Source:
    """One batch of single images that are alike in all but their samples."""

    def read(images: slice, rows: slice, columns: slice) -> Array:
        one = slice(0, 1)
        return np.concatenate([source.read(one, rows, columns) for source in sources[images]])

    return replace(sources[0], count=len(sources), read=read)
