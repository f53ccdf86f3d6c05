"""One image of an open file: loaded, turned upright, with what was found beside the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from learned_downscale.files import chunks, directories, samples, strips
from learned_downscale.files.colours import with_colour
from learned_downscale.files.identity import (
    UnknownLayoutError,
    check_size,
    decoder_errors,
    identified,
)
from learned_downscale.files.metadata import (
    ORIENTATION,
    Metadata,
    exif_errors,
    read_metadata,
    read_tiff_metadata,
)

Array = NDArray[Any]
Size = tuple[int, int]
Least = Callable[[Size], Size]

_JPEGS = ("JPEG", "MPO")  # phones write .jpg files as MPO, whose further frames are previews
_STILLS = (*_JPEGS, "HEIF")  # their further images are previews or other takes; one is the photo
# EXIF's orientation -> how the image is brought upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OF_TIFF = ("compression", "dpi", "resolution")  # of its storage; the density is in the metadata
_HAND_ON = ("WEBP", "AVIF", "HEIF")  # their decoders are given the whole file
_WHOLE = 2**30  # bytes, more than any file that is decoded whole


def whole(size: Size) -> Size:
    """`least` for images that are wanted at their full size."""
    return size


@dataclass(frozen=True)
class Opened:
    """An image of a file, and what was found with it.

    Attributes:
        image: upright: a PIL image; or, if asked for `deep`, an array (H, W, channels) of uint16
            or float32 for colours, or grey with alpha, of more than 8 bits; or, if asked for, the
            `Strips` of a large image.
        size: (width, height) of the file's image, upright. `image` may be smaller: see `least`.
        format: Pillow's name of the file's format.
        metadata: EXIF, XMP and the like. How the colours look is also in the `info` of a PIL image.
        count: how many images the file holds one after the other: frames, or pages of full size.
        index: which of them it is, from 0.
        duration: how long a frame is shown, in milliseconds; None for pages and single images.
        loop: how often an animation is played, 0 for ever; None where the file does not say.
        changes: what was changed to hold it, for people: "16 bits to 8".
    """

    image: Any
    size: Size
    format: str
    metadata: Metadata = field(default_factory=Metadata)
    count: int = 1
    index: int = 0
    duration: float | None = None
    loop: int | None = None
    changes: tuple[str, ...] = ()


def open_page(
    file: BinaryIO,
    page: directories.Page,
    max_pixels: float | None,
    deep: bool,
    in_strips: bool = False,
) -> Opened:
    """A page of a TIFF; see `open_image`."""
    if page.one(directories.DEPTH, 1) > 1:
        raise ValueError(
            f"a volume of {page.one(directories.DEPTH, 1)} layers in one TIFF page; save each "
            "layer as a page"
        )
    metadata = read_tiff_metadata(file, page)
    reader = samples.reader_of(page)
    if in_strips and reader == "Pillow":
        check_size(page.size, max_pixels)
        if (large := strips.of_page(file, page)) is not None:
            return Opened(large, page.size, "TIFF", metadata)
    if reader == "Pillow":
        try:
            upright = _load_page(file, page, max_pixels)
        except UnknownLayoutError:
            reader = "tifffile"
        else:
            changes = _page_changes(page, upright)
            return Opened(upright, upright.size, "TIFF", metadata, changes=changes)
    check_size(page.size, max_pixels)
    pixels = samples.read_page(file, page, reader)
    pixels = turned(pixels, page.one(directories.ORIENTATION, 1))
    opened = _of_samples(pixels, "TIFF", metadata, deep)
    return replace(opened, changes=_page_changes(page, opened.image))


def _load_page(file: BinaryIO, page: directories.Page, max_pixels: float | None) -> Image.Image:
    with identified(file, max_pixels, page) as image:
        with decoder_errors(page):
            image.seek(page.index)
            image.load()  # which turns it, too
        upright = _with_alpha(image)
        if page.bits == 12 and upright.mode == "I;16":
            upright = Image.fromarray(samples.spread(np.asarray(upright), 12))
        upright.info = {k: v for k, v in image.info.items() if k not in _OF_TIFF}
        return upright


def _page_changes(page: directories.Page, image: Any) -> tuple[str, ...]:
    """What an image does not hold of a page: low bits, samples that are no colours."""
    changes = []
    if page.bits > 8 and getattr(image, "mode", "") in ("LA", "RGB", "RGBA", "CMYK"):
        changes.append("floats to 8 bits" if page.sample_format == 3 else f"{page.bits} bits to 8")
    extra = page.samples - page.colours - (page.alpha is not None)
    if extra > 0:
        changes.append(f"without {extra} further sample{'s' * (extra > 1)} a pixel")
    return tuple(changes)


def _of_samples(pixels: Any, kind: str, metadata: Metadata, deep: bool) -> Opened:
    """Of a PIL image, or of an array, which is rounded to 8 bits if it is not to be `deep`."""
    changes: tuple[str, ...] = ()
    if isinstance(pixels, np.ndarray) and not deep:
        changes = ("16 bits to 8" if pixels.dtype == np.uint16 else "floats to 8 bits",)
        pixels = Image.fromarray(samples.eight_bits(pixels))
    if isinstance(pixels, np.ndarray):
        return Opened(pixels, (pixels.shape[1], pixels.shape[0]), kind, metadata)
    with_colour(pixels, metadata.colour)
    return Opened(pixels, pixels.size, kind, metadata, changes=changes)


def frame_count(image: ImageFile.ImageFile) -> int:
    """How many images a file holds that are shown one after the other."""
    with decoder_errors():
        return 1 if image.format in _STILLS else getattr(image, "n_frames", 1)


def load(
    image: ImageFile.ImageFile,
    least: Least,
    header: chunks.Header | None,
    deep: bool,
    in_strips: bool = False,
) -> Opened:
    """The frame at which a file of another format than TIFF stands; see `open_image`.

    Args:
        header: of a PNG.
    """
    kind = image.format or ""
    if kind not in _HAND_ON:
        image.decodermaxblock = _WHOLE  # not in blocks, each of which waits for Python's lock
    if header is not None:
        _amend(image, header)
        if header.is_deep and not getattr(image, "is_animated", False):
            return _load_deep(image, header, deep)
    depth = _depth(image, header)
    with exif_errors():
        orientation = image.getexif().get(ORIENTATION, 1) if kind in _JPEGS else 1
    if in_strips and (opened := _in_strips(image, least, header)) is not None:
        return opened
    with decoder_errors():
        if kind in _JPEGS:
            across = orientation >= 5
            size = image.size[::-1] if across else image.size
            smallest = least(size)
            upright = _load_small(image, smallest[::-1] if across else smallest)
        else:
            image.load()
            upright = image
    _add_nclx(image)
    with exif_errors():
        metadata = read_metadata(image)
        upright = turned(upright, image.getexif().get(ORIENTATION, 1))
    upright = _with_alpha(upright)
    return Opened(
        upright,
        size if kind in _JPEGS else upright.size,
        "JPEG" if kind == "MPO" else kind,
        metadata,
        changes=(f"{depth} bits to 8",) if depth > 8 else (),
    )


def _amend(image: ImageFile.ImageFile, header: chunks.Header) -> None:
    """What Pillow leaves out or misreads of a PNG's header."""
    if header.exif is not None:
        image.info.setdefault("exif", b"Exif\0\0" + header.exif)
    if header.cicp is not None:
        image.info["cicp"] = header.cicp
    if header.transparent is not None and image.mode in ("1", "L", "RGB"):
        image.info["transparency"] = header.transparent_in_8_bits


