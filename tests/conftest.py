"""Shared by the tests: drawn photos, where the real ones are, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data" / "imagenet20"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]  # fmt: skip


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [test]")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()
