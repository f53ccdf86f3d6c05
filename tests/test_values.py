"""Ranges of values, linear light, and kinds of images that data sets and libraries have."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Resizer, downscale_rows, resize


def heights(shape: tuple[int, ...] = (96, 128)) -> np.ndarray[Any, Any]:
    """An elevation map, metres, from the bottom of the sea to the top of a mountain."""
    grey = np.asarray(drawn_photo(shape[1], shape[0]).convert("L"), np.float64)
    return -400 + 9000 * grey / 255


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint16"])
@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_value_range_keeps_the_values(dtype: str, factor: float) -> None:
    """A change of units changes nothing else; for whole numbers, to rounding."""
    low, high = (0, 9000) if dtype == "uint16" else (-500, 9000)
    image = heights().clip(low, high).astype(dtype)
    unit = (image.astype(np.float64) - low) / (high - low)
    small = resize(image, factor, value_range=(low, high))
    assert small.dtype == image.dtype
    expected = low + (high - low) * resize(unit, factor)
    atol = 0.51 if "int" in dtype else 8 if dtype == "float16" else 0.01
    np.testing.assert_allclose(small.astype(np.float64), expected, rtol=0, atol=atol)
    tensor = torch.from_numpy(image)[None]
    assert np.array_equal(resize(tensor, factor, value_range=(low, high))[0].numpy(), small)
    rows = downscale_rows([image[:50], image[50:]], (128, 96), factor, value_range=(low, high))
    assert np.array_equal(np.concatenate(list(rows)), small)


def test_int16_has_a_range_of_its_own() -> None:
    image = heights().astype(np.int16)
    small = resize(image, 2)
    plain = np.asarray(
        Image.fromarray(image.astype(np.float32)).resize((64, 48), Image.Resampling.BICUBIC)
    )
    assert small.dtype == np.int16
    assert np.abs(small - plain).mean() < 300  # of 65,536: the network sees 256 levels
    assert np.array_equal(resize(torch.from_numpy(image)[None], 2)[0].numpy(), small)


@pytest.mark.parametrize(("mode", "dtype"), [("I", "i4"), ("F", "f4")])
def test_pil_modes_that_hold_anything(mode: str, dtype: str) -> None:
    """Their range is the image's own values: another unit gives the same picture, but for what one
    rounding of the network's changes, which is less than one of its 256 levels, 35 m."""
    image = heights()
    metres, millimetres = (
        np.asarray(resize(Image.fromarray((image * scale).astype(dtype)), 4)) for scale in (1, 1000)
    )
    assert metres.min() >= image.min() - 1 and metres.max() <= image.max() + 1
    np.testing.assert_allclose(millimetres / 1000, metres, rtol=0, atol=18)
    flat = Image.new(mode, (64, 48), -12345)
    assert np.asarray(resize(flat, 4)).min() == np.asarray(resize(flat, 4)).max() == -12345
    assert resize(flat, 4, value_range=(-20000, 0)).getextrema() == pytest.approx((-12345,) * 2)


