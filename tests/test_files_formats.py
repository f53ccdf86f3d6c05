"""Formats that are read, animations, and what is said of other files."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import drawn_photo
from PIL import Image, features

from learned_downscale import resize
from learned_downscale.files import (
    FORMATS,
    READABLE,
    decode,
    encode,
    encode_frames,
    fitted,
    format_of,
    frames,
    image_files,
    open_image,
    suffix_for,
)

ANIMATED = ["GIF", "PNG", "WEBP"] + ["AVIF"] * bool(features.check("avif"))
DURATIONS = [100, 250, 40]


def animation(kind: str, alpha: bool = False, **options: Any) -> bytes:
    """Three frames of one colour each, with a square that moves."""
    images = []
    for i, colour in enumerate(("red", "lime", "blue")):
        image = Image.new("RGBA", (48, 32), (0, 0, 0, 0) if alpha else colour)
        image.paste(Image.new("RGBA", (16, 16), "white" if not alpha else colour), (16 * i, 8))
        images.append(image if alpha else image.convert("RGB"))
    file = io.BytesIO()
    if kind == "WEBP":
        options.update(lossless=True, kmax=1 if alpha else 3)
    images[0].save(
        file, kind, save_all=True, append_images=images[1:], duration=DURATIONS, loop=0, disposal=2,
        **options,
    )  # fmt: skip
    return file.getvalue()


@pytest.mark.parametrize("kind", ANIMATED)
@pytest.mark.parametrize("alpha", [False, True])
def test_frames(kind: str, alpha: bool) -> None:
    """Each composed as it is shown, independent of the others."""
    found = list(frames(animation(kind, alpha)))
    assert [(frame.index, frame.count) for frame in found] == [(0, 3), (1, 3), (2, 3)]
    assert [frame.duration for frame in found] == pytest.approx(DURATIONS, abs=1)
    assert found[0].loop in (0, None) and found[0].format == kind
    for i, (frame, colour) in enumerate(
        zip(found, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True)
    ):
        image = frame.image.convert("RGBA")
        assert image.size == (48, 32) and frame.image.mode in ("RGB", "RGBA")
        square, other = image.getpixel((16 * i + 8, 16)), image.getpixel((16 * i + 24) % 48 and (
            (16 * i + 24) % 48, 16))  # fmt: skip
        if alpha:
            assert np.abs(np.subtract(square, (*colour, 255))).max() <= 8 and other[3] == 0
        else:
            assert min(square) >= 247 and np.abs(np.subtract(other[:3], colour)).max() <= 8


@pytest.mark.parametrize("kind", ANIMATED)
def test_the_first_frame(kind: str) -> None:
    content = animation(kind)
    with pytest.raises(ValueError, match="3 frames"):
        open_image(content)
    opened = open_image(content, first=True)
    assert opened.changes == ("the first of 3 frames",) and opened.count == 3
    assert not getattr(opened.image, "is_animated", False) and "duration" not in opened.image.info
    pixel = opened.image.convert("RGB").getpixel((40, 16))
    assert np.abs(np.subtract(pixel, (255, 0, 0))).max() <= 8
    assert decode(content).size == (48, 32)


def test_a_still_image_before_the_animation_is_no_frame() -> None:
    content = animation("PNG", default_image=True)
    found = list(frames(content))
    assert [frame.count for frame in found] == [2, 2]
    assert found[0].image.getpixel((40, 16)) == (0, 255, 0)
    assert open_image(content, first=True).image.getpixel((40, 16)) == (255, 0, 0)


@pytest.mark.parametrize(
    "suffix", [".webp", ".png", ".tif"] + [".avif"] * bool(features.check("avif"))
)
@pytest.mark.parametrize("alpha", [False, True])
def test_frames_are_written(suffix: str, alpha: bool) -> None:
    found = list(frames(animation("GIF", alpha)))
    images = [frame.image for frame in found]
    content = encode_frames(
        images, suffix, [frame.duration or 0 for frame in found], 0, lossless=suffix == ".webp"
    )
    again = list(frames(content))
    assert len(again) == 3
    if suffix != ".tif":
        assert [frame.duration for frame in again] == pytest.approx(DURATIONS, abs=1)
    for frame, image in zip(again, images, strict=True):
        assert np.abs(np.subtract(np.asarray(frame.image, int), image)).mean() < 5


def test_frames_that_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JPEG holds one image only"):
        encode_frames([Image.new("RGB", (4, 4))], ".jpg")
    with pytest.raises(ValueError, match="no images"):
        encode_frames([], ".png")


def test_single_images_have_one_frame(tmp_path: Path) -> None:
    drawn_photo(40, 30).save(tmp_path / "a.jpg")
    (only,) = frames(tmp_path / "a.jpg")
    assert only.count == 1 and only.duration is None and only.size == (40, 30)


def test_a_cut_animation_gives_what_is_whole() -> None:
    content = animation("GIF")
    found = frames(content[: len(content) * 2 // 3])
    assert next(found).size == (48, 32)
    with pytest.raises(ValueError):
        list(found)


# -- formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *((".gif", mode) for mode in ("P", "L")),
        *((".bmp", mode) for mode in ("1", "L", "P", "RGB")),
        *((".jp2", mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        (".j2k", "RGB"),
        *((".avif", mode) for mode in ("L", "RGB", "RGBA") if features.check("avif")),
    ],
)
def test_other_formats_are_read(suffix: str, mode: str, tmp_path: Path) -> None:
    image = drawn_photo(40, 30)
    image = Image.new("I;16", (40, 30), 40000) if mode == "I;16" else image.convert(mode)
    path = tmp_path / f"a{suffix}"
    options: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"} if suffix == ".avif" else {}
    image.save(path, **options)
    assert image_files(tmp_path, formats=READABLE) == [path]
    assert format_of(path, READABLE) == open_image(path).format
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        opened = open_image(source)
        assert opened.size == (40, 30) and opened.changes == ()
        got, want = (np.asarray(one.convert("RGB"), int) for one in (opened.image, image))
        assert np.abs(got - want).mean() < 6


def test_a_stream_that_cannot_seek() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.rest = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readall(self) -> bytes:
            return self.rest.read()

        def read(self, size: int = -1) -> bytes:
            return self.rest.read(size)

    content = encode(drawn_photo(40, 30), ".png")
    assert np.array_equal(open_image(Pipe(content)).image, drawn_photo(40, 30))  # type: ignore[arg-type]


def test_sixteen_bits_of_jpeg_2000_are_told() -> None:
    """Pillow decodes 8 of them; the file is drawn by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    samples = np.random.default_rng(0).integers(0, 65536, (32, 32, 3), np.uint16)
    content = cv2.imencode(".jp2", samples)[1].tobytes()
    opened = open_image(content)
    assert opened.image.mode == "RGB" and opened.changes == ("16 bits to 8",)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heif(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "a maker"})
    image = drawn_photo(64, 48).convert(mode)
    file = io.BytesIO()
    written = heif.from_pillow(image)
    written.save(file, quality=95, exif=exif.tobytes())
    registered = set(Image.OPEN)  # perhaps by another library
    opened = open_image(file.getvalue())
    assert opened.format == "HEIF" and opened.metadata.exif[0x010F] == "a maker"
    assert set(Image.OPEN) == registered  # nothing is registered for others
    assert sorted(opened.size) == [48, 64] and opened.image.size == opened.size
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"pip install learned-downscale\[heif\]"):
        open_image(file.getvalue())


