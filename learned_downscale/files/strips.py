"""Very large images, decoded strip by strip by libvips where pyvips is installed, so that no more
than a strip of them is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from learned_downscale.files import chunks, directories

Array = NDArray[Any]

LARGE = 50_000_000  # pixels; decoded by Pillow, each of them takes up to 4 bytes
_ROWS = 64  # of a strip
# Layouts whose pixels are stored as they are decoded, row after row
_COMPRESSIONS = (1, 5, 8, 32773, 32946)
_MODES = {"L": 1, "RGB": 3}  # channels


@dataclass(frozen=True)
class Strips:
    """The pixels of an image that is decoded while they are read: from the top to the bottom, once.

    Attributes:
        size: (width, height).
        mode: "L" or "RGB", as Pillow calls it.
        content: of the file.
        page: the index of the directory of a TIFF; None for other formats.
    """

    size: tuple[int, int]
    mode: str
    content: bytes
    page: int | None = None

    def __iter__(self) -> Iterator[Array]:
        """Arrays uint8 (rows, width) or (rows, width, 3).

        Raises:
            ValueError: the file is damaged.
        """
        import pyvips

        (width, height), channels = self.size, _MODES[self.mode]
        try:
            region = pyvips.Region.new(self._opened())
            for top in range(0, height, _ROWS):
                rows = min(_ROWS, height - top)
                pixels = np.frombuffer(region.fetch(0, top, width, rows), np.uint8)
                yield pixels.reshape((rows, width, 3) if channels == 3 else (rows, width))
        except pyvips.Error as error:
            why = " ".join(str(error).split())
            raise ValueError(f"it cannot be decoded, it is damaged or incomplete: {why}") from error

    @property
    def fits(self) -> bool:
        """Whether libvips finds the pixels that Pillow would."""
        import pyvips

        try:
            image = self._opened()
        except pyvips.Error:
            return False
        found = image.width, image.height, image.bands, image.format
        return found == (*self.size, _MODES[self.mode], "uchar")

    @property
    def decoder(self) -> str:
        """Its name and version."""
        import pyvips

        return f"libvips {'.'.join(str(pyvips.version(i)) for i in range(3))}"

    def _opened(self) -> Any:
        import pyvips

        options = {} if self.page is None else {"page": self.page}
        source = pyvips.Source.new_from_memory(self.content)  # which copies nothing
        return pyvips.Image.new_from_source(
            source, "", access="sequential", fail_on="truncated", **options
        )


def of_image(image: ImageFile.ImageFile, header: chunks.Header | None) -> Strips | None:
    """A JPEG or PNG that is not loaded yet, if it is large and can be had in strips.

    Args:
        header: of a PNG.
    """
    plain = image.mode in _MODES
    if header is not None:
        plain = plain and header.depth == 8 and header.transparent is None and header.is_streamed
    elif image.format not in ("JPEG", "MPO"):
        return None
    if not plain or not _is_wanted(image.size):
        return None
    assert image.fp is not None
    image.fp.seek(0)
    return _checked(Strips(image.size, image.mode, image.fp.read()))


def of_page(file: BinaryIO, page: directories.Page) -> Strips | None:
    """A page of a TIFF, if it is large and can be had in strips."""
    kinds = {(1, 1): "L", (2, 3): "RGB"}
    mode = kinds.get((page.one(directories.PHOTOMETRIC, 0), page.samples))
    plain = (
        (page.bits, page.sample_format) == (8, 1)
        and page.one(directories.PLANAR, 1) == 1
        and page.one(directories.COMPRESSION, 1) in _COMPRESSIONS
        and page.one(directories.ORIENTATION, 1) == 1
    )
    if mode is None or not plain or not _is_wanted(page.size):
        return None
    file.seek(0)
    return _checked(Strips(page.size, mode, file.read(), page.index))


def _is_wanted(size: tuple[int, int]) -> bool:
    if size[0] * size[1] < LARGE:
        return False
    try:
        import pyvips  # noqa: F401
    except (ImportError, OSError):  # the package, or the library
        return False
    return True


def _checked(strips: Strips) -> Strips | None:
    return strips if strips.fits else None
