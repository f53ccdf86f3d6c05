"""Images of every kind <-> samples. The only place that knows PIL, numpy and torch images."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from learned_downscale.core.resampling import Array
from learned_downscale.core.source import Read, Source

ChannelOrder = Literal["rgb", "bgr"]

# What one unit of 1.0 is in each dtype; None: floats, already in [0, 1].
LEVELS: dict[str, int | None] = {
    "uint8": 255,
    "uint16": 65535,
    "float16": None,
    "bfloat16": None,
    "float32": None,
    "float64": None,
}
# Floats may leave [0, 1] by this much (half an 8-bit level: rounding, not another range).
SLACK = 1 / 512

# Colour spaces with no faithful way to RGB and back: Pillow itself resizes them.
PIL_BICUBIC_ONLY = ("CMYK", "LAB")
# Mode -> the mode in which it is resized. What is not named here or above is resized as it is.
_PIL_VIA = {
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "La": "LA",
    "RGBa": "RGBA",
}
# Of these, the ones in which a payload would not survive.
PIL_INEXACT = ("YCbCr", "HSV", "RGBa")
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

# (N, h, w, C) as `engine.tiles.downscale` gives them -> an image of the kind that came in
Pack = Callable[[Array], Any]


def is_tensor(image: Any) -> bool:
    """Whether it is a torch tensor; torch is not imported for the answer."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def size_of(image: Any) -> tuple[int, int]:
    """(width, height) of any image.

    Raises:
        TypeError: not a PIL image, numpy array or torch tensor.
        ValueError: of a wrong rank, or empty.
    """
    if isinstance(image, Image.Image):
        width, height = image.size
    elif isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise ValueError(
                f"an array image is (H, W) or (H, W, channels), got shape {image.shape}; "
                "for a batch, give a list, or a torch tensor (N, C, H, W)"
            )
        height, width = image.shape[:2]
    elif is_tensor(image):
        if image.ndim not in (3, 4):
            raise ValueError(
                f"a tensor image is (C, H, W) or (N, C, H, W), got shape {tuple(image.shape)}; "
                "add the channel with tensor[None]"
            )
        height, width = image.shape[-2:]
        if 0 in image.shape[:-2]:
            raise ValueError(f"the tensor is empty: shape {tuple(image.shape)}")
    else:
        hint = (
            "open it with PIL.Image.open first"
            if isinstance(image, (str, bytes))
            else ("convert it to one of them first")
        )
        raise TypeError(
            f"image is a {type(image).__name__}; "
            f"expected a PIL image, numpy array or torch tensor; {hint}"
        )
    if width == 0 or height == 0:
        raise ValueError(f"the image is empty: {width} x {height} pixels")
    return width, height


def copy_of(image: Any) -> Any:
    """The same image in memory of its own."""
    return image.detach().clone() if is_tensor(image) else image.copy()


def unpack(image: Any, channel_order: ChannelOrder = "rgb") -> tuple[Source, Pack]:
    """The samples of an image that `size_of` accepts, and the way back to its kind.

    Raises:
        TypeError: a dtype that is not in LEVELS.
        ValueError: a number of channels other than 1 to 4, or values outside the range.
    """
    if isinstance(image, Image.Image):
        return _unpack_pil(image)
    if isinstance(image, np.ndarray):
        return _unpack_array(image, channel_order)
    return _unpack_tensor(image, channel_order)


def _unpack_pil(image: Image.Image) -> tuple[Source, Pack]:
    mode, via = image.mode, _pil_working_mode(image)
    image.load()  # here, not in several threads
    if mode == "I":  # 32 bits, but what it holds in practice is 16-bit files
        low, high = image.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            raise ValueError(
                f"mode I holds values from {low} to {high}; expected 0 to 65535: rescale it first"
            )
    if mode == "F":
        check_floats(np.asarray(image))
    channels = _CHANNELS.get(via, 1)
    levels = LEVELS["float32" if via == "F" else "uint16" if via.startswith("I") else "uint8"]

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
        return _samples(np.atleast_3d(np.asarray(part))[None], levels)

    def pack(result: Array) -> Image.Image:
        array = result[0] if channels > 1 else result[0, ..., 0]
        size = array.shape[1], array.shape[0]
        if mode == "I":
            array = array.astype(np.int32)
        elif mode.startswith("I"):
            array = array.astype(">u2" if mode.endswith("B") else "<u2")
        if via == "RGB":  # four bytes a pixel, as Pillow keeps them
            raw = np.ascontiguousarray(array)
            out = Image.frombuffer("RGBX", size, raw, "raw", "RGBX", 0, 1).convert("RGB")
        elif mode in ("I;16L", "I;16N"):
            out = Image.frombytes(mode, size, array.tobytes())
        else:
            out = Image.fromarray(array)
        if mode in _PIL_VIA:
            out = out.convert(mode)
        out.info = dict(image.info)
        if via != mode:
            out.info.pop("transparency", None)  # it is in the alpha channel now
        return out

    width, height = image.size
    source = _source((1, height, width, channels), levels, read)
    return replace(source, padded=via == "RGB"), pack


def _pil_working_mode(image: Image.Image) -> str:
    """Palettes and bits are promoted to what they mean, with alpha where a colour of theirs is
    transparent. L and RGB stay, as with Pillow: data sets count on their number of channels."""
    if image.mode in ("P", "PA") and image.has_transparency_data:
        return "RGBA"
    if image.mode == "1" and image.has_transparency_data:
        return "LA"
    if image.mode.startswith("I") and "transparency" in image.info:
        raise ValueError(
            f"mode {image.mode} with a transparent colour is not supported: remove "
            "info['transparency'], or convert to LA first"
        )
    if image.mode == "P":
        return "RGB"
    if image.mode == "1":
        return "L"
    return _PIL_VIA.get(image.mode, image.mode)


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


