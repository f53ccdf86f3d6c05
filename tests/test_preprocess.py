"""`Preprocess`: the same bits for every kind of image, and from the saved model."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

from learned_downscale import resize
from learned_downscale.preprocess import Preprocess

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
PHOTO = drawn_photo(203, 151)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def normalised(image: Image.Image) -> np.ndarray[Any, Any]:
    x = np.asarray(image.convert("RGB")) / 255
    return np.ascontiguousarray(((x - MEAN) / STD).astype(np.float32).transpose(2, 0, 1))


def levels(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The 8-bit image (h, w, 3) of a network's input."""
    return np.rint((x.transpose(1, 2, 0) * STD + MEAN) * 255).astype(int)


SIZES = [(50, 37), (51, 38), (20, 30), (101, 75), (102, 76), (150, 140), (203, 151), (10, 70)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_are_the_librarys(size: tuple[int, int], turned: bool) -> None:
    photo = PHOTO.transpose(Image.Transpose.ROTATE_90) if turned else PHOTO
    size = size[::-1] if turned else size
    want = np.asarray(resize(photo, size, backend="onnx", exact=True), int)
    got = levels(Preprocess(size)(photo))
    # ONNX Runtime's bicubic rounds one pixel in about 5,000 in another way than Pillow's
    assert np.abs(got - want).max() <= 2 and (got != want).mean() < 0.004


@pytest.mark.parametrize(("factor", "weights"), [(4, None), (2, None), (4, "x4-machine")])
def test_at_native_sizes_all_pixels_are_the_librarys(factor: int, weights: str | None) -> None:
    photo = PHOTO.crop((0, 0, 200, 148))
    want = resize(photo, factor, weights=weights, backend="onnx")
    got = Preprocess((200 // factor, 148 // factor), weights=weights)(photo)
    assert np.array_equal(got, normalised(want))


def test_every_kind_gives_the_same_bits(tmp_path: Path) -> None:
    preprocess = Preprocess(64, crop=56)
    array = np.asarray(PHOTO)
    want = preprocess(PHOTO)
    assert want.shape == (3, 56, 56) and want.dtype == np.float32
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    preprocess.save(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "preprocess.onnx")
    for got in (
        preprocess(array),
        preprocess(array[None])[0],
        preprocess(tensor).numpy(),
        preprocess(tensor[None])[0].numpy(),
        preprocess(tensor[None].to(memory_format=torch.channels_last))[0].numpy(),
        Preprocess.load(tmp_path)(PHOTO),
        pickle.loads(pickle.dumps(preprocess))(PHOTO),
        session.run(None, {"image": array[None]})[0][0],
    ):
        assert got.tobytes() == want.tobytes() and got.shape == want.shape
    grey = PHOTO.convert("L")
    for other in (grey, np.asarray(grey), torch.from_numpy(np.array(grey))[None]):
        assert np.array_equal(preprocess(other), preprocess(grey.convert("RGB")))


@pytest.mark.parametrize(("size", "crop"), [(64, 56), (65, 64), (64, (40, 63)), ((70, 66), 65)])
def test_crops_are_of_the_middle(size: Any, crop: Any) -> None:
    """Rounded as torchvision's CenterCrop."""
    for photo in (PHOTO, PHOTO.transpose(Image.Transpose.ROTATE_90)):
        whole = Preprocess(size)(photo)
        height, width = whole.shape[1:]
        if isinstance(size, int):
            assert min(height, width) == size
            assert max(height, width) == int(size * 203 / 151)
        cut = (crop, crop) if isinstance(crop, int) else crop
        left, top = round((width - cut[0]) / 2.0), round((height - cut[1]) / 2.0)
        want = whole[:, top : top + cut[1], left : left + cut[0]]
        assert np.array_equal(Preprocess(size, crop)(photo), want)


@pytest.mark.parametrize("size", [(300, 200), (50, 200), 300])
def test_enlargements_are_bicubic(size: Any) -> None:
    got = Preprocess(size)(PHOTO)
    want = PHOTO.resize(got.shape[:0:-1], Image.Resampling.BICUBIC)
    difference = np.abs(levels(got) - np.asarray(want))
    assert difference.max() <= 1 and difference.mean() < 0.01


def test_weights_by_name() -> None:
    got = levels(Preprocess((50, 37), weights="x4-machine")(PHOTO))
    want = np.asarray(resize(PHOTO, (50, 37), weights="x4-machine", backend="onnx", exact=True))
    assert (got != want).mean() < 0.01
    with pytest.raises(ValueError, match="divide by 4, but 203 x 151 to 101 x 75 is less"):
        Preprocess((101, 75), weights="x4")(PHOTO)
    with pytest.raises(ValueError, match="is less"):
        Preprocess(60, weights="x4")(PHOTO)
    assert Preprocess((203, 151), weights="x4")(PHOTO).shape == (3, 151, 203)
    with pytest.raises(FileNotFoundError, match="bundled are"):
        Preprocess(60, weights="nothing")


def test_other_statistics() -> None:
    one = Preprocess((50, 37), mean=(0, 0, 0), std=(1, 1, 1))(PHOTO)
    levels = np.asarray(resize(PHOTO, (50, 37), backend="onnx", exact=True))
    assert np.abs(np.rint(one * 255).transpose(1, 2, 0) - levels).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        ((0,), {}, ValueError, "at least 1 pixel"),
        ((1.5,), {}, TypeError, "no size"),
        (((1, 2, 3),), {}, TypeError, "no size"),
        ((True,), {}, TypeError, "no size"),
        ((64, 65), {}, ValueError, "larger than size"),
        (((64, 50), (60, 51)), {}, ValueError, "larger than size"),
        ((64,), {"mean": (0, 0)}, ValueError, "three numbers"),
        ((64,), {"std": (0, 1, 1)}, ValueError, "above 0"),
    ],
)
def test_arguments_that_are_refused(
    arguments: Any, options: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Preprocess(*arguments, **options)


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        ("photo.jpg", TypeError, "is a str"),
        (np.zeros((8, 8, 3), np.float32), TypeError, "takes 8 bits"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, "lay transparency"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, "channels last for arrays"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, "not empty"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), ValueError, "first for tensors"),
        (Image.new("RGBA", (8, 8)), ValueError, "over a colour"),
        (Image.new("CMYK", (8, 8)), ValueError, "convert it to RGB"),
    ],
)
def test_images_that_are_refused(image: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Preprocess(4)(image)


def test_what_was_saved_is_checked(tmp_path: Path) -> None:
    Preprocess(64, crop=56).save(tmp_path)
    kept = json.loads((tmp_path / "preprocess.json").read_text())
    assert set(kept["weights_sha256"]) == {"x2", "x4"} and kept["crop"] == [56, 56]
    again = Preprocess.load(tmp_path)
    assert repr(again) == repr(Preprocess(64, crop=56))
    for change, says in (({"version": 2}, "has version 2"), ({"size": 0}, "damaged")):
        (tmp_path / "preprocess.json").write_text(json.dumps({**kept, **change}))
        with pytest.raises(ValueError, match=says):
            Preprocess.load(tmp_path)
    (tmp_path / "preprocess.json").write_text(json.dumps(kept))
    content = (tmp_path / "preprocess.onnx").read_bytes()
    (tmp_path / "preprocess.onnx").write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match="not the file that was saved"):
        Preprocess.load(tmp_path)
    (tmp_path / "preprocess.onnx").unlink()
    with pytest.raises(FileNotFoundError):
        Preprocess.load(tmp_path)