def _load_deep(image: ImageFile.ImageFile, header: chunks.Header, deep: bool) -> Opened:
    assert image.fp is not None
    image.fp.seek(0)
    pixels = samples.read_png(image.fp.read(), header.transparent)
    facts = _facts(image)
    with exif_errors():
        metadata = read_metadata(facts)
        pixels = turned(pixels, facts.getexif().get(ORIENTATION, 1))
    return _of_samples(pixels, "PNG", metadata, deep)


def _in_strips(
    image: ImageFile.ImageFile, least: Least, header: chunks.Header | None
) -> Opened | None:
    """A large JPEG or PNG that is upright and wanted at its full size."""
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    pixels = strips.of_image(image, header)
    if pixels is None or (kind == "JPEG" and _share(image.size, least(image.size)) > 1):
        return None
    facts = _facts(image)
    with exif_errors():
        if facts.getexif().get(ORIENTATION, 1) in _TURNS:
            return None
        return Opened(pixels, pixels.size, kind, read_metadata(facts))


def _facts(image: ImageFile.ImageFile) -> Image.Image:
    """What stands for a PNG where its metadata are read: it would be decoded for its EXIF data."""
    facts = Image.new("1", (1, 1))
    facts.info, facts.format = image.info, image.format
    return facts


def _with_alpha(image: Image.Image) -> Image.Image:
    """With alpha, if one colour of it is transparent (PNG's tRNS)."""
    if image.mode == "1" and "transparency" in image.info:
        grey = image.convert("L")  # Pillow before 12 knows no alpha of bits
        grey.info = dict(image.info)
        return grey.convert("LA")
    if image.mode in ("L", "RGB") and image.has_transparency_data:
        return image.convert(image.mode + "A")
    return image


