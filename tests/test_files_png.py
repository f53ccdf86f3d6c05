"""PNG as people have it: transparent values of all depths, 16 bits, gamma and colours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from learned_downscale import resize
from learned_downscale.files import FORMATS, encode, fitted, open_image
from learned_downscale.files.chunks import write_png
from learned_downscale.files.metadata import Metadata

Array = NDArray[Any]
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6
LOSSY = sorted(set(FORMATS) - {".png"})


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(samples: Array, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any depth, written here, since Pillow writes few."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if depth == 16:
        rows = rows.astype(">u2").view(np.uint8)
    elif depth < 8:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    before = b"".join(chunk(*one) for one in chunks if one[0] != b"eXIf")
    after = b"".join(chunk(*one) for one in chunks if one[0] == b"eXIf")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + before
        + chunk(b"IDAT", zlib.compress(raw))
        + after
        + chunk(b"IEND", b"")
    )


def random(depth: int, *shape: int) -> Array:
    top = 2**depth - 1
    return np.random.default_rng(0).integers(0, top, shape, np.uint16, endpoint=True)


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100000))


def names(content: bytes) -> list[bytes]:
    """Of the chunks of a PNG."""
    found, at = [], 8
    while at < len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        found.append(name)
        at += length + 12
    return found


@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("above", [0, 0x100])
def test_a_transparent_grey_of_few_bits(depth: int, above: int) -> None:
    """The bits above the depth do not count."""
    samples = random(depth, 9, 13)
    value = int(samples[4, 4])
    content = png(samples, depth, GREY, (b"tRNS", struct.pack(">H", value + above)))
    image = open_image(content).image
    assert image.mode == "LA"
    grey, alpha = np.moveaxis(np.asarray(image), -1, 0)
    assert np.array_equal(grey, samples * (255 // (2**depth - 1)))
    assert np.array_equal(alpha == 0, samples == value) and set(np.unique(alpha)) == {0, 255}


def test_a_transparent_bit() -> None:
    samples = random(1, 9, 13)
    for value in (0, 1):
        image = open_image(png(samples, 1, GREY, (b"tRNS", struct.pack(">H", value)))).image
        assert image.mode == "LA"
        grey, alpha = np.moveaxis(np.asarray(image), -1, 0)
        assert np.array_equal(alpha == 0, samples == value)
        assert np.array_equal(grey, samples * 255)


@pytest.mark.parametrize(
    ("colour", "channels", "transparent"),
    [
        (GREY, 1, True),
        (RGB, 3, False),
        (RGB, 3, True),
        (GREY_ALPHA, 2, False),
        (RGB_ALPHA, 4, False),
    ],
)
def test_sixteen_bits(colour: int, channels: int, transparent: bool) -> None:
    samples = random(16, 9, 13, channels)
    samples[::2] = samples[::2] // 256 * 256 + 7
    want, extra = samples, []
    if transparent:
        value = samples[4, 4]
        samples[5, 5] = value ^ 1  # the same in 8 bits
        extra = [(b"tRNS", value.astype(">u2").tobytes())]
        shown = (samples != value).any(axis=2, keepdims=True)
        want = np.concatenate((samples, shown * np.uint16(65535)), axis=2)
    content = png(samples, 16, colour, *extra)
    deep = open_image(content, deep=True)
    assert deep.image.dtype == np.uint16 and np.array_equal(deep.image, want)
    assert deep.changes == () and deep.size == (13, 9)
    small = open_image(content)
    assert small.changes == ("16 bits to 8",)
    assert small.image.mode == {2: "LA", 3: "RGB", 4: "RGBA"}[want.shape[2]]
    assert np.array_equal(small.image, np.rint(want / 257))
    again = open_image(encode(deep.image, ".png"), deep=True)
    assert np.array_equal(again.image, want)


def test_sixteen_bits_through_the_downscaler() -> None:
    """Their precision is kept: a ramp that 8 bits cannot show."""
    ramp = np.linspace(30000, 31000, 64).astype(np.uint16)
    samples = np.broadcast_to(ramp[None, :, None], (48, 64, 3)).copy()
    opened = open_image(png(samples, 16, RGB), deep=True)
    thumbnail = open_image(encode(resize(opened.image, 4), ".png"), deep=True).image
    assert thumbnail.shape == (12, 16, 3)
    blocks = samples.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail[2:-2, 2:-2] - blocks[2:-2, 2:-2]).max() < 128  # half an 8-bit level
    assert len(np.unique(thumbnail[..., 0])) > 8


def test_sixteen_bit_grey_stays_an_image() -> None:
    samples = random(16, 9, 13)
    for deep in (False, True):
        opened = open_image(png(samples, 16, GREY), deep=deep)
        assert opened.image.mode == "I;16" and opened.changes == ()
        assert np.array_equal(opened.image, samples)


def test_a_damaged_file_of_sixteen_bits() -> None:
    content = png(random(16, 40, 40, 3), 16, RGB)
    with pytest.raises(ValueError, match="damaged or incomplete"):
        open_image(content[: len(content) // 2])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_filters_of_the_writer(channels: int) -> None:
    """Pillow decodes what is written, and smooth pictures become small."""
    y, x = np.mgrid[:60, :80]
    smooth = np.stack([300 * x + 200 * y + 1000 * i for i in range(channels)], 2).astype(np.uint16)
    noisy = random(16, 60, 80, channels)
    for samples in (smooth, noisy):
        content = write_png(samples, [])
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if channels == 1:
                assert np.array_equal(np.asarray(image), samples[..., 0])
            else:
                top = np.asarray(image)[..., [0, 3] if channels == 2 else slice(None)]
                assert np.array_equal(top, samples >> 8)
    assert len(write_png(smooth, [])) < smooth.nbytes / 20


def test_exif_after_the_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for depth in (8, 16):
        content = png(random(depth, 9, 13, 3), depth, RGB, (b"eXIf", exif.tobytes()[6:]))
        for deep in (False, True):
            assert open_image(content, deep=deep).size == (9, 13)


# -- gamma, chromaticities, cICP -------------------------------------------------------------------

GREY_128 = np.full((16, 16, 3), 128, np.uint16)
WIDE = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))  # P3


@pytest.mark.parametrize("suffix", sorted(FORMATS))
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_128_of_gamma_1_looks_as_188(suffix: str, depth: int) -> None:
    """Light of a half is 188 in sRGB."""
    for colour, samples in ((RGB, GREY_128), (GREY, GREY_128[..., 0])):
        scaled = samples * 257 if depth == 16 else samples
        opened = open_image(png(scaled, depth, colour, gama(1.0)), deep=True)
        thumbnail = resize(opened.image, 4)
        thumbnail, changes = fitted(thumbnail, suffix, colour=opened.metadata.colour)
        content = encode(thumbnail, suffix, metadata=opened.metadata)
        if suffix == ".png":
            assert changes == () and b"gAMA" in names(content)
            again = open_image(content)
            assert again.image.info["gamma"] == 1.0
            top = 257 if again.image.mode == "I;16" else 1
            assert np.abs(np.asarray(again.image) / top - 128).max() <= 1
        else:
            assert "gamma to sRGB" in changes
            got = np.asarray(fitted(open_image(content).image, ".jpg")[0].convert("RGB"), int)
            assert np.abs(got - 188).max() <= 2, got


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "PA"])
def test_gamma_of_other_modes(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (128, 128, 128, 77)).convert(mode)
    image.info["gamma"] = 1.0
    before: Any = image.convert("RGBA").getpixel((3, 3))
    out, _ = fitted(image, ".webp")
    pixel: Any = out.convert("RGBA").getpixel((3, 3))
    light = before[0] / 255
    assert abs(pixel[0] - (255 * (1.055 * light ** (1 / 2.4) - 0.055) if light else 0)) <= 0.5
    assert pixel[3] == before[3]
    assert "gamma" not in out.info or mode == "1"


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(0.45455)],
        [
            gama(1 / 2.2),
            (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        ],
        [gama(1.0), (b"sRGB", b"\0")],
        [gama(1.0), (b"cICP", bytes((1, 13, 0, 1)))],
        [gama(1.0), (b"iCCP", b"a\0\0" + zlib.compress(b"a profile"))],
        [(b"gAMA", b"\0\0\0\0")],
        [(b"cHRM", b"\0" * 32)],
    ],
)
def test_what_is_srgb_or_has_a_profile_stays(chunks: list[tuple[bytes, bytes]]) -> None:
    image = open_image(png(GREY_128, 8, RGB, *chunks)).image
    out, changes = fitted(image, ".jpg")
    assert changes == () and np.asarray(out).max() == 128


def test_wide_colours_become_srgb() -> None:
    """Full red of P3 is outside of sRGB; a dull one is more vivid there. White stays white."""
    for chunks in ([WIDE, gama(0.45455)], [(b"cICP", bytes((12, 13, 0, 1)))]):
        samples = np.array([[[255, 255, 255], [255, 0, 0], [160, 110, 110], [0, 0, 0]]], np.uint16)
        out, changes = fitted(open_image(png(samples, 8, RGB, *chunks)).image, ".webp")
        assert len(changes) == 1 and changes[0].endswith("to sRGB")
        white, red, dull, black = (tuple(int(x) for x in pixel) for pixel in np.asarray(out)[0])
        assert white == (255, 255, 255) and black == (0, 0, 0)
        assert red[0] == 255 and red[1] <= 1 and red[2] <= 1
        # by ICC: 160, 110, 110 of Display P3 is 168, 108, 108 of sRGB
        assert np.abs(np.subtract(dull, (168, 108, 108))).max() <= 2


def test_high_dynamic_range_is_refused_by_other_formats() -> None:
    opened = open_image(png(GREY_128, 8, RGB, (b"cICP", bytes((9, 16, 0, 1)))))
    for suffix in LOSSY:
        with pytest.raises(ValueError, match=r"cICP 9/16/0/1.*choose PNG"):
            fitted(opened.image, suffix)
    content = encode(fitted(opened.image, ".png")[0], ".png")
    assert open_image(content).metadata.colour["cicp"] == (9, 16, 0, 1)


@pytest.mark.parametrize("depth", [8, 16])
def test_chunks_are_kept(depth: int) -> None:
    """In their order: colours before the pixels, and cICP before the others."""
    chunks = [(b"cICP", bytes((12, 13, 0, 1))), gama(0.5), WIDE, (b"tEXt", b"Title\0a name")]
    chunks.append((b"pHYs", struct.pack(">IIB", 11811, 11811, 1)))
    opened = open_image(png(random(depth, 12, 12, 3), depth, RGB, *chunks), deep=True)
    assert opened.metadata.text == (("Title", "a name"),)
    content = encode(resize(opened.image, 4), ".png", metadata=opened.metadata)
    kept = names(content)
    assert {b"cICP", b"gAMA", b"cHRM", b"tEXt", b"pHYs"} <= set(kept)
    assert kept.index(b"cHRM") < kept.index(b"IDAT")
    again = open_image(content, deep=True).metadata
    assert again.colour == opened.metadata.colour and again.text == opened.metadata.text
    assert again.dpi == pytest.approx((300, 300), abs=0.1)


def test_an_intent_of_srgb_is_kept() -> None:
    opened = open_image(png(GREY_128, 8, RGB, (b"sRGB", b"\1"), gama(0.45455)))
    kept = names(encode(resize(opened.image, 4), ".png"))
    assert b"sRGB" in kept and b"gAMA" in kept
    opened.image.info["icc_profile"] = b"a profile"
    kept = names(encode(opened.image, ".png"))
    assert b"iCCP" in kept and b"sRGB" not in kept


def test_a_profile_of_sixteen_bits() -> None:
    metadata = Metadata(colour={"icc_profile": b"a profile"})
    for suffix in (".png", ".tif"):
        content = encode(random(16, 8, 8, 3), suffix, metadata=metadata)
        assert open_image(content).metadata.colour["icc_profile"] == b"a profile"
