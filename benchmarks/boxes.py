"""Boxes that detectors find, and which of them agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

IOU = 0.5


class Box(NamedTuple):
    """corners: x1, y1, x2, y2 in pixels."""

    label: int
    score: float
    corners: np.ndarray


def without_doubles(boxes: list[Box]) -> list[Box]:
    """The best of boxes of one class that overlap by more than an IoU of 0.5."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(box.label != other.label or iou(box, other) <= IOU for other in kept):
            kept.append(box)
    return kept


def iou(a: Box, b: Box) -> float:
    low = np.maximum(a.corners[:2], b.corners[:2])
    high = np.minimum(a.corners[2:], b.corners[2:])
    common = np.prod((high - low).clip(0))
    areas = [np.prod(box.corners[2:] - box.corners[:2]) for box in (a, b)]
    return float(common / (sum(areas) - common))


def matched(own: list[Box], boxes: list[Box]) -> set[int]:
    """The places in `own` of boxes that are found again, each by one box."""
    found: set[int] = set()
    for box in sorted(boxes, key=lambda box: -box.score):
        overlaps = {
            i: iou(box, other)
            for i, other in enumerate(own)
            if i not in found and box.label == other.label
        }
        best = max(overlaps, key=overlaps.__getitem__, default=None)
        if best is not None and overlaps[best] >= IOU:
            found.add(best)
    return found
