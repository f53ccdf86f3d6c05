"""A thumbnail tile by tile: little memory, several threads, the same result as in one piece.

Tiles are cut from the thumbnail. Each reads the part of the image that it is made of and a halo as
wide as what its outermost pixels depend on, and the halo's results are thrown away.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from learned_downscale.engine import Backend
from learned_downscale.engine.bicubic import Array, Axis, span
from learned_downscale.engine.code import coded
from learned_downscale.engine.transparency import REACH, see_through

# In thumbnail pixels: E's two 3x3 layers; of bicubic at a native factor, 1.5 are needed.
HALO = 2
# Source pixels of a tile, which then fits the processor's cache (measured: 12 MP, factors 2, 4).
TILE = 800_000
AT_ONCE = 3_200_000  # source pixels of the tiles that all threads work on
WIDEST = 16_384  # source pixels across a tile; wider images are cut in columns, too
PREPARED = 2_000_000  # pixels, at most, of a prepared image that is kept whole
SMALLEST = 150_000  # below this, a further thread costs more than it brings

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

# (images, rows, columns) -> their samples (n, height, width, C)
Read = Callable[[slice, slice, slice], Array]


@dataclass(frozen=True)
class Source:
    """A batch of images of one size, read in parts.

    count, height, width: of the batch.
    colours: 1 (grey) or 3 (RGB).
    alpha: whether another channel, the last one, is opacity.
    levels: 255 or 65535: samples are whole numbers up to it; None: floats in [0, 1].
    read: gives uint8 for 255 levels, else float32. Of opaque RGB it may give a fourth channel,
        which means nothing.
    """

    count: int
    height: int
    width: int
    colours: int
    alpha: bool
    levels: int | None
    read: Read


def stack(sources: Sequence[Source]) -> Source:
    """One batch of single images that are alike in all but their samples."""

    def read(images: slice, rows: slice, columns: slice) -> Array:
        one = slice(0, 1)
        return np.concatenate([source.read(one, rows, columns) for source in sources[images]])

    return replace(sources[0], count=len(sources), read=read)


@dataclass(frozen=True)
class Tile:
    """Images, and rows and columns of their thumbnails."""

    images: slice
    rows: slice
    columns: slice


def downscale(
    source: Source, size: tuple[int, int], backend: Backend, num_threads: int | None = None
) -> Array:
    """Thumbnails (N, height, width, colours + alpha) of `size` (height, width): uint8, or float32
    in [0, levels or 1].

    Args:
        backend: with a factor, E's residual is added; the sides may be at most factor times the
            size, rounded up. Without one all is bicubic.
        num_threads: how many threads work; default: what the backend's library would take.
    """
    threads = backend.default_threads() if num_threads is None else num_threads
    factor = backend.factor
    if factor is not None and _detour_pays(source, size, factor):
        fine = factor * size[0], factor * size[1]
        prepared, skip = (_whole(source, to, backend, None, threads) for to in (fine, size))
        prepared_source = replace(
            source, height=fine[0], width=fine[1], read=lambda i, r, c: prepared[i, r, c]
        )
        return _whole(prepared_source, size, backend, factor, threads, skip)
    return _whole(source, size, backend, factor, threads)


def _detour_pays(source: Source, size: tuple[int, int], factor: int) -> bool:
    """Whether what E takes is kept whole: it is small, and cutting it from a much larger image
    tile by tile would read most of that several times, for the halos."""
    pixels = factor * size[0] * factor * size[1]
    plain = source.levels == 255 and source.colours == 3 and not source.alpha
    return plain and pixels <= PREPARED and 2 * pixels <= source.height * source.width


def _whole(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    factor: int | None,
    threads: int,
    skip: Array | None = None,
) -> Array:
    shape = (source.count, *size, source.colours + source.alpha)
    out = np.empty(shape, _dtype(source))

    def work(tile: Tile) -> None:
        out[tile.images, tile.rows, tile.columns] = thumbnail(
            source, size, backend, factor, tile, skip
        )

    run(list(tiles(source, size, threads)), work, backend, threads)
    return out


def in_rows(
    source: Source, size: tuple[int, int], backend: Backend, num_threads: int | None = None
) -> Iterator[tuple[slice, Callable[[], Array]]]:
    """As `downscale` of one image, in blocks of rows from the top: the rows of the image that a
    block reads, and what computes it. Both ends of what is read only ever move down."""
    threads = backend.default_threads() if num_threads is None else num_threads
    every = list(tiles(source, size, threads))
    across = sum(tile.rows == every[0].rows for tile in every)
    for start in range(0, len(every), across * threads):
        group = every[start : start + across * threads]
        top, bottom = group[0].rows.start, group[-1].rows.stop
        block = replace(every[0], rows=slice(top, bottom))
        read = parts(source, size, backend.factor, block)[0].read

        def compute(group: list[Tile] = group, top: int = top, bottom: int = bottom) -> Array:
            out = np.empty((bottom - top, size[1], source.colours + source.alpha), _dtype(source))

            def work(tile: Tile) -> None:
                rows = slice(tile.rows.start - top, tile.rows.stop - top)
                out[rows, tile.columns] = thumbnail(source, size, backend, backend.factor, tile)[0]

            run(group, work, backend, threads)
            return out

        yield read, compute


def _dtype(source: Source) -> type[np.uint8 | np.float32]:
    return np.uint8 if source.levels == 255 else np.float32


def run(items: list[T], work: Callable[[T], None], backend: Backend, threads: int) -> None:
    """Call `work` on each item, from at most `threads` threads; the first error is raised."""
    threads = min(threads, len(items))
    if threads <= 1:
        with backend.single_thread():
            for item in items:
                work(item)
        return

    def guarded(item: T) -> None:
        with backend.single_thread():
            work(item)

    for _ in _pool(os.getpid(), threads).map(guarded, items):
        pass


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads that stay: new ones would fetch their memory anew at each call. A forked child has
    none of its parent's threads, and makes its own."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads, thread_name_prefix="learned_downscale")


def tiles(source: Source, size: tuple[int, int], threads: int) -> Iterator[Tile]:
    """Tiles that cover the thumbnails of a batch, in the order of their rows."""
    height, width = size
    across = math.ceil(source.width / WIDEST)
    pixels = source.height * source.width
    largest = min(TILE, max(1, AT_ONCE // threads)) // (2 if source.alpha else 1)
    each = min(largest, max(SMALLEST, math.ceil(source.count * pixels / threads)))
    if pixels * 2 <= each:  # several small images at once
        for images in _cut(source.count, math.ceil(source.count / (each // pixels))):
            yield Tile(images, slice(0, height), slice(0, width))
        return
    down = math.ceil(pixels / across / each)
    if down > 1 and source.count == 1:  # as many for each thread
        down = math.ceil(down / threads) * threads
    down = min(height, down)
    if source.height > 8 * height:
        # Tiles of a few rows would read the same samples over and over.
        down = min(down, max(1, height // 8))
    for i in range(source.count):
        for rows in _cut(height, down):
            for columns in _cut(width, min(width, across)):
                yield Tile(slice(i, i + 1), rows, columns)


def _native(source: int, target: int, factor: int | None) -> bool:
    """Whether each target sample covers a whole number of samples, and E's factor of them."""
    return source % target == 0 if factor is None else source == factor * target


