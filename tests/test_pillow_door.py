"""`learned_downscale.pillow` beside Pillow itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import drawn_photo
from PIL import Image, ImageOps

import learned_downscale
from learned_downscale import pillow
from learned_downscale.pillow import LEARNED

BICUBIC = Image.Resampling.BICUBIC


def distance(a: Image.Image, b: Image.Image) -> float:
    """Mean difference, levels."""
    pairs = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(pairs[0] - pairs[1]).mean())


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    image = drawn_photo(203, 151)
    image.info["dpi"] = (72, 72)
    return image


@pytest.mark.parametrize("size", [(50, 37), (51, 38), (20, 30), (101, 75), (150, 140)])
def test_resize_is_the_librarys(photo: Image.Image, size: tuple[int, int]) -> None:
    out = pillow.resize(photo, size)
    assert out.tobytes() == learned_downscale.resize(photo, size).tobytes()
    assert out.info == photo.info and out.mode == photo.mode
    assert out.tobytes() == pillow.resize(photo, list(size), None).tobytes()
    part = 3, 5, 3 + size[0] * 1, 5 + size[1]
    cut = pillow.resize(photo, (size[0] // 2, size[1] // 2), box=part)
    assert cut.tobytes() == learned_downscale.resize(photo.crop(part), (
        size[0] // 2, size[1] // 2)).tobytes()  # fmt: skip


@pytest.mark.parametrize("resample", list(Image.Resampling))
def test_other_filters_are_pillows(photo: Image.Image, resample: int) -> None:
    box = (1.5, 2.25, 180.5, 140.0)
    ours = pillow.resize(photo, (60, 40), resample, box, 2.0)
    assert ours.tobytes() == photo.resize((60, 40), resample, box, 2.0).tobytes()
    assert pillow.fit(photo, (60, 40), resample) == ImageOps.fit(photo, (60, 40), resample)


@pytest.mark.parametrize("size", [(300, 200), (50, 200), (204, 20)])
def test_enlargements_are_pillows(photo: Image.Image, size: tuple[int, int]) -> None:
    assert pillow.resize(photo, size) == photo.resize(size, BICUBIC)
    promoted = pillow.resize(photo.quantize(16), size)
    assert promoted == photo.quantize(16).convert("RGB").resize(size, BICUBIC)


@pytest.mark.parametrize("size", [(48, 36), (90, 70), (12, 9), (150, 120)])
def test_boxes_with_fractions(photo: Image.Image, size: tuple[int, int]) -> None:
    box = (3.5, 2.25, 197.75, 148.5)
    out = pillow.resize(photo, size, box=box)
    plain = photo.resize(size, BICUBIC, box)
    other = photo.resize(size, BICUBIC, (box[0] + 4, box[1] + 4, 203, 151))
    assert out.size == size and out.info == photo.info
    assert distance(out, plain) < min(4, distance(out, other))
    # moved by what is nearly nothing, nearly nothing changes
    whole = pillow.resize(photo, size, box=(0, 0, 203, 151))
    near = pillow.resize(photo, size, box=(0, 0, 202.9999, 151))
    assert distance(whole, near) < 1.5


@pytest.mark.parametrize(
    "box", [(0, 0, 204, 151), (-1, 0, 20, 20), (20, 0, 20, 20), (30, 0, 20, 20), (0, 9, 9, 0)]
)
def test_boxes_outside_of_the_image(photo: Image.Image, box: Any) -> None:
    with pytest.raises(ValueError, match="within the image of 203 x 151"):
        pillow.resize(photo, (5, 5), box=box)


def test_what_pillow_refuses_is_refused(photo: Image.Image) -> None:
    for size in ((0, 5), (-1, 5)):
        with pytest.raises(ValueError):
            photo.resize(size)
        with pytest.raises(ValueError, match="at least 1 pixel"):
            pillow.resize(photo, size)
    with pytest.raises(ValueError, match="width, height"):
        pillow.resize(photo, (4,))
    with pytest.raises(ValueError, match="Unknown resampling"):
        pillow.resize(photo, (5, 5), 99)


@pytest.mark.parametrize("size", [(64, 64), (64.9, 30.2), (20, 150), (1, 1), (203, 151), (999, 9)])
def test_thumbnail_has_pillows_size(photo: Image.Image, size: tuple[float, float]) -> None:
    ours, theirs = photo.copy(), photo.copy()
    assert pillow.thumbnail(ours, size) is None  # type: ignore[func-returns-value]
    theirs.thumbnail(size)
    assert ours.size == theirs.size and ours.info == theirs.info
    assert ours.tobytes() == learned_downscale.resize(photo, theirs.size).tobytes()
    nearest = photo.copy()
    pillow.thumbnail(nearest, size, Image.Resampling.NEAREST)
    theirs = photo.copy()
    theirs.thumbnail(size, Image.Resampling.NEAREST)
    assert nearest == theirs
    ours.putpixel((0, 0), (1, 2, 3))  # it can be written to


def test_thumbnails_of_palettes(photo: Image.Image) -> None:
    image = photo.quantize(32)
    pillow.thumbnail(image, (50, 50))
    assert image.mode == "RGB" and image.palette is None
    assert image.tobytes() == learned_downscale.resize(photo.quantize(32), image.size).tobytes()


def test_thumbnails_of_jpegs_are_decoded_small(tmp_path: Path) -> None:
    drawn_photo(1003, 755).save(tmp_path / "a.jpg", quality=95)
    small, whole = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "a.jpg")
    pillow.thumbnail(small, (64, 64))
    pillow.thumbnail(whole, (64, 64), reducing_gap=None)
    with Image.open(tmp_path / "a.jpg") as drafted:
        drafted.draft(None, (4 * 64, 4 * 48))
        assert drafted.size == (502, 378)  # of which the last ones stand for half a pixel
        want = learned_downscale.resize(drafted.crop((0, 0, 501, 377)), (64, 48))
    assert small.tobytes() == want.tobytes()
    with Image.open(tmp_path / "a.jpg") as image:
        assert whole.tobytes() == learned_downscale.resize(image, (64, 48)).tobytes()
    assert distance(small, whole) < 4


@pytest.mark.parametrize("size", [(64, 64), (100, 30), (30, 100), (203, 151), (400, 20)])
@pytest.mark.parametrize("name", ["contain", "cover", "fit", "pad"])
def test_as_image_ops(photo: Image.Image, name: str, size: tuple[int, int]) -> None:
    ours = getattr(pillow, name)(photo, size)
    theirs = getattr(ImageOps, name)(photo, size, BICUBIC)
    assert (ours.size, ours.mode) == (theirs.size, theirs.mode)
    assert distance(ours, theirs) < 6
    assert getattr(pillow, name)(photo, size, BICUBIC) == theirs


def test_options_of_fit_and_pad(photo: Image.Image) -> None:
    for centering in ((0.0, 0.0), (1.0, 1.0)):
        ours = pillow.fit(photo, (30, 60), LEARNED, 0.1, centering)
        theirs = ImageOps.fit(photo, (30, 60), BICUBIC, 0.1, centering)
        assert distance(ours, theirs) < 6
    out = pillow.pad(photo, (60, 60), color="#ff0000", centering=(0, 1))
    assert out.getpixel((0, 0)) == (255, 0, 0)
    assert out.crop((0, 15, 60, 60)).tobytes() == pillow.contain(photo, (60, 60)).tobytes()


# Properties of a resampler, of every filter


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr",
                                  "LAB", "HSV", "I", "F", "I;16"])  # fmt: skip
@pytest.mark.parametrize("size", [(4, 4), (40, 30), (13, 11)])
def test_constant_images_stay_constant(mode: str, size: tuple[int, int]) -> None:
    colour: Any = {"RGBA": (20, 200, 90, 255), "LA": (77, 255), "F": 0.25, "I": 700, "I;16": 700}
    colour = colour.get(mode, 1 if mode == "1" else 90 if mode in "LP" else (20, 200, 90, 40))
    if isinstance(colour, tuple):
        colour = colour[: len(Image.new(mode, (1, 1)).getbands())]
    image = Image.new(mode, (50, 40), colour)
    small = pillow.resize(image, size)
    first = small.getpixel((0, 0))
    assert small == Image.new(small.mode, size, first)
    # their way to RGB and back is not exact
    atol = 3 if mode in ("YCbCr", "HSV") else 0
    ours, theirs = (np.asarray(one.convert("RGB"), int)[0, 0] for one in (small, image))
    assert np.abs(ours - theirs).max() <= atol


def test_the_ends_of_a_box_do_not_bleed() -> None:
    """Pixels outside of the box have no part in the result."""
    image = Image.new("L", (64, 64), 255)
    image.paste(0, (16, 16, 48, 48))
    for box in ((16, 16, 48, 48), (16.0, 16.5, 47.5, 48.0)):
        assert pillow.resize(image, (8, 8), box=box).getextrema() == (0, 0)
    assert pillow.resize(image, (8, 8), box=(12, 12, 48, 48)).getextrema() != (0, 0)


def test_transparent_colours_do_not_bleed() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 30, 64))
    small = np.asarray(pillow.resize(image, (16, 16)))
    visible = small[small[..., 3] > 0]
    assert visible[:, 0].max() <= 2 and visible[:, 2].min() >= 253
