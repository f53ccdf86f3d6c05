"""Image files: which are found, how they are opened, and what is written."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import drawn_photo
from PIL import Image

from learned_downscale.files import (
    FORMATS,
    coloured,
    decode,
    encode,
    format_of,
    image_files,
    open_image,
    quiet,
)


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """A JPEG file of a photo of 64 x 48 px, stored on its side, with EXIF and GPS data."""
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "a maker"})
    exif.get_ifd(0x8825)[1] = "N"
    path = tmp_path / "turned.jpg"
    drawn_photo(64, 48).transpose(Image.Transpose.ROTATE_90).save(
        path, exif=exif, quality=98, subsampling=0
    )
    return path


def test_files_are_found_by_their_suffix(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.webp", "a/notes.txt", "out/d.png", "out.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a/c.webp", "b.JPG", "out/d.png", "out.png"]
    without = image_files(tmp_path, tmp_path / "out")
    assert [path.name for path in without] == ["c.webp", "b.JPG", "out.png"]
    assert len(image_files(tmp_path / "out", tmp_path)) == 1  # a folder around it is not inside
    with pytest.raises(FileNotFoundError):
        image_files(tmp_path / "none")
    assert (format_of(Path("a.JPEG")), format_of(Path("a.gif"))) == ("JPEG", None)


def test_photos_are_opened_upright(turned: Path) -> None:
    opened = open_image(turned)
    image, exif, size = opened.image, opened.metadata.exif, opened.size
    assert size == image.size
    assert image.size == (64, 48) and 0x0112 not in exif and exif[0x010F] == "a maker"
    assert np.abs(np.asarray(image, int) - np.asarray(drawn_photo(64, 48), int)).mean() < 4
    for source in (turned, str(turned), turned.read_bytes()):
        assert np.array_equal(decode(source), image)


def test_jpegs_are_decoded_at_a_part_of_their_size_where_that_suffices(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = drawn_photo(201, 151).resize((803, 601))
    photo.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    photo.save(tmp_path / "a.png")
    for least, want in (
        ((300, 401), (300, 401)),  # a half; 803 is no multiple of 2
        ((301, 401), (601, 803)),
        ((75, 100), (75, 100)),
        ((76, 100), (150, 200)),
    ):
        opened = open_image(tmp_path / "a.jpg", lambda size, least=least: least)  # type: ignore[misc]
        image, size = opened.image, opened.size
        assert image.size == want and size == (601, 803)
        whole = open_image(tmp_path / "a.jpg").image
        share = size[0] // want[0]
        small = whole.crop((0, 0, share * want[0], share * want[1])).resize(want, 4)  # box
        assert np.abs(np.asarray(image, int) - np.asarray(small, int)).mean() < 4
    assert open_image(tmp_path / "a.png", lambda size: (10, 10)).image.size == (803, 601)


def test_what_cannot_be_opened_is_said(tmp_path: Path, turned: Path) -> None:
    with pytest.raises(ValueError, match="the file cannot be read as an image"):
        decode(b"no image")
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "none.png")
    frames = [Image.new("L", (8, 8)), Image.new("L", (8, 8), 9)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="2 frames"):
        open_image(tmp_path / "two.tif")
    drawn_photo(8, 8).save(tmp_path / "a.png", exif=b"no EXIF data")
    with pytest.raises(ValueError, match="EXIF data is broken"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_files_keep_what_describes_the_photo(suffix: str, turned: Path) -> None:
    opened = open_image(turned)
    image, metadata = opened.image, opened.metadata
    image.info["icc_profile"] = b"a profile"
    with Image.open(io.BytesIO(encode(image, suffix.upper(), 95, metadata=metadata))) as written:
        assert written.format == FORMATS[suffix] and written.size == (64, 48)
        assert written.info["icc_profile"] == b"a profile"
        kept = written.getexif()
        assert kept[0x010F] == "a maker" and kept.get(0x0112, 1) == 1
        assert kept.get_ifd(0x8825)[1] == "N"


def test_lossless_files_keep_all_pixels() -> None:
    image = drawn_photo(40, 30).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    for suffix in (".png", ".webp", ".tif"):
        assert np.array_equal(decode(encode(image, suffix, 80, True)), image)
    lossy = decode(encode(image, ".webp", 80))
    assert not np.array_equal(lossy, image)
    with pytest.raises(ValueError, match="WebP stores no images of mode I;16"):
        encode(Image.new("I;16", (4, 4)), ".webp", 95)


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [("1", "RGB"), ("L", "RGB"), ("LA", "RGBA"), ("P", "RGB"), ("CMYK", "CMYK"), ("I;16", "I;16")],
)
def test_grey_and_palettes_get_colours(mode: str, becomes: str) -> None:
    image = Image.new(mode, (4, 4))
    image.info["icc_profile"] = bytes(16) + b"GRAY"
    out = coloured(image)
    assert out.mode == becomes
    assert ("icc_profile" in out.info) == (out is image)


def test_a_palette_with_transparency_gets_alpha() -> None:
    image = Image.new("P", (4, 4))
    image.info["transparency"] = 0
    assert coloured(image).mode == "RGBA"


@pytest.mark.parametrize("suffix", [*sorted(FORMATS), ".gif", ".bmp", ".jp2"])
def test_the_limit_of_pixels_is_an_argument(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a warning, and without another limit for other threads."""
    path = tmp_path / f"a{suffix}"
    drawn_photo(40, 30).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="exceeds limit"):
            decode(path)
        if suffix in (".webp", ".gif"):  # Pillow checks these once more
            return
        assert decode(path, max_pixels=1200).size == (40, 30)
        with pytest.raises(ValueError, match="raise max_pixels"):
            open_image(path, max_pixels=1199)
        with pytest.raises(ValueError, match="max_pixels is 0"):
            open_image(path, max_pixels=0)
        with quiet():
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
            assert open_image(path).size == (40, 30)
