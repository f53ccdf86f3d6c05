"""Samples that Pillow cannot hold or misreads: 16-bit colours, and the layouts of TIFF that it
takes for others. Read by OpenCV, and by tifffile where that is installed."""

from __future__ import annotations

import struct
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from learned_downscale.files import directories
from learned_downscale.files.directories import Page

Array = NDArray[Any]

_NATIVE = "<" if sys.byteorder == "little" else ">"
# What Pillow's libtiff decodes
_PILLOW = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
_NOT_ALWAYS = {34925, 50000}  # LZMA and Zstandard, as it was built
_OPENCV = {1, 5, 8, 32773, 32946}
_DEEP = ("uint16", "float16", "float32", "float64")


def reader_of(page: Page) -> str:
    """Who reads a page of a TIFF right: "Pillow", "OpenCV" (16-bit colours) or "tifffile". Where
    tifffile is needed for the low bits alone and is not installed, Pillow."""
    reader = _best_reader(page)
    if page.one(directories.COMPRESSION, 1) in _NOT_ALWAYS and _has_tifffile():
        reader = "tifffile"
    if reader == "tifffile" and _is_right_in_8_bits(page) and not _has_tifffile():
        return "Pillow"
    return reader


def _has_tifffile() -> bool:
    try:
        import tifffile  # noqa: F401
    except ImportError:
        return False
    return True


def _is_right_in_8_bits(page: Page) -> bool:
    """Whether Pillow reads the upper 8 of 16 bits right."""
    compression = page.one(directories.COMPRESSION, 1)
    planar = page.one(directories.PLANAR, 1) == 2
    return (
        (page.bits, page.sample_format) == (16, 1)
        and page.one(directories.PHOTOMETRIC, 0) in (2, 5)
        and compression in _PILLOW
        and not (planar and compression == 1)
        and page.tags.get(directories.EXTRA, ()) in ((), (0,), (2,))
    )


def _best_reader(page: Page) -> str:
    """Pillow takes without a word: planar samples of 16 bits, uncompressed, for contiguous ones;
    planar grey with alpha for something else; 16-bit grey where 0 is white for grey where 0 is
    black; signed 8 bits for unsigned ones; and it leaves 32 bits and signed 16 bits in the other
    byte order where they are compressed."""
    compression = page.one(directories.COMPRESSION, 1)
    photometric = page.one(directories.PHOTOMETRIC, 0)
    bits, kind = page.bits, page.sample_format
    planar = page.one(directories.PLANAR, 1) == 2 and page.samples > 1
    swapped = compression != 1 and page.endian != _NATIVE
    if compression not in _PILLOW or bits not in (1, 2, 4, 8, 12, 16, 32):
        return "tifffile"
    if bits == 8 and kind != 1:
        return "tifffile"
    if planar:
        extra = page.tags.get(directories.EXTRA, ())
        fits = photometric in (2, 5, 6) and extra in ((), (2,))
        fits = fits or (compression != 1 and not any(extra))  # what is extra is left out
        if bits != 8 or not fits:
            return "tifffile"
    if page.samples > 1 and photometric in (0, 1) and bits != 8:
        return "tifffile"
    if bits == 16 and kind == 1 and photometric == 0:
        return "tifffile"
    if bits == 16 and photometric == 2:
        fits = page.samples in (3, 4) and kind == 1 and compression in _OPENCV
        return "OpenCV" if fits else "tifffile"
    if bits == 32 and (page.samples > 1 or swapped):
        return "OpenCV" if _is_swapped_grey(page) and compression in _OPENCV else "tifffile"
    if bits == 16 and kind != 1:
        if kind == 2 and page.samples == 1 and not swapped and photometric == 1:
            return "Pillow"
        return "OpenCV" if _is_swapped_grey(page) and compression in _OPENCV else "tifffile"
    return "Pillow"


