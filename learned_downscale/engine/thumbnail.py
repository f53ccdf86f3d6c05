"""The thumbnails of one tile, by three paths: opaque 8-bit RGB, anything else that is opaque, and
images with transparency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from learned_downscale.core.qim import embed
from learned_downscale.core.resampling import Array, Axis, quarters, span
from learned_downscale.core.source import Source
from learned_downscale.engine.backend import Backend
from learned_downscale.engine.patches import Run, gather, runs
from learned_downscale.engine.transparency import REACH, see_through


@dataclass(frozen=True)
class Tiling:
    """How the work is cut into tiles; each default was measured (12 MP, factors 2 and 4).

    halo: thumbnail pixels around a tile that its pixels depend on: the network's two layers of
        3 x 3 reach that far, and so does bicubic at a native factor.
    tile: source pixels of a tile, which then fits the processor's cache.
    at_once: source pixels of the tiles that all threads work on.
    widest: source pixels across a tile; wider images are cut in columns, too.
    whole: bytes, at most, of what bicubic keeps of an image where its sizes do not fit: torch and
        Pillow filter whole rows and columns several times faster than parts of them.
    smallest: source pixels below which a further thread costs more than it brings.
    """

    halo: int = 2
    tile: int = 800_000
    at_once: int = 3_200_000
    widest: int = 16_384
    whole: int = 40_000_000
    smallest: int = 400_000


TILING = Tiling()
MOST_PER_UNIT = 8  # larger ones make halos too wide


@dataclass(frozen=True)
class Tile:
    """Images, and rows and columns of their thumbnails."""

    images: slice
    rows: slice
    columns: slice


class Part:
    """What a tile needs along one axis.

    native: whether the network takes the samples of the image as they are.
    read: samples of the image that are read.
    skip: from these to the tile with its halo.
    prepare: from these to factor * the tile with its halo; None: the network is given patches.
    runs: of patches, within what is read.
    around: the tile with its halo, in the thumbnail.
    crop: the tile within the tile with its halo.
    """

    def __init__(
        self,
        samples: int,
        extent: float,
        target: int,
        tile: tuple[int, int],
        halos: tuple[int, int],
        factor: int | None,
        patches: bool,
        with_skip: bool,
    ) -> None:
        """samples, extent: of the image. halos: thumbnail pixels that the network depends on, and
        beyond them those that transparency does. with_skip: whether the skip is made of what is
        read, too."""
        halo, reach = halos
        self.native = _native(extent, target, factor)
        unit = grid_unit(extent, target)
        on_grid = not patches and (self.native or unit <= MOST_PER_UNIT)
        # without a network: what bicubic reaches is in `span`
        halo = reach if factor is None and not on_grid else halo + reach
        start, stop = max(0, tile[0] - halo), min(target, tile[1] + halo)
        if on_grid and not self.native:
            # a fine pixel depends on some around it, which may lie in the next thumbnail pixel
            start, stop = (
                max(0, start - 1) // unit * unit,
                min(target, -(-(stop + 1) // unit) * unit),
            )
        fine = (factor or 1) * target
        ends = start * fine // target, stop * fine // target
        self.runs: tuple[Run, ...] = ()
        alone = on_grid or (start, stop) == (0, target)
        spans: list[tuple[int, int]] = []
        if on_grid:
            spans.append((start * int(extent) // target, stop * int(extent) // target))
        elif alone and (with_skip or not patches):
            spans.append((0, samples))
        elif with_skip:
            spans.append(span(extent, target, start, stop))
        if patches and factor is not None:
            begin, quarter = quarters(samples, target, start, stop, factor)
            spans.append((int(begin[0]), int(begin[-1]) + factor + bool(quarter[-1])))
        elif not alone:
            spans.append(span(extent, fine, *ends))
        first, last = min(s[0] for s in spans), max(s[1] for s in spans)
        if patches and factor is not None:
            self.runs = runs(begin - first, quarter, factor)
        self.read = slice(first, last)
        self.around = slice(start, stop)
        self.crop = slice(tile[0] - start, tile[1] - start)
        self.skip = Axis(extent, target, start, stop, first, alone, self.native)
        self.prepare = None if patches else Axis(extent, fine, *ends, first, alone, self.native)
        self.scale = target / extent

    @property
    def filled(self) -> Array:
        """The pixel of the tile with its halo in which each sample lies."""
        samples = np.arange(self.read.start, self.read.stop)
        within = ((samples + 0.5) * self.scale).astype(np.int64) - self.around.start
        return within.clip(0, self.around.stop - self.around.start - 1)


def grid_unit(source: float, target: int) -> int:
    """Of how many target samples each first one begins with a whole source sample: where these are
    few, parts are cut there, and filtered as whole axes are."""
    return target // math.gcd(int(source), target) if source % 1 == 0 else 2**31


def _native(source: float, target: int, factor: int | None) -> bool:
    """Whether each target sample covers a whole number of samples, and the factor of them."""
    return source % target == 0 if factor is None else source == factor * target


def parts(
    source: Source,
    size: tuple[int, int],
    factor: int | None,
    tile: Tile,
    tiling: Tiling = TILING,
    patches: bool = False,
    with_skip: bool = True,
) -> tuple[Part, Part]:
    """What a tile needs of the rows and of the columns of the image."""
    halos = tiling.halo, REACH if source.alpha else 0
    height, width = source.extent or (source.height, source.width)
    rest = halos, factor, patches, with_skip
    rows, columns = tile.rows, tile.columns
    return (
        part(source.height, height, size[0], (rows.start, rows.stop), *rest),
        part(source.width, width, size[1], (columns.start, columns.stop), *rest),
    )


part = lru_cache(maxsize=1024)(Part)  # images of one size come one after the other


def make_thumbnail(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    factor: int | None,
    tile: Tile,
    tiling: Tiling = TILING,
    patches: bool = False,
    skips: Array | None = None,
) -> Array:
    """The thumbnails of one tile, as in `tiles.downscale`; bicubic alone without a factor. `skips`
    are the bicubic thumbnails, where they are not to be taken from the source."""
    rows, columns = parts(source, size, factor, tile, tiling, patches, skips is None)
    if factor is None and source.plain:
        return _plain_bicubic(source, backend, tile.images, rows, columns, tiling)
    x = source.read(tile.images, rows.read, columns.read)
    skip = None if skips is None else skips[tile.images, rows.around, columns.around]
    work = _Work(backend, factor, source.colours, source.levels, rows, columns, skip)
    opaque = not source.alpha or bool((x[..., -1] == work.top).all())
    if opaque and source.levels == 255 and source.colours == 3 and factor is not None:
        small = _opaque_rgb(work, x)
    elif opaque:
        small = _opaque(work, x, source.alpha)
    else:
        small = _transparent(work, x)
    return small[:, rows.crop, columns.crop]


@dataclass(frozen=True)
class _Work:
    """The steps that the paths share, for one tile."""

    backend: Backend
    factor: int | None
    colours: int
    levels: int | None
    rows: Part
    columns: Part
    skip: Array | None

    @property
    def top(self) -> int:
        return self.levels or 1

    @property
    def unit(self) -> float:
        """A level of 8 bits, in the image's own."""
        return self.top / 255

    @property
    def native(self) -> bool:
        return self.rows.native and self.columns.native

    def bicubic(self, x: Array) -> Array:
        return self.backend.bicubic(x, self.rows.skip, self.columns.skip)

    def rounded_bicubic(self, x: Array) -> Array:
        """As Pillow does it with 8 bits: clipped and rounded after each of the two passes."""
        if self.skip is not None:
            return self.skip
        if x.dtype == np.uint8:
            return self.bicubic(x)
        across = self.backend.bicubic(x, same(x.shape[1]), self.columns.skip)
        across = _rounded(across, self.levels)
        down = self.backend.bicubic(across, self.rows.skip, same(across.shape[2]))
        return _rounded(down, self.levels)

    def prepared(self, x: Array) -> Array:
        """What the network takes."""
        if self.native:
            return x
        rows, columns = self.rows, self.columns
        if rows.prepare is not None and columns.prepare is not None:
            return self.backend.bicubic(x, rows.prepare, columns.prepare)
        return gather(gather(x, rows.runs, 1), columns.runs, 2)

    def residual(self, x: Array) -> Array:
        """In levels of 8 bits."""
        if x.dtype != np.uint8:
            x = np.rint(x * (1 / self.unit)).astype(np.uint8)
        if x.shape[-1] == 1:
            # Grey: the network is given three equal planes, and the mean of what it would add to
            # them is added.
            residual = self.backend.residual(self.prepared(x.repeat(3, -1)))
            return residual.mean(-1, keepdims=True)
        return self.backend.residual(self.prepared(x))

    def joined(self, skip: Array, x: Array) -> Array:
        """The thumbnail of its bicubic colours and the image that the network is given."""
        if self.factor is None:
            return _rounded(skip, self.levels)
        if self.backend.qim == 1:
            return _rounded(skip + self.unit * self.residual(x), self.levels)
        levels = embed(skip * np.float32(1 / self.unit), self.residual(x), self.backend.qim)
        return _rounded(self.unit * levels, self.levels)


