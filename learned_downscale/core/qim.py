"""Quantisation index modulation (Chen and Wornell 2001): a payload in the low bits of each channel.

Each channel of a thumbnail pixel is the level nearest to the bicubic one that leaves the payload
modulo `qim`. No level is off by more than qim / 2, but at black and white, and whoever knows `qim`
reads the payload exactly, whatever the picture is.
"""

from __future__ import annotations

import numpy as np

from learned_downscale.core.resampling import Array

QIMS = (1, 2, 4, 8, 16, 32, 64, 128)
# Fewer samples than this say too little: not every crop of a few pixels has a usual payload.
ENOUGH = 3 * 56**2


def check_qim(qim: int) -> None:
    """Raise ValueError if levels of 8 bits cannot hold a payload modulo this."""
    if isinstance(qim, bool) or not isinstance(qim, int) or qim not in QIMS:
        raise ValueError(
            f"qim is {qim!r}; it must be one of {', '.join(map(str, QIMS))} "
            "(1: no payload; else a payload in the low bits of 8)"
        )


def embed(skip: Array, residual: Array, qim: int) -> Array:
    """Levels with their payload, whole numbers from 0 to 255 as float32; skip and residual in
    levels.

    payload = clamp(round(residual) + qim / 2, 0, qim - 1). Of 8-bit skips every step is exact.
    """
    payload = np.rint(residual)
    payload += qim // 2
    payload = payload.clip(0, qim - 1, out=payload)
    steps: Array = (skip - payload) * np.float32(1 / qim)
    steps += np.float32(0.5)
    steps = np.floor(steps, out=steps).clip(0, 256 // qim - 1, out=steps)
    steps *= qim
    steps += payload
    return steps


def lacks_payload(levels: Array, qim: int) -> bool:
    """Whether thumbnails, uint8 of any shape, look as if they carried no payload modulo `qim`.

    Where a picture is smooth, the payload is its middle value, qim / 2; levels without a payload
    are qim / 4 away from that on average, as chance has it. False for fewer than 9,408 samples (a
    thumbnail of 56 px), which say too little.

    Source: ours.
    """
    if qim == 1 or levels.size < ENOUGH:
        return False
    away = np.abs(levels.astype(np.int16) % qim - qim // 2).mean()
    return bool(away > 0.9 * qim / 4)
