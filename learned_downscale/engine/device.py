"""Another device than the CPU: whole batches in float32, all on the device."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learned_downscale import pixels
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.core.source import Source
from learned_downscale.core.tensors import bicubic
from learned_downscale.engine.tiles import downscale
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


class DeviceBackend:
    """A downscaler, or bicubic alone, on a device that is not the CPU.

    Raises:
        RuntimeError: torch has no such device, or its memory does not suffice.
    """

    def __init__(self, model: Downscaler | None, device: str) -> None:
        """model: copied to the device; None for bicubic alone."""
        self.device, self.name = device, f"torch, float32 on {device}"
        self._model = None if model is None else copy.deepcopy(model).to(device, torch.float32)
        self._cpu = TorchBackend(model)

    def downscale(
        self,
        image: Any,
        samples: Source,
        pack: pixels.Pack,
        channel_order: pixels.ChannelOrder,
        size: tuple[int, int],
        num_threads: int | None,
        exact: bool = False,
    ) -> Any:
        """The thumbnail of `image`, with its samples and the way back as `pixels.unpack` gives
        them, of `size` (height, width). A tensor is left on the device. Transparent images,
        and those with another range of values, are computed on the CPU, with `num_threads`."""
        tensor = isinstance(image, Tensor)
        if samples.alpha or samples.mapped:
            result = pack(downscale(samples, size, self._cpu, num_threads, exact=exact))
            return result.to(self.device) if tensor else result
        if tensor:
            batch = image.detach() if image.ndim == 4 else image.detach()[None]
        else:
            everything = slice(0, 1), slice(0, samples.height), slice(0, samples.width)
            array = samples.read(*everything)[..., : samples.colours]
            batch = torch.from_numpy(array.copy()).permute(0, 3, 1, 2)

        levels, each = samples.levels, max(1, AT_ONCE // (samples.height * samples.width))
        flip = tensor and channel_order == "bgr"
        small = []
        with torch.no_grad(), torch.autocast(torch.device(self.device).type, enabled=False):
            for part in batch.split(each):
                x = part.to(self.device).to(torch.float32)
                x = x.flip(1) if flip else x
                x = x.clamp(0, 1) if levels is None else x / levels
                made = (
                    bicubic(x, size, levels)
                    if self._model is None
                    else self._model.thumbnail(x, size, levels, exact)
                )
                small.append(made if levels is None else (made * levels).round())
        result = torch.cat(small)
        if not tensor:
            array = result.permute(0, 2, 3, 1).cpu().numpy()
            array = array.astype("uint8") if levels == 255 else array
            if samples.padded:
                array = np.concatenate([array, np.full_like(array[..., :1], 255)], -1)
            return pack(array)
        result = (result.flip(1) if flip else result).to(image.dtype)
        return result if image.ndim == 4 else result[0]
