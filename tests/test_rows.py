"""Images larger than memory: rows in, rows out, and arrays in files."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_engine import cut, images, levels_apart

from learned_downscale import Resizer, downscale_rows, resize
from learned_downscale.engine.thumbnail import Tiling


@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba", "16 bits", "float"])
@pytest.mark.parametrize("size", [4, 2, 3, 1.5, 1, (59, 44), (21, 16)])
def test_rows_in_rows_out(kind: str, size: Any) -> None:
    image = np.asarray(images()[kind])
    want = resize(image, size)
    for step, threads in ((1, 1), (37, 2), (1000, 3)):
        blocks = (image[i : i + step] for i in range(0, len(image), step))
        resizer = cut(Resizer(size, num_threads=threads), Tiling(tile=5000, widest=150))
        got = list(resizer.rows(blocks, (240, 180)))
        assert len(got) > 1 or step == 1000 or size in (1, (21, 16))
        whole = np.concatenate(got)
        assert whole.dtype == want.dtype and whole.shape == want.shape
        assert levels_apart(whole, want) <= (1e-6 if kind == "float" else 0)


def test_rows_are_pulled_as_they_are_needed() -> None:
    pulled = 0

    def rows() -> Iterator[np.ndarray]:
        nonlocal pulled
        for row in np.asarray(images()["rgb"]):
            pulled += 1
            yield row[None]

    resizer = cut(Resizer(4, num_threads=1), Tiling(tile=5000))
    first = next(resizer.rows(rows(), (240, 180)))
    assert len(first) < 10 and pulled < 60


ROW = np.zeros((10, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("rows", "source", "size", "error", "says"),
    [
        ([ROW], (32, 40), 4, ValueError, "ended at 10 of 40"),
        ([ROW] * 5, (32, 40), 4, ValueError, "more rows"),
        ([], (32, 40), 4, ValueError, "empty"),
        ([ROW[:, :5]] * 4, (32, 40), 4, ValueError, "32 pixels across"),
        ([ROW, ROW[..., :1]], (32, 20), 4, ValueError, "channels"),
        ([ROW, ROW.astype(float)], (32, 20), 4, ValueError, "dtype"),
        ([[1, 2]], (32, 20), 4, TypeError, "numpy arrays"),
        ([ROW + np.float32(2)] * 2, (32, 20), 4, ValueError, "divide by 255"),
        ([ROW] * 2, (32, 20), 0.5, ValueError, "enlarge"),
        ([ROW] * 2, (32, 0), 4, ValueError, "at least 1"),
    ],
)
def test_bad_rows(rows: Any, source: Any, size: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        list(downscale_rows(iter(rows), source, size))


@pytest.mark.parametrize("mode", ["r", "c"])
def test_an_array_in_a_file(tmp_path: Path, mode: Any) -> None:
    image = np.asarray(images()["rgb"])
    image.tofile(tmp_path / "image")
    mapped = np.memmap(tmp_path / "image", np.uint8, mode, shape=image.shape)
    if mode == "c":
        mapped[:90] = 255 - mapped[:90]  # in memory only: must not be lost
    want = resize(np.array(mapped), 4)
    assert np.array_equal(resize(mapped, 4), want)
    assert np.array_equal(resize(mapped, 4), want)
    assert np.array_equal(np.fromfile(tmp_path / "image", np.uint8), image.ravel())


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="no private mappings here")
def test_memory_of_this_process_alone_is_not_given_back() -> None:
    image = np.asarray(images()["rgb"])
    memory = mmap.mmap(-1, image.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped = np.ndarray(image.shape, np.uint8, buffer=memory)
    mapped[:] = image
    resize(mapped, 4)
    assert np.array_equal(mapped, image)


def test_rows_in_memory_that_is_used_again() -> None:
    image = np.asarray(images()["rgb"])
    buffer = np.empty((20, 240, 3), np.uint8)

    def rows() -> Iterator[np.ndarray]:
        for top in range(0, 180, 20):
            buffer[:] = image[top : top + 20]
            yield buffer

    got = np.concatenate(list(downscale_rows(rows(), (240, 180), 4)))
    assert np.array_equal(got, resize(image, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_one_column(dtype: Any) -> None:
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    ramp = np.linspace(0, top, 48).astype(dtype)[:, None]
    small = resize(ramp, (1, 12)).astype(float)[:, 0] / top
    assert np.abs(small - (np.arange(12) + 0.5) / 12).max() < 0.05
