"""What describes a photo: EXIF, XMP, IPTC, density, text; and what says how its colours look."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal
from xml.etree import ElementTree

from PIL import ExifTags, Image

from learned_downscale.files.directories import Page

Choice = Literal["keep", "strip", "strip-gps"]
CHOICES = ("keep", "strip", "strip-gps")

EXIF_IFD, GPS_IFD = 0x8769, 0x8825  # camera settings; position
SUB_IFDS = (EXIF_IFD, GPS_IFD)
FIRST = 0  # the directory that holds the others
_SIZES = {FIRST: (0x0100, 0x0101), EXIF_IFD: (0xA002, 0xA003)}  # tags of the width and the height
ORIENTATION = 0x0112
# Tags of a TIFF that describe the photo and that Pillow can write: title, maker, model, software,
# date, artist, copyright. Its other tags describe how the pixels are stored.
DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
# Tags of a TIFF beside its pixels
_X_DENSITY, _Y_DENSITY, _UNIT, _TIFF_XMP, _TIFF_IPTC, _PROFILE = 282, 283, 296, 700, 33723, 34675
_MAKER_NOTE, _INTEROPERABILITY, _COLOUR_SPACE = 0x927C, 0xA005, 0xA001
_COLOUR = ("icc_profile", "srgb", "gamma", "chromaticity", "cicp")
_MOST_IN_JPEG = 65533  # bytes of one marker
_XMP_IN_JPEG = _MOST_IN_JPEG - 29  # without the name that stands before it
# PNG text that repeats EXIF or XMP, with the orientation and size of the original
_REPEATED = re.compile("raw profile type (exif|app1|xmp)|xml:com.adobe.xmp", re.IGNORECASE)


@dataclass(frozen=True)
class Metadata:
    """What came with an image.

    Attributes:
        exif: without the orientation; of a TIFF, what describes the photo.
        colour: what says how the colours look, as Pillow's `info` names it: icc_profile, gamma,
            chromaticity, srgb, and cicp, PNG's four numbers.
        dpi: dots per inch, (horizontal, vertical).
        xmp: an XML packet.
        iptc: records of IPTC-IIM.
        comment: of a JPEG.
        text: keywords and texts of a PNG.
    """

    exif: Image.Exif = field(default_factory=Image.Exif)
    colour: dict[str, Any] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()

    def only(self, choice: Choice) -> Metadata:
        """What is to be kept: all ("keep"); nothing but how the colours look and the density
        ("strip"); all but the position ("strip-gps"): without EXIF's GPS data, the maker's private
        notes, in which a position may be hidden, and what says GPS in XMP, text and comment. Names
        of places stay.

        Raises:
            ValueError: another choice.
        """
        if choice not in CHOICES:
            raise ValueError(f"metadata is {choice!r}; choose one of {', '.join(CHOICES)}")
        if choice == "keep":
            return self
        if choice == "strip":
            return Metadata(colour=self.colour, dpi=self.dpi)
        tags = tags_of(self.exif)
        tags[GPS_IFD].clear()
        tags[EXIF_IFD].pop(_MAKER_NOTE, None)
        xmp = None if self.xmp is None else without_properties(self.xmp, r"\w+:[Gg][Pp][Ss]\w*")
        return replace(
            self,
            exif=exif_of(tags),
            xmp=None if xmp is None or _says_gps(xmp) else xmp,
            comment=None if self.comment is None or _says_gps(self.comment) else self.comment,
            text=tuple(
                pair
                for pair in self.text
                if not _says_gps(" ".join(pair).encode())
                and not pair[0].lower().startswith("raw profile")  # in hexadecimal digits
            ),
        )

    def in_srgb(self) -> Metadata:
        """Of an image whose colours were made those of sRGB: nothing says otherwise."""
        tags, xmp = tags_of(self.exif), self.xmp
        if _COLOUR_SPACE in tags[EXIF_IFD]:
            tags[EXIF_IFD][_COLOUR_SPACE] = 1
        tags[EXIF_IFD].pop(_INTEROPERABILITY, None)  # may say Adobe RGB
        if xmp is not None:
            xmp = without_properties(xmp, r"exif:ColorSpace|photoshop:ICCProfile")
        return replace(self, colour={}, exif=exif_of(tags), xmp=xmp)

    def for_format(self, kind: str, size: tuple[int, int]) -> tuple[Metadata, tuple[str, ...]]:
        """What a format can store of it, for an image of `size` (width, height), and what is lost.
        The size in EXIF and XMP becomes that of the image.

        Args:
            kind: Pillow's name for the format, such as "JPEG".
        """
        exif, bad = _writable(self.exif)
        lost = [f"EXIF without {', '.join(bad)}, which cannot be written"] if bad else []
        tags = tags_of(exif)
        for part, names in _SIZES.items():
            tags[part].update({k: v for k, v in zip(names, size, strict=True) if k in tags[part]})
        if kind == "TIFF":  # its other tags would describe the storage of other pixels
            tags[FIRST] = {tag: tags[FIRST][tag] for tag in DESCRIPTIVE if tag in tags[FIRST]}
        if kind == "JPEG" and len(exif_of(tags).tobytes()) > _MOST_IN_JPEG:
            tags[EXIF_IFD].pop(_MAKER_NOTE, None)
            lost.append("EXIF without the maker's notes, which are too long for JPEG")
            if len(exif_of(tags).tobytes()) > _MOST_IN_JPEG:
                tags, lost[-1] = {}, "without EXIF, which is too long for JPEG"
        xmp = None if self.xmp is None else of_thumbnail(self.xmp, size)
        if self.xmp is not None and xmp is None:
            lost.append("without XMP, which is broken")
        if xmp is not None and kind == "JPEG" and len(xmp) > _XMP_IN_JPEG:
            xmp = None
            lost.append("without XMP, which is too long for JPEG")
        holds = {
            "iptc": kind in ("JPEG", "TIFF"),
            "comment": kind == "JPEG",
            "text": kind == "PNG",
        }
        if self.iptc and kind == "JPEG" and len(self.iptc) > _MOST_IN_JPEG - 40:
            holds["iptc"] = False
        kept: dict[str, Any] = {"exif": exif_of(tags), "xmp": xmp}
        for name, fits in holds.items():
            if not fits and getattr(self, name):
                lost.append(f"without {_NAMES[name]}, which {kind} does not hold")
                kept[name] = () if name == "text" else None
        if self.comment and len(self.comment) > _MOST_IN_JPEG:
            kept["comment"] = None
        return replace(self, **kept), tuple(lost)


_NAMES = {"iptc": "IPTC", "comment": "the comment", "text": "PNG's text"}


def read_metadata(image: Image.Image) -> Metadata:
    """The metadata of an image that is no TIFF, as Pillow opened and loaded it.

    Raises:
        ValueError: its EXIF data is broken.
    """
    info = image.info
    with exif_errors():
        tags = tags_of(image.getexif())
        tags[FIRST].pop(ORIENTATION, None)
    comment, blocks = info.get("comment"), info.get("photoshop")
    iptc = blocks.get(0x0404) if isinstance(blocks, dict) else None
    text = [(k, str(v)) for k, v in info.items() if isinstance(k, str) and isinstance(v, str)]
    return Metadata(
        exif=exif_of(tags),
        colour={name: info[name] for name in _COLOUR if info.get(name) is not None},
        dpi=_dpi(info.get("dpi")),
        xmp=_bytes(info.get("xmp")),
        iptc=iptc if isinstance(iptc, bytes) else None,
        comment=bytes(comment) if image.format in ("JPEG", "MPO") and comment else None,
        text=tuple(pair for pair in text if image.format == "PNG" and not _REPEATED.match(pair[0])),
    )


def read_tiff_metadata(file: BinaryIO, page: Page) -> Metadata:
    """The metadata of a page of a TIFF.

    Raises:
        ValueError: its tags are broken.
    """
    with exif_errors():
        tiff = Image.Exif()
        tiff.endian, tiff.bigtiff = page.endian, page.big
        tiff.load_from_fp(file, page.offset)
        tags = tags_of(tiff)
        tags[FIRST] = {tag: tags[FIRST][tag] for tag in DESCRIPTIVE if tag in tags[FIRST]}
        scale = {2: 1.0, 3: 2.54}.get(tiff.get(_UNIT, 2))
        x, y = tiff.get(_X_DENSITY), tiff.get(_Y_DENSITY)
        profile, iptc = tiff.get(_PROFILE), tiff.get(_TIFF_IPTC)
        return Metadata(
            exif=exif_of(tags),
            colour={"icc_profile": profile} if isinstance(profile, bytes) and profile else {},
            dpi=_dpi((x, y), scale) if scale and x and y else None,
            xmp=_bytes(tiff.get(_TIFF_XMP)),
            iptc=iptc if isinstance(iptc, bytes) else None,
        )


def _bytes(given: Any) -> bytes | None:
    if isinstance(given, str):
        return given.encode()
    return bytes(given) if isinstance(given, bytes) and given else None


@contextmanager
def exif_errors() -> Iterator[None]:
    """Errors of reading EXIF data, of which Pillow has many kinds, as ValueError."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"its EXIF data is broken ({error}); remove it") from error