def test_avif_is_not_lossless() -> None:
    if ".avif" in FORMATS:
        with pytest.raises(ValueError, match="AVIF is not written losslessly"):
            encode(drawn_photo(8, 8), ".avif", lossless=True)


def test_subsampling() -> None:
    photo = drawn_photo(64, 48)
    sizes = [len(encode(photo, ".jpg", 90, subsampling=one)) for one in ("4:4:4", "4:2:2", "4:2:0")]
    assert sizes[0] > sizes[1] > sizes[2]
    with pytest.raises(ValueError, match="choose from 4:4:4, 4:2:2, 4:2:0"):
        encode(photo, ".jpg", subsampling="4:1:1")


def test_the_suffix_of_the_thumbnail() -> None:
    assert (suffix_for(".JPG"), suffix_for(".gif"), suffix_for(".HEIC")) == (".JPG", ".png", ".jpg")
    with pytest.raises(ValueError, match="unknown suffix"):
        suffix_for(".txt")
    for suffix in READABLE:
        assert suffix_for(suffix) in FORMATS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify it"),
        (b"%PDF-1.7", "a PDF; export its pages"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a drawing"),
        (b"<!DOCTYPE html><title>404", "error message of a download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\xff\x0a\0\0", "JPEG XL"),
        (b"\x89PNG\r\n\x1a\n", "cannot identify it"),
        (b"\xff\xd8\xff\xe0", "cannot identify it|cannot be read|damaged"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "."),
    ],
)
def test_what_other_files_are(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        open_image(content)


def test_no_other_error_than_valueerror() -> None:
    """Of files of each format, cut and with changed bytes."""
    rng = np.random.default_rng(0)
    photo = drawn_photo(40, 30)
    refused = tried = 0
    contents = [animation(kind) for kind in ANIMATED]
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "JPEG2000", "TIFF"):
        file = io.BytesIO()
        photo.save(file, kind)
        contents.append(file.getvalue())
    for content in contents:
        for i in range(20):
            bad = bytearray(content if i % 2 else content[: rng.integers(1, len(content))])
            for _ in range(4):
                bad[rng.integers(len(bad))] = rng.integers(256)
            tried += 1
            try:
                open_image(bytes(bad), first=True, max_pixels=10**6)
            except ValueError as error:
                assert str(error)
                refused += 1
    assert tried * 0.3 < refused < tried


