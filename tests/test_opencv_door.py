"""`learned_downscale.opencv` beside OpenCV itself."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from conftest import drawn_photo

import learned_downscale
from learned_downscale import opencv
from learned_downscale.opencv import INTER_LEARNED, letterbox, resize

BGR = np.ascontiguousarray(np.asarray(drawn_photo(203, 151))[..., ::-1])


def test_the_name_is_none_of_cv2s() -> None:
    assert INTER_LEARNED not in [v for k, v in vars(cv2).items() if k.startswith("INTER_")]


@pytest.mark.parametrize("size", [(50, 37), (51, 38), (20, 30), (101, 75), (150, 140), (203, 151)])
def test_resize_is_the_librarys(size: tuple[int, int]) -> None:
    out = resize(BGR, size)
    rgb = learned_downscale.resize(np.ascontiguousarray(BGR[..., ::-1]), size)
    assert np.array_equal(out[..., ::-1], rgb)
    assert np.array_equal(resize(BGR, list(size)), out)


@pytest.mark.parametrize(("fx", "fy"), [(0.25, 0.25), (0.5, 0.125), (0.1, 0.9), (1, 0.3)])
def test_fx_and_fy(fx: float, fy: float) -> None:
    for dsize in (None, (0, 0)):
        out = resize(BGR, dsize, fx=fx, fy=fy)
        assert out.shape == cv2.resize(BGR, dsize, fx=fx, fy=fy).shape
        assert np.array_equal(out, resize(BGR, (out.shape[1], out.shape[0])))


@pytest.mark.parametrize("interpolation", [cv2.INTER_NEAREST, cv2.INTER_AREA, cv2.INTER_CUBIC])
@pytest.mark.parametrize("size", [(50, 37), (300, 200)])
def test_other_interpolations_are_opencvs(size: tuple[int, int], interpolation: int) -> None:
    ours = resize(BGR, size, interpolation=interpolation)
    assert np.array_equal(ours, cv2.resize(BGR, size, interpolation=interpolation))


@pytest.mark.parametrize("size", [(300, 200), (50, 200), (204, 20)])
def test_enlargements_are_opencvs(size: tuple[int, int]) -> None:
    want = cv2.resize(BGR, size, interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(resize(BGR, size), want)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3)])
def test_dtypes_and_channels_stay(dtype: str, shape: tuple[int, ...]) -> None:
    image = np.ones(shape, dtype)
    out = resize(image, (15, 10))
    assert out.dtype == dtype and out.shape == (10, 15, *shape[2:])
    np.testing.assert_allclose(out, 1, atol=0.5 if "int" in dtype else 1e-3)


def test_values_as_opencv_has_them() -> None:
    image = BGR.astype(np.float32)
    with pytest.raises(ValueError, match="value_range"):
        resize(image, (50, 37))
    out = resize(image, (50, 37), value_range=(0, 255))
    # 8 bits are rounded after the rows, after the columns, and in the end
    assert np.abs(out - resize(BGR, (50, 37))).max() <= 1.51


def test_dst_is_filled() -> None:
    dst = np.zeros((37, 50, 3), np.uint8)
    assert resize(BGR, (50, 37), dst) is dst
    assert np.array_equal(dst, resize(BGR, (50, 37)))
    with pytest.raises(ValueError, match="leave dst out"):
        resize(BGR, (50, 37), np.zeros((37, 50, 3), np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((BGR, (50, 37), cv2.INTER_AREA), TypeError, "the interpolation is named"),
        ((BGR.tolist(), (50, 37)), TypeError, "src is a list"),
        ((BGR, None), ValueError, "fx and fy above 0"),
        ((BGR, (0, 0), None, 0.5), ValueError, "fx and fy above 0"),
        ((BGR, (0, 5)), ValueError, "at least 1 pixel"),
        ((np.zeros((8, 8, 5), np.uint8), (2, 2)), ValueError, "1 to 4 channels"),
        ((np.zeros((8, 8), np.int32), (2, 2)), TypeError, "no agreed range"),
    ],
)
def test_what_is_refused(arguments: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        resize(*arguments)


@pytest.mark.parametrize("dsize", [(64, 64), (640, 640), (100, 20), (203, 151)])
@pytest.mark.parametrize("enlarge", [True, False])
def test_letterbox(dsize: tuple[int, int], enlarge: bool) -> None:
    out, scale, (left, top) = letterbox(BGR, dsize, enlarge=enlarge)
    assert out.shape == (dsize[1], dsize[0], 3) and out.dtype == np.uint8
    assert enlarge or scale <= 1
    width, height = round(203 * scale), round(151 * scale)
    inside = out[top : top + height, left : left + width]
    assert np.array_equal(inside, resize(BGR, (width, height)))
    out[top : top + height, left : left + width] = 114
    assert (out == 114).all()
    assert abs(2 * left + width - dsize[0]) <= 1 and abs(2 * top + height - dsize[1]) <= 1


def test_masks_keep_their_labels() -> None:
    mask = np.random.default_rng(0).integers(0, 20, (151, 203), np.uint8)
    out, *_ = letterbox(mask, (64, 64), color=255, interpolation=cv2.INTER_NEAREST)
    assert set(np.unique(out)) <= {*range(20), 255}
    assert np.array_equal(
        opencv.resize(mask, (50, 37), interpolation=cv2.INTER_NEAREST),
        cv2.resize(mask, (50, 37), interpolation=cv2.INTER_NEAREST),
    )


def test_colours_of_letterbox() -> None:
    out, *_ = letterbox(BGR, (64, 64), color=(1, 2, 3))
    assert out[0, 0].tolist() == [1, 2, 3]
