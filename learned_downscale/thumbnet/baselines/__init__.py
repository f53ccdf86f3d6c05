"""What E is compared with: one file per system.

A file NAME.py defines `Downscale`, an `nn.Module` made with the factor, which gives thumbnails
(N, 3, H/f, W/f) of photos (N, 3, H, W), both in [0, 1], rounded to 8 bits. Its `taps` are the photo
pixels that a thumbnail pixel is made of along each side, in units of the factor. With that, `train
--downscaler NAME` trains S on its thumbnails, all else equal, and `evaluate` measures it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """The systems that there are, sorted."""
    return sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))


def make(name: str, factor: int) -> nn.Module:
    """A system by its name.

    Raises:
        ValueError: there is no such system.
    """
    if name not in names():
        raise ValueError(f"no downscaler {name!r}; choose learned, {', '.join(names())}")
    downscale: nn.Module = import_module(f"{__name__}.{name}").Downscale(factor)
    return downscale
