"""Image files -> upright images, with what was found beside the pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from learned_downscale.files import chunks, directories, samples
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
Source = str | Path | bytes | BinaryIO
Least = Callable[[Size], Size]

_JPEGS = ("JPEG", "MPO")  # phones write .jpg files as MPO, whose further frames are previews
STILLS = (*_JPEGS, "HEIF")  # their further images are previews or other takes; one is the photo
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
            or float32 for colours, or grey with alpha, of more than 8 bits.
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


def open_image(
    source: Source,
    least: Least = whole,
    *,
    max_pixels: float | None = None,
    first: bool = False,
    deep: bool = False,
) -> Opened:
    """An image file, turned upright (EXIF orientation).

    Pages of a TIFF that are overviews or masks are passed over.

    Args:
        source: a path, the content of a file, or an open file that can seek.
        least: gives, for the image's (width, height), the least size that `image` must have. A
            JPEG is decoded at a half, a quarter or an eighth where that is enough, which is much
            faster; pixels at the right and the bottom that would stand for less than a whole one
            are left out.
        max_pixels: larger images are refused before they are decoded. Default: Pillow's limit,
            2 * PIL.Image.MAX_IMAGE_PIXELS (179 million).
        first: of a file of several frames or pages, give the first one, and say so in `changes`.
        deep: give more than 8 bits where the file has them, as an array. Without it, such images
            are rounded to 8 bits, and `changes` says so. 16-bit grey is a PIL image either way.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no image that can be read, or it is damaged; it has several frames and
            not `first`; it has more than `max_pixels`; its EXIF data is broken.
    """
    if max_pixels is not None and not max_pixels >= 1:
        raise ValueError(f"max_pixels is {max_pixels}; give 1 or more, or None for Pillow's limit")
    with file_of(source) as file:
        pages = directories.pages_of(file)
        if pages:
            numbers = full_pages(pages)
            changes = _check_count(len(numbers), "pages", first)
            opened = open_page(file, pages[numbers[0]], max_pixels, deep)
            return replace(opened, count=len(numbers), changes=(*changes, *opened.changes))
        check_tiff(file)
        header = chunks.read_header(file)
        with identified(file, max_pixels) as image:
            count = 1 if image.format in STILLS else getattr(image, "n_frames", 1)
            changes = _check_count(count, "frames", first)
            opened = load(image, least, header, deep)
        return replace(opened, count=count, changes=(*changes, *opened.changes))


def _check_count(count: int, what: str, first: bool) -> tuple[str, ...]:
    if count == 1:
        return ()
    if not first:
        raise ValueError(
            f"has {count} frames; only single images are converted, unless the first one or all "
            "of them are asked for"
            if what == "frames"
            else f"has {count} frames (pages); only single images are converted, unless the first "
            "page or all of them are asked for"
        )
    return (f"the first of {count} {what}",)


@contextmanager
def file_of(source: Source) -> Iterator[BinaryIO]:
    """A file that can seek, by its path, its content, or itself; closed if it was opened here."""
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            yield file
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif source.seekable():
        yield source
    else:
        yield io.BytesIO(source.read())


def check_tiff(file: BinaryIO) -> None:
    """Raise ValueError for a TIFF, if it is known that no directory of it can be read."""
    file.seek(0)
    if directories.is_tiff(file.read(4)):
        raise ValueError(
            "cannot identify it as an image: a TIFF that is damaged or incomplete, since its "
            "directory cannot be read"
        )


def full_pages(pages: list[directories.Page]) -> list[int]:
    """The indices of the pages of full size of a TIFF that has pages.

    Raises:
        ValueError: there is none, since the image is in a directory inside a page.
    """
    full = [page.index for page in pages if page.is_full]
    if full:
        return full
    if directories.SUB_IFDS in pages[0].tags:
        raise ValueError(
            "a TIFF whose first page is a preview and whose image is in a sub-directory, as in DNG "
            "and other camera raw files, which is not read; export it as TIFF or PNG"
        )
    return [0]


def open_page(
    file: BinaryIO, page: directories.Page, max_pixels: float | None, deep: bool
) -> Opened:
    """A page of a TIFF; see `open_image`."""
    metadata = read_tiff_metadata(file, page)
    reader = samples.reader_of(page)
    if reader == "Pillow":
        try:
            upright = _load_page(file, page, max_pixels)
        except UnknownLayoutError:
            reader = "tifffile"
        else:
            changes = _halved(page, upright)
            return Opened(upright, upright.size, "TIFF", metadata, changes=changes)
    check_size(page.size, max_pixels)
    pixels = samples.read_page(file, page, reader)
    pixels = turned(pixels, page.one(directories.ORIENTATION, 1))
    opened = _of_samples(pixels, "TIFF", metadata, deep)
    return replace(opened, changes=_halved(page, opened.image))


def _load_page(file: BinaryIO, page: directories.Page, max_pixels: float | None) -> Image.Image:
    with identified(file, max_pixels, page) as image:
        with decoder_errors(page):
            image.seek(page.index)
            image.load()  # which turns it, too
        upright = _with_alpha(image)
        upright.info = {k: v for k, v in upright.info.items() if k not in _OF_TIFF}
        return upright


def _halved(page: directories.Page, image: Any) -> tuple[str, ...]:
    """What is lost of samples of more than 8 bits in an image that is of 8 bits."""
    lost = page.bits > 8 and getattr(image, "mode", "") in ("LA", "RGB", "RGBA", "CMYK")
    kind = "floats" if page.sample_format == 3 else f"{page.bits} bits"
    return (f"{kind} to 8 bits" if kind == "floats" else f"{kind} to 8",) if lost else ()


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


def load(
    image: ImageFile.ImageFile, least: Least, header: chunks.Header | None, deep: bool
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
    if header.transparent is not None and image.mode in ("L", "RGB") and header.depth > 1:
        image.info["transparency"] = header.transparent_in_8_bits


def _load_deep(image: ImageFile.ImageFile, header: chunks.Header, deep: bool) -> Opened:
    assert image.fp is not None
    image.fp.seek(0)
    pixels = samples.read_png(image.fp.read(), header.transparent)
    facts = Image.new("1", (1, 1))  # not the image, which would be decoded for its EXIF data
    facts.info, facts.format = image.info, image.format
    with exif_errors():
        metadata = read_metadata(facts)
        pixels = turned(pixels, facts.getexif().get(ORIENTATION, 1))
    return _of_samples(pixels, "PNG", metadata, deep)


def _with_alpha(image: Image.Image) -> Image.Image:
    """With alpha, if one colour of it is transparent (PNG's tRNS)."""
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
    width, height = image.size
    for share in (8, 4, 2):
        small = width // share, height // share
        if small[0] >= least[0] and small[1] >= least[1]:
            image.draft(None, small)
            image.load()
            if image.size == small:
                return image
            cropped = image.crop((0, 0, *small))
            cropped.info = image.info
            return cropped
    image.load()
    return image


def open_upright(
    source: Source, least: Least = whole, **options: Any
) -> tuple[Image.Image, Image.Exif, Size]:
    """The image, its EXIF data without the orientation, and the (width, height) of the file's
    image, upright; see `open_image`."""
    opened = open_image(source, least, **options)
    return opened.image, opened.metadata.exif, opened.size


def decode(source: str | Path | bytes, *, max_pixels: float | None = None) -> Image.Image:
    """An image file, by its path or as bytes, as an upright PIL image; of several frames or pages
    the first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read; see `open_image`.
    """
    try:
        return open_image(source, first=True, max_pixels=max_pixels).image  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise
    except Exception as error:
        name = "the file" if isinstance(source, bytes) else source
        raise ValueError(f"{name} cannot be read as an image: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warning for images above its pixel limit: large inputs are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
