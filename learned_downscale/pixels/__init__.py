"""Images of every kind <-> samples. The only place that knows PIL, numpy and torch images."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from learned_downscale.core.source import Source
from learned_downscale.pixels import arrays, pictures
from learned_downscale.pixels.arrays import is_tensor
from learned_downscale.pixels.values import ChannelOrder, Pack, Values

__all__ = ["ChannelOrder", "Pack", "Values", "copy_of", "is_tensor", "size_of", "unpack"]


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


def unpack(
    image: Any,
    channel_order: ChannelOrder = "rgb",
    value_range: tuple[float, float] | None = None,
) -> tuple[Source, Pack]:
    """The samples of an image that `size_of` accepts, and the way back to its kind.

    value_range: as for `resize`.

    Raises:
        TypeError: a dtype that is not known.
        ValueError: a number of channels other than 1 to 4, or values outside the range.
    """
    if isinstance(image, Image.Image):
        return pictures.unpack(image, value_range)
    if isinstance(image, np.ndarray):
        return arrays.unpack_array(image, channel_order, value_range)
    return arrays.unpack_tensor(image, channel_order, value_range)
