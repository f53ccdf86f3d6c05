"""Image files, by path, content or stream -> upright images."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from learned_downscale.files import chunks, directories
from learned_downscale.files.identity import identified
from learned_downscale.files.loading import (
    Least,
    Opened,
    frame_count,
    load,
    open_page,
    still,
    whole,
)

Source = str | Path | bytes | BinaryIO


def open_image(
    source: Source,
    least: Least = whole,
    *,
    max_pixels: float | None = None,
    first: bool = False,
    deep: bool = False,
    in_strips: bool = False,
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
        in_strips: give `Strips` of an upright JPEG, PNG or TIFF of 50 million pixels or more, of
            8-bit grey or RGB, where pyvips is installed.

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
            opened = open_page(file, pages[numbers[0]], max_pixels, deep, in_strips)
            return replace(opened, count=len(numbers), changes=(*changes, *opened.changes))
        check_tiff(file)
        header = chunks.read_header(file)
        with identified(file, max_pixels) as image:
            count = frame_count(image)
            changes = _check_count(count, "frames", first)
            opened = load(image, least, header, deep, in_strips and count == 1)
            if count > 1:
                opened = replace(opened, image=still(opened.image))
        return replace(opened, count=count, changes=(*changes, *opened.changes))


def _check_count(count: int, what: str, first: bool) -> tuple[str, ...]:
    if count == 1:
        return ()
    if not first:
        name = "frames" if what == "frames" else "frames (pages)"
        raise ValueError(
            f"has {count} {name}; only single images are converted, unless the first one "
            "(first=True) or each of them (frames) is asked for"
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


def decode(source: str | Path | bytes, *, max_pixels: float | None = None) -> Image.Image:
    """An image file, by its path or as bytes, as an upright PIL image; of several frames or pages
    the first.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read; see `open_image`.
    """
    try:
        image: Image.Image = open_image(source, first=True, max_pixels=max_pixels).image
        return image
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
