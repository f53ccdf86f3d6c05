"""What describes a photo: what is kept, what becomes the thumbnail's, what can be left out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import drawn_photo
from PIL import ExifTags, Image, PngImagePlugin

from learned_downscale import resize
from learned_downscale.files import FORMATS, Metadata, Opened, encode, fitted, open_image
from learned_downscale.files.metadata import iptc_segment, of_thumbnail, without_properties

EXIF, GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
XMP = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 tiff:Orientation="1" tiff:ImageWidth="64" exif:PixelXDimension='64' hdrgm:Version="1.0"
 exif:GPSLatitude="48,51.5N">
<exif:GPSLongitude>2,17.6E</exif:GPSLongitude><exif:PixelYDimension>48</exif:PixelYDimension>
<dc:title>a title</dc:title></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
IPTC = b"\x1c\x02\x05\0\x07a title\x1c\x02\x5a\0\x05Paris"


def exif_of(width: int, height: int) -> Image.Exif:
    exif = Image.Exif()
    exif.update({0x010F: "a maker", 0x0100: width, 0x0101: height})
    exif.get_ifd(EXIF).update(
        {0xA002: width, 0xA003: height, 0x829A: 0.01, 0x927C: b"notes: GPS 48 2"}
    )
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 51.0, 30.0)})
    return exif


def original(kind: str) -> bytes:
    """A photo of 64 x 48 px with all that its format holds."""
    options: dict[str, Any] = {"exif": exif_of(64, 48), "dpi": (300, 300)}
    if kind == "TIFF":  # Pillow writes no others
        for part in (EXIF, GPS):
            options["exif"][part] = options["exif"].get_ifd(part)
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Title", "a title")
        text.add_itxt("Author", "\u0141ukasz")
        text.add_text("exif:GPSLatitude", "48/1")
        text.add_text("Raw profile type exif", "\nexif\n4\n45786966")
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    elif kind != "TIFF":
        options["xmp"] = XMP
    if kind == "JPEG":
        options.update(comment=b"a comment", extra=iptc_segment(IPTC), quality=95)
    file = io.BytesIO()
    drawn_photo(64, 48).save(file, kind, **options)
    return file.getvalue()


def thumbnail(opened: Opened, suffix: str, choice: Any = "keep") -> tuple[Opened, tuple[str, ...]]:
    """Opened again, and what was lost."""
    small, _ = fitted(resize(opened.image, 4), suffix)
    metadata, lost = opened.metadata.only(choice).for_format(FORMATS[suffix], small.size)
    return open_image(encode(small, suffix, metadata=metadata)), lost


KINDS = sorted({"JPEG", "PNG", "TIFF", "WEBP", *FORMATS.values()})
SUFFIXES = [".avif"] * (".avif" in FORMATS) + [".jpg", ".png", ".tif", ".webp"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_size_in_exif_is_the_thumbnails(kind: str, suffix: str) -> None:
    opened = open_image(original(kind))
    small, _ = thumbnail(opened, suffix)
    assert small.size == (16, 12)
    exif = small.metadata.exif
    assert exif[0x010F] == "a maker"
    assert (exif.get_ifd(EXIF)[0xA002], exif.get_ifd(EXIF)[0xA003]) == (16, 12)
    assert float(exif.get_ifd(EXIF)[0x829A]) == pytest.approx(0.01)
    assert exif.get_ifd(GPS)[1] == "N"
    if suffix != ".tif" and kind != "TIFF":
        assert (exif[0x0100], exif[0x0101]) == (16, 12)
    assert 0xA002 not in Metadata().for_format("JPEG", (4, 4))[0].exif.get_ifd(EXIF)  # not added


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_format_holds_is_kept(kind: str, suffix: str) -> None:
    """And what it does not hold is said."""
    opened = open_image(original(kind))
    small, lost = thumbnail(opened, suffix)
    if kind in ("JPEG", "PNG", "TIFF") and suffix in (".jpg", ".png", ".tif"):
        assert small.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    if kind != "TIFF":
        xmp = small.metadata.xmp
        assert xmp is not None and b"a title" in xmp and b"GPSLatitude" in xmp
        assert b'tiff:Orientation="1"' in xmp and b'tiff:ImageWidth="16"' in xmp
        assert b"exif:PixelXDimension='16'" in xmp and b"PixelYDimension>12<" in xmp
        assert b"hdrgm:Version" not in xmp  # there is no gain map in the thumbnail
    if kind == "JPEG":
        assert small.metadata.comment == (b"a comment" if suffix == ".jpg" else None)
        assert small.metadata.iptc == (IPTC if suffix in (".jpg", ".tif") else None)
        assert ("without IPTC" in " ".join(lost)) == (suffix not in (".jpg", ".tif"))
    if kind == "PNG":
        found = dict(small.metadata.text)
        assert ("without PNG's text" in " ".join(lost)) == (suffix != ".png")
        if suffix == ".png":
            assert (found["Title"], found["Author"]) == ("a title", "\u0141ukasz")
            assert "Raw profile type exif" not in found  # it repeats the original's EXIF


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_nothing_says_gps(kind: str, suffix: str) -> None:
    opened = open_image(original(kind))
    kept = encode(opened.image, suffix, metadata=opened.metadata)
    assert b"N" in kept and b"48,51.5N" in kept  # what is looked for can be found
    small, _ = thumbnail(opened, suffix, "strip-gps")
    content = encode(small.image, suffix, metadata=opened.metadata.only("strip-gps"))
    for position in (b"48,51.5N", b"2,17.6E", b"48/1", b"45786966", b"GPS"):
        assert position not in content
    assert not small.metadata.exif.get_ifd(GPS) and GPS not in small.metadata.exif
    assert small.metadata.exif[0x010F] == "a maker"
    assert small.metadata.xmp is not None and b"a title" in small.metadata.xmp


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_strip_leaves_the_colours(kind: str, suffix: str) -> None:
    opened = open_image(original(kind))
    opened.image.info["icc_profile"] = b"a profile"
    small, lost = thumbnail(opened, suffix, "strip")
    found = small.metadata
    assert lost == () and found.colour["icc_profile"] == b"a profile"
    assert (len(found.exif), found.xmp, found.iptc, found.comment, found.text) == (
        *(0, None, None, None),
        (),
    )
    assert not found.exif.get_ifd(EXIF) and not found.exif.get_ifd(GPS)


def test_other_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of keep, strip, strip-gps"):
        Metadata().only("none")  # type: ignore[arg-type]


def test_strip_gps_leaves_the_original_alone() -> None:
    metadata = open_image(original("JPEG")).metadata
    metadata.only("strip-gps")
    assert metadata.exif.get_ifd(GPS)[1] == "N" and 0x927C in metadata.exif.get_ifd(EXIF)


@pytest.mark.parametrize(
    "xmp",
    [
        b"<x:xmpmeta",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"no XML",
    ],
)
def test_broken_xmp_is_left_out(xmp: bytes) -> None:
    metadata, lost = Metadata(xmp=xmp).for_format("PNG", (4, 4))
    assert metadata.xmp is None and lost == ("without XMP, which is broken",)


def test_what_is_too_long_for_jpeg_is_left_out() -> None:
    exif = exif_of(64, 48)
    exif.get_ifd(EXIF)[0x927C] = bytes(70000)
    xmp = XMP.replace(b"a title", b"a title" * 10000)
    metadata, lost = Metadata(exif=exif, xmp=xmp).for_format("JPEG", (16, 12))
    assert len(lost) == 2 and "notes, which are too long" in lost[0] and "XMP" in lost[1]
    content = encode(Image.new("RGB", (16, 12)), ".jpg", metadata=metadata)
    assert open_image(content).metadata.exif[0x010F] == "a maker"
    assert encode(Image.new("RGB", (16, 12)), ".jpg", metadata=Metadata(exif=exif, xmp=xmp))
    for suffix in (".png", ".tif", ".webp"):
        content = encode(Image.new("RGB", (16, 12)), suffix, metadata=Metadata(xmp=xmp))
        assert len(open_image(content).metadata.xmp or b"") > 70000


def test_properties_of_xmp() -> None:
    xmp = b"<a b:c='1' b:d=\"2\"><b:c>3</b:c><b:c/><b:cd>4</b:cd></a>"
    assert without_properties(xmp, "b:c") == b'<a b:d="2"><b:cd>4</b:cd></a>'
    upright = of_thumbnail(XMP, (16, 12))
    assert upright is not None and b"hdrgm:Version" not in upright
    assert XMP.count(b"<") == upright.count(b"<")


def test_densities_that_formats_cannot_hold() -> None:
    for bad in ((0, 0), (float("nan"), 1), (float("inf"), 1), (70000, 70000), ("a", "b"), 3, None):
        image = Image.new("RGB", (8, 8))
        image.info["dpi"] = bad
        from learned_downscale.files.metadata import read_metadata

        assert read_metadata(image).dpi is None


def test_orientation_that_xmp_says(tmp_path: Path) -> None:
    """As Pillow: the photo is turned, and its thumbnail's XMP says upright."""
    path = tmp_path / "a.jpg"
    drawn_photo(64, 48).save(path, xmp=XMP.replace(b'Orientation="1"', b'Orientation="6"'))
    opened = open_image(path)
    assert opened.size == (48, 64)
    small, _ = thumbnail(opened, ".jpg")
    assert small.size == (12, 16)
    assert small.metadata.xmp is not None and b'Orientation="1"' in small.metadata.xmp


