"""`learned_downscale.albumentations` beside albumentations' own Resize."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import drawn_photo

import learned_downscale

A = pytest.importorskip("albumentations", reason="needs albumentations")
from learned_downscale.albumentations import LearnedResize  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PHOTO = np.asarray(drawn_photo(203, 151))


@pytest.mark.parametrize("size", [(37, 50), (38, 51), (75, 101), (140, 150), (151, 203)])
def test_pixels_are_the_librarys(size: tuple[int, int]) -> None:
    want = learned_downscale.resize(PHOTO, size[::-1])
    resize = LearnedResize(*size)
    assert np.array_equal(resize(image=PHOTO)["image"], want)
    grey = np.ascontiguousarray(PHOTO[..., 0])
    assert np.array_equal(resize(image=grey)["image"], learned_downscale.resize(grey, size[::-1]))
    batch = resize(images=np.stack([PHOTO, PHOTO[::-1]]))["images"]
    assert np.array_equal(batch[0], want) and batch.shape == (2, *size, 3)
    floats = resize(image=PHOTO.astype(np.float32) / 255)["image"]
    assert floats.dtype == np.float32 and np.abs(255 * floats - want).max() < 1.6


def test_more_channels_are_resized_one_by_one() -> None:
    many = np.concatenate([PHOTO, PHOTO[..., ::-1]], -1)
    out = LearnedResize(37, 50)(image=many)["image"]
    one = learned_downscale.resize(np.ascontiguousarray(PHOTO[..., 1]), (50, 37))
    assert out.shape == (37, 50, 6) and np.array_equal(out[..., 1], one)


@pytest.mark.parametrize("size", [(37, 50), (300, 200)])
def test_masks_boxes_and_points_are_albumentations(size: tuple[int, int]) -> None:
    sample: dict[str, Any] = {
        "image": PHOTO,
        "mask": np.random.default_rng(0).integers(0, 9, (151, 203), np.uint8),
        "bboxes": [(10, 20, 110, 120, 1)],
        "keypoints": [(10.0, 20.0)],
    }
    boxes = A.BboxParams(format="pascal_voc")
    points = A.KeypointParams(format="xy")
    ours, theirs = (
        A.Compose([resize], bbox_params=boxes, keypoint_params=points)(**sample)
        for resize in (
            LearnedResize(*size),
            A.Resize(*size, interpolation=3 if size[0] < 151 else 2),
        )
    )
    assert np.array_equal(ours["mask"], theirs["mask"])
    assert np.array_equal(ours["bboxes"], theirs["bboxes"])
    assert np.array_equal(ours["keypoints"], theirs["keypoints"])
    assert ours["image"].shape == theirs["image"].shape
    assert np.abs(ours["image"].astype(float) - theirs["image"]).mean() < 12


def test_picklable_and_serialisable() -> None:
    resize = LearnedResize(37, 50, weights="x4")
    again = pickle.loads(pickle.dumps(resize))
    assert np.array_equal(again(image=PHOTO)["image"], resize(image=PHOTO)["image"])
    kept = A.to_dict(A.Compose([resize]))
    assert np.array_equal(A.from_dict(kept)(image=PHOTO)["image"], resize(image=PHOTO)["image"])
