"""Thumbnails stored in lossy files and opened again, between E and what reads them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from learned_downscale.core.tensors import pass_gradient

# What Pillow is told beside the quality.
FORMATS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "subsampling": "4:4:4"},  # as `convert` stores thumbnails
    "jpeg-420": {"format": "JPEG", "subsampling": "4:2:0"},  # as most others do
    "webp": {"format": "WebP"},
}


def stored(x: Tensor, quality: int, kind: str = "jpeg") -> Tensor:
    """x (N, 3, h, w) in [0, 1] stored in lossy files, and opened again by Pillow. The gradient is
    that of the identity (ours): files round the coefficients of a transform that is undone.

    quality: 1 to 100, as Pillow has it. kind: a key of `FORMATS`.
    """
    levels = (x.detach() * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    opened = np.empty_like(levels)
    for i, pixels in enumerate(levels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, quality=quality, **FORMATS[kind])
        with Image.open(file) as image:
            opened[i] = image
    return pass_gradient(x, torch.from_numpy(opened).permute(0, 3, 1, 2).to(x) / 255)
