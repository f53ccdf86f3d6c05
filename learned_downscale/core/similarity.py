"""Similarity of two images: PSNR and SSIM."""

from __future__ import annotations

import numpy as np

from learned_downscale.core.resampling import Array

WINDOW = 7  # px, of SSIM


def psnr(a: Array, b: Array) -> float:
    """10 log10(255^2 / MSE) of two uint8 images of one shape, in dB, at most 100."""
    error = np.mean(np.square(a.astype(np.float32) - b.astype(np.float32)), dtype=np.float64)
    return float(min(100.0, 10 * np.log10(255**2 / max(error, 1e-12))))


def ssim(a: Array, b: Array) -> float:
    """Structural similarity of two uint8 images (H, W, C), mean over windows of 7 x 7 pixels (all
    of the image where it is smaller) and channels; 1 where they are equal.

    Source: Wang et al. 2004, with uniform windows, as scikit-image computes it by default.
    """
    import cv2

    window = min(WINDOW, *a.shape[:2])
    count = window * window
    x, y = (t.astype(np.float64) for t in (a, b))

    def mean(t: Array) -> Array:
        # windows that lie within the image
        blurred = np.atleast_3d(cv2.blur(t, (window, window), anchor=(0, 0)))
        return blurred[: t.shape[0] - window + 1, : t.shape[1] - window + 1]

    mx, my = mean(x), mean(y)
    unbiased = count / max(1, count - 1)
    vx, vy, vxy = (unbiased * t for t in (mean(x * x) - mx * mx, mean(y * y) - my * my,
                                          mean(x * y) - mx * my))  # fmt: skip
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(values.mean())