def _is_swapped_grey(page: Page) -> bool:
    """Whether it is grey that OpenCV reads right and Pillow does not."""
    whole = page.bits in (16, 32) and page.sample_format == 2
    plain = page.samples == 1 and page.one(directories.PHOTOMETRIC, 0) == 1
    return plain and (whole or (page.bits == 32 and page.sample_format in (1, 3)))


def read_page(file: BinaryIO, page: Page, reader: str) -> Image.Image | Array:
    """The pixels of a page of a TIFF, not turned: a PIL image, or an array (H, W, channels) of
    uint16 or float32 where Pillow has no mode for it. Alpha is not premultiplied.

    Raises:
        ValueError: it cannot be read; what to install, or how to save it else.
    """
    array = _by_opencv(file, page) if reader == "OpenCV" else _by_tifffile(file, page)
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels != page.samples or array.dtype.itemsize * 8 != _stored_bits(page):
        raise ValueError(_unread(page, f"{reader} finds {channels} x {array.dtype}; it is damaged"))
    photometric = page.one(directories.PHOTOMETRIC, 0)
    if channels < page.colours:
        raise ValueError(_unread(page, "it has fewer samples than colours; it is damaged"))
    if photometric not in (0, 1, 2, 5, 6):
        raise ValueError(_unread(page, "no reader that is installed understands its colours"))
    if 8 < page.bits < 16:
        array = spread(array, page.bits)
    if photometric == 0 and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    if array.ndim == 3:
        array = _with_alpha(array, page)
    return as_image(array, "CMYK" if photometric == 5 else None, page.layout)


def _stored_bits(page: Page) -> int:
    """Of the array in which the samples come."""
    return 16 if 8 < page.bits < 16 else page.bits


def spread(array: Array, bits: int) -> Array:
    """Samples of fewer than 16 bits as those of 16."""
    top = (1 << bits) - 1
    return ((array.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)


def _with_alpha(array: Array, page: Page) -> Array:
    """Without extra samples but for alpha, which is no longer premultiplied."""
    colours, alpha = page.colours, page.alpha
    if alpha is None:
        return array[..., :colours] if colours > 1 else array[..., 0]
    out = np.concatenate((array[..., :colours], array[..., colours + alpha, None]), axis=2)
    premultiplied = page.tags.get(directories.EXTRA, (2,))[alpha] == 1
    return unpremultiplied(out) if premultiplied else out


def unpremultiplied(array: Array) -> Array:
    """(H, W, channels) whose last channel is alpha, with the colours divided by it."""
    top = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)
    alpha = array[..., -1:].astype(np.float64) / top
    colours = array[..., :-1] / np.where(alpha == 0, 1, alpha)
    if array.dtype.kind != "f":
        colours = np.rint(colours).clip(0, top)
    return np.concatenate((colours.astype(array.dtype), array[..., -1:]), axis=2)


def _by_opencv(file: BinaryIO, page: Page) -> Array:
    import cv2

    file.seek(0)
    content: bytes | bytearray = file.read()
    if page.one(directories.ORIENTATION, 1) != 1:  # OpenCV would turn it; others do not
        place, form = page.places[directories.ORIENTATION]
        content = bytearray(content)
        struct.pack_into(form, content, place, 1)
    flags = cv2.IMREAD_UNCHANGED
    given = np.frombuffer(content, np.uint8)
    try:
        done, images = cv2.imdecodemulti(given, flags, range=(page.index, page.index + 1))
    except cv2.error as error:
        raise ValueError(_unread(page, f"OpenCV says: {error}")) from error
    if not done or not images:
        raise ValueError(_unread(page, "it is damaged, or OpenCV does not know its layout"))
    return _as_rgb(np.asarray(images[0]))


def _as_rgb(array: Array) -> Array:
    """OpenCV's order of colours to RGB."""
    if array.ndim == 2:
        return array
    return np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[2]]])


