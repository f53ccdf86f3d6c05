"""resize(): kinds, dtypes, sizes, alpha, plans, errors."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Downscaler, Plan, resize
from learned_downscale.plan import target_size

PIL_MODES = ["L", "LA", "RGB", "RGBA", "La", "RGBa", "RGBX", "YCbCr", "HSV", "CMYK", "LAB", "I;16",
             "I;16B", "I", "F"]  # fmt: skip
ARRAY_DTYPES = ["uint8", "uint16", "float16", "float32", "float64", ">u2", ">f4"]
TENSOR_DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32,
                 torch.float64]  # fmt: skip


def pil_image(mode: str, photo: Image.Image) -> Image.Image:
    grey = np.asarray(photo.convert("L"))
    if mode in ("I;16", "I;16B", "I"):
        dtype = {"I;16": "<u2", "I;16B": ">u2", "I": np.int32}[mode]
        return Image.fromarray((grey.astype(np.uint16) * 257).astype(dtype))
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    if mode == "LAB":
        return Image.merge("LAB", photo.split())
    if mode in ("LA", "RGBA", "La", "RGBa"):
        opaque = photo.convert("L" if mode[0] == "L" else "RGB")
        opaque.putalpha(photo.getchannel(1).point(lambda v: 0 if v < 90 else v))
        return opaque.convert(mode)
    return photo.convert(mode)


def array_image(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    kind = np.dtype(dtype)
    return (values * np.iinfo(kind).max).astype(kind) if kind.kind == "u" else values.astype(kind)


@pytest.mark.parametrize("factor", [1.5, 2, 4, 5])
@pytest.mark.parametrize("mode", PIL_MODES)
def test_pil_round_trip(mode: str, factor: float, photo: Image.Image) -> None:
    image = pil_image(mode, photo)
    assert image.mode == mode
    image.info["dpi"] = (72, 72)
    before = image.tobytes()
    out = resize(image, factor)
    assert (out.mode, out.size) == (mode, target_size(image.size, factor))
    assert out.info == {"dpi": (72, 72)} and out is not image
    assert image.tobytes() == before
    # the same picture: near what Pillow makes of the mode that holds its light values
    rgb = {"La": "LA", "RGBa": "RGBA", "LAB": "LAB"}.get(mode, "RGB")
    if mode[0] in "IF":
        if mode == "I;16B":  # Pillow 13 itself mixes up the bytes when it resizes this mode
            image = pil_image("I;16", photo)
        a, b = (np.asarray(i, dtype=float) for i in (out, image.resize(out.size, 3)))
        scale = 1 if mode == "F" else 65535
        assert np.abs(a - b).mean() < 0.03 * scale
    else:
        want = image.convert(rgb).resize(out.size, 3)
        a, b = (np.asarray(i, dtype=float) for i in (out.convert(rgb), want))
        assert np.abs(a - b).mean() < 12


def test_promoted_pil_modes(photo: Image.Image) -> None:
    palette = photo.quantize(32)
    assert resize(palette, 4).mode == "RGB"
    palette.info["transparency"] = 3
    out = resize(palette, 4)
    assert out.mode == "RGBA" and "transparency" not in out.info
    assert resize(photo.convert("1"), 4).mode == "L"
    clear = Image.new("RGBA", (64, 64)).quantize(8)
    assert clear.mode == "P" and resize(clear, 4).getextrema()[3] == (0, 0)
    for mode, colour in (("RGB", (0, 0, 0)), ("L", 0)):  # as Pillow: the channels are counted on
        keyed = photo.convert(mode)
        keyed.info["transparency"] = colour
        assert resize(keyed, 4).mode == keyed.resize((8, 8)).mode == mode
        assert resize(keyed, 4).info["transparency"] == colour
    key = Image.fromarray(np.zeros((8, 8), np.uint16))
    key.info["transparency"] = 0
    assert resize(key, 4).mode == key.mode and resize(key, 4).info == key.info
    assert resize(palette, 1).mode == "P"  # a copy stays what it was


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ARRAY_DTYPES)
def test_array_round_trip(dtype: str, channels: int | None) -> None:
    shape = (50, 61) if channels is None else (50, 61, channels)
    image = array_image(dtype, shape)
    image.setflags(write=False)
    before = image.copy()
    for factor, small in ((4, (13, 16)), (2, (25, 31)), (1.7, (30, 36)), (1, (50, 61))):
        out = resize(image, factor)
        assert out.dtype == image.dtype and out.shape == small + shape[2:]
        assert not np.shares_memory(out, image) and out.flags.writeable
        assert np.array_equal(image, before)


@pytest.mark.parametrize("dtype", TENSOR_DTYPES)
@pytest.mark.parametrize("shape", [(3, 50, 61), (1, 50, 61), (2, 4, 50, 61), (2, 2, 50, 61)])
def test_tensor_round_trip(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    scale = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    image = (values * scale).to(dtype)
    before = image.clone()
    for factor, small in ((4, (13, 16)), (1, (50, 61))):
        out = resize(image, factor)
        assert out.dtype == dtype and tuple(out.shape) == shape[:-2] + small
        assert torch.equal(image, before) and out.data_ptr() != image.data_ptr()


def test_the_same_pixels_through_every_door(photo: Image.Image) -> None:
    array = np.asarray(photo)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for size in (4, 2, 3, 1.5, (40, 28)):
        want = np.asarray(resize(photo, size))
        assert np.array_equal(resize(array, size), want)
        assert np.array_equal(resize(array[..., ::-1], size, channel_order="bgr")[..., ::-1], want)
        assert np.array_equal(resize(tensor, size).permute(1, 2, 0), want)
        assert np.array_equal(resize(torch.stack([tensor] * 2), size)[1].permute(1, 2, 0), want)
        floats = resize(array.astype(np.float32) / 255, size)
        assert np.abs(floats * 255 - want).max() < 2  # floats are not rounded on the way
        opaque = resize(photo.convert("RGBA"), size)
        assert np.array_equal(np.asarray(opaque.convert("RGB")), want)
        assert opaque.getextrema()[3] == (255, 255)


def test_channel_order_matters(photo: Image.Image) -> None:
    array = np.asarray(photo)
    assert not np.array_equal(resize(array, 4, channel_order="bgr"), resize(array, 4))


@pytest.mark.parametrize("factor", [2, 4])
def test_trained_differs_from_bicubic_but_not_by_far(factor: int) -> None:
    photo = drawn_photo(256, 256)
    out = np.asarray(resize(photo, factor), dtype=float)
    bicubic = np.asarray(photo.resize((256 // factor,) * 2, 3), dtype=float)
    mse = ((out - bicubic) ** 2).mean()
    assert 0.05 < mse < 255**2 / 10 ** (20 / 10)  # at least 20 dB, and not bicubic


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L"])
def test_constant_image_stays_constant(kind: str) -> None:
    colour = {"RGB": (10, 200, 90), "RGBA": (10, 200, 90, 120), "L": 77}[kind]
    for factor in (1.5, 2, 3, 4, 7):
        out = resize(Image.new(kind, (101, 67), colour), factor)
        assert out.getcolors() == [(out.width * out.height, colour)]


def test_transparent_pixels_do_not_bleed() -> None:
    image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    image.paste((250, 120, 30, 255), (33, 33, 99, 99))
    for factor in (1.5, 2, 4):
        out = np.asarray(resize(image, factor))
        seen = out[out[..., 3] > 3][:, :3].astype(int)
        assert np.abs(seen - (250, 120, 30)).max() <= 2
        assert (out[out[..., 3] == 0] == 0).all()


def test_faint_alpha_keeps_its_colour() -> None:
    image = np.full((64, 64, 4), 50000, np.uint16)
    image[..., 3] = 60
    assert (resize(image, 4) == image[:16, :16]).all()


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_a_hole_changes_only_what_is_near(factor: float, photo: Image.Image) -> None:
    whole = torch.from_numpy(np.array(photo.convert("RGBA"))).permute(2, 0, 1)
    hole = whole.clone()
    hole[3, 5, 5] = 0
    both = resize(torch.stack([whole, hole]), factor)
    assert torch.equal(both[0], resize(whole, factor))
    assert torch.equal(both[1, ..., 12:, :], both[0, ..., 12:, :])
    assert not torch.equal(both[1], both[0])


def test_alpha_is_pillows(photo: Image.Image) -> None:
    image = pil_image("RGBA", photo)
    alpha = np.asarray(resize(image, 4).getchannel("A"), dtype=int)
    want = np.asarray(image.resize((41, 30), 3).getchannel("A"), dtype=int)
    assert np.abs(alpha - want).max() <= 1


def test_grey_agrees_with_colour(photo: Image.Image) -> None:
    grey = photo.convert("L")
    colour = np.asarray(resize(grey.convert("RGB"), 4), dtype=int).mean(2)
    assert np.abs(np.asarray(resize(grey, 4), dtype=int) - colour).max() <= 1


@pytest.mark.parametrize(
    ("size", "rounding", "want"),
    [
        (4, "up", (28, 26)),
        (4, "nearest", (28, 25)),  # half to even: 27.5 -> 28; 25.25 -> 25
        (4, "down", (27, 25)),
        (1.1, "up", (100, 92)),
        (1000, "down", (1, 1)),
        (np.float32(2), "up", (55, 51)),
        (np.float32(2.2), "down", (50, 45)),  # it holds 2.2000000477
        ((30, 20), "up", (30, 20)),
        (np.array([30, 20]), "up", (30, 20)),
        ([110, 101], "up", (110, 101)),
    ],
)
def test_sizes(size: Any, rounding: Any, want: tuple[int, int]) -> None:
    assert target_size((110, 101), size, rounding) == want
    assert resize(Image.new("RGB", (110, 101)), size, rounding=rounding).size == want


@pytest.mark.parametrize(
    ("source", "size", "learned", "says"),
    [
        ((400, 300), 4, 4, "400x300 -> 100x75: learned x4 (x4)"),
        ((400, 300), 2, 2, "learned x2"),
        ((401, 299), 4, 4, "learned x4 (x4) of 4x4 patches at quarters of a pixel"),
        ((1601, 1200), (100, 75), 4, "means of 4x4 pixels, bicubic to 400x300, then learned x4"),
        ((400, 300), 3, 2, "bicubic to 268x200, then learned x2"),
        ((400, 300), 10, 4, "bicubic to 160x120, then learned x4"),
        ((400, 300), (100, 150), 2, "learned x2"),
        ((400, 300), 1.9, None, "plain bicubic: the factor is below 2"),
        ((400, 300), (100, 300), None, "plain bicubic"),
        ((400, 300), 1, None, "a copy"),
    ],
)
def test_plan(source: tuple[int, int], size: Any, learned: int | None, says: str) -> None:
    out, plan = resize(Image.new("RGB", source), size, return_plan=True)
    assert isinstance(plan, Plan) and plan.learned == learned and says in str(plan)
    assert plan.target == out.size and plan.source == source


def test_below_two_is_pillows_bicubic(photo: Image.Image) -> None:
    out = np.asarray(resize(photo, 1.9), dtype=int)
    assert np.abs(out - np.asarray(photo.resize((85, 63), 3), dtype=int)).max() <= 1


def test_own_weights(photo: Image.Image) -> None:
    untrained = Downscaler(4).eval()
    out = np.asarray(resize(photo, 5, weights=untrained), dtype=int)
    assert np.abs(out - np.asarray(photo.resize((33, 24), 3), dtype=int)).max() <= 1
    with pytest.raises(ValueError, match="divide by 4"):
        resize(photo, 2, weights=untrained)


def test_no_gradient_is_left(photo: Image.Image) -> None:
    x = torch.rand(3, 32, 32, requires_grad=True)
    assert not resize(x, 4).requires_grad
    assert torch.is_grad_enabled()


def test_the_callers_torch_state_changes_nothing(photo: Image.Image) -> None:
    want = np.asarray(resize(photo, 4))
    code = (
        "import sys, torch, numpy as np; from PIL import Image; import learned_downscale as ld\n"
        "torch.set_default_dtype(torch.float64)\n"
        "image = Image.open(sys.argv[1])\n"
        "with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16): ld.resize(image, 4)\n"
        "ld.resize(image, 4).save(sys.argv[2])"
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/in.png", f"{folder}/out.png"]
        photo.save(paths[0])
        subprocess.run([sys.executable, "-c", code, *paths], check=True)
        with Image.open(paths[1]) as out:
            assert np.array_equal(out, want)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(resize(photo, 4), want)


GREY = Image.new("L", (20, 10))


@pytest.mark.parametrize(
    ("image", "size", "error", "says"),
    [
        (GREY, 0, ValueError, "above 1"),
        (GREY, -4, ValueError, "above 1"),
        (GREY, float("nan"), ValueError, "above 1"),
        (GREY, float("inf"), ValueError, "above 1"),
        (GREY, 10**400, ValueError, "above 1"),
        (np.full((8, 8), 200.0), 1, ValueError, "divide by 255"),
        (GREY, 0.25, ValueError, "4 makes the image 4 times smaller"),
        (GREY, True, TypeError, "factor"),
        (GREY, None, TypeError, "factor"),
        (GREY, "4", TypeError, "factor"),
        (GREY, 4 + 0j, TypeError, "factor"),
        (GREY, (0, 5), ValueError, "at least 1"),
        (GREY, (5, -5), ValueError, "at least 1"),
        (GREY, (5.0, 5), TypeError, "whole numbers"),
        (GREY, (5,), TypeError, "width, height"),
        (GREY, (5, 5, 5), TypeError, "width, height"),
        (GREY, (40, 5), ValueError, "would enlarge"),
        (GREY, (10, 20), ValueError, "in this order"),
        (Image.new("RGB", (0, 5)), 4, ValueError, "empty"),
        (np.zeros((0, 5, 3), np.uint8), 4, ValueError, "empty"),
        (torch.zeros(0, 3, 8, 8), 4, ValueError, "empty"),
        (np.zeros((8, 8), complex), 4, TypeError, "complex128"),
        (np.zeros((8, 8), bool), 4, TypeError, "masks"),
        (np.zeros((8, 8), np.int64), 4, TypeError, "int64"),
        (np.ma.zeros((8, 8)), 4, TypeError, "masked"),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), 4, TypeError, "complex64"),
        (np.zeros(8, np.uint8), 4, ValueError, "shape"),
        (np.zeros((2, 8, 8, 3), np.uint8), 4, ValueError, "batch"),
        (np.zeros((3, 8, 9), np.uint8), 4, ValueError, "transpose"),
        (torch.zeros(8, 8), 4, ValueError, "add the channel"),
        (torch.zeros(8, 9, 3), 4, ValueError, "permute"),
        (np.full((8, 8), 200.0), 4, ValueError, "divide by 255"),
        (np.full((8, 8), np.nan), 4, ValueError, "NaN"),
        (torch.full((3, 8, 8), -1.5), 4, ValueError, "before normalising"),
        ("photo.jpg", 4, TypeError, "Image.open"),
        ([[1, 2], [3, 4]], 4, TypeError, "list"),
    ],
)
def test_bad_input(image: Any, size: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        resize(image, size)


def test_bad_words() -> None:
    with pytest.raises(ValueError, match="up, nearest, down"):
        resize(GREY, 4, rounding="floor")
    with pytest.raises(ValueError, match="rgb, bgr"):
        resize(GREY, 4, channel_order="RGB")
    with pytest.raises(TypeError, match="weights"):
        resize(GREY, 4, weights=4)
    with pytest.raises(FileNotFoundError, match="x2, x2-machine, x4"):
        resize(GREY, 4, weights="x3")


def test_import_is_light() -> None:
    code = (
        "import sys, learned_downscale; heavy = {'torch', 'PIL', 'numpy', 'cv2', 'click', "
        "'huggingface_hub', 'safetensors', 'transformers', 'learned_downscale.thumbnet'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
