"""The chunks of a PNG that Pillow leaves out or misreads, and a writer of 16-bit PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6  # colour types
_LONGEST = 2**20  # bytes of a chunk that is read


@dataclass(frozen=True)
class Header:
    """What Pillow does not say of a PNG before it has decoded it.

    Attributes:
        depth: bits of a sample.
        colour: the colour type, such as GREY.
        transparent: the grey or RGB value that is transparent, in samples as stored; None without.
        cicp: (primaries, transfer, matrix, full range) of the chunk cICP; None without.
        exif: of the chunk eXIf, which may stand after the pixels; None without.
        is_streamed: whether rows come one after the other (not interlaced), and texts before them.
    """

    depth: int
    colour: int
    transparent: tuple[int, ...] | None
    cicp: tuple[int, int, int, int] | None
    exif: bytes | None
    is_streamed: bool

    @property
    def is_deep(self) -> bool:
        """Whether Pillow has no mode for its samples: 16-bit colours, or 16 bits with alpha."""
        grey = self.colour == GREY and self.transparent is None
        return self.depth == 16 and not grey

    @property
    def transparent_in_8_bits(self) -> int | tuple[int, ...] | None:
        """The transparent value as Pillow decodes samples of 1 to 8 bits: grey spread to 0 to 255.
        Only the low bits of what the file says count."""
        if self.transparent is None:
            return None
        top = (1 << self.depth) - 1
        values = tuple((value & top) * 255 // top for value in self.transparent)
        return values[0] if self.colour == GREY else values


def read_header(file: BinaryIO) -> Header | None:
    """The header of a PNG; None of what is none or is broken, which Pillow then says."""
    file.seek(0)
    if file.read(8) != SIGNATURE:
        return None
    found: dict[bytes, bytes] = {}
    text_is_late = False
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, name = struct.unpack(">I4s", head)
        if name in (b"IHDR", b"tRNS", b"cICP", b"eXIf") and length <= _LONGEST:
            found.setdefault(name, file.read(length))
            length = 0
        elif name == b"IDAT":
            found[name] = b""
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            text_is_late = text_is_late or b"IDAT" in found
        file.seek(length + 4, 1)
    try:
        depth, colour, interlaced = struct.unpack_from(">BBxxB", found[b"IHDR"], 8)
        trns = found.get(b"tRNS") if colour in (GREY, RGB) else None
        transparent = None
        if trns is not None:
            transparent = struct.unpack_from(">H" if colour == GREY else ">3H", trns)
    except (struct.error, KeyError):
        return None
    cicp = found.get(b"cICP", b"")
    fields = (cicp[0], cicp[1], cicp[2], cicp[3]) if len(cicp) == 4 else None
    is_streamed = not interlaced and not text_is_late
    return Header(depth, colour, transparent, fields, found.get(b"eXIf"), is_streamed)


def colour_chunks(info: Mapping[Any, Any]) -> list[tuple[bytes, bytes]]:
    """The chunks that say how colours look, of what Pillow's `info` and `cicp` hold."""
    chunks = []
    if cicp := info.get("cicp"):
        chunks.append((b"cICP", bytes(cicp)))
    if (srgb := info.get("srgb")) is not None and not info.get("icc_profile"):
        chunks.append((b"sRGB", bytes([srgb])))
    if gamma := info.get("gamma"):
        chunks.append((b"gAMA", struct.pack(">I", round(gamma * 100000))))
    if white_and_colours := info.get("chromaticity"):
        chunks.append(
            (b"cHRM", struct.pack(">8I", *(round(x * 100000) for x in white_and_colours)))
        )
    return chunks


def density_chunk(dpi: tuple[float, float]) -> tuple[bytes, bytes]:
    """The chunk pHYs for dots per inch."""
    x, y = (round(one / 0.0254) for one in dpi)
    return b"pHYs", struct.pack(">IIB", x, y, 1)


def text_chunks(text: Iterable[tuple[str, str]], xmp: bytes | None) -> list[tuple[bytes, bytes]]:
    """Chunks of keyword and text, and of XMP."""
    chunks = []
    for keyword, value in text:
        name = keyword.encode("latin-1")
        try:
            chunks.append((b"tEXt", name + b"\0" + value.encode("latin-1")))
        except UnicodeEncodeError:
            chunks.append((b"iTXt", name + b"\0\0\0\0\0" + value.encode()))
    if xmp is not None:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    return chunks


_ROWS = 64  # that are filtered at once


def write_png(array: Array, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG of 16 bits.

    Args:
        array: uint16 (H, W, channels): 1 grey, 2 grey with alpha, 3 RGB, 4 RGB with alpha.
        chunks: written before the pixels, name and content.
    """
    height, width, channels = array.shape
    colour = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGB_ALPHA}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = array.astype(">u2").reshape(height, -1).view(np.uint8)
    parts = (
        (b"IHDR", head),
        *chunks,
        (b"IDAT", _compressed(rows, 2 * channels)),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def _compressed(rows: Array, pixel: int) -> bytes:
    """Rows (bytes), filtered and compressed; some at a time, since filtering takes many times their
    memory."""
    deflate, parts = zlib.compressobj(6), []
    above = np.zeros_like(rows[:1])
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        parts.append(deflate.compress(_filtered(some, above, pixel).tobytes()))
        above = some[-1:]
    return b"".join((*parts, deflate.flush()))


def _filtered(rows: Array, above: Array, pixel: int) -> Array:
    """Each row (bytes) by that one of PNG's filters that leaves the smallest sum, its number
    first. above: the row before them."""
    left = np.zeros_like(rows)
    left[:, pixel:] = rows[:, :-pixel]
    up = np.concatenate((above, rows[:-1]))
    corner = np.zeros_like(rows)
    corner[:, pixel:] = up[:, :-pixel]
    a, b, c = (x.astype(np.int16) for x in (left, up, corner))
    near_a, near_b, near_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    paeth = np.where(
        (near_a <= near_b) & (near_a <= near_c), left, np.where(near_b <= near_c, up, corner)
    )
    mean = ((a + b) // 2).astype(np.uint8)
    best, least = np.empty((len(rows), rows.shape[1] + 1), np.uint8), None
    for number, guess in enumerate((np.zeros_like(rows), left, up, mean, paeth)):
        rest = rows - guess
        cost = np.abs(rest.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64)
        better = np.ones(len(rows), bool) if least is None else cost < least
        best[better, 0], best[better, 1:] = number, rest[better]
        least = cost if least is None else np.minimum(least, cost)
    return best