def _by_tifffile(file: BinaryIO, page: Page) -> Array:
    try:
        import tifffile
    except ImportError as error:
        raise ValueError(
            _unread(page, "Pillow does not read this layout right")
            + "; or install the reader of such files: pip install learned-downscale[tiff]"
        ) from error
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            read = tiff.pages[page.index]
            array, axes = np.asarray(read.asarray()), read.axes
    except Exception as error:  # many kinds
        raise ValueError(_unread(page, f"tifffile says: {error}")) from error
    if axes == "SYX":
        array, axes = np.moveaxis(array, 0, -1), "YXS"
    if axes not in ("YX", "YXS") or array.shape[1::-1] != page.size:
        raise ValueError(_unread(page, f"its samples have the shape {array.shape}"))
    if page.bits not in (8, 10, 12, 14, 16, 32, 64):
        raise ValueError(_unread(page, f"{page.bits or 'mixed numbers of'} bits are not supported"))
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _unread(page: Page, why: str) -> str:
    return (
        f"a TIFF that cannot be read ({page.layout}): {why}; save it as contiguous 8- or 16-bit "
        "grey or RGB, with no compression, LZW or deflate"
    )


def as_image(array: Array, mode: str | None, layout: str) -> Image.Image | Array:
    """The samples (H, W) or (H, W, channels) as a PIL image where one holds them, else the array:
    colours, or grey with alpha, of uint16 or float32.

    Raises:
        ValueError: of another dtype: the range of the values is not known.
    """
    flat, kind = array.ndim == 2, array.dtype.name
    if kind == "uint8":
        return Image.fromarray(array) if mode is None else _frombytes(mode, array)
    if mode == "CMYK":
        if kind != "uint16":
            raise ValueError(f"CMYK of {kind} ({layout}) is not supported; save it with 8 bits")
        return _frombytes(mode, eight_bits(array))
    if kind in _DEEP:
        if kind == "uint16":
            return Image.fromarray(array) if flat else array
        return Image.fromarray(array.astype(np.float32)) if flat else array.astype(np.float32)
    if flat and kind in ("int16", "int32", "uint32") and array.max(initial=0) < 2**31:
        return Image.fromarray(array.astype(np.int32))
    raise ValueError(
        f"samples of {kind} ({layout}) have no range that is agreed; save them as 8 or 16 bits "
        "without a sign, or as floats in [0, 1]"
    )


def _frombytes(mode: str, array: Array) -> Image.Image:
    return Image.frombytes(mode, array.shape[1::-1], np.ascontiguousarray(array).tobytes())


def eight_bits(array: Array) -> Array:
    """Samples of uint16, or of floats in [0, 1], rounded to uint8.

    Raises:
        ValueError: floats outside [0, 1].
    """
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # not: NaN must fail, too
            raise ValueError(
                f"floats from {low:.4g} to {high:.4g} have no 8-bit value; scale them to [0, 1]"
            )
        return np.rint(array * 255).astype(np.uint8)
    return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def read_png(content: bytes, transparent: tuple[int, ...] | None) -> Array:
    """The 16-bit samples of a PNG that is not 16-bit grey without a transparent colour.

    Args:
        transparent: the grey or the colour that is transparent (tRNS).

    Returns:
        uint16 (H, W, channels): grey with alpha, RGB or RGB with alpha.

    Raises:
        ValueError: the file is damaged.
    """
    import cv2

    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ValueError("a PNG of 16 bits that cannot be decoded: it is damaged or incomplete")
    array = _as_rgb(np.asarray(array))
    if transparent is not None:
        colours = np.atleast_3d(array)[..., : len(transparent)]
        shown = (colours != np.array(transparent, np.uint16)).any(axis=2, keepdims=True)
        array = np.concatenate((colours, shown * np.uint16(65535)), axis=2)
    elif content[25] == 4:  # grey with alpha, which OpenCV gives as RGBA
        array = np.ascontiguousarray(array[..., [0, 3]])
    return array
