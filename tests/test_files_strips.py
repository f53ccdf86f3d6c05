"""Large images in strips: the pixels that Pillow decodes, and nothing that it decodes otherwise."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from learned_downscale.conversion.recipe import Recipe
from learned_downscale.conversion.worker import Worker
from learned_downscale.files import Strips, decode, open_image, strips

pytest.importorskip("pyvips", reason="strips need pyvips (extra large)")

SIZE = 403, 301


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGE", 1000)


def picture(mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    noise = np.random.default_rng(0).integers(0, 60, (*x.shape, 3))
    pixels = np.stack((x % 190, y % 180, (x + y) % 170), axis=2) + noise
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def file(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    out = io.BytesIO()
    (image or picture()).save(out, kind, **options)
    return out.getvalue()


def in_strips(content: bytes, **options: Any) -> Any:
    return open_image(content, in_strips=True, **options).image


FILES = {
    "JPEG 4:2:0": lambda: file("JPEG", quality=80),
    "JPEG 4:4:4": lambda: file("JPEG", quality=95, subsampling=0),
    "JPEG, progressive": lambda: file("JPEG", progressive=True),
    "JPEG, grey": lambda: file("JPEG", picture("L")),
    "JPEG, RGB as stored": lambda: file("JPEG", keep_rgb=True),
    "MPO": lambda: file("MPO", save_all=True, append_images=[picture("L")]),
    "PNG": lambda: file("PNG"),
    "PNG, grey": lambda: file("PNG", picture("L")),
    "TIFF": lambda: file("TIFF"),
    "TIFF, grey": lambda: file("TIFF", picture("L")),
    "TIFF, LZW": lambda: file("TIFF", compression="tiff_lzw"),
    "TIFF, deflate": lambda: file("TIFF", compression="tiff_adobe_deflate"),
    "TIFF, PackBits": lambda: file("TIFF", compression="packbits"),
}


@pytest.mark.parametrize("kind", FILES)
def test_strips_are_the_pixels_that_pillow_decodes(kind: str) -> None:
    content = FILES[kind]()
    image = in_strips(content)
    assert isinstance(image, Strips) and image.size == SIZE
    blocks = list(image)
    assert len(blocks) == 5  # of 64 rows
    assert np.array_equal(np.concatenate(blocks), np.asarray(decode(content)))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file("JPEG", exif=exif)


def with_late_text() -> bytes:
    content, text = file("PNG"), b"tEXtTitle\0late"
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return content[:-12] + chunk + content[-12:]  # before IEND


def interlaced() -> bytes:
    import pyvips

    return pyvips.Image.new_from_array(np.asarray(picture())).pngsave_buffer(interlace=True)


OTHERS = {
    "turned": turned,
    "palette": lambda: file("PNG", picture("P")),
    "bits": lambda: file("PNG", picture("1")),
    "alpha": lambda: file("PNG", picture("RGBA")),
    "a transparent colour": lambda: file("PNG", transparency=(1, 2, 3)),
    "text after the pixels": with_late_text,
    "interlaced": interlaced,
    "CMYK": lambda: file("JPEG", picture("CMYK")),
    "16 bits": lambda: file("PNG", Image.fromarray(np.full(SIZE[::-1], 999, np.uint16))),
    "TIFF, JPEG": lambda: file("TIFF", compression="jpeg"),
    "WebP": lambda: file("WEBP"),
    "GIF": lambda: file("GIF"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_stored_otherwise_is_decoded_whole(kind: str) -> None:
    content = OTHERS[kind]()
    assert isinstance(in_strips(content), Image.Image)


def test_strips_are_for_large_images_that_are_wanted_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = file("JPEG")
    assert isinstance(in_strips(content, least=lambda size: (201, 150)), Image.Image)  # a half
    assert isinstance(in_strips(content, least=lambda size: (202, 150)), Strips)
    assert isinstance(open_image(content).image, Image.Image)  # not asked for
    with pytest.raises(ValueError, match="raise max_pixels"):
        in_strips(content, max_pixels=1000)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyvips", None)  # not installed
        assert isinstance(in_strips(content), Image.Image)
    monkeypatch.setattr(strips, "LARGE", SIZE[0] * SIZE[1] + 1)
    assert isinstance(in_strips(content), Image.Image)


def test_a_page_of_several(tmp_path: Any) -> None:
    other = picture().transpose(Image.Transpose.ROTATE_180)
    content = file("TIFF", save_all=True, append_images=[other])
    opened = open_image(content, first=True, in_strips=True)
    assert isinstance(opened.image, Strips) and opened.count == 2
    assert np.array_equal(np.concatenate(list(opened.image)), picture())


@pytest.mark.parametrize("kind", ["JPEG 4:2:0", "PNG", "TIFF, deflate"])
def test_a_cut_file_is_an_error(kind: str) -> None:
    content = FILES[kind]()
    cut = content[: len(content) // 2]
    with pytest.raises(ValueError, match=r"damaged|truncated|incomplete"):
        list(in_strips(cut))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "recipe", [Recipe(factor=4), Recipe(factor=3), Recipe(size=(40, 30)), Recipe(max_side=2000)]
)
def test_thumbnails_are_the_same(
    kind: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = FILES[kind]()
    worker = Worker(replace(recipe, exact=True))
    made = worker(content, ".webp")
    monkeypatch.setattr(strips, "LARGE", 10**9)
    want = worker(content, ".webp")
    assert "libvips" in made.decoder and "libvips" not in want.decoder
    assert made.content == want.content and str(made.plan) == str(want.plan)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("to_srgb", [False, True])
def test_what_describes_the_photo_stays(
    kind: str, to_srgb: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a title"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = file(kind, exif=exif, icc_profile=profile, dpi=(300, 300))
    worker = Worker(Recipe(factor=4, to_srgb=to_srgb))
    made = worker(content, ".jpg")
    monkeypatch.setattr(strips, "LARGE", 10**9)
    assert "libvips" in made.decoder and made.content == worker(content, ".jpg").content
    assert made.content is not None
    with Image.open(io.BytesIO(made.content)) as small:
        assert small.getexif()[0x010E] == "a title"
        assert ("icc_profile" in small.info) != to_srgb


def test_weights_with_a_payload_take_whole_images() -> None:
    made = Worker(Recipe(factor=4, weights="x4-machine"))(file("PNG"), ".png")
    assert "libvips" not in made.decoder
