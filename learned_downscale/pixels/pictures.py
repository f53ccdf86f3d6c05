"""PIL images <-> samples."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
import PIL
from PIL import Image

from learned_downscale.core.resampling import Array
from learned_downscale.core.source import Source
from learned_downscale.pixels.arrays import make_source
from learned_downscale.pixels.values import Pack, Range, Values, values_of

# Colour spaces with no faithful way to RGB and back: Pillow itself resizes them.
BICUBIC_ONLY = ("CMYK", "LAB")
# Mode -> the mode in which it is resized. What is not named here or above is resized as it is.
_VIA = {
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "La": "LA",
    "RGBa": "RGBA",
}
# Of these, the ones in which a payload would not survive.
INEXACT = ("YCbCr", "HSV", "RGBa")
# Before, Pillow's __arrow_c_array__ crashes on images that lie in memory of others (fromarray).
_HAS_ARROW = int(PIL.__version__.split(".")[0]) >= 13
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def unpack(image: Image.Image, value_range: Range | None) -> tuple[Source, Pack]:
    """See `pixels.unpack`."""
    mode, via = image.mode, _working_mode(image)
    image.load()  # here, not in several threads
    values = _values(image, value_range)
    channels = _CHANNELS.get(via, 1)
    # in one piece: parts of it are no copies
    whole = _four_bytes(image) if via == mode and via in ("RGB", "RGBA") else None

    def read(images: slice, rows: slice, columns: slice) -> Array:
        if whole is not None:
            return whole[None, rows, columns]
        part = image.crop((columns.start, rows.start, columns.stop, rows.stop))
        part = part if via == mode else part.convert(via)
        if via in ("RGB", "RGBA"):
            pixels = _four_bytes(part)
            if pixels is None:
                pixels = np.asarray(part.convert("RGBX") if via == "RGB" else part)
            return pixels[None]
        return values.samples(np.atleast_3d(np.asarray(part))[None])

    def pack(result: Array) -> Image.Image:
        out = _picture(values.restored(result[0], _dtype(mode)), mode, via)
        if mode == "RGBX":  # Pillow does not know what the fourth channel means
            fourth = image.getchannel(3).resize(out.size, Image.Resampling.BICUBIC)
            out = Image.merge("RGBX", [*out.split()[:3], fourth])
        out.info = dict(image.info)
        if via != mode:
            out.info.pop("transparency", None)  # it is in the alpha channel now
        return out

    width, height = image.size
    source = make_source((1, height, width, channels), values, read)
    return replace(source, padded=via == "RGB"), pack


def promoted(image: Image.Image) -> Image.Image:
    """Palettes (P, PA) and bits (1) as what they mean; other images unchanged."""
    return image.convert(_working_mode(image)) if image.mode in ("1", "P", "PA") else image


def _picture(array: Array, mode: str, via: str) -> Image.Image:
    """An image of `mode`, from (h, w, C) samples of the mode `via`."""
    size = array.shape[1], array.shape[0]
    if via == "RGB":  # four bytes a pixel, as Pillow keeps them
        raw = np.ascontiguousarray(array)
        out = Image.frombuffer("RGBX", size, raw, "raw", "RGBX", 0, 1).convert("RGB")
    elif mode in ("I;16L", "I;16N"):
        out = Image.frombytes(mode, size, array.tobytes())
    else:
        out = Image.fromarray(array if array.shape[-1] > 1 else array[..., 0])
    return out.convert(mode) if mode in _VIA else out


def _dtype(mode: str) -> str:
    """Of the samples that a mode holds."""
    if mode.startswith("I;16"):
        return ">u2" if mode.endswith("B") else "<u2"
    return {"I": "i4", "F": "f4"}.get(mode, "u1")


def _values(image: Image.Image, value_range: Range | None) -> Values:
    """The values of an image. The modes I and F hold anything, elevations as well as photos: what
    is darkest and what is brightest in the image is its range."""
    if image.mode not in ("I", "F"):
        return values_of("uint16" if image.mode.startswith("I") else "uint8", value_range)
    low, high = value_range or map(float, image.getextrema())  # type: ignore[arg-type]
    if value_range is None and image.mode == "F":
        Values.check_finite(np.asarray(image))
    values = Values(None, low, high if high > low else low + 1, image.mode == "I")
    if value_range is not None:
        values.check(np.asarray(image))
    return values


def _working_mode(image: Image.Image) -> str:
    """Palettes and bits are promoted to what they mean, with alpha where a colour of theirs is
    transparent. Others stay, as with Pillow: data sets count on their number of channels."""
    if image.mode in ("P", "PA") and image.has_transparency_data:
        return "RGBA"
    if image.mode == "1" and image.has_transparency_data:
        return "LA"
    return {"P": "RGB", "1": "L", **_VIA}.get(image.mode, image.mode)


class _ArrowArray(ctypes.Structure):
    """The beginning of the Arrow C data interface's struct of that name."""

    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.POINTER(ctypes.c_void_p)),
    )


def _four_bytes(image: Image.Image) -> Array | None:
    """(H, W, 4) of an RGB or RGBA image as Pillow keeps it, without a copy; None where it does not
    lie in one piece. np.asarray, which repacks it, takes several times as long as reading it."""
    if not _HAS_ARROW:
        return None
    try:
        _, capsule = image.__arrow_c_array__()
    except (AttributeError, ValueError, MemoryError):  # not in one piece
        return None
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    pixels = _ArrowArray.from_address(pointer(capsule, b"arrow_array"))
    samples = _ArrowArray.from_address(pixels.children[0])
    width, height = image.size
    buffer: Any = (ctypes.c_uint8 * (4 * width * height)).from_address(samples.buffers[1])
    buffer._owner = capsule  # the memory lives as long as the array that is made of it
    return np.frombuffer(buffer, np.uint8).reshape(height, width, 4)
