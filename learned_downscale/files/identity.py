"""What kind of image a file is, and how large, before a pixel of it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from learned_downscale.files.directories import Page

# The formats that are opened without Pillow's own check of the size, which knows one limit for all
# threads; its other formats are opened with it.
_KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "JPEG2000", "AVIF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1")
_SIGNATURES = {  # of what has no reader here, and what to do
    b"FUJIFILM": "a camera raw file; export it as JPEG, PNG or TIFF",
    b"%PDF": "a PDF; export its pages as images",
    b"<svg": "a drawing (SVG), which has no pixels; export it as PNG",
    b"<?xml": "an XML file, perhaps a drawing (SVG); export it as PNG",
    b"<!DOC": "a web page, perhaps the error message of a download",
    b"<html": "a web page, perhaps the error message of a download",
    b"\xff\x0a": "JPEG XL, which Pillow does not read; save it as PNG",
    b"\0\0\0\x0cJXL ": "JPEG XL, which Pillow does not read; save it as PNG",
    b"version https://git-lfs": "a pointer of Git LFS; get the file with `git lfs pull`",
}


class _Tiff(TiffImagePlugin.TiffImageFile):
    """Of any size: it was checked before."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]
        super().load_prepare()


class UnknownLayoutError(ValueError):
    """Pillow has no mode for what a file holds, or the file is damaged."""


@contextmanager
def identified(
    file: BinaryIO, max_pixels: float | None, page: Page | None = None
) -> Iterator[ImageFile.ImageFile]:
    """The image of a file, not decoded yet; closed afterwards.

    Args:
        max_pixels: the most that it may have; None for Pillow's limit.
        page: the page of a TIFF that is meant, for errors.

    Raises:
        ValueError: it cannot be identified as an image, or has more pixels.
    """
    factory: Callable[..., Any] | None
    if page is not None:
        check_size(page.size, max_pixels)
        factory = _Tiff
    else:
        file.seek(0)
        factory = _factory(file.read(64))
    file.seek(0)
    with decoder_errors(page):
        image = Image.open(file) if factory is None else factory(file, "")
    with image:
        if page is None:
            check_size(image.size, max_pixels)
        yield image


def _factory(prefix: bytes) -> Callable[..., Any] | None:
    """What opens a file that begins so; None: Pillow finds out."""
    Image.preinit()
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS and b"avif" not in prefix:
        return _heif()
    for kind in _KINDS:
        if kind not in Image.OPEN:
            Image.init()  # the rarer ones, which take a while to import
        opens, accepts = Image.OPEN.get(kind, (None, None))
        if accepts is not None and accepts(prefix[:16]) is True:
            return opens
    for signature, what in _SIGNATURES.items():
        if prefix.lstrip().startswith(signature):
            raise ValueError(f"cannot identify it as an image: it is {what}")
    return None


def _heif() -> Callable[..., Any]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ValueError(
            "a HEIF photo, which needs a reader: pip install learned-downscale[heif]"
        ) from error
    return HeifImageFile


@contextmanager
def decoder_errors(page: Page | None = None) -> Iterator[None]:
    """Errors of decoders, of which Pillow has many kinds, as ValueError with their reason."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} This limit of Pillow cannot be raised here") from error
    except MemoryError:
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            what = "cannot identify it as an image: it is damaged, or of a kind that is not read"
        elif isinstance(error, (SyntaxError, KeyError, TypeError, IndexError)):
            what = f"cannot identify it as an image, it is damaged ({what})"
        if page is not None:
            what = (
                f"{what}: the TIFF ({page.layout}) is damaged, or of a kind that Pillow does not "
                "read; save it as contiguous 8- or 16-bit grey or RGB, with no compression, LZW or "
                "deflate"
            )
        unknown = isinstance(error, (SyntaxError, KeyError, TypeError, IndexError))
        raise (UnknownLayoutError if unknown else ValueError)(what) from error


def check_size(size: tuple[int, int], max_pixels: float | None) -> None:
    """Raise ValueError for an image of more pixels than that; None: than Pillow's limit."""
    pixels = max(1, size[0]) * max(1, size[1])
    if max_pixels is None and Image.MAX_IMAGE_PIXELS is not None:
        max_pixels = 2 * Image.MAX_IMAGE_PIXELS
    if max_pixels is not None and pixels > max_pixels:
        width, height = size
        raise ValueError(
            f"has {width} x {height} = {pixels / 1e6:.6g} million pixels, which exceeds limit of "
            f"{max_pixels / 1e6:.6g} million; if you trust the file, raise max_pixels"
        )
