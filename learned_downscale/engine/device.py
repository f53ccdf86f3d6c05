"""E on another device than the CPU: whole batches in float32, all on the device."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from learned_downscale import pixels
from learned_downscale.downscaler import Downscaler, bicubic
from learned_downscale.engine.tiles import Source
from learned_downscale.engine.tiles import downscale as downscale_tiles
from learned_downscale.engine.torch_backend import TorchBackend

# Pixels of a batch that are computed at once; about 100 bytes each are needed.
AT_ONCE = 2**25


def check(device: Any) -> str:
    """The name of a device that is not the CPU, "" for the CPU.

    Raises:
        RuntimeError: torch has no such device, or cannot compute there.
    """
    try:
        name = str(torch.device(device))
        if name == "cpu":
            return ""
        torch.empty(1, device=name).cpu()
    except (AssertionError, RuntimeError, TypeError) as error:
        raise RuntimeError(f"torch cannot compute on {str(device)!r} here: {error}") from error
    return name


def downscale(
    device: str,
    image: Any,
    samples: Source,
    pack: pixels.Pack,
    channel_order: pixels.ChannelOrder,
    size: tuple[int, int],
    model: Downscaler | None,
    num_threads: int | None,
) -> Any:
    """As `resize`: `image`, with its samples and the way back as `pixels.unpack` gives them, to
    `size` (height, width). A tensor is left on `device`.

    Transparent images are computed on the CPU, with `num_threads`.

    Raises:
        RuntimeError: torch has no such device, or its memory does not suffice.
    """
    tensor = isinstance(image, Tensor)
    if samples.alpha:
        result = pack(downscale_tiles(samples, size, TorchBackend(model), num_threads))
        return result.to(device) if tensor else result
    if tensor:
        batch = image.detach() if image.ndim == 4 else image.detach()[None]
    else:
        everything = slice(0, 1), slice(0, samples.height), slice(0, samples.width)
        array = samples.read(*everything)[..., : samples.colours]
        batch = torch.from_numpy(array.copy()).permute(0, 3, 1, 2)

    if model is not None:
        model = copy.deepcopy(model).to(device, torch.float32)
    levels, each = samples.levels, max(1, AT_ONCE // (samples.height * samples.width))
    small = []
    with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
        for part in batch.split(each):
            x = part.to(device).to(torch.float32)
            x = x.flip(1) if tensor and channel_order == "bgr" else x
            x = x.clamp(0, 1) if levels is None else x / levels
            made = bicubic(x, size, levels) if model is None else model.thumbnail(x, size, levels)
            small.append(made if levels is None else (made * levels).round())
    result = torch.cat(small)
    if not tensor:
        array = result.permute(0, 2, 3, 1).cpu().numpy()
        return pack(array.astype("uint8") if levels == 255 else array)
    result = (result.flip(1) if channel_order == "bgr" else result).to(image.dtype)
    return result if image.ndim == 4 else result[0]
