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

from learned_downscale.core.resampling import Array
from learned_downscale.core.source import Source
from learned_downscale.engine.backend import Backend
from learned_downscale.engine.thumbnail import TILING, Tile, Tiling, cuts, make_thumbnail, parts

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


def downscale(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    num_threads: int | None = None,
    tiling: Tiling = TILING,
) -> Array:
    """Thumbnails (N, height, width, colours + alpha) of `size` (height, width): uint8, or float32
    in [0, levels or 1].

    Args:
        backend: with a factor, the network's residual is added; the sides may be at most factor
            times the size, rounded up. Without one all is bicubic.
        num_threads: how many threads work; default: what the backend's library would take.
        tiling: how the work is cut; the result does not depend on it.
    """
    threads = backend.default_threads() if num_threads is None else num_threads
    factor = backend.factor
    if factor is not None and _detour_pays(source, size, factor, tiling):
        fine = factor * size[0], factor * size[1]
        prepared, skip = (_whole(source, to, backend, None, threads, tiling) for to in (fine, size))
        prepared_source = replace(
            source, height=fine[0], width=fine[1], read=lambda i, r, c: prepared[i, r, c]
        )
        return _whole(prepared_source, size, backend, factor, threads, tiling, skip)
    return _whole(source, size, backend, factor, threads, tiling)


def _detour_pays(source: Source, size: tuple[int, int], factor: int, tiling: Tiling) -> bool:
    """Whether what the network takes is kept whole: it is small, and cutting it from a much larger
    image tile by tile would read most of that several times, for the halos."""
    pixels = factor * size[0] * factor * size[1]
    plain = source.levels == 255 and source.colours == 3 and not source.alpha
    return plain and pixels <= tiling.prepared and 2 * pixels <= source.height * source.width


def _whole(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    factor: int | None,
    threads: int,
    tiling: Tiling,
    skip: Array | None = None,
) -> Array:
    shape = (source.count, *size, source.colours + source.alpha)
    out = np.empty(shape, _dtype(source))

    def work(tile: Tile) -> None:
        out[tile.images, tile.rows, tile.columns] = make_thumbnail(
            source, size, backend, factor, tile, tiling, skip
        )

    run(list(cut_tiles(source, size, threads, tiling)), work, backend, threads)
    return out


def in_rows(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    num_threads: int | None = None,
    tiling: Tiling = TILING,
) -> Iterator[tuple[slice, Callable[[], Array]]]:
    """As `downscale` of one image, in blocks of rows from the top: the rows of the image that a
    block reads, and what computes it. Both ends of what is read only ever move down."""
    threads = backend.default_threads() if num_threads is None else num_threads
    every = list(cut_tiles(source, size, threads, tiling))
    across = sum(tile.rows == every[0].rows for tile in every)
    for start in range(0, len(every), across * threads):
        group = every[start : start + across * threads]
        top, bottom = group[0].rows.start, group[-1].rows.stop
        block = replace(every[0], rows=slice(top, bottom))
        read = parts(source, size, backend, backend.factor, block, tiling)[0].read

        def compute(group: list[Tile] = group, top: int = top, bottom: int = bottom) -> Array:
            out = np.empty((bottom - top, size[1], source.colours + source.alpha), _dtype(source))

            def work(tile: Tile) -> None:
                rows = slice(tile.rows.start - top, tile.rows.stop - top)
                out[rows, tile.columns] = make_thumbnail(
                    source, size, backend, backend.factor, tile, tiling
                )[0]

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