def _cut(length: int, parts: int) -> Iterator[slice]:
    edges = [length * k // parts for k in range(parts + 1)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


def thumbnail(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    factor: int | None,
    tile: Tile,
    skips: Array | None = None,
) -> Array:
    """The thumbnails of one tile, as in `downscale`; bicubic alone without a factor. `skips` are
    the bicubic thumbnails, where they are not to be taken from the source."""
    rows, columns = parts(source, size, factor, tile)
    if factor is None and source.levels == 255 and not source.alpha:
        return _bicubic(source, backend, tile.images, rows, columns)
    x = source.read(tile.images, rows.read, columns.read)

    def small(x: Array) -> Array:
        return backend.bicubic(x, rows.skip, columns.skip)

    def residual(x: Array) -> Array:
        """In levels of 8 bits."""
        if x.dtype != np.uint8:
            x = np.rint(x * (1 / unit)).astype(np.uint8)
        if x.shape[-1] == 1:
            # Grey: E sees three equal planes, and adds the mean of what it would add to them.
            return backend.residual(prepared(x.repeat(3, -1))).mean(-1, keepdims=True)
        return backend.residual(prepared(x))

    def joined(skip: Array, seen: Array) -> Array:
        """The thumbnail of its bicubic colours and the image that E sees."""
        if factor is None:
            return _rounded(skip, source.levels)
        if backend.modulus == 1:
            return _rounded(skip + unit * residual(seen), source.levels)
        levels = coded(skip * np.float32(1 / unit), residual(seen), backend.modulus)
        return _rounded(unit * levels, source.levels)

    def prepared(x: Array) -> Array:
        if rows.native and columns.native:
            return x
        return backend.bicubic(x, rows.prepare, columns.prepare)

    top = source.levels or 1
    unit = top / 255
    colours = slice(0, source.colours)
    opaque = not source.alpha or bool((x[..., -1] == top).all())
    fast = opaque and source.levels == 255 and source.colours == 3 and factor is not None
    if fast and rows.native and columns.native:
        skip = None if skips is None else skips[tile.images, rows.around, columns.around].copy()
        result = backend.thumbnail(x, skip)
        if source.alpha:
            result = np.concatenate([result, np.full_like(result[..., :1], top)], -1)
        return result[:, rows.crop, columns.crop]

    if x.dtype == np.uint8:
        skip = small(x)
    else:  # as Pillow does it with 8 bits: clipped and rounded between the passes
        across = backend.bicubic(x, _same(x.shape[1]), columns.skip)
        across = _rounded(across, source.levels)
        skip = _rounded(backend.bicubic(across, rows.skip, _same(across.shape[2])), source.levels)
    alpha = skip[..., -1:] if source.alpha else skip[..., :0]
    if fast:
        result = backend.thumbnail(prepared(x), skip)
    elif opaque:
        result = joined(skip[..., colours], x[..., colours])
    else:
        colour, seen = see_through(x, skip, small, top, rows.filled, columns.filled)
        result = joined(colour, seen)
        result = np.where(alpha > 0, result, result.dtype.type(0))
    return np.concatenate([result, alpha], -1)[:, rows.crop, columns.crop]


def _bicubic(source: Source, backend: Backend, images: slice, rows: _Part, columns: _Part) -> Array:
    """Bicubic alone, of opaque 8-bit images. At large scales a tile is made of many samples:
    then its rows are filtered as they are read, and the columns of what is left."""
    top, bottom = rows.read.start, rows.read.stop
    strips = (bottom - top) * (columns.read.stop - columns.read.start) // (2 * TILE) + 1
    if strips == 1:
        x = source.read(images, rows.read, columns.read)
        small = backend.bicubic(x, rows.skip, columns.skip)
    else:
        parts = []
        for cut in _cut(bottom - top, strips):
            x = source.read(images, slice(top + cut.start, top + cut.stop), columns.read)
            parts.append(backend.bicubic(x, _same(x.shape[1]), columns.skip))
        across = np.concatenate(parts, 1)
        small = backend.bicubic(across, rows.skip, _same(across.shape[2]))
    return small[:, rows.crop, columns.crop, : source.colours]


def _same(length: int) -> Axis:
    return Axis(length, length, 0, length, 0, True, True)


def _rounded(x: Array, levels: int | None) -> Array:
    if levels is None:
        return x.clip(0, 1).astype(np.float32, copy=False)
    whole = np.rint(x).clip(0, levels)
    return whole.astype(np.uint8 if levels == 255 else np.float32)


def parts(
    source: Source, size: tuple[int, int], factor: int | None, tile: Tile
) -> tuple[_Part, _Part]:
    """What a tile needs of the rows and of the columns of the image."""
    halo = HALO + (REACH if source.alpha else 0)
    return (
        _Part(source.height, size[0], tile.rows, halo, factor),
        _Part(source.width, size[1], tile.columns, halo, factor),
    )


class _Part:
    """What a tile needs along one axis.

    native: whether E takes the samples of the image as they are.
    read: samples of the image that are read.
    skip: from these to the tile with its halo.
    prepare: from these to factor * the tile with its halo.
    around: the tile with its halo, in the thumbnail.
    crop: the tile within the tile with its halo.
    filled: the pixel of the tile with its halo in which each sample lies.
    """

    def __init__(
        self, source: int, target: int, tile: slice, halo: int, factor: int | None
    ) -> None:
        self.native = _native(source, target, factor)
        if factor is None and not self.native:
            halo -= HALO  # what bicubic reaches is in `span`
        start, stop = max(0, tile.start - halo), min(target, tile.stop + halo)
        fine = (factor or 1) * target
        scale = source // target
        if self.native:
            first, last = scale * start, scale * stop
        else:
            coarse = span(source, target, start, stop)
            finer = span(source, fine, start * fine // target, stop * fine // target)
            first, last = min(coarse[0], finer[0]), max(coarse[1], finer[1])
        alone = self.native or (start, stop) == (0, target)
        if alone and not self.native:
            first, last = 0, source
        self.read = slice(first, last)
        self.around = slice(start, stop)
        self.crop = slice(tile.start - start, tile.stop - start)
        self.skip = Axis(source, target, start, stop, first, alone, self.native)
        self.prepare = Axis(
            source, fine, start * fine // target, stop * fine // target, first, alone, self.native
        )
        within = ((np.arange(first, last) + 0.5) * target / source).astype(np.int64)
        self.filled = (within - start).clip(0, stop - start - 1)
