"""A thumbnail tile by tile: little memory, several threads, the same result as in one piece.

Tiles are cut from the thumbnail. Each reads the part of the image that it is made of and a halo as
wide as what its outermost pixels depend on, and the halo's results are thrown away.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from learned_downscale.core.resampling import Array, Axis
from learned_downscale.core.source import Source
from learned_downscale.engine.backend import Backend
from learned_downscale.engine.reduction import reduce_rows, reduced_source, strips
from learned_downscale.engine.thumbnail import (
    MOST_PER_UNIT,
    TILING,
    Tile,
    Tiling,
    cuts,
    grid_unit,
    make_thumbnail,
    parts,
    same,
)
from learned_downscale.plan import reduction, takes_patches

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


def downscale(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    num_threads: int | None = None,
    tiling: Tiling = TILING,
    exact: bool = False,
) -> Array:
    """Thumbnails (N, height, width, channels) of `size` (height, width): uint8, or float32 in
    [0, levels or 1]. The channels are the source's; what pads RGB means nothing.

    Args:
        backend: with a factor, the network's residual is added; the sides may be at most factor
            times the size, rounded up. Without one all is bicubic.
        num_threads: how many threads work; default: what the backend's library would take.
        tiling: how the work is cut; the result does not depend on it.
        exact: resample where the plan would take means of blocks or patches (`plan.make_plan`).
    """
    threads = backend.default_threads() if num_threads is None else num_threads
    factor, (height, width) = backend.factor, size
    sides = source.width, source.height
    patches = factor is not None and not exact and takes_patches(sides, (width, height), factor)
    block = 1 if exact or factor is None else reduction(sides, (width, height))
    if block > 1 and source.levels == 255:
        source, patches = _reduced(source, block, backend, threads, tiling), False
    skip, high = None, source.extent[0] if source.extent else source.height
    on_grid = not patches and grid_unit(high, size[0]) <= MOST_PER_UNIT
    if source.plain and not (_fits(source, size, factor) or on_grid):
        fine = (height, width) if factor is None else (factor * height, factor * width)
        if _bytes(source, size) <= tiling.whole:
            skip = _bicubic(source, size, backend, threads, tiling)
            if factor is None:
                return skip
        # to leave the padding out takes a copy, so only where it does not fit
        colours = source if _bytes(source, fine) <= tiling.whole else _without_padding(source)
        if factor is not None and not patches and _bytes(colours, fine) <= tiling.whole:
            prepared = _bicubic(colours, fine, backend, threads, tiling)
            source = replace(
                colours,
                height=fine[0],
                width=fine[1],
                read=lambda i, r, c: prepared[i, r, c],
                extent=None,
            )
    channels = source.channels if skip is None else skip.shape[-1]
    out = np.empty((source.count, *size, channels), _dtype(source))

    def work(tile: Tile) -> None:
        small = make_thumbnail(source, size, backend, factor, tile, tiling, patches, skip)
        out[tile.images, tile.rows, tile.columns] = small

    run(list(cut_tiles(source, size, threads, tiling)), work, backend, threads)
    return out


def _fits(source: Source, size: tuple[int, int], factor: int | None) -> bool:
    """Whether each thumbnail pixel is made of whole pixels, `factor` x `factor` of them."""
    sides = source.extent or (source.height, source.width)
    whole = zip(sides, size, strict=True)
    return all(s % t == 0 if factor is None else s == factor * t for s, t in whole)


def _without_padding(source: Source) -> Source:
    """With it, all takes a third more memory."""
    if not source.padded:
        return source
    return replace(source, padded=False, read=lambda i, r, c: source.read(i, r, c)[..., :3])


def _bytes(source: Source, size: tuple[int, int]) -> int:
    """What `_bicubic` keeps."""
    return source.count * (source.height + size[0]) * size[1] * source.channels


def _bicubic(
    source: Source, size: tuple[int, int], backend: Backend, threads: int, tiling: Tiling
) -> Array:
    """Bicubic of plain sources, whole rows first, then whole columns: (N, *size, C)."""
    height, width = source.extent or (source.height, source.width)
    everything = slice(0, source.count)
    pixels = source.count * source.height * source.width
    threads = min(threads, max(1, pixels // tiling.smallest))
    rows = Axis(height, size[0], 0, size[0], 0, True, height % size[0] == 0)
    columns = Axis(width, size[1], 0, size[1], 0, True, width % size[1] == 0)
    if threads == 1 and pixels <= tiling.tile:
        x = source.read(everything, slice(0, source.height), slice(0, source.width))
        with backend.single_thread():
            return backend.bicubic(x, rows, columns)
    across = np.empty((source.count, source.height, size[1], source.channels), np.uint8)
    out = np.empty((source.count, *size, source.channels), np.uint8)

    def filter_rows(part: slice) -> None:
        x = source.read(everything, part, slice(0, source.width))
        across[:, part] = backend.bicubic(x, same(x.shape[1]), columns)

    def filter_columns(part: slice) -> None:
        x = across[:, :, part]
        out[:, :, part] = backend.bicubic(x, rows, same(x.shape[2]))

    # small parts, which are copied and kept by each thread
    parts_of_rows = max(threads, math.ceil(4 * pixels / tiling.tile))
    bands = max(threads, across.nbytes // tiling.tile)
    run(cuts(source.height, min(parts_of_rows, source.height)), filter_rows, backend, threads)
    run(cuts(size[1], min(bands, size[1])), filter_columns, backend, threads)
    return out


def _reduced(source: Source, block: int, backend: Backend, threads: int, tiling: Tiling) -> Source:
    """The source after the means of its blocks have been taken."""
    shape = source.count, -(-source.height // block), -(-source.width // block), source.channels
    out = np.empty(shape, np.uint8)
    rows = strips(source, block, min(tiling.tile, source.height * source.width // threads))

    def work(part: tuple[int, slice]) -> None:
        image, rows = part
        small = reduce_rows(source, image, rows, block)
        out[image, rows.start // block : rows.start // block + len(small)] = small

    run([(i, r) for i in range(source.count) for r in rows], work, backend, threads)
    return reduced_source(source, out, block)


def in_rows(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    num_threads: int | None = None,
    tiling: Tiling = TILING,
    exact: bool = False,
) -> Iterator[tuple[slice, Callable[[], Array | None]]]:
    """As `downscale` of one image, in blocks of rows from the top: the rows of the image that a
    block reads, and what computes it, if that gives rows of the thumbnail already. Both ends of
    what is read only ever move down."""
    threads = backend.default_threads() if num_threads is None else num_threads
    factor, target = backend.factor, (size[1], size[0])
    sides = source.width, source.height
    patches = factor is not None and not exact and takes_patches(sides, target, factor)
    block = 1 if exact or factor is None else reduction(sides, target)
    if block > 1 and source.levels == 255:
        yield from _in_rows_reduced(source, size, backend, threads, tiling, block)
        return
    every = list(cut_tiles(source, size, threads, tiling))
    across = sum(tile.rows == every[0].rows for tile in every)
    for start in range(0, len(every), across * threads):
        group = every[start : start + across * threads]
        top, bottom = group[0].rows.start, group[-1].rows.stop
        whole = replace(every[0], rows=slice(top, bottom))
        read = parts(source, size, factor, whole, tiling, patches)[0].read

        def compute(group: list[Tile] = group, top: int = top, bottom: int = bottom) -> Array:
            out = np.empty((bottom - top, size[1], source.channels), _dtype(source))

            def work(tile: Tile) -> None:
                rows = slice(tile.rows.start - top, tile.rows.stop - top)
                small = make_thumbnail(source, size, backend, factor, tile, tiling, patches)
                out[rows, tile.columns] = small[0]

            run(group, work, backend, threads)
            return out

        yield read, compute


def _in_rows_reduced(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    threads: int,
    tiling: Tiling,
    block: int,
) -> Iterator[tuple[slice, Callable[[], Array | None]]]:
    """Means of blocks are kept whole; the thumbnail comes when all have been taken."""
    kept: list[Array] = []
    for rows in strips(source, block, tiling.tile):
        last = rows.stop == source.height

        def compute(rows: slice = rows, last: bool = last) -> Array | None:
            kept.append(reduce_rows(source, 0, rows, block))
            if not last:
                return None
            small = reduced_source(source, np.concatenate(kept)[None], block)
            return downscale(small, size, backend, threads, tiling, exact=True)[0]

        yield rows, compute


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

    try:
        futures = [_pool(os.getpid(), threads).submit(guarded, item) for item in items]
    except RuntimeError:  # the interpreter is shutting down, and starts no more threads
        for item in items:
            guarded(item)
        return
    for future in futures:
        future.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads that stay: new ones would fetch their memory anew at each call. A forked child has
    none of its parent's threads, and makes its own."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads, thread_name_prefix="learned_downscale")


def cut_tiles(
    source: Source, size: tuple[int, int], threads: int, tiling: Tiling = TILING
) -> Iterator[Tile]:
    """Tiles that cover the thumbnails of a batch, in the order of their rows."""
    height, width = size
    across = math.ceil(source.width / tiling.widest)
    pixels = source.height * source.width
    largest = min(tiling.tile, max(1, tiling.at_once // threads)) // (2 if source.alpha else 1)
    each = min(largest, max(tiling.smallest, math.ceil(source.count * pixels / threads)))
    if pixels * 2 <= each:  # several small images at once
        for images in cuts(source.count, math.ceil(source.count / (each // pixels))):
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
        for rows in cuts(height, down):
            for columns in cuts(width, min(width, across)):
                yield Tile(slice(i, i + 1), rows, columns)
