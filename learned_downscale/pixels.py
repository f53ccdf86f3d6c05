"""Images of every kind <-> planes. The only place that knows PIL, numpy and torch images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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


@dataclass(frozen=True)
class Planes:
    """A batch of images as tensors.

    colour: (N, 1 or 3, H, W) float32 in [0, 1], RGB or grey, not premultiplied.
    alpha: (N, 1, H, W) float32 in [0, 1], or None.
    levels: what the values are rounded to on the way back, None for floats.
    """

    colour: Tensor
    alpha: Tensor | None
    levels: int | None


Pack = Callable[[Planes], Any]


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
                "for a batch, call once per image, or use a torch tensor (N, C, H, W)"
            )
        height, width = image.shape[:2]
    elif isinstance(image, Tensor):
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
    if isinstance(image, Tensor):
        return image.detach().clone()
    return image.copy()


def unpack(image: Any, channel_order: ChannelOrder = "rgb") -> tuple[Planes, Pack]:
    """Planes of an image that `size_of` accepts, and the way back to its kind.

    Raises:
        TypeError: a dtype that is not in LEVELS.
        ValueError: a number of channels other than 1 to 4, or values outside the range.
    """
    if isinstance(image, Image.Image):
        return _unpack_pil(image)
    if isinstance(image, np.ndarray):
        return _unpack_array(image, channel_order)
    return _unpack_tensor(image, channel_order)


def _unpack_pil(image: Image.Image) -> tuple[Planes, Pack]:
    mode, via = image.mode, _pil_working_mode(image)
    if mode == "I":  # 32 bits, but what it holds in practice is 16-bit files
        array = np.asarray(image)
        if array.min() < 0 or array.max() > 65535:
            raise ValueError(
                f"mode I holds values from {array.min()} to {array.max()}; "
                "expected 0 to 65535: rescale it first"
            )
        array = array.astype(np.uint16)
    else:
        array = np.asarray(image if via == mode else image.convert(via))
    planes, to_array = _unpack_array(array, "rgb")

    def pack(result: Planes) -> Image.Image:
        out_array = to_array(result)
        if mode == "I":
            out_array = out_array.astype(np.int32)
        out = Image.fromarray(out_array)
        if mode in _PIL_VIA:
            out = out.convert(mode)
        out.info = dict(image.info)
        if via != mode:
            out.info.pop("transparency", None)  # it is in the alpha channel now
        return out

    return planes, pack


def _pil_working_mode(image: Image.Image) -> str:
    """Palettes and bits are promoted to what they mean; a transparent colour becomes alpha."""
    if image.mode in ("P", "PA", "RGB") and image.has_transparency_data:
        return "RGBA"
    if image.mode in ("1", "L") and image.has_transparency_data:
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


def _unpack_array(image: np.ndarray, channel_order: ChannelOrder) -> tuple[Planes, Pack]:
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError("image is a masked array; fill it first (.filled())")
    native = image.dtype.newbyteorder("=")
    _levels(native.name)
    if image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4):
        raise ValueError(
            f"an array image has 1 to 4 channels in the last place, got shape {image.shape}"
            + ("; transpose(1, 2, 0) makes CHW HWC" if image.shape[0] in (1, 3, 4) else "")
        )
    # a copy: torch shares memory, and takes no negative strides, read-only or swapped arrays
    tensor = torch.from_numpy(np.array(image, dtype=native, order="C"))
    flat = image.ndim == 2
    planes, to_tensor = _unpack_tensor(
        tensor[None] if flat else tensor.permute(2, 0, 1), channel_order
    )

    def pack(result: Planes) -> np.ndarray:
        out = to_tensor(result)
        out_array = (out[0] if flat else out.permute(1, 2, 0).contiguous()).numpy()
        return out_array.astype(image.dtype, copy=False)

    return planes, pack


def _unpack_tensor(image: Tensor, channel_order: ChannelOrder) -> tuple[Planes, Pack]:
    levels = _levels(str(image.dtype).removeprefix("torch."))
    batch = image.detach() if image.ndim == 4 else image.detach()[None]
    channels = batch.shape[1]
    if channels not in (1, 2, 3, 4):
        raise ValueError(
            f"a tensor image is (C, H, W) or (N, C, H, W) with 1 to 4 channels, got shape "
            f"{tuple(image.shape)}"
            + ("; permute(2, 0, 1) makes HWC CHW" if image.shape[-1] in (1, 3, 4) else "")
        )
    values = batch.to(torch.float32)
    if levels is None:
        low, high = values.min().item(), values.max().item()
        if not (low >= -SLACK and high <= 1 + SLACK):  # not: NaN must fail, too
            raise ValueError(
                f"float images lie in [0, 1], got {low:.4g} to {high:.4g}; divide by 255 (or the "
                "maximum), resize before normalising, and clip what overshoots"
            )
        values = values.clamp(0, 1)
    else:
        values = values / levels
    colours = 1 if channels <= 2 else 3
    alpha = values[:, colours:] if channels in (2, 4) else None
    planes = Planes(_reorder(values[:, :colours], channel_order), alpha, levels)

    def pack(result: Planes) -> Tensor:
        out = _reorder(result.colour, channel_order)
        if result.alpha is not None:
            out = torch.cat([out, result.alpha], 1)
        if levels is not None:
            out = (out * levels).round()
        out = out.to(image.dtype)
        return out if image.ndim == 4 else out[0]

    return planes, pack


def _levels(dtype: str) -> int | None:
    if dtype not in LEVELS:
        raise TypeError(
            f"images of {dtype} have no agreed range; convert to one of {', '.join(LEVELS)} first"
            + (" (masks want nearest-neighbour, not a downscaler)" if dtype == "bool" else "")
        )
    return LEVELS[dtype]


def _reorder(colour: Tensor, channel_order: ChannelOrder) -> Tensor:
    return colour.flip(1) if channel_order == "bgr" and colour.shape[1] == 3 else colour
