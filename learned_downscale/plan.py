"""What was asked -> how it is done, in whole numbers only."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

Rounding = Literal["up", "nearest", "down"]
ROUND = {"up": math.ceil, "nearest": round, "down": math.floor}


@dataclass(frozen=True)
class Plan:
    """How an image is made smaller.

    source, target: (width, height) in pixels.
    learned: the native factor of the learned step, or None where all is plain bicubic.
    weights: the name of its weights, or None.
    prepared: (width, height) that the image is brought to by antialiased bicubic before the
        residual is computed; equal to `source` where nothing is left over. None without weights.
    backend: what computed it and why that, once it has been.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    learned: int | None
    weights: str | None
    prepared: tuple[int, int] | None
    reason: str
    backend: str | None = None

    def __str__(self) -> str:
        (w, h), (tw, th) = self.source, self.target
        return f"{w}x{h} -> {tw}x{th}: {self.reason}"


def target_size(
    source: tuple[int, int], size: float | tuple[int, int], rounding: Rounding = "up"
) -> tuple[int, int]:
    """(width, height) that `resize` gives for a source (width, height); raises as `resize`."""
    if isinstance(size, numbers.Real) and not isinstance(size, bool):
        try:
            # the 1.3 that is written, not the one that float32 holds
            factor = float(str(size) if type(size).__module__ == "numpy" else size)
        except OverflowError:
            factor = math.inf
        if not math.isfinite(factor) or factor <= 0:
            raise ValueError(f"factor is {size}; it divides the sides: give a number above 1")
        if factor < 1:
            raise ValueError(
                f"factor {size} would enlarge; it divides the sides: {1 / factor:g} makes the "
                f"image {1 / factor:g} times smaller"
            )

        # 1e-9: 110 / 1.1 is 99.99..., and 100 / 0.1 style errors must not add a pixel
        def divide(side: int) -> int:
            exact = side / factor
            whole = round(exact)
            return max(1, whole if abs(exact - whole) < 1e-9 * exact else ROUND[rounding](exact))

        return divide(source[0]), divide(source[1])
    try:
        unordered = isinstance(size, (str, bytes, Set, Mapping, Iterator))
        sides = [] if unordered else list(size)  # type: ignore[arg-type]
    except TypeError:
        sides = []
    if len(sides) != 2:
        raise TypeError(f"size is {size!r}; expected a factor such as 4, or (width, height)")
    if any(isinstance(s, bool) or not isinstance(s, numbers.Integral) for s in sides):
        raise TypeError(f"size is {size!r}; width and height are whole numbers of pixels")
    width, height = int(sides[0]), int(sides[1])
    if width < 1 or height < 1:
        raise ValueError(f"size is {width} x {height}; both sides must be at least 1 pixel")
    if width > source[0] or height > source[1]:
        raise ValueError(
            f"{source[0]} x {source[1]} to {width} x {height} would enlarge; a downscaler only "
            "makes images smaller (size is (width, height), in this order)"
        )
    return width, height


def check_size(size: Any) -> None:
    """Raise what `resize` raises for a size that no image could have."""
    target_size((2**31, 2**31), size)


def make_plan(
    source: tuple[int, int],
    target: tuple[int, int],
    weights: Mapping[int, str],
    required: bool = False,
) -> Plan:
    """The plan for an RGB image of `source` (width, height).

    weights: names by native factor; the largest factor that fits is taken. required: they must
        fit; otherwise what none of them fits is plain bicubic.

    Raises:
        ValueError: weights that are required do not fit.
    """
    if source == target:
        return plain(source, target, "a copy: the size stays")
    # A native factor fits where the thumbnail has no more pixels than it would give by itself.
    fitting = [
        factor
        for factor in sorted(weights, reverse=True)
        if all(t <= -(-s // factor) for s, t in zip(source, target, strict=True))
    ]
    if not fitting:
        if required:
            factor = min(weights)
            raise ValueError(
                f"the weights {weights[factor]} divide by {factor}, but {source[0]} x {source[1]} "
                f"to {target[0]} x {target[1]} is less; ask for a smaller image, or give no weights"
            )
        return plain(source, target, f"plain bicubic: the factor is below {min(weights)}")
    factor = fitting[0]
    prepared = (factor * target[0], factor * target[1])
    reason = f"learned x{factor} ({weights[factor]})"
    if prepared != source:
        reason = f"bicubic to {prepared[0]}x{prepared[1]}, then " + reason
    return Plan(source, target, factor, weights[factor], prepared, reason)


def plain(source: tuple[int, int], target: tuple[int, int], reason: str) -> Plan:
    """A plan without weights."""
    return Plan(source, target, None, None, None, reason)
