"""Shared by the tests: drawn photos, and where the real ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data" / "imagenet20"


def drawn_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Something like a photo: smooth areas, edges, texture and noise, in colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), 3), dtype=np.int16)
    y, x = np.mgrid[:height, :width]
    stripes = 60 * (np.sin(x * 0.9 + y * 0.4) > 0.3)[..., None] * ((x + y) % 90 < 45)[..., None]
    noise = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(smooth + stripes + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def photo() -> Image.Image:
    return drawn_photo(161, 118)


@pytest.fixture(scope="session")
def val_shard() -> Path:
    path = SHARED / "val-000.tar"
    if not path.is_file():
        pytest.skip("the real photos (shared/data/imagenet20) are not beside this checkout")
    return path
