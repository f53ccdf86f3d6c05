"""`convert --to-srgb`: colours by their profile."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image, ImageCms, PngImagePlugin

from learned_downscale import resize
from learned_downscale.cli import main
from learned_downscale.conversion.recipe import Recipe
from learned_downscale.conversion.worker import Worker
from learned_downscale.files import in_srgb, is_srgb

# -- profiles, as small as they can be -------------------------------------------------------------


def profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2.4 or, with parametric curves, 4."""
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), **tags}
    table, content, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data + b"\0" * (-len(data) % 4)
    head = bytearray(128)
    version = 4 if any(data[:4] == b"para" for data in tags.values()) else 2
    struct.pack_into(">I4sB3x4s4s4s", head, 0, start + len(content), b"lcms", version, b"mntr",
                     space, pcs)  # fmt: skip
    head[36:40] = b"acsp"
    struct.pack_into(">3i", head, 68, 63190, 65536, 54061)
    return bytes(head) + struct.pack(">I", len(tags)) + table + content


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(x * 65536) for x in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def parametric(kind: int, *values: float) -> bytes:
    numbers = struct.pack(f">{len(values)}i", *(round(x * 65536) for x in values))
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + numbers


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
TABLE = b"curv\0\0\0\0" + struct.pack(
    ">I64H", 64, *(round(65535 * (i / 63) ** 1.8) for i in range(64))
)
CURVES = {
    "sRGB's": SRGB_CURVE,
    "gamma 2.2": gamma(2.2),
    "linear": b"curv\0\0\0\0\0\0\0\0",
    "table": TABLE,
    "power": parametric(0, 1.8),
    "from zero": parametric(1, 2.2, 0.9, 0.1),
    "offset": parametric(2, 2.2, 0.9, 0.05, 0.02),
    "all": parametric(4, 2.4, 0.94, 0.05, 0.08, 0.04, 0.001, 0.0005),
}
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))


