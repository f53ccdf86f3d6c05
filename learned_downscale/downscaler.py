"""E, the learned downscaler: tensors in, tensors out; nothing here knows files or image kinds.

The paper (Zhao and Ghanem, ACM MM 2020) names E but not its layers: the network below is ours.

    x_s = round(clamp(bicubic(x) + residual(x)))

- `bicubic` is the antialiased bicubic filter, pixel for pixel Pillow's.
- `residual` reads x once, by a convolution whose stride is the factor, and works at thumbnail
  resolution from there on, which is what makes it cheap.
- No layer has a bias and the first one has no response to a constant, so the residual of a flat
  area is zero by construction, and it scales with the local contrast.
- The result is rounded to the levels it will be saved with. In training the gradient passes the
  rounding unchanged (a straight-through estimator), so what is saved is what was trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the leaky ReLU. With 0 there are no biases to bring a dead channel back: the residual had
# shrunk to nothing after the first epoch at a learning rate of 1e-2 (measured).
SLOPE = 0.1


def quantise(x: Tensor, levels: int | None) -> Tensor:
    """Round x in [0, 1] to multiples of 1 / levels; the gradient is that of the identity."""
    if levels is None:
        return x
    return x + ((x * levels + 0.5).floor() / levels - x).detach()


def bicubic(x: Tensor, size: tuple[int, int], levels: int | None = 255) -> Tensor:
    """Antialiased bicubic (a = -0.5) of x (N, C, H, W) to size (height, width), as Pillow does it.

    Pillow filters the rows, clips and rounds, then filters the columns, clips and rounds;
    so does this, with `levels` = 255 for 8 bits, 65535 for 16, None for no rounding.
    """
    height, width = size
    for target in ((x.shape[-2], width), (height, width)):
        if x.shape[-2:] != target:
            x = F.interpolate(x, target, mode="bicubic", antialias=True)
            x = quantise(x.clamp(0, 1), levels)
    return x


class Downscaler(nn.Module):
    """E: makes a thumbnail that is `factor` times smaller per side.

    Args:
        factor: the native factor, 2 or 4 in the published weights. Any integer of 2 or more.
        channels: width of the hidden layers.

    A new Downscaler has a residual of zero: it is Pillow's bicubic until it is trained.

    Source: ours; the paper does not give E's layers.
    """

    def __init__(self, factor: int, channels: int = 24) -> None:
        super().__init__()
        if factor < 2:
            raise ValueError(f"factor is {factor}; a downscaler needs a whole factor of 2 or more")
        self.factor = factor
        self.channels = channels
        # Overlapping windows of 2 x factor: each thumbnail pixel sees half of its neighbours' area.
        self.stem = nn.Conv2d(3, channels, 2 * factor, stride=factor, bias=False)
        self.hidden = nn.Conv2d(channels, channels, 3, bias=False)
        self.out = nn.Conv2d(channels, 3, 3, bias=False)
        for layer in (self.stem, self.hidden):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
        nn.init.zeros_(self.out.weight)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Downscaler:
        """Bundled weights ("x2", "x4"), a folder, or a model of the Hugging Face Hub.

        See `learned_downscale.pretrained.load` for what is checked and raised.
        """
        from learned_downscale.pretrained import load

        return load(name, revision=revision)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this network again."""
        return {"factor": self.factor, "channels": self.channels}

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the thumbnail of a (height, width) image: sides are rounded up."""
        return -(-height // self.factor), -(-width // self.factor)

    def residual(self, x: Tensor) -> Tensor:
        """What E adds to the bicubic thumbnail: (N, 3, f*h, f*w) -> (N, 3, h, w)."""
        weight = self.stem.weight - self.stem.weight.mean((2, 3), keepdim=True)
        before = self.factor // 2
        after = self.factor - before
        # Borders are continued by their last pixel: no dark rim, and flat stays flat.
        x = F.pad(x, (before, after, before, after), mode="replicate")
        x = x.contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs
        x = F.leaky_relu(F.conv2d(x, weight, stride=self.factor), SLOPE)
        x = F.leaky_relu(self.hidden(F.pad(x, (1, 1, 1, 1), mode="replicate")), SLOPE)
        return self.out(F.pad(x, (1, 1, 1, 1), mode="replicate"))

    def forward(
        self, x: Tensor, size: tuple[int, int] | None = None, levels: int | None = 255
    ) -> Tensor:
        """Thumbnails of a batch of images.

        Args:
            x: (N, 3, H, W) float tensor, RGB, in [0, 1].
            size: (height, width) of the thumbnails; default `thumbnail_size(H, W)`. Where
                factor * size is not (H, W), the residual is taken from x resampled (bicubic,
                antialiased) to factor * size.
            levels: the result is rounded to multiples of 1 / levels; 255 for 8 bits (default),
                65535 for 16 bits, None for no rounding.

        Returns:
            (N, 3, height, width), in [0, 1], same dtype and device; a new tensor.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (N, 3, H, W), or is empty.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(
                f"Downscaler takes a float tensor in [0, 1], got {got}; "
                "divide by 255, or use learned_downscale.resize for other kinds of images"
            )
        if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
            raise ValueError(
                f"Downscaler takes (N, 3, H, W), none of them 0, got {tuple(x.shape)}; "
                "use learned_downscale.resize for single, grey or transparent images"
            )
        height, width = size or self.thumbnail_size(*x.shape[-2:])
        dtype, x = x.dtype, x.float()  # antialiasing has no half precision on CPUs
        skip = bicubic(x, (height, width), levels)
        prepared = bicubic(x, (self.factor * height, self.factor * width), levels)
        residual = self.residual(prepared.to(self.stem.weight.dtype))
        return quantise((skip + residual).clamp(0, 1), levels).to(dtype)
