"""`learned_downscale.transformers` beside transformers' own image processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

import learned_downscale
from learned_downscale import pretrained

transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
from learned_downscale.transformers import LearnedImageProcessor  # noqa: E402

PHOTO = drawn_photo(203, 151)
PLAIN: dict[str, Any] = {"do_rescale": False, "do_normalize": False}


def pixels(processor: Any, image: Any, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(processor(image, return_tensors="np", **options)["pixel_values"][0])


@pytest.mark.parametrize(
    "size",
    [
        {"height": 37, "width": 50},
        {"height": 140, "width": 150},
        {"shortest_edge": 40},
        {"shortest_edge": 40, "longest_edge": 50},
        {"max_height": 60, "max_width": 60},
        {"height": 300, "width": 50},
        {"shortest_edge": 151, "longest_edge": 400},
    ],
)
def test_resize_is_the_librarys_in_transformers_size(size: dict[str, int]) -> None:
    ours = LearnedImageProcessor(size=size, **PLAIN)
    theirs = transformers.ViTImageProcessorPil(size=size, resample=3, **PLAIN)
    out = pixels(ours, PHOTO)
    assert out.shape == pixels(theirs, PHOTO).shape and out.dtype == np.uint8
    width, height = out.shape[2], out.shape[1]
    if width <= 203 and height <= 151:
        want = np.asarray(learned_downscale.resize(PHOTO, (width, height)))
        assert np.array_equal(out.transpose(1, 2, 0), want)
    else:
        assert np.abs(out.astype(float) - pixels(theirs, PHOTO)).max() <= 1


def test_every_layout_of_an_image() -> None:
    processor = LearnedImageProcessor(size={"height": 37, "width": 50})
    array = np.asarray(PHOTO)
    want = pixels(processor, PHOTO)
    assert want.dtype == np.float32 and want.shape == (3, 37, 50)
    chw = torch.from_numpy(array.transpose(2, 0, 1).copy())
    for image in (array, array.transpose(2, 0, 1), chw, [PHOTO, array]):
        assert np.array_equal(pixels(processor, image), want)
    grey = PHOTO.convert("L")
    assert np.array_equal(pixels(processor, grey), pixels(processor, grey.convert("RGB")))
    batch = processor([PHOTO, PHOTO.rotate(90, expand=True)], return_tensors="pt")["pixel_values"]
    assert batch.shape == (2, 3, 37, 50)


def test_crop_and_normalisation_are_transformers() -> None:
    settings: dict[str, Any] = {
        "size": {"shortest_edge": 64},
        "do_center_crop": True,
        "crop_size": {"height": 56, "width": 56},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    small = learned_downscale.resize(PHOTO, (int(64 * 203 / 151), 64))
    theirs = transformers.ViTImageProcessorPil(**{**settings, "do_resize": False})
    want = pixels(theirs, small)
    processor = LearnedImageProcessor(**settings)
    assert np.array_equal(pixels(processor, PHOTO), want)
    like = LearnedImageProcessor.like(transformers.ViTImageProcessorPil(**settings))
    assert np.array_equal(pixels(like, PHOTO), want)
    plain = transformers.ViTImageProcessorPil(**{**settings, "do_normalize": False})
    got = pixels(LearnedImageProcessor.like(plain), PHOTO)
    assert got.min() >= 0 and got.max() <= 1
    machine = LearnedImageProcessor(**settings, weights="x4-machine")
    assert LearnedImageProcessor.like(machine).weights == "x4-machine"
    changed = LearnedImageProcessor.like(like, do_center_crop=False)
    assert pixels(changed, PHOTO).shape == (3, 64, 86)


def test_saved_and_loaded(tmp_path: Path) -> None:
    processor = LearnedImageProcessor(size={"height": 30, "width": 40}, weights="x4-machine")
    processor.save_pretrained(tmp_path)
    kept = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert kept["image_processor_type"] == "LearnedImageProcessor"
    digest = pretrained.read_config("x4-machine")["sha256"]
    assert kept["weights"] == "x4-machine" and kept["weights_sha256"] == {"x4-machine": digest}
    again = LearnedImageProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    assert np.array_equal(pixels(again, PHOTO), pixels(processor, PHOTO))
    kept["weights_sha256"]["x4-machine"] = "0" * 64
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="which give other pixels"):
        LearnedImageProcessor.from_pretrained(tmp_path)
    assert set(LearnedImageProcessor().weights_sha256 or {}) == {"x2", "x4"}


def test_in_a_pipeline(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, layer_type="basic"
    )
    model = transformers.ResNetForImageClassification(config).eval()
    processor = LearnedImageProcessor(size={"height": 48, "width": 48})
    classify = transformers.pipeline(
        "image-classification", model=model, image_processor=processor, device="cpu"
    )
    with torch.no_grad():
        logits = model(**processor(PHOTO, return_tensors="pt")).logits
    best = classify(PHOTO)[0]
    assert best["score"] == pytest.approx(logits.softmax(1).max().item(), abs=1e-6)


@pytest.mark.parametrize("size", [{"longest_edge": 60}, {"height": 30}])
def test_sizes_that_are_refused(size: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        pixels(LearnedImageProcessor(size=size), PHOTO)


def test_processors_that_do_more_are_refused() -> None:
    with pytest.raises(ValueError, match="crop_pct"):
        LearnedImageProcessor.like(transformers.ConvNextImageProcessorPil(crop_pct=0.9))
    for name, says in (
        ("EfficientNetImageProcessorPil", "include_top, rescale"),
        ("MobileViTImageProcessorPil", "do_flip_channel_order"),
        ("BeitImageProcessorPil", "_preprocess"),
    ):
        with pytest.raises(ValueError, match=says):
            LearnedImageProcessor.like(getattr(transformers, name)())
    with pytest.raises(FileNotFoundError, match="bundled are"):
        LearnedImageProcessor(weights="nothing")
    assert isinstance(PHOTO, Image.Image)