def _opaque_rgb(work: _Work, x: Array) -> Array:
    """8 bits: the backend does it all. A fourth channel of x is in the result, too."""
    if work.native and work.skip is None:
        return work.backend.thumbnail(x, None)
    # the sum goes where the skip is
    skip = work.bicubic(x) if work.skip is None else work.skip.copy()
    return work.backend.thumbnail(work.prepared(x), skip)


def _opaque(work: _Work, x: Array, alpha: bool) -> Array:
    """Grey, 16 bits, floats, and bicubic alone."""
    skip = work.rounded_bicubic(x)
    colours = slice(0, work.colours)
    small = work.joined(skip[..., colours], x[..., colours])
    return np.concatenate([small, skip[..., -1:]], -1) if alpha else small


def _transparent(work: _Work, x: Array) -> Array:
    """Colours are weighted by alpha; what alpha hides is filled before the network is given it."""
    skip = work.rounded_bicubic(x)
    alpha = skip[..., -1:]
    rows, columns = work.rows.filled, work.columns.filled
    colours, filled = see_through(x, skip, work.bicubic, work.top, rows, columns)
    small = work.joined(colours, filled)
    small = np.where(alpha > 0, small, small.dtype.type(0))
    return np.concatenate([small, alpha], -1)


def _plain_bicubic(
    source: Source, backend: Backend, images: slice, rows: Part, columns: Part, tiling: Tiling
) -> Array:
    """Bicubic alone, of opaque 8-bit images. At large scales a tile is made of many samples:
    then its rows are filtered as they are read, and the columns of what is left."""
    top, bottom = rows.read.start, rows.read.stop
    strips = (bottom - top) * (columns.read.stop - columns.read.start) // (2 * tiling.tile) + 1
    if strips == 1:
        x = source.read(images, rows.read, columns.read)
        small = backend.bicubic(x, rows.skip, columns.skip)
    else:
        across = []
        for cut in cuts(bottom - top, strips):
            x = source.read(images, slice(top + cut.start, top + cut.stop), columns.read)
            across.append(backend.bicubic(x, same(x.shape[1]), columns.skip))
        whole = np.concatenate(across, 1)
        small = backend.bicubic(whole, rows.skip, same(whole.shape[2]))
    return small[:, rows.crop, columns.crop]


def cuts(length: int, count: int) -> list[slice]:
    """[0, length) in `count` parts of about one length."""
    edges = [length * k // count for k in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def same(length: int) -> Axis:
    return Axis(length, length, 0, length, 0, True, True)


def _rounded(x: Array, levels: int | None) -> Array:
    if levels is None:
        return x.clip(0, 1).astype(np.float32, copy=False)
    whole = np.rint(x).clip(0, levels)
    return whole.astype(np.uint8 if levels == 255 else np.float32)
