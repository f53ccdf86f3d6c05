"""The image that the network is given where the sizes nearly, but not quite, fit its factor: put
together of the image's own pixels, which is several times faster than resampling it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from learned_downscale.core.resampling import Array


class Run(NamedTuple):
    """Patches that follow on each other: `length` samples from `first` on, each moved by so many
    quarters of a sample."""

    first: int
    length: int
    quarters: int


def runs(begin: Array, quarter: Array, factor: int) -> tuple[Run, ...]:
    """Of the patches that begin there (`core.resampling.quarters`)."""
    follows = (np.diff(begin) == factor) & (np.diff(quarter) == 0)
    starts = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(begin)]
    return tuple(
        Run(int(begin[start]), factor * (stop - start), int(quarter[start]))
        for start, stop in pairwise(starts)
    )


def gather(x: Array, runs: Sequence[Run], dimension: int) -> Array:
    """The patches along one dimension of x, uint8, one behind the other.

    Between two samples a patch is their mean, weighted by quarters and rounded half to even.
    """
    lead: tuple[slice, ...] = (slice(None),) * dimension
    if len(runs) == 1 and runs[0].quarters == 0:
        return x[(*lead, slice(runs[0].first, runs[0].first + runs[0].length))]
    shape = list(x.shape)
    shape[dimension] = sum(run.length for run in runs)
    out, at = np.empty(shape, np.uint8), 0
    for first, length, moved in runs:
        to = out[(*lead, slice(at, at + length))]
        near = x[(*lead, slice(first, first + length))]
        if moved:
            _mean(near, x[(*lead, slice(first + 1, first + 1 + length))], moved, to)
        else:
            to[:] = near
        at += length
    return out


def _mean(near: Array, far: Array, quarters: int, out: Array) -> None:
    """near + quarters / 4 * (far - near): exact in float32 before it is rounded."""
    import cv2  # several times faster than numpy

    weight = quarters / 4
    for one, other, to in zip(near, far, out, strict=True):  # of a batch
        cv2.addWeighted(one, 1 - weight, other, weight, 0, dst=to)