def _dpi(given: Any, scale: float = 1.0) -> tuple[float, float] | None:
    """A density that formats can hold."""
    try:
        x, y = (float(one) * scale for one in given)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    fits = all(math.isfinite(one) and 1 <= one < 65536 for one in (x, y))
    return (x, y) if fits else None


def iptc_segment(iptc: bytes) -> bytes:
    """The marker of a JPEG that holds IPTC records, as Photoshop writes it."""
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    content = b"Photoshop 3.0\0" + block
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


Tags = dict[int, dict[int, Any]]


def tags_of(exif: Image.Exif) -> Tags:
    """EXIF data by directory (FIRST, EXIF_IFD, GPS_IFD), in dictionaries of their own."""
    tags: Tags = {FIRST: {tag: exif[tag] for tag in exif if tag not in SUB_IFDS}}
    for part in SUB_IFDS:
        given = exif.get(part)
        if not isinstance(given, dict):
            # get_ifd adds an empty directory where there is none
            there = part in exif or part in getattr(exif, "_ifds", {part: None})
            given = exif.get_ifd(part) if there else {}
        tags[part] = dict(given)
    if not isinstance(tags[EXIF_IFD].get(_INTEROPERABILITY, {}), dict):  # a place in the file
        tags[EXIF_IFD][_INTEROPERABILITY] = dict(exif.get_ifd(_INTEROPERABILITY))
    if not tags[EXIF_IFD].get(_INTEROPERABILITY):
        tags[EXIF_IFD].pop(_INTEROPERABILITY, None)
    return tags