def rgb_profile(curve: bytes = SRGB_CURVE) -> bytes:
    """Of the primaries of Display P3."""
    names = zip((b"r", b"g", b"b"), P3, strict=True)
    columns = {letter + b"XYZ": xyz(*column) for letter, column in names}
    return profile(b"RGB ", columns | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def table_profile(space: bytes, inks: int) -> bytes:
    """A table that knows the corners of its space only: the more ink, the darker."""
    shades = []
    for corner in itertools.product((0, 1), repeat=inks):
        share = sum(corner) / inks
        light = 1 - share if inks == 4 else share
        shades += [round(255 * light), 128, 128]  # of Lab
    ramp = bytes(range(256))
    unit = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((inks, 3, 2, 0)) + unit + ramp * inks + bytes(shades) + ramp * 3
    return profile(space, {b"A2B0": lut}, b"Lab ")


GREY = profile(b"GRAY", {b"kTRC": gamma(1.0)})


def by_lcms(image: Image.Image, of: bytes, intent: Any = ImageCms.Intent.PERCEPTUAL) -> Any:
    source: Any = ImageCms.ImageCmsProfile(io.BytesIO(of))
    srgb: Any = ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(image, source, srgb, intent, outputMode="RGB")
    assert made is not None
    return np.asarray(made, int)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def converted(source: Path, *options: object) -> tuple[Image.Image, Result]:
    """A photo's thumbnail with --to-srgb."""
    out = source.parent / "out"
    result = run("convert", source, out, "--factor", 4, "--to-srgb", "-v", *options)
    assert result.exit_code == 0, result.output
    (path,) = (p for p in out.iterdir() if p.suffix)
    with Image.open(path) as small:
        small.load()
        assert "icc_profile" not in small.info
        return small, result


# -- 8 bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_display_p3_becomes_srgb(ending: str, tmp_path: Path) -> None:
    photo, p3 = drawn_photo(64, 48), rgb_profile()
    photo.save(tmp_path / "a.png", icc_profile=p3)
    small, result = converted(tmp_path / "a.png", "--format", ending, "--quality", 100)
    assert "colour profile to sRGB" in result.stderr
    thumbnail = resize(photo, 4)
    want = by_lcms(thumbnail, p3)
    assert np.abs(want - np.asarray(thumbnail, int)).max() > 20  # the profile matters
    off = np.asarray(small, int) - want
    if ending in ("png", "tif"):
        assert not off.any()
    else:
        assert np.abs(off.mean(axis=(0, 1))).max() < 3


def test_off_by_default(tmp_path: Path) -> None:
    drawn_photo(64, 48).save(tmp_path / "a.png", icc_profile=rgb_profile())
    assert run("convert", tmp_path / "a.png", tmp_path / "b.png", "--factor", 4).exit_code == 0
    with Image.open(tmp_path / "b.png") as small:
        assert small.info["icc_profile"] == rgb_profile()
        assert np.array_equal(small, resize(drawn_photo(64, 48), 4))


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, of in (("a.png", srgb), ("b.png", None)):
        drawn_photo(64, 48).save(tmp_path / name, icc_profile=of)
    small, _ = converted(tmp_path / "a.png")
    want = np.asarray(resize(drawn_photo(64, 48), 4), int)
    assert np.abs(np.asarray(small, int) - want).max() <= 1
    (tmp_path / "bare").mkdir()
    (tmp_path / "b.png").rename(tmp_path / "bare" / "b.png")
    small, result = converted(tmp_path / "bare" / "b.png")
    assert np.array_equal(small, want) and "sRGB" not in result.stderr


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_stays_grey(mode: str, tmp_path: Path) -> None:
    photo = drawn_photo(64, 48).convert("L")
    if mode == "LA":
        photo.putalpha(200)
    photo.save(tmp_path / "a.png", icc_profile=GREY)
    small, _ = converted(tmp_path / "a.png")
    assert small.mode == mode
    level = np.asarray(resize(photo, 4).getchannel(0), float) / 255
    want = np.where(level <= 0.0031308, 12.92 * level, 1.055 * level ** (1 / 2.4) - 0.055) * 255
    assert np.abs(np.asarray(small.getchannel(0), float) - want).max() <= 1
    assert mode == "L" or np.asarray(small.getchannel("A")).min() == 200


def test_grey_with_a_profile_of_colours(tmp_path: Path) -> None:
    """The neutral axis of an RGB profile."""
    grey = Image.linear_gradient("L")
    out, _ = in_srgb(with_profile(grey.copy(), rgb_profile(gamma(2.0))))
    want, _ = in_srgb(with_profile(grey, profile(b"GRAY", {b"kTRC": gamma(2.0)})))
    assert out.mode == "L" and np.abs(np.asarray(out, int) - np.asarray(want, int)).max() <= 1


def with_profile(image: Image.Image, of: bytes) -> Image.Image:
    image.info["icc_profile"] = of
    return image


@pytest.mark.parametrize("of", [table_profile(b"CMYK", 4), None], ids=["profile", "none"])
def test_cmyk_becomes_rgb(of: bytes | None, tmp_path: Path) -> None:
    photo = Image.new("CMYK", (64, 48), (255, 0, 255, 0))
    photo.save(tmp_path / "a.tif", icc_profile=of)
    small, result = converted(tmp_path / "a.tif")
    assert small.mode == "RGB" and "CMYK to sRGB" in result.stderr
    pixel = small.getpixel((5, 5))
    assert pixel == ((119, 119, 119) if of else (0, 255, 0))  # L* = 50


@pytest.mark.parametrize("mode", ["RGBA", "P", "1"])
def test_alpha_and_palettes(mode: str, tmp_path: Path) -> None:
    photo = drawn_photo(64, 48)
    if mode == "RGBA":
        photo.putalpha(Image.linear_gradient("L").resize((64, 48)))
    image = photo.quantize(16) if mode == "P" else photo.convert(mode)
    image.save(tmp_path / "a.png", icc_profile=rgb_profile())
    small, _ = converted(tmp_path / "a.png")
    assert small.mode == {"P": "RGB", "1": "L"}.get(mode, mode)
    if mode == "RGBA":
        want = resize(photo, 4)
        assert np.array_equal(small.getchannel("A"), want.getchannel("A"))
        assert np.array_equal(
            np.asarray(small)[..., :3], by_lcms(want.convert("RGB"), rgb_profile())
        )


# -- more than 8 bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES)
def test_16_bits_agree_with_8(curve: str) -> None:
    """The profile's matrix and curves, against LittleCMS."""
    of = rgb_profile(CURVES[curve])
    photo = drawn_photo(64, 48)
    deep, done = in_srgb(np.asarray(photo).astype(np.uint16) * 257, {"icc_profile": of})
    assert deep.dtype == np.uint16 and done == ("colour profile to sRGB",)
    want = by_lcms(photo, of, ImageCms.Intent.RELATIVE_COLORIMETRIC)  # black is not moved
    assert np.abs(deep / 257 - want).max() < 1.2  # LittleCMS rounds on its way
    floats, _ = in_srgb(np.asarray(photo, np.float32) / 255, {"icc_profile": of})
    assert floats.dtype == np.float32 and np.abs(floats * 65535 - deep).max() < 1


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_files_stay_16_bit(ending: str, tmp_path: Path) -> None:
    pixels = np.asarray(drawn_photo(64, 48)).astype(np.uint16) * 257
    path = tmp_path / f"a.{ending}"
    if ending == "png":
        assert cv2.imwrite(str(path), pixels[..., ::-1])
        content = path.read_bytes()
        import zlib

        chunk = b"iCCPx\0\0" + zlib.compress(rgb_profile())
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + chunk + content[33:])
    else:
        tifffile = pytest.importorskip("tifffile", reason="needs the extra [tiff]")
        tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=rgb_profile())
    out = tmp_path / "out"
    assert run("convert", path, out, "--factor", 4, "--to-srgb").exit_code == 0
    small = cv2.imread(str(out / path.name), cv2.IMREAD_UNCHANGED)
    assert small is not None and small.dtype == np.uint16
    want, _ = in_srgb(resize(pixels, 4), {"icc_profile": rgb_profile()})
    assert np.array_equal(small[..., ::-1], want)
    with Image.open(out / path.name) as image:
        assert "icc_profile" not in image.info
    result = run("convert", path, tmp_path / "a.jpg", "--factor", 4, "--to-srgb", "-v")
    assert result.exit_code == 0 and "16 bits to 8" in result.stderr