def _unpack_array(image: Array, channel_order: ChannelOrder) -> tuple[Source, Pack]:
    levels = check_array(image)
    if levels is None:
        check_floats(image)
    release = _page_release(image)

    def take(rows: slice, columns: slice) -> Array:
        part = image[rows, columns]
        if release:
            part = np.array(part)
            release()
        return part

    return source_of(image.shape, image.dtype, levels, take, channel_order)


def check_array(image: Array) -> int | None:
    """The levels of an array's dtype; raises as `unpack`, but for the range of floats."""
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError("image is a masked array; fill it first (.filled())")
    levels = _levels(image.dtype.newbyteorder("=").name)
    if image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4):
        raise ValueError(
            f"an array image has 1 to 4 channels in the last place, got shape {image.shape}"
            + ("; transpose(1, 2, 0) makes CHW HWC" if image.shape[0] in (1, 3, 4) else "")
        )
    return levels


def source_of(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    levels: int | None,
    take: Callable[[slice, slice], Array],
    channel_order: ChannelOrder,
) -> tuple[Source, Pack]:
    """Of an array (H, W) or (H, W, C) that `take` gives parts of, by rows and columns."""
    flat = len(shape) == 2

    def read(images: slice, rows: slice, columns: slice) -> Array:
        part = take(rows, columns)
        return _samples(
            _reorder(part[None, ..., None] if flat else part[None], channel_order), levels
        )

    def pack(result: Array) -> Array:
        result = _reorder(result[0], channel_order).astype(dtype, copy=False)
        return result[..., 0] if flat else np.ascontiguousarray(result)

    return _source((1, *shape, 1) if flat else (1, *shape), levels, read), pack


def _page_release(image: Array) -> Callable[[], None] | None:
    """For an array mapped from a file: give back the memory of the pages that were read. They are
    the file's, and read again when they are needed."""
    base: Any = image
    shared = False  # else changed pages are this process's alone, and would be lost
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            shared = base.mode in ("r", "r+", "w+")
        base = base.base
    if not shared or not isinstance(base, mmap.mmap) or not hasattr(base, "madvise"):
        return None
    return lambda: base.madvise(mmap.MADV_DONTNEED)


def _unpack_tensor(image: Any, channel_order: ChannelOrder) -> tuple[Source, Pack]:
    levels = check_tensor(image)
    batch = image.detach() if image.ndim == 4 else image.detach()[None]
    torch = sys.modules["torch"]

    def read(images: slice, rows: slice, columns: slice) -> Array:
        part = batch[images, :, rows, columns].permute(0, 2, 3, 1).cpu()
        if part.dtype == torch.bfloat16:
            part = part.float()
        return _samples(_reorder(part.contiguous().numpy(), channel_order), levels)

    def pack(result: Array) -> Any:
        result = np.ascontiguousarray(_reorder(result, channel_order))
        if levels is not None:
            result = result.astype(f"uint{8 if levels == 255 else 16}", copy=False)
        out = torch.from_numpy(result).permute(0, 3, 1, 2).contiguous().to(image.dtype)
        return out if image.ndim == 4 else out[0]

    return _source(batch.permute(0, 2, 3, 1).shape, levels, read), pack


def check_tensor(image: Any) -> int | None:
    """The levels of a tensor's dtype; raises as `unpack`."""
    levels = _levels(str(image.dtype).removeprefix("torch."))
    if image.shape[-3] not in (1, 2, 3, 4):
        raise ValueError(
            f"a tensor image is (C, H, W) or (N, C, H, W) with 1 to 4 channels, got shape "
            f"{tuple(image.shape)}"
            + ("; permute(2, 0, 1) makes HWC CHW" if image.shape[-1] in (1, 3, 4) else "")
        )
    if levels is None:
        check_floats(image.detach())
    return levels


def _source(shape: Sequence[int], levels: int | None, read: Read) -> Source:
    count, height, width, channels = shape
    colours, alpha = 1 if channels <= 2 else 3, channels in (2, 4)
    return Source(count, height, width, colours, alpha, levels, read)


def _samples(x: Array, levels: int | None) -> Array:
    """As `Source.read` gives them: contiguous uint8, or float32."""
    if levels == 255:
        return np.ascontiguousarray(x)
    x = np.ascontiguousarray(x, np.float32)
    return x.clip(0, 1) if levels is None else x


def check_floats(x: Any) -> None:
    low, high = float(x.min()), float(x.max())
    if not (low >= -SLACK and high <= 1 + SLACK):  # not: NaN must fail, too
        raise ValueError(
            f"float images lie in [0, 1], got {low:.4g} to {high:.4g}; divide by 255 (or the "
            "maximum), resize before normalising, and clip what overshoots"
        )


def _levels(dtype: str) -> int | None:
    if dtype not in LEVELS:
        raise TypeError(
            f"images of {dtype} have no agreed range; convert to one of {', '.join(LEVELS)} first"
            + (" (masks want nearest-neighbour, not a downscaler)" if dtype == "bool" else "")
        )
    return LEVELS[dtype]


def _reorder(x: Array, channel_order: ChannelOrder) -> Array:
    """The last dimension from `channel_order` to RGB, and back."""
    if channel_order == "rgb" or x.shape[-1] < 3:
        return x
    return x[..., ::-1] if x.shape[-1] == 3 else x[..., [2, 1, 0, 3]]