def exif_of(tags: Tags) -> Image.Exif:
    """EXIF data of what `tags_of` gives, without empty directories."""
    exif = Image.Exif()
    exif.update(tags.get(FIRST, {}))
    for part in SUB_IFDS:
        if tags.get(part):
            exif.get_ifd(part).update(tags[part])
    return exif


def has_exif(exif: Image.Exif) -> bool:
    """Whether there is anything in it."""
    return any(tags_of(exif).values())


def _writable(exif: Image.Exif) -> tuple[Image.Exif, list[str]]:
    """EXIF data without the tags that cannot be written (text where a number belongs), and which
    these are."""
    tags, lost = tags_of(exif), []
    for part, found in tags.items():
        for tag in list(found):
            try:
                exif_of({part: {tag: found[tag]}}).tobytes()
            except Exception:  # Pillow raises many kinds
                del found[tag]
                names = ExifTags.GPSTAGS if part == GPS_IFD else ExifTags.TAGS
                lost.append(names.get(tag, hex(tag)))
    return exif_of(tags), lost


# -- XMP ------------------------------------------------------------------------------------------


def without_properties(xmp: bytes, names: str) -> bytes:
    """XMP without the properties whose names match a pattern, written as attributes or as
    elements."""
    pattern = names.encode()
    xmp = re.sub(rb"""\s(?:%s)\s*=\s*(?:"[^"]*"|'[^']*')""" % pattern, b"", xmp)
    xmp = re.sub(rb"<(?P<name>%s)(?:\s[^<>]*)?/>" % pattern, b"", xmp)
    return re.sub(rb"<(?P<name>%s)(?:\s[^<>]*)?>.*?</(?P=name)\s*>" % pattern, b"", xmp, flags=re.S)


def of_thumbnail(xmp: bytes, size: tuple[int, int]) -> bytes | None:
    """XMP for an upright image of another size, (width, height), without further images (gain
    maps, motion photos) and previews; None if it is no XML."""
    xmp = xmp.rstrip(b"\0")
    gone = r"(?:hdrgm|GContainer|Container|GCamera|MicroVideo|xmpGImg):\w+|xmp:Thumbnails"
    xmp = without_properties(xmp, gone)
    numbers = {
        rb"tiff:Orientation": 1,
        rb"(?:tiff:ImageWidth|exif:PixelXDimension)": size[0],
        rb"(?:tiff:ImageLength|exif:PixelYDimension)": size[1],
    }
    for name, value in numbers.items():
        xmp = re.sub(
            rb"""(?P<before>%s(?:\s*=\s*["']|>)\s*)\d+""" % name,
            lambda found, value=value: found["before"] + str(value).encode(),  # type: ignore[misc]
            xmp,
        )
    if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:
        return None
    try:
        ElementTree.fromstring(xmp)
    except ElementTree.ParseError:
        return None
    return xmp


def _says_gps(content: bytes) -> bool:
    return b"gps" in content.lower().replace(b"\0", b"")  # also where it is UTF-16
