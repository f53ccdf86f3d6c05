"""Thumbnails whose colours are averaged as light, not as the sRGB levels that files hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from learned_downscale.core.resampling import Array
from learned_downscale.core.source import Source
from learned_downscale.engine.backend import Backend
from learned_downscale.engine.thumbnail import Tiling
from learned_downscale.engine.tiles import downscale


def in_linear_light(
    source: Source,
    size: tuple[int, int],
    backend: Backend,
    bicubic: Backend,
    num_threads: int | None,
    tiling: Tiling,
) -> Array:
    """As `tiles.downscale`, of a source in sRGB: bicubic of the light, and what the network adds
    to bicubic of the levels.

        from_light(bicubic(to_light(x))) + learned(x) - bicubic(x)

    bicubic: a backend without a network.

    Source: ours; the network was trained on sRGB levels.
    """
    top = source.levels or 1
    colours = slice(0, source.colours)

    def read(images: slice, rows: slice, columns: slice) -> Array:
        x = source.read(images, rows, columns)[..., : source.colours + source.alpha]
        x = x.astype(np.float32) / np.float32(top)
        x[..., colours] = _to_light(x[..., colours])
        return x

    rest = num_threads, tiling, True
    learned, plain = (downscale(source, size, b, *rest) for b in (backend, bicubic))
    light = downscale(replace(source, levels=None, padded=False, read=read), size, bicubic, *rest)
    out = learned.astype(np.float32)
    added = out[..., colours] - plain[..., colours]
    out[..., colours] = top * _from_light(light[..., colours]) + added
    if source.alpha:  # what is invisible stays black
        out[..., colours] = np.where(out[..., -1:] > 0, out[..., colours], 0)
    if source.levels is None:
        return out.clip(0, 1)
    whole = np.rint(out).clip(0, top)
    return whole.astype(np.uint8) if top == 255 else whole


# IEC 61966-2-1


def _to_light(x: Array) -> Array:
    above: Array = ((x + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(x <= 0.04045, x / np.float32(12.92), above)


def _from_light(x: Array) -> Array:
    x = x.clip(0, 1)
    above: Array = np.float32(1.055) * x ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(x <= 0.0031308, x * np.float32(12.92), above)
