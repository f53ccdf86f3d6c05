"""What E of a modulus above 1 writes: x_s is its code modulo the modulus, near the bicubic one."""

from __future__ import annotations

import numpy as np

from learned_downscale.engine.bicubic import Array

MODULI = (1, 2, 4, 8, 16, 32, 64, 128)


def check_modulus(modulus: int) -> None:
    """Raise ValueError if levels of 8 bits cannot be coded modulo this."""
    if modulus not in MODULI:
        raise ValueError(
            f"modulus is {modulus}; it must be one of {', '.join(map(str, MODULI))} "
            "(1: no code; else the last bits of 8)"
        )


def coded(skip: Array, residual: Array, modulus: int) -> Array:
    """x_s, whole numbers from 0 to 255 as float32; skip and residual in levels.

    As `Downscaler` defines it; of 8-bit skips every step is exact.
    """
    code = np.rint(residual)
    code += modulus // 2
    code = code.clip(0, modulus - 1, out=code)
    steps: Array = (skip - code) * np.float32(1 / modulus)
    steps += np.float32(0.5)
    steps = np.floor(steps, out=steps).clip(0, 256 // modulus - 1, out=steps)
    steps *= modulus
    steps += code
    return steps