def test_limits_of_several_threads_are_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread's large image is no leave for another's."""
    path = tmp_path / "a.png"
    drawn_photo(400, 300).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    results: list[str] = []

    def refused() -> None:
        for _ in range(50):
            try:
                open_image(path)
            except ValueError:
                results.append("refused")

    thread = threading.Thread(target=refused)
    thread.start()
    for _ in range(50):
        assert open_image(path, max_pixels=120000).size == (400, 300)
        assert Image.MAX_IMAGE_PIXELS == 1000
    thread.join()
    assert results == ["refused"] * 50


def test_the_image_of_a_large_file_is_not_copied(tmp_path: Path) -> None:
    """What Pillow decoded is what is given, upright as it is."""
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        path = tmp_path / f"a{suffix}"
        drawn_photo(64, 48).save(path)
        image = open_image(path).image
        assert type(image).__name__.endswith(("ImageFile", "_Tiff"))


def sources() -> dict[str, bytes]:
    """Files of many kinds, each of 32 x 24 px."""
    rng = np.random.default_rng(0)
    photo = drawn_photo(32, 24)
    found = {
        f"{channels} x 16 bits.png": encode(
            rng.integers(0, 65536, (24, 32, channels), np.uint16), ".png"
        )
        for channels in (1, 2, 3, 4)
    }
    for channels in (2, 3, 4):
        found[f"{channels} floats.tif"] = encode(rng.random((24, 32, channels), np.float32), ".tif")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I;16"):
        image = photo.convert("L").convert("F") if mode == "F" else photo.convert(
            "L" if mode == "I;16" else mode
        )  # fmt: skip
        if mode == "F":
            image = image.point(lambda x: x * (1 / 255) + 0)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        found[f"{mode}.tif"] = encode(image, ".tif")
    for suffix in (".gif", ".bmp", ".jp2", ".jpg", ".webp"):
        file = io.BytesIO()
        photo.save(file, READABLE[suffix])
        found[f"a{suffix}"] = file.getvalue()
    return found


SOURCES = sources()


@pytest.mark.parametrize("name", sorted(SOURCES))
@pytest.mark.parametrize("deep", [False, True])
def test_every_kind_becomes_every_format(name: str, deep: bool) -> None:
    """Read, made smaller, fitted, written and read again; fewer bits are told."""
    opened = open_image(SOURCES[name], deep=deep)
    for suffix in sorted({".jpg", ".png", ".tif", ".webp", *FORMATS} - {".jpeg", ".jpe", ".tiff"}):
        thumbnail = resize(opened.image, 4)
        if suffix == ".png" and ("floats" in name or name == "F.tif") and (deep or name[0] == "F"):
            with pytest.raises(ValueError, match="choose TIFF"):
                fitted(thumbnail, suffix, colour=opened.metadata.colour)
            continue
        thumbnail, changes = fitted(thumbnail, suffix, colour=opened.metadata.colour)
        metadata, _ = opened.metadata.for_format(FORMATS[suffix], (8, 6))
        again = open_image(encode(thumbnail, suffix, metadata=metadata), deep=deep)
        assert again.size == (8, 6)
        if deep and "x 16" in name and not name.startswith("1 ") and suffix in (".png", ".tif"):
            assert again.image.dtype == np.uint16 and changes == ()
        elif ("16" in name or "float" in name) and suffix in (".jpg", ".webp"):
            assert opened.changes or any("to 8 bits" in change for change in changes)