@pytest.mark.parametrize(
    ("image", "options", "error", "says"),
    [
        (np.zeros((8, 8), np.float32), {"value_range": (1, 1)}, ValueError, "second one larger"),
        (np.zeros((8, 8), np.float32), {"value_range": (0, np.inf)}, ValueError, "finite"),
        (np.zeros((8, 8), np.float32), {"value_range": 255}, ValueError, "black and white"),
        (np.zeros((8, 8), np.uint8), {"value_range": (0, 255)}, ValueError, "uint8 has 0 to 255"),
        (np.full((8, 8), 9.0), {"value_range": (0, 8)}, ValueError, "0 to 8, but the image has"),
        (np.full((8, 8), 9, np.int16), {"value_range": (0, 8)}, ValueError, "wider range"),
        (np.full((8, 8), 9.0), {}, ValueError, "or name the values of black and white"),
        (np.full((8, 8), np.nan), {}, ValueError, "NaN or infinity"),
        (np.full((8, 8), np.nan), {"value_range": (0, 9)}, ValueError, "nan_to_num"),
        (Image.new("F", (8, 8), float("nan")), {}, ValueError, "NaN or infinity"),
        (np.zeros((8, 8, 4)), {"value_range": (0, 9)}, ValueError, "each by itself"),
        (np.zeros((8, 8, 2), np.int16), {}, ValueError, "each by itself"),
        (torch.zeros(1, 8, 8).to_sparse(), {}, TypeError, "make it dense"),
        (torch.zeros(1, 8, 8, device="meta"), {}, RuntimeError, "cannot compute on 'meta' here"),
    ],
)
def test_what_is_refused(
    image: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        resize(image, 4, **options)


def test_vmap_is_refused_with_a_reason() -> None:
    for dtype in (torch.uint8, torch.float32):
        with pytest.raises(TypeError, match=r"in batches instead of under torch\.func\.vmap"):
            torch.func.vmap(lambda x: resize(x, 2))(torch.zeros(2, 3, 8, 8, dtype=dtype))


def test_the_fourth_channel_of_rgbx_is_kept() -> None:
    image = Image.merge("RGBX", [*drawn_photo(64, 48).split(), drawn_photo(64, 48).getchannel("G")])
    small = resize(image, 4)
    assert small.mode == "RGBX"
    want = image.resize((16, 12), Image.Resampling.BICUBIC)
    assert small.getchannel(3).tobytes() == want.getchannel(3).tobytes()
    assert small.convert("RGB").tobytes() == resize(image.convert("RGB"), 4).tobytes()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_channels_last_stays(dtype: torch.dtype) -> None:
    x = (torch.rand(2, 3, 32, 48) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    last = x.to(memory_format=torch.channels_last)
    for one in (x, last):
        out = resize(one, 4)
        assert torch.equal(out, resize(x, 4))
        kept = out.is_contiguous(memory_format=torch.channels_last)
        assert kept == (one is last) and out.is_contiguous() == (one is x)


# Linear light


def gamma_picture() -> Image.Image:
    """Lines of black and white, whose light is half of white's: 188 of 255 in sRGB."""
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::2] = 255
    return Image.fromarray(lines)


@pytest.mark.parametrize("size", [2, 4, (40, 40)])
def test_light_is_averaged_where_asked(size: Any) -> None:
    levels, light = (
        np.asarray(resize(gamma_picture(), size, linear_light=way), np.float64)[4:-4, 4:-4]
        for way in (False, True)
    )
    assert levels.mean() == pytest.approx(127.5, abs=1.5)
    assert light.mean() == pytest.approx(187.5, abs=1.5)


def test_linear_light_changes_nothing_where_nothing_is_averaged() -> None:
    for mode, colour in (("RGB", (200, 30, 90)), ("L", 77), ("RGBA", (9, 80, 200, 255))):
        flat = Image.new(mode, (64, 48), colour)
        assert resize(flat, 4, linear_light=True).tobytes() == resize(flat, 4).tobytes()


def test_linear_light_of_every_kind() -> None:
    photo = drawn_photo(97, 61)
    want = np.asarray(resize(photo, 4, linear_light=True), np.float64)
    pixels = np.asarray(photo)
    as_tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    tensor = resize(as_tensor, 4, linear_light=True).permute(1, 2, 0)
    sixteen = resize(pixels.astype(np.uint16) * 257, 4, linear_light=True) / 257
    for got, atol in (
        (resize(pixels, 4, linear_light=True), 0),
        (tensor.numpy(), 0),
        (sixteen, 1.01),
        (resize(pixels / 255, 4, linear_light=True) * 255, 1.01),
    ):
        np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=0, atol=atol)
    plain = np.asarray(resize(photo, 4), np.float64)
    assert want.mean() > plain.mean()  # light is brighter than levels
    clear = photo.copy()
    clear.putalpha(128)
    assert resize(clear, 4, linear_light=True).getchannel("A").getextrema() == (128, 128)


def test_linear_light_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="payload, which linear_light would destroy"):
        Resizer(4, weights="x4-machine", linear_light=True)
    rows = Resizer(4, linear_light=True)
    with pytest.raises(ValueError, match="leave linear_light out"):
        rows.rows([np.zeros((8, 8), np.uint8)], (8, 8))


def test_closed_images_say_so() -> None:
    file = io.BytesIO()
    drawn_photo(8, 8).save(file, "PNG")
    image = Image.open(file)
    image.close()
    with pytest.raises(ValueError, match=r"."):
        resize(image, 4)
