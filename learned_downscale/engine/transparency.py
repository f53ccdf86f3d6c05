"""What transparency changes: small colours are means weighted by alpha, and what alpha hides
reaches no network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from learned_downscale.core.resampling import Array

WINDOW = 9  # thumbnail pixels: wider than what bicubic and the network depend on
# How far, in thumbnail pixels, a thumbnail pixel depends on transparency around it.
REACH = WINDOW // 2 + 3


def see_through(
    x: Array,
    skip: Array,
    small: Callable[[Array], Array],
    top: int,
    rows: Array,
    columns: Array,
) -> tuple[Array, Array]:
    """The small colours, not clipped, and the image for the network.

    Where nothing transparent is near, the result is that of an image without alpha. Elsewhere
    small colours are means weighted by alpha, and the network is given the image with its
    transparent parts filled by the colours around them: what is hidden gives no contrast, so no
    rim is sharpened.

    Args:
        x: (N, H, W, C) samples in [0, top], the last channel alpha.
        skip: (N, h, w, C), x by bicubic.
        small: bicubic of float32 samples, not clipped.
        rows, columns: of the small pixel in which each row and column of x lies.

    Source: ours.
    """
    colours = x.shape[-1] - 1
    alpha = x[..., -1:].astype(np.float32) / top
    colour = x[..., :colours].astype(np.float32)
    # not clipped before the division: overshoot that one has and the other lacks is a false colour
    both = small(np.concatenate([colour * alpha, alpha], -1))
    premultiplied, small_alpha = both[..., :colours], both[..., colours:]
    hidden = _sums((np.abs(1 - small_alpha) > 1e-3).astype(np.float32)) > 0.5
    seen = np.float32(0.5 / top if top > 1 else 1e-6)  # an alpha that will not be rounded to 0
    weighted = premultiplied / np.maximum(small_alpha, seen)
    around = _sums(premultiplied) / np.maximum(_sums(small_alpha), seen)
    fill = np.where(small_alpha < seen, around, weighted).clip(0, top)
    filled = colour * alpha + fill[:, rows][:, :, columns] * (1 - alpha)
    if x.dtype == np.uint8:
        filled = np.rint(filled).clip(0, 255).astype(np.uint8)
    return np.where(hidden, weighted, skip[..., :colours]), filled


def _sums(x: Array) -> Array:
    """Over WINDOW x WINDOW pixels; outside there is nothing. In a fixed order, so that the sums
    do not depend on where a tile begins."""
    reach = WINDOW // 2
    for axis in (1, 2):
        widths = [(0, 0)] * x.ndim
        widths[axis] = (reach, reach)
        padded = np.pad(x, widths)
        length = x.shape[axis]
        x = sum(padded.take(range(k, k + length), axis) for k in range(WINDOW))  # type: ignore[assignment]
    return x
