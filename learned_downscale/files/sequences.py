"""Files of several images: animations frame by frame, TIFF page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from PIL import ImageFile

from learned_downscale.files import chunks, directories
from learned_downscale.files.identity import decoder_errors, identified
from learned_downscale.files.loading import Opened, frame_count, load, open_page, still, whole
from learned_downscale.files.opening import Source, check_tiff, file_of, full_pages, open_image


def frames(
    source: Source, *, max_pixels: float | None = None, deep: bool = False
) -> Iterator[Opened]:
    """The images of a file, one after the other: the frames of an animation (GIF, WebP, APNG,
    AVIF), composed as they are shown, with their duration; the pages of a TIFF, without overviews
    and masks; the one image of other files. One at a time is in memory.

    The still image of an APNG that is no part of the animation is left out. A photo of a phone is
    one image: what else is in its file is a preview or another take.

    Args:
        source, max_pixels, deep: as for `open_image`.

    Raises:
        OSError, ValueError: as `open_image`, also after the first frames: a file may be damaged
            at any place.
    """
    with file_of(source) as file:
        pages = directories.pages_of(file)
        if pages:
            numbers = full_pages(pages)
            for i, number in enumerate(numbers):
                page = open_page(file, pages[number], max_pixels, deep)
                yield replace(page, count=len(numbers), index=i)
            return
        check_tiff(file)
        header = chunks.read_header(file)
        with identified(file, max_pixels) as image:
            count = frame_count(image)
            if count > 1:
                yield from _animated(image, count, header)
                return
        yield open_image(_from_start(file), max_pixels=max_pixels, deep=deep)


def _from_start(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def _animated(
    image: ImageFile.ImageFile, count: int, header: chunks.Header | None
) -> Iterator[Opened]:
    skipped = 1 if image.info.get("default_image") else 0
    loop, alpha = image.info.get("loop"), False
    for number in range(skipped, count):
        with decoder_errors():
            image.seek(number)
        opened = load(image, whole, header, deep=False)
        duration = float(image.info.get("duration") or 0)
        frame = opened.image
        alpha = alpha or frame.has_transparency_data
        if image.format == "GIF":  # its first frame is a palette, others are not
            frame = frame.convert("RGBA" if alpha else "RGB")
        if frame is image:  # the next frame is drawn into it
            frame = still(image)
        yield replace(
            opened,
            image=frame,
            count=count - skipped,
            index=number - skipped,
            duration=duration,
            loop=loop,
        )
