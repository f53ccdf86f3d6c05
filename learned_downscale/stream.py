"""Images larger than memory: rows in, rows of the thumbnail out."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learned_downscale import engine
from learned_downscale.resize import (
    Rounding,
    backend_of,
    check_choices,
    check_colours,
    load_given,
    make_plan,
    target_size,
)

if TYPE_CHECKING:
    from learned_downscale.downscaler import Downscaler
    from learned_downscale.engine.bicubic import Array
    from learned_downscale.pixels import ChannelOrder


def downscale_rows(
    rows: Iterable[Array],
    source: tuple[int, int],
    size: float | tuple[int, int],
    *,
    rounding: Rounding = "up",
    channel_order: ChannelOrder = "rgb",
    weights: str | Path | Downscaler | None = None,
    backend: engine.BackendName = "auto",
    num_threads: int | None = None,
) -> Iterator[Array]:
    """`resize` of an image that comes in blocks of rows, in blocks of rows; the same pixels.

    Args:
        rows: numpy arrays (k, W) or (k, W, C), each the next k rows of the image, k as you like;
            dtypes and C as for `resize`, the same for all. Pulled as they are needed.
        source: (width, height) of the image.
        size, rounding, channel_order, weights, backend, num_threads: as for `resize`.

    Yields:
        Arrays (k, w) or (k, w, C) of the same dtype, from the top to the bottom.

    Raises:
        TypeError, ValueError, ImportError: as `resize`; ValueError, too, if the blocks are of
            several kinds, or hold fewer or more rows than `source` says.
    """
    check_choices(rounding, channel_order, backend, num_threads)
    if isinstance(source, numbers.Number):
        raise TypeError(f"source is {source!r}; expected the image's (width, height)")
    width, height = target_size(source, source)  # two whole numbers of 1 or more
    target = target_size(source, size, rounding)
    kind, _ = engine.choose(backend)
    given = None if weights is None else load_given(weights, kind)
    plan = make_plan(source, target, None if given is None else given.factor)
    runs = backend_of(kind, plan.learned, given)
    window = _Window(rows, width, height)
    if source == target:
        return window.copies()
    return _thumbnails(window, target, runs, channel_order, num_threads)


def _thumbnails(
    window: _Window,
    target: tuple[int, int],
    runs: engine.Backend,
    channel_order: ChannelOrder,
    num_threads: int | None,
) -> Iterator[Array]:
    from learned_downscale import pixels
    from learned_downscale.engine.tiles import in_rows

    first = window.first()
    samples, pack = pixels.source_of(
        (window.height, *first.shape[1:]),
        first.dtype,
        pixels.check_array(first),
        window.take,
        channel_order,
    )
    if runs.modulus > 1:
        check_colours(samples)
    for needed, compute in in_rows(samples, (target[1], target[0]), runs, num_threads):
        window.move(needed)
        yield pack(compute()[None])
    window.finish()


class _Window:
    """The rows that are needed now, of an image that comes in blocks."""

    def __init__(self, blocks: Iterable[Any], width: int, height: int) -> None:
        self.blocks, self.width, self.height = iter(blocks), width, height
        self.start = self.stop = 0  # rows of the image that are held
        self.held: list[Array] = []

    def first(self) -> Array:
        """The first block."""
        if not self._pull():
            raise ValueError("rows is empty; expected arrays of the image's rows")
        return self.held[0]

    def _pull(self) -> bool:
        import numpy as np

        from learned_downscale import pixels

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
        if pixels.check_array(block) is None and block.size:
            pixels.check_floats(block)
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
        import numpy as np

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