def test_16_bit_greys() -> None:
    grey = Image.fromarray(np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64))
    for of in (GREY, rgb_profile(CURVES["linear"])):
        out, _ = in_srgb(with_profile(grey.copy(), of))
        assert out.mode == "I;16" and np.asarray(out)[32, 0] == pytest.approx(0.7354 * 65535, abs=9)
    with pytest.raises(ValueError, match=r"greys \(mode F\) are not converted"):
        in_srgb(with_profile(Image.new("F", (4, 4)), GREY))


# -- what cannot be done ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (b"a profile", "it is damaged"),
        (rgb_profile()[:200], "cannot be used"),
        (table_profile(b"CMYK", 4), "it is of CMYK, the image of RGB"),
        (GREY, "it is of GRAY, the image of RGB"),
        (profile(b"Lab ", {}), "not of grey, RGB or CMYK"),
    ],
    ids=["text", "cut", "CMYK", "grey", "Lab"],
)
def test_a_broken_profile_is_reported(of: bytes, says: str, tmp_path: Path) -> None:
    for name, given in (("a.png", of), ("b.png", rgb_profile())):
        (tmp_path / "in").mkdir(exist_ok=True)
        drawn_photo(64, 48).save(tmp_path / "in" / name, icc_profile=given)
    result = run("convert", tmp_path / "in", tmp_path / "out", "--factor", 4, "--to-srgb")
    assert result.exit_code == 1 and "1 converted, 1 failed" in result.stdout
    (line,) = (line for line in result.stderr.splitlines() if "a.png" in line)
    assert "its colour profile cannot be used" in line and says in line
    with pytest.raises(ValueError, match="its colour profile cannot be used"):
        in_srgb(np.zeros((4, 4, 3), np.uint16), {"icc_profile": of})


