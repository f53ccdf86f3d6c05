"""numpy arrays and torch tensors <-> samples."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from learned_downscale.core.resampling import Array
from learned_downscale.core.source import Read, Source
from learned_downscale.pixels.values import ChannelOrder, Pack, Range, Values, reorder, values_of


def is_tensor(image: Any) -> bool:
    """Whether it is a torch tensor; torch is not imported for the answer."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def unpack_array(
    image: Array, channel_order: ChannelOrder, value_range: Range | None
) -> tuple[Source, Pack]:
    """See `pixels.unpack`."""
    values = array_values(image, value_range)
    release = _page_release(image)

    def take(rows: slice, columns: slice) -> Array:
        part = image[rows, columns]
        if release:
            part = np.array(part)
            release()
        return part

    return source_of(image.shape, image.dtype, values, take, channel_order)


def array_values(image: Array, value_range: Range | None = None) -> Values:
    """The values of an array (H, W) or (H, W, C); raises as `pixels.unpack`."""
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError("image is a masked array; fill it first (.filled())")
    values = values_of(image.dtype.newbyteorder("=").name, value_range)
    if image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4):
        raise ValueError(
            f"an array image has 1 to 4 channels in the last place, got shape {image.shape}"
            + ("; transpose(1, 2, 0) makes CHW HWC" if image.shape[0] in (1, 3, 4) else "")
        )
    _check_opaque(values, image.shape[2] if image.ndim == 3 else 1)
    if image.size:
        values.check(image)
    return values


def _check_opaque(values: Values, channels: int) -> None:
    if values.mapped and channels in (2, 4):
        raise ValueError(
            "images of another range than 0 to the dtype's largest have no transparency here: "
            "resize the colours (1 or 3 channels) and the opacity each by itself"
        )


def source_of(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    values: Values,
    take: Callable[[slice, slice], Array],
    channel_order: ChannelOrder,
) -> tuple[Source, Pack]:
    """Of an array (H, W) or (H, W, C) that `take` gives parts of, by rows and columns."""
    flat = len(shape) == 2

    def read(images: slice, rows: slice, columns: slice) -> Array:
        part = take(rows, columns)
        return values.samples(reorder(part[None, ..., None] if flat else part[None], channel_order))

    def pack(result: Array) -> Array:
        result = values.restored(reorder(result[0], channel_order), dtype)
        return result[..., 0] if flat else np.ascontiguousarray(result)

    return make_source((1, *shape, 1) if flat else (1, *shape), values, read), pack


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


def unpack_tensor(
    image: Any, channel_order: ChannelOrder, value_range: Range | None
) -> tuple[Source, Pack]:
    """See `pixels.unpack`. Tensors (N, C, H, W) that are channels_last stay so."""
    torch = sys.modules["torch"]
    if image.is_sparse or image.layout != torch.strided:
        raise TypeError(f"the tensor's layout is {image.layout}; make it dense (.to_dense())")
    values = _tensor_values(image, value_range)
    batch = image.detach() if image.ndim == 4 else image.detach()[None]
    last = image.ndim == 4 and image.is_contiguous(memory_format=torch.channels_last)
    last = last and not image.is_contiguous()

    def read(images: slice, rows: slice, columns: slice) -> Array:
        part = batch[images, :, rows, columns].permute(0, 2, 3, 1).cpu()
        if part.dtype == torch.bfloat16:
            part = part.float()
        return values.samples(reorder(part.contiguous().numpy(), channel_order))

    def pack(result: Array) -> Any:
        kind = {"uint16": np.uint16, "int16": np.int16, "uint8": np.uint8}
        dtype = kind.get(str(image.dtype).removeprefix("torch."), np.float64)
        dtype = result.dtype if dtype is np.float64 and not values.mapped else dtype
        result = values.restored(reorder(result, channel_order), dtype)
        out = torch.from_numpy(np.ascontiguousarray(result)).permute(0, 3, 1, 2)
        out = out.contiguous(memory_format=torch.channels_last) if last else out.contiguous()
        out = out.to(image.dtype)
        return out if image.ndim == 4 else out[0]

    return make_source(batch.permute(0, 2, 3, 1).shape, values, read), pack


def _tensor_values(image: Any, value_range: Range | None) -> Values:
    torch = sys.modules["torch"]
    values = values_of(str(image.dtype).removeprefix("torch."), value_range)
    if image.shape[-3] not in (1, 2, 3, 4):
        raise ValueError(
            f"a tensor image is (C, H, W) or (N, C, H, W) with 1 to 4 channels, got shape "
            f"{tuple(image.shape)}"
            + ("; permute(2, 0, 1) makes HWC CHW" if image.shape[-1] in (1, 3, 4) else "")
        )
    _check_opaque(values, image.shape[-3])
    try:
        image.detach()[..., :1, :1].to(torch.uint8).cpu().numpy()
        # uint16 has no minimum in torch
        values.check(image.detach().cpu().numpy() if values.whole else image.detach())
    except RuntimeError as error:
        raise TypeError(
            f"the tensor's values cannot be read here ({str(error).splitlines()[0]}); resize real "
            "tensors, in batches instead of under torch.func.vmap"
        ) from error
    return values


def make_source(shape: Sequence[int], values: Values, read: Read) -> Source:
    """shape: (N, H, W, C)."""
    count, height, width, channels = shape
    colours, alpha = 1 if channels <= 2 else 3, channels in (2, 4)
    return Source(count, height, width, colours, alpha, values.levels, read, mapped=values.mapped)
