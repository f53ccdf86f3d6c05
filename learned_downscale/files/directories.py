"""The directories of a TIFF file: its pages and how each of them is stored.

Read here, and not by Pillow, which knows the first page only after it has accepted its layout, and
does not tell pages from overviews.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# Tags that say what a page is and how its samples are stored
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS = 254, 255, 256, 257, 258
COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR = 259, 262, 274, 277, 284
SUB_IFDS, EXTRA, SAMPLE_FORMAT, DEPTH = 330, 338, 339, 32997
_WANTED = {
    *(SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES),
    *(PLANAR, SUB_IFDS, EXTRA, SAMPLE_FORMAT, DEPTH),
}
# Field type -> its letter for struct; the types of whole numbers
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_VALUES = 64  # of one tag; no layout that is read has more
_MOST_PAGES = 100_000

_COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    6: "old JPEG",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG (DNG)",
    34925: "LZMA",
    34927: "WebP",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_PHOTOMETRICS = {
    0: "grey, 0 is white",
    1: "grey",
    2: "RGB",
    3: "a palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "a colour filter array (camera raw)",
    34892: "linear camera raw",
}
_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex"}


@dataclass(frozen=True)
class Page:
    """One directory of a TIFF file.

    Attributes:
        index: its place in the file, from 0, overviews and masks included.
        tags: the whole numbers of the tags that say how it is stored.
        places: where in the file the value of each tag lies, and its form for struct.
        offset: where in the file the directory lies.
        endian: "<" or ">", as struct writes them.
        big: whether it is a BigTIFF.
    """

    index: int
    tags: dict[int, tuple[int, ...]]
    places: dict[int, tuple[int, str]]
    offset: int
    endian: str
    big: bool

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return (self.tags.get(tag) or (default,))[0]

    @property
    def is_full(self) -> bool:
        """Whether it is an image of full size: no overview, no mask of transparency."""
        return not self.one(SUBFILE, 0) & 5 and self.one(OLD_SUBFILE, 1) != 2

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.one(WIDTH, 0), self.one(HEIGHT, 0)

    @property
    def samples(self) -> int:
        """Samples of a pixel, extra ones (alpha) included."""
        return self.one(SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Of one sample; 0 where they differ."""
        bits = set(self.tags.get(BITS, (1,)))
        return bits.pop() if len(bits) == 1 else 0

    @property
    def sample_format(self) -> int:
        """1 unsigned, 2 signed, 3 float; 0 where they differ."""
        kinds = set(self.tags.get(SAMPLE_FORMAT, (1,)))
        return kinds.pop() if len(kinds) == 1 else 0

    @property
    def colours(self) -> int:
        """How many of the samples are colours."""
        return {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}.get(self.one(PHOTOMETRIC, 0), 1)

    @property
    def alpha(self) -> int | None:
        """Which of the extra samples is alpha; None where there is none. Of RGB, a fourth sample
        of which nothing is said is taken for alpha, as Pillow does."""
        extra = self.tags.get(EXTRA, ())
        if not extra and self.samples == 4 and self.one(PHOTOMETRIC, 0) == 2:
            return 0
        found = next((i for i, kind in enumerate(extra) if kind in (1, 2)), None)
        return found if self.colours in (1, 3) else None

    @property
    def layout(self) -> str:
        """For people: how it is stored."""
        compression, photometric = self.one(COMPRESSION, 1), self.one(PHOTOMETRIC, 0)
        return ", ".join(
            (
                f"{self.samples} x {self.bits or '?'} bits {_FORMATS.get(self.sample_format, '?')}",
                _PHOTOMETRICS.get(photometric, f"photometric {photometric}"),
                *(("planar",) if self.one(PLANAR, 1) == 2 else ()),
                f"compression {self.compression}" if compression != 1 else "not compressed",
            )
        )

    @property
    def compression(self) -> str:
        """The name of its compression."""
        number = self.one(COMPRESSION, 1)
        return _COMPRESSIONS.get(number, f"number {number}")


def is_tiff(prefix: bytes) -> bool:
    """Whether a file that begins so is a TIFF."""
    return prefix[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pages_of(file: BinaryIO) -> list[Page]:
    """The directories of a TIFF file, in their order; empty where the first one is broken. The
    list ends where the file does, or at a directory that came before."""
    return list(_walk(file))


def _walk(file: BinaryIO) -> Iterator[Page]:
    file.seek(0)
    head = file.read(16)
    if not is_tiff(head):
        return
    endian = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    offset_type, count_type = ("Q", "Q") if big else ("I", "H")
    try:
        (offset,) = struct.unpack_from(endian + offset_type, head, 8 if big else 4)
        met: set[int] = set()
        while offset and offset not in met and len(met) < _MOST_PAGES:
            met.add(offset)
            file.seek(offset)
            (entries,) = _unpacked(file, endian + count_type)
            if entries > 65535:
                return
            block = file.read(entries * (20 if big else 12))
            (following,) = _unpacked(file, endian + offset_type)
            yield _page(file, len(met) - 1, block, offset, endian, big)
            offset = following
    except (struct.error, OverflowError, OSError):  # it ends early
        return


def _unpacked(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _page(file: BinaryIO, index: int, block: bytes, at: int, endian: str, big: bool) -> Page:
    length, room, form = (20, 8, "HHQ") if big else (12, 4, "HHI")
    tags: dict[int, tuple[int, ...]] = {}
    places: dict[int, tuple[int, str]] = {}
    for start in range(0, len(block) - length + 1, length):
        tag, kind, count = struct.unpack_from(endian + form, block, start)
        if tag not in _WANTED or kind not in _TYPES:
            continue
        count = min(count, _MOST_VALUES)
        values = f"{endian}{count}{_TYPES[kind]}"
        place = at + (8 if big else 2) + start + length - room
        if struct.calcsize(values) > room:
            (place,) = struct.unpack_from(
                endian + ("Q" if big else "I"), block, start + length - room
            )
            file.seek(place)
            tags[tag] = _unpacked(file, values)
        else:
            tags[tag] = struct.unpack_from(values, block, start + length - room)
        places[tag] = place, f"{endian}{_TYPES[kind]}"
    return Page(index, tags, places, at, endian, big)