def test_a_broken_profile_of_cmyk_without_the_option(tmp_path: Path) -> None:
    Image.new("CMYK", (64, 48)).save(tmp_path / "a.tif", icc_profile=b"a profile")
    result = run("convert", tmp_path / "a.tif", tmp_path / "a.png", "--factor", 4)
    assert result.exit_code == 1 and "its colour profile cannot be used" in result.stderr
    assert run("convert", tmp_path / "a.tif", tmp_path / "b.tif", "--factor", 4).exit_code == 0


def test_tables_are_for_8_bits() -> None:
    of = table_profile(b"RGB ", 3)
    out, _ = in_srgb(with_profile(Image.new("RGB", (4, 4), "white"), of))
    assert out.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match="a table, which is used for 8 bits only"):
        in_srgb(np.zeros((4, 4, 3), np.uint16), {"icc_profile": of})


# -- what else says how colours look ---------------------------------------------------------------


def gamma_png(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100000))  # linear
    drawn_photo(64, 48).save(path, pnginfo=info)


def test_gamma_of_a_png(tmp_path: Path) -> None:
    gamma_png(tmp_path / "a.png")
    small, result = converted(tmp_path / "a.png")
    assert "gamma to sRGB" in result.stderr and "gamma" not in small.info
    want, _ = in_srgb(with_profile(resize(drawn_photo(64, 48), 4), rgb_profile(CURVES["linear"])))
    same, _ = in_srgb(np.asarray(resize(drawn_photo(64, 48), 4)) / np.float32(255), {"gamma": 1.0})
    assert np.abs(np.asarray(small) / 255 - same).max() < 1 / 255
    assert not np.array_equal(small, want)  # which has other primaries


def test_exif_and_xmp_say_srgb_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 65535, 0x8827: 400})
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        b'xmlns:exif="http://ns.adobe.com/exif/1.0/" photoshop:ICCProfile="Display P3" '
        b'exif:ColorSpace="65535"/></rdf:RDF></x:xmpmeta>'
    )
    drawn_photo(64, 48).save(tmp_path / "a.jpg", exif=exif, xmp=xmp, icc_profile=rgb_profile())
    small, _ = converted(tmp_path / "a.jpg")
    assert small.getexif().get_ifd(0x8769)[0xA001] == 1
    assert small.getexif().get_ifd(0x8769)[0x8827] == 400
    assert b"Description" in small.info["xmp"] and b"P3" not in small.info["xmp"]
    assert b"ColorSpace" not in small.info["xmp"]


