"""The part of an image that is held in memory while its rows arrive in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from learned_downscale.core.resampling import Array
from learned_downscale.pixels.arrays import array_values
from learned_downscale.pixels.values import Range


class Window:
    """The rows that are needed now, of an image that comes in blocks."""

    def __init__(
        self, blocks: Iterable[Any], width: int, height: int, value_range: Range | None = None
    ) -> None:
        self.value_range = value_range
        self.blocks, self.width, self.height = iter(blocks), width, height
        self.start = self.stop = 0  # rows of the image that are held
        self.held: list[Array] = []

    def first(self) -> Array:
        """The first block."""
        if not self._pull():
            raise ValueError("rows is empty; expected arrays of the image's rows")
        return self.held[0]

    def _pull(self) -> bool:
        block = next(self.blocks, None)
        if block is None:
            return False
        if not isinstance(block, np.ndarray) or block.ndim not in (2, 3):
            raise TypeError(
                "rows are numpy arrays (k, W) or (k, W, channels), got "
                + (
                    f"shape {block.shape}"
                    if isinstance(block, np.ndarray)
                    else type(block).__name__
                )
            )
        expected = (self.width, *self.held[0].shape[2:]) if self.held else (self.width,)
        got = block.shape[1:] if self.held else block.shape[1:2]
        if got != expected or (self.held and block.dtype != self.held[0].dtype):
            raise ValueError(
                f"rows {self.stop} and on are {block.dtype} {block.shape}; expected {self.width} "
                "pixels across, and the dtype and channels of the rows before"
            )
        if self.stop + len(block) > self.height:
            raise ValueError(f"more rows came than the {self.height} of `source`")
        array_values(block, self.value_range)
        self.held.append(np.array(block))  # a copy: producers may use their memory again
        self.stop += len(block)
        return True

    def move(self, needed: slice) -> None:
        """Hold all rows of `needed`, and let go of what lies before them."""
        while self.stop < needed.stop:
            if not self._pull():
                raise ValueError(f"the rows ended at {self.stop} of {self.height}")
        while len(self.held) > 1 and self.start + len(self.held[0]) <= needed.start:
            self.start += len(self.held.pop(0))

    def take(self, rows: slice, columns: slice) -> Array:
        parts, at = [], self.start
        for block in self.held:
            part = block[max(0, rows.start - at) : max(0, rows.stop - at), columns]
            if len(part):
                parts.append(part)
            at += len(block)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def copies(self) -> Iterator[Array]:
        """Every block, in memory of its own."""
        while self._pull():
            yield self.held[-1].copy()
            del self.held[1:]  # the first one says what the others must be
        self.finish()

    def finish(self) -> None:
        """Raise ValueError unless all rows came, and no more."""
        while self._pull():
            pass
        if self.stop != self.height:
            raise ValueError(f"the rows ended at {self.stop} of {self.height}")
