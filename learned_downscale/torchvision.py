"""A transform for `torchvision.transforms.v2`, which also works where torchvision is not installed.

from learned_downscale.torchvision import Resize
transform = v2.Compose([Resize(224), v2.ToDtype(torch.float32, scale=True)])
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from learned_downscale.core.arguments import check_flag
from learned_downscale.core.downscaler import Downscaler, FrozenDownscaler
from learned_downscale.core.tensors import bicubic
from learned_downscale.pixels.pictures import promoted
from learned_downscale.resizer import Resizer

if TYPE_CHECKING:
    _Base = nn.Module
    tv_tensors: Any = None
    functional: Any = None
else:
    try:
        from torchvision import tv_tensors
        from torchvision.transforms import v2
        from torchvision.transforms.v2 import functional

        _Base = v2.Transform
    except (ImportError, RuntimeError):  # RuntimeError: one that was built for another torch
        _Base, tv_tensors, functional = nn.Module, None, None


class Resize(_Base):
    """`torchvision.transforms.v2.Resize` with a learned filter, for datasets, DataLoader workers
    (fork or spawn) and `Compose`. Picklable.

    Takes PIL images, tensors (..., C, H, W) and, with torchvision, samples of any structure: masks
    become smaller by their nearest pixels, boxes and key points are scaled, labels pass. Memory
    format, dtype and device stay. Images are those of `learned_downscale.resize`, tensors too;
    enlargements are bicubic (antialiased).

    Args:
        size: (height, width), as in torchvision; one number: of the shorter side.
        max_size: of the longer side, where size is one number or None.
        weights: as for `learned_downscale.resize`, by name. Default: x4 or x2, as it fits.
        num_threads: that work on one image; default: torch's number, which is 1 in DataLoader
            workers.
        differentiable: compute tensors with torch's own operations: gradients reach the images
            (through every rounding), and torch.compile and torch.export can follow. For float
            tensors of 1 or 3 channels in [0, 1]; the pixels are the same to within half a level,
            rarely one. Without it, tensors that require gradients are refused, and torch.compile
            leaves this module to Python.

    Raises (when called):
        TypeError, ValueError: as `learned_downscale.resize`; a tensor that requires gradients.

    Source: ours.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None,
        max_size: int | None = None,
        *,
        weights: str | Path | None = None,
        num_threads: int | None = None,
        differentiable: bool = False,
    ) -> None:
        super().__init__()
        self.size = [size] if isinstance(size, int) else None if size is None else list(size)
        if self.size is not None and not (1 <= len(self.size) <= 2 and min(self.size) >= 1):
            raise ValueError(f"size is {size}; give (height, width), or one number, above 0")
        if max_size is not None and self.size is not None and len(self.size) == 2:
            raise ValueError(f"max_size is {max_size}, but size {size} is exact; leave one out")
        if max_size is None and self.size is None:
            raise ValueError("size is None; give it, or max_size")
        self.max_size, self.weights = max_size, weights
        check_flag("differentiable", differentiable)
        self.num_threads, self.differentiable = num_threads, differentiable
        # or say at once what is wrong with the weights
        names = Resizer(4 if weights is None else 1, weights=weights).weights
        models = {}
        if differentiable:
            models = {
                str(f): FrozenDownscaler(Downscaler.from_pretrained(n)) for f, n in names.items()
            }
        self.downscalers = nn.ModuleDict(models)

    def extra_repr(self) -> str:
        return f"size={self.size}, max_size={self.max_size}, weights={self.weights}"

    if functional is None:

        def forward(self, image: Any) -> Any:
            if not isinstance(image, (Tensor, Image.Image)):
                raise TypeError(
                    f"Resize got a {type(image).__name__}; without torchvision it takes PIL images "
                    "and tensors (..., C, H, W): install torchvision for whole samples"
                )
            return self._resized(image)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See `torchvision.transforms.v2.Transform`."""
        if isinstance(inpt, (tv_tensors.Image, tv_tensors.Video)):
            return tv_tensors.wrap(self._resized(inpt.as_subclass(Tensor)), like=inpt)
        if isinstance(inpt, tv_tensors.TVTensor):
            return functional.resize(inpt, self._target(*functional.get_size(inpt)))
        return self._resized(inpt)

    def _target(self, height: int, width: int) -> list[int]:
        """[height, width] of the result, as torchvision has it."""
        if self.size is not None and len(self.size) == 2:
            return self.size
        short, long = min(height, width), max(height, width)
        if self.size is None:
            assert self.max_size is not None  # the constructor sees to it
            new_short, new_long = int(self.max_size * short / long), self.max_size
        else:
            new_short, new_long = self.size[0], int(self.size[0] * long / short)
            if self.max_size is not None and new_long > self.max_size:
                new_short, new_long = int(self.max_size * new_short / new_long), self.max_size
        return [new_short, new_long] if height <= width else [new_long, new_short]

    def _resized(self, image: Any) -> Any:
        if isinstance(image, Image.Image):
            height, width = self._target(image.height, image.width)
            if height > image.height or width > image.width:
                return promoted(image).resize((width, height), Image.Resampling.BICUBIC)
            return self._run(image, (width, height))
        if image.ndim < 3:
            raise ValueError(f"a tensor is (..., C, H, W), got shape {tuple(image.shape)}")
        height, width = self._target(image.shape[-2], image.shape[-1])
        batch = image if image.ndim < 5 else image.flatten(0, -4)
        if height > image.shape[-2] or width > image.shape[-1]:
            small = _enlarged(batch, (height, width))
        elif self.differentiable:
            small = self._traceable(batch, (height, width))
        else:
            small = self._run(batch, (width, height))
        return small if image.ndim < 5 else small.unflatten(0, image.shape[:-3])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _run(self, image: Any, size: tuple[int, int]) -> Any:
        if isinstance(image, Tensor) and image.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                "the tensor requires gradients, which would end here; set differentiable=True, or "
                "detach it first"
            )
        return _resizer(size, self.weights, self.num_threads)(image)

    def _traceable(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if not x.is_floating_point() or x.shape[-3] not in (1, 3):
            raise ValueError(
                f"differentiable needs float tensors of 1 or 3 channels, got {x.dtype} "
                f"{tuple(x.shape)}; convert it, or set differentiable=False"
            )
        batch = (x if x.ndim == 4 else x[None]).float()
        sides = batch.shape[-2], batch.shape[-1]
        fitting = [
            int(f)
            for f in self.downscalers
            if all(t <= -(-s // int(f)) for s, t in zip(sides, size, strict=True))
        ]
        if sides == size:
            small = batch.clone()
        elif fitting:
            small = self.downscalers[str(max(fitting))].thumbnail(batch, size, None)  # type: ignore[operator]
        elif self.weights is not None:
            raise ValueError(
                f"the weights {self.weights} do not fit {sides} to {size}; ask for less"
            )
        else:
            small = bicubic(batch, size, None)
        small = small.to(x.dtype)
        return small if x.ndim == 4 else small[0]


@cache
def _resizer(size: tuple[int, int], weights: str | Path | None, num_threads: int | None) -> Resizer:
    return Resizer(size, weights=weights, num_threads=num_threads)


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """As torchvision's Resize, bicubic and antialiased."""
    batch = x if x.ndim == 4 else x[None]
    native = batch.dtype in (torch.uint8, torch.float32, torch.float64)
    large = F.interpolate(batch if native else batch.float(), size, mode="bicubic", antialias=True)
    if x.dtype == torch.uint16:
        large = large.round().clamp(0, 65535)
    large = large.to(x.dtype)
    return large if x.ndim == 4 else large[0]