def _add_nclx(image: ImageFile.ImageFile) -> None:
    """What a HEIF photo without a profile says of its colours, in the terms of cICP."""
    nclx = image.info.get("nclx_profile")
    if not isinstance(nclx, dict) or image.info.get("icc_profile"):
        return
    primaries, transfer = nclx.get("color_primaries", 2), nclx.get("transfer_characteristics", 2)
    if primaries != 2 and transfer != 2:
        image.info["cicp"] = (int(primaries), int(transfer), 0, 1)


def _depth(image: ImageFile.ImageFile, header: chunks.Header | None) -> int:
    """Bits of a sample, of files of which Pillow decodes 8; 8 of others."""
    if header is not None and header.is_deep:
        return header.depth
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    if image.format == "JPEG2000" and not image.mode.startswith("I"):
        return _depth_of_jpeg2000(image)
    return 8


def _depth_of_jpeg2000(image: ImageFile.ImageFile) -> int:
    fp = image.fp
    if fp is None:
        return 8
    fp.seek(0)
    head = fp.read(2**16)
    fp.seek(0)
    at = head.find(b"\xff\x4f\xff\x51")  # the codestream's first two markers
    return (head[at + 42] & 0x7F) + 1 if 0 <= at < len(head) - 42 else 8


def turned(image: Any, orientation: int) -> Any:
    """A PIL image or an array as EXIF's orientation says; the same one where it is upright."""
    method = _TURNS.get(orientation)
    if method is None:
        return image
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(_ARRAY_TURNS[method](image))
    out = image.transpose(method)
    out.info = dict(image.info)
    return out


_ARRAY_TURNS: dict[Image.Transpose, Callable[[Array], Array]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda x: x[:, ::-1],
    Image.Transpose.ROTATE_180: lambda x: x[::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda x: x[::-1],
    Image.Transpose.TRANSPOSE: lambda x: x.swapaxes(0, 1),
    Image.Transpose.ROTATE_270: lambda x: np.rot90(x, -1),
    Image.Transpose.TRANSVERSE: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    Image.Transpose.ROTATE_90: np.rot90,
}


def _load_small(image: ImageFile.ImageFile, least: Size) -> Image.Image:
    """A JPEG that is not loaded yet, decoded at 1/8, 1/4 or 1/2 of its size if that is at least
    `least`."""
    share = _share(image.size, least)
    small = image.size[0] // share, image.size[1] // share
    if share > 1:
        image.draft(None, small)
    image.load()
    if image.size == small:
        return image
    cropped = image.crop((0, 0, *small))
    cropped.info = image.info
    return cropped


def _share(size: Size, least: Size) -> int:
    """8, 4 or 2 where that part of the size is at least `least`; else 1."""
    for share in (8, 4, 2):
        if size[0] // share >= least[0] and size[1] // share >= least[1]:
            return share
    return 1


def still(image: Image.Image) -> Image.Image:
    """A frame as an image of its own: Pillow would write an animation as one."""
    out = image.copy()
    out.info = {k: v for k, v in image.info.items() if k not in ("duration", "loop", "timestamp")}
    return out