def test_files_are_copied_only_if_they_are_srgb(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, of in (("a.png", None), ("b.png", rgb_profile())):
        drawn_photo(64, 48).save(tmp_path / "in" / name, icc_profile=of)
    options = ("--max-side", 100, "--to-srgb")
    result = run("convert", tmp_path / "in", tmp_path / "out", *options)
    assert result.exit_code == 0 and "1 converted, 1 copied" in result.stdout
    with Image.open(tmp_path / "out" / "b.png") as made:
        assert "icc_profile" not in made.info and made.size == (64, 48)
        assert np.array_equal(made, by_lcms(drawn_photo(64, 48), rgb_profile()))
    assert is_srgb(drawn_photo(8, 8), {}) and not is_srgb(Image.new("CMYK", (8, 8)), {})


def test_high_dynamic_range_is_no_srgb() -> None:
    with pytest.raises(ValueError, match="high dynamic range"):
        in_srgb(np.zeros((4, 4, 3), np.uint16), {"cicp": (9, 16, 0, 1)})


# -- everywhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--format", "png"), ("--format", "webp", "--gamma")])
def test_a_payload_survives(options: tuple[str, ...], tmp_path: Path) -> None:
    """Colours are converted before it is embedded: also a PNG's gamma, which WebP does not hold."""
    (tmp_path / "in").mkdir()
    if "--gamma" in options:
        gamma_png(tmp_path / "in" / "a.png")
    else:
        drawn_photo(64, 48).save(tmp_path / "in" / "a.png", icc_profile=rgb_profile())
    given = [*(x for x in options if x != "--gamma"), "--weights", "x4-machine"]
    given += [] if "--gamma" in options else ["--to-srgb"]
    result = run("convert", tmp_path / "in", tmp_path / "out", "--factor", 4, *given)
    assert result.exit_code == 0, result.output
    (path,) = (p for p in (tmp_path / "out").iterdir() if p.suffix)
    with Image.open(path) as image, Image.open(tmp_path / "in" / "a.png") as photo:
        photo.load()
        want = resize(in_srgb(photo)[0], 4, weights="x4-machine")
        assert "icc_profile" not in image.info and np.array_equal(image.convert("RGB"), want)


def test_arrays(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    drawn_photo(64, 48).save(tmp_path / "in" / "a.png", icc_profile=rgb_profile())
    Image.new("CMYK", (64, 48), (255, 0, 255, 0)).save(
        tmp_path / "in" / "b.tif", icc_profile=table_profile(b"CMYK", 4)
    )
    made = {}
    for name, options in (("srgb", ("--to-srgb",)), ("plain", ())):
        options = ("--size", "16x12", "--to", "array", *options)
        assert run("convert", tmp_path / "in", tmp_path / name, *options).exit_code == 0
        made[name] = np.load(tmp_path / name / "thumbnails.npy")
    small = resize(drawn_photo(64, 48), 4)
    assert np.array_equal(made["plain"][0], small)
    assert np.array_equal(made["srgb"][0], by_lcms(small, rgb_profile()))
    for pixels in made.values():  # there is no other way to RGB
        assert pixels[1, 5, 5].tolist() == [119, 119, 119]


def test_shards_and_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    drawn_photo(64, 48).save(tmp_path / "in" / "a.png", icc_profile=rgb_profile())
    options = ("--factor", 4, "--to", "shards")
    assert run("convert", tmp_path / "in", tmp_path / "out", *options, "--to-srgb").exit_code == 0
    with tarfile.open(tmp_path / "out" / "000000.tar") as tar:
        member = tar.extractfile("000000000.png")
        assert member is not None
        with Image.open(member) as small:
            assert "icc_profile" not in small.info
    head = (tmp_path / "out" / ".learned-downscale" / "manifest.jsonl").read_text().splitlines()[0]
    assert json.loads(head)["recipe"]["to_srgb"] is True
    result = run("convert", tmp_path / "in", tmp_path / "out", *options)
    assert result.exit_code == 2 and "to_srgb True and now False" in result.stderr


def test_the_worker_travels() -> None:
    file = io.BytesIO()
    drawn_photo(64, 48).save(file, "PNG", icc_profile=rgb_profile())
    worker = pickle.loads(pickle.dumps(Worker(Recipe(factor=4, to_srgb=True))))
    made = worker(file.getvalue(), ".png")
    assert "colour profile to sRGB" in str(made.how)
    with Image.open(io.BytesIO(made.content)) as small:
        assert np.array_equal(small, by_lcms(resize(drawn_photo(64, 48), 4), rgb_profile()))