def test_tiff_to_tiff_keeps_camera_settings_compressed() -> None:
    opened = open_image(original("TIFF"))
    content = encode(opened.image, ".tif", metadata=opened.metadata)
    assert len(content) < 64 * 48 * 3
    again = open_image(content)
    assert np.array_equal(again.image, opened.image)
    assert again.metadata.exif.get_ifd(GPS)[1] == "N"
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["compression"] == "tiff_adobe_deflate"


@pytest.mark.parametrize(
    "mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16", "F", "1", "P", "I", "LAB"]
)
def test_modes_of_tiff(mode: str) -> None:
    rng = np.random.default_rng(0)
    if mode in ("I;16", "F", "I"):
        kind = {"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode]
        image = Image.fromarray((rng.random((45, 70)) * 60000).astype(kind))
    else:
        image = Image.fromarray(rng.integers(0, 256, (45, 70, 4), np.uint8)).convert(
            "RGB" if mode == "LAB" else mode
        )
        if mode == "LAB":
            image = Image.frombytes("LAB", image.size, image.tobytes())
    again = open_image(encode(image, ".tif", metadata=Metadata(exif=exif_of(70, 45))))
    assert again.image.mode == mode and again.metadata.exif[0x010F] == "a maker"
    assert np.array_equal(again.image, np.asarray(image))
