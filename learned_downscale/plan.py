"""What was asked -> how it is done, in whole numbers only."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

Rounding = Literal["up", "nearest", "down"]
# How many times the thumbnail's size an image keeps at least where blocks of it are averaged.
REDUCED = 4
LARGEST_REDUCED = 4_000_000  # pixels
ROUND = {"up": math.ceil, "nearest": round, "down": math.floor}


@dataclass(frozen=True)
class Plan:
    """How an image is made smaller.

    source, target: (width, height) in pixels.
    learned: the native factor of the learned step, or None where all is plain bicubic.
    weights: the name of its weights, or None.
    prepared: (width, height) of the image that the residual is computed of. None without weights.
    reduced: (width, height) after the mean of whole blocks of pixels has been taken, where the
        image is much larger than the thumbnail; else None.
    patches: whether `prepared` is put together of the image's own pixels, `factor` x `factor` at
        the nearest quarter of a pixel for each thumbnail pixel; else it is the image itself, where
        the sizes agree, or made by antialiased bicubic.
    backend: what computed it and why that, once it has been.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    learned: int | None
    weights: str | None
    prepared: tuple[int, int] | None
    reason: str
    backend: str | None = None
    reduced: tuple[int, int] | None = None
    patches: bool = False

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
    exact: bool = False,
) -> Plan:
    """The plan for an 8-bit RGB image of `source` (width, height).

    weights: names by native factor; the largest factor that fits is taken. required: they must
    fit; otherwise what none of them fits is plain bicubic. exact: without `reduced` and `patches`.

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
    block = 1 if exact else reduction(source, target)
    reduced = None if block == 1 else (-(-source[0] // block), -(-source[1] // block))
    begins = f"means of {block}x{block} pixels, " if reduced else ""
    factor = fitting[0]
    prepared = (factor * target[0], factor * target[1])
    patches = reduced is None and not exact and takes_patches(source, target, factor)
    reason = f"learned x{factor} ({weights[factor]})"
    if patches:
        reason += f" of {factor}x{factor} patches at quarters of a pixel"
    elif prepared != source:
        reason = f"{begins}bicubic to {prepared[0]}x{prepared[1]}, then {reason}"
    name = weights[factor]
    return Plan(source, target, factor, name, prepared, reason, None, reduced, patches)


def reduction(source: tuple[int, int], target: tuple[int, int]) -> int:
    """The side of the blocks of pixels whose mean is taken first; 1: none is.

    The thumbnail is then made of an image at least REDUCED times its size, as Pillow does it with
    `reducing_gap`. Not where even that image would be too large to be kept whole.
    """
    block = min(s // (REDUCED * t) for s, t in zip(source, target, strict=True))
    if block < 2 or math.prod(-(-s // block) for s in source) > LARGEST_REDUCED:
        return 1
    return block


def takes_patches(source: tuple[int, int], target: tuple[int, int], factor: int) -> bool:
    """Whether the image is nearly, but not quite, `factor` times the thumbnail: then the residual
    is computed of the image's own pixels (see `Plan.patches`)."""
    fine = [factor * t for t in target]
    near = all(16 * abs(f - s) <= s for f, s in zip(fine, source, strict=True))
    return near and tuple(fine) != source and min(source) >= factor


def plain(source: tuple[int, int], target: tuple[int, int], reason: str) -> Plan:
    """A plan without weights."""
    return Plan(source, target, None, None, None, reason)
