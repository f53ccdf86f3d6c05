"""The learned downscaler: tensors in, tensors out; nothing here knows files or image kinds.

    thumbnail = round(clamp(bicubic(x) + residual(x)))

or, with a `qim` m above 1, for networks with a `Decoder` in front:

    payload = clamp(round(residual(x)) + m / 2, 0, m - 1)
    thumbnail = the level nearest to bicubic(x) that is the payload modulo m

- `bicubic` is the antialiased bicubic filter, pixel for pixel Pillow's.
- `residual` cuts x into patches of factor x factor pixels, one for each thumbnail pixel, and works
  at thumbnail resolution from there on, which is what makes it cheap.
- No layer has a bias and the first one has no response to a constant, so the residual of a flat
  area is zero by construction.
- It is an integer network: 8-bit pixels, 7-bit weights, 8-bit activations, and scales that are
  powers of two. Every sum stays below 2^24, where float32 still counts in ones: whatever computes
  it, int8 or float32, in strips or whole, gives the same thumbnail.
- In training the gradient passes every rounding unchanged (a straight-through estimator), so what
  is saved is what was trained.

Source: E, the supervised downscaler of ThumbNet (Zhao and Ghanem, ACM MM 2020). The paper does not
give its layers; these are ours.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale import pretrained
from learned_downscale.core.arguments import check_flag, check_whole
from learned_downscale.core.qim import check_qim
from learned_downscale.core.tensors import (
    bicubic,
    block_means,
    pass_gradient,
    patches,
    quantise,
    round_through,
)
from learned_downscale.hub import Storable
from learned_downscale.plan import reduction, takes_patches

# Weights are integers in [-63, 63]: with 64 or more, processors without VNNI saturate the sum of
# two products (int16) in their 8-bit multiplication.
MAX_WEIGHT = 63
# Activations are integers in [0, 255].
MAX_ACTIVATION = 255


def integer_weight(weight: Tensor, zero_sum: bool = False) -> tuple[Tensor, int]:
    """Whole numbers q in [-63, 63], as floats, and a shift: weight is about q * 2^-shift.

    zero_sum: the q of each kernel (the last two dimensions) add up to exactly 0.

    Source: ours.
    """
    weight = weight.detach()
    if zero_sum:
        weight = _zero_sum(weight)
    # At 20, the weights of a new E's last layer (zero) may become anything; no sum comes near.
    largest = max(weight.abs().max().item(), 2.0**-20 * MAX_WEIGHT)
    # one less than the largest possible with zero_sum, which moves some by 1
    shift = math.floor(math.log2((MAX_WEIGHT - zero_sum) / largest))
    scaled = weight * 2.0**shift
    q = scaled.round()
    if zero_sum:
        # Move those by 1 that were rounded the furthest in the wrong direction.
        excess = q.sum((2, 3)).flatten()[:, None]
        error = (q - scaled).flatten(2).flatten(0, 1)
        rank = torch.argsort(error, dim=1, descending=True, stable=True).argsort(1)
        n = error.shape[1]
        move = (rank >= n + excess).float() - (rank < excess).float()
        q = q + move.view_as(q)
    return q, shift


class Downscaler(Storable, nn.Module):
    """Makes a thumbnail that is `factor` times smaller in width and height.

    Args:
        factor: the native factor, 2 or 4 in the published weights. A whole number from 2 to 64.
        channels: width of the hidden layers, 1 to 1024.
        qim: 1: the residual is added to the bicubic thumbnail. A power of two up to 128: the
            residual is embedded in the thumbnail's low bits modulo this (`core.qim`); the
            thumbnail has 8 bits then.
        shared: one residual is added to R, G and B alike, and it is a high-pass: the kernels of
            the last layer have weights that add up to 0. Grey stays grey, and means stay
            where they are. Not with a payload.

    A new Downscaler of `qim` 1 has a residual of zero: it is Pillow's bicubic until it is trained.
    With another `qim` its payload begins as the differences between the halves of each patch: from
    nothing, downscaler and decoder would take long to find a common language (measured).

    Source: ours; the paper does not give E's layers.
    """

    kind: ClassVar[str] = "downscaler"
    file: ClassVar[str] = pretrained.MODEL
    sha256: ClassVar[str] = "sha256"
    float16: ClassVar[bool] = False

    def __init__(self, factor: int, channels: int = 16, qim: int = 1, shared: bool = False) -> None:
        super().__init__()
        check_whole("factor", factor, 2, 64)
        check_whole("channels", channels, 1, 1024)
        check_qim(qim)
        check_flag("shared", shared)
        if shared and qim > 1:
            raise ValueError(f"qim is {qim}, but a payload needs a residual for each channel")
        self.factor = factor
        self.channels = channels
        self.qim = qim
        self.shared = shared
        self.stem = nn.Conv2d(3, channels, factor, stride=factor, bias=False)
        self.hidden = nn.Conv2d(channels, channels, 3, bias=False)
        self.out = nn.Conv2d(channels, 1 if shared else 3, 3, bias=False)
        for layer in (self.stem, self.hidden):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.stem.weight *= 2  # activations in half levels: finer than whole ones
            if qim > 1:
                self._begin_with_differences()

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Downscaler:
        """Bundled weights ("x2", "x4", "x2-machine", "x4-machine", "x4-jpeg"), a folder, or a model
        of the Hugging Face Hub ("owner/name" or "owner/name@revision").

        See `learned_downscale.pretrained.load` for what is checked and raised.
        """
        return pretrained.load(cls, name, revision=revision)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this network again."""
        arguments = {"factor": self.factor, "channels": self.channels, "qim": self.qim}
        return {**arguments, "shared": True} if self.shared else arguments

    def _begin_with_differences(self) -> None:
        """The payload of each channel is the brightness of half a patch less that of the other:
        left and right, top and bottom, both diagonals. ReLU wants each with both signs."""
        half = -torch.linspace(-1, 1, self.factor).sign()
        whole = torch.ones(self.factor)
        patterns = [torch.outer(a, b) for a, b in ((whole, half), (half, whole), (half, half))]
        brightness = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R BT.601
        self.stem.weight *= 0.1  # all share a scale, which must not be too coarse for the patterns
        self.hidden.weight *= 0.1
        nn.init.normal_(self.out.weight, 0, 0.002)
        for colour, pattern in enumerate(patterns[: self.channels // 2]):
            self.out.weight[colour] = 0
            for channel, sign in ((2 * colour, 1), (2 * colour + 1, -1)):
                weight = sign * 4 * brightness * pattern / self.factor**2  # in quarter levels
                self.stem.weight[channel] = weight
                self.hidden.weight[channel] = 0
                self.hidden.weight[channel, channel, 1, 1] = 1
                # a difference of 27 levels reaches the last value
                self.out.weight[colour, channel, 1, 1] = sign * self.qim * 0.3 / 64

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the thumbnail of a (height, width) image: sides are rounded up."""
        return -(-height // self.factor), -(-width // self.factor)

    def integers(self) -> list[tuple[Tensor, int]]:
        """(q, shift) of stem, hidden and out: whole numbers (out, in, k, k), their scale 2^-shift.

        With x in levels, the whole of `residual` is, rounding half to even:

            h = clamp(round(conv(x, q_stem) * 2^-shift_stem), 0, 255)
            h = clamp(round(conv(h, q_hidden) * 2^-shift_hidden), 0, 255)
            residual = conv(h, q_out) * 2^-shift_out

        A shared residual has three equal kernels in q_out.
        """
        out, shift = integer_weight(self.out.weight, zero_sum=self.shared)
        return [
            integer_weight(self.stem.weight, zero_sum=True),
            integer_weight(self.hidden.weight),
            (out.expand(3, -1, -1, -1), shift),
        ]

    def kernels(self) -> tuple[Tensor, ...]:
        """Of stem, hidden and out: the whole numbers times their scales; the gradient is that of
        the weights."""
        last = _zero_sum(self.out.weight) if self.shared else self.out.weight
        weights = (_zero_sum(self.stem.weight), self.hidden.weight, last.expand(3, -1, -1, -1))
        return tuple(
            pass_gradient(weight, q * 2.0**-shift)
            for weight, (q, shift) in zip(weights, self.integers(), strict=True)
        )

    def residual(self, x: Tensor) -> Tensor:
        """What is added to the bicubic thumbnail, not yet rounded: (N, 3, f*h, f*w), whole numbers
        from 0 to 255 as float32, -> (N, 3, h, w), in levels (255 is white)."""
        stem, hidden, out = self.kernels()
        x = x.contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs
        x = _activation(F.conv2d(x, stem, stride=self.factor))
        # Outside the image there is no contrast, and the stem's response to none is 0.
        x = _activation(F.conv2d(x, hidden, padding=1))
        return F.conv2d(x, out, padding=1)

    def forward(
        self, x: Tensor, size: tuple[int, int] | None = None, levels: int | None = 255
    ) -> Tensor:
        """Thumbnails of a batch of images.

        Args:
            x: (N, 3, H, W) float tensor, RGB, in [0, 1].
            size: (height, width) of the thumbnails; default `thumbnail_size(H, W)`. Where
                factor * size is not (H, W), the residual is taken from patches of x, or from x
                resampled to factor * size (`Plan`).
            levels: the result is rounded to multiples of 1 / levels; 255 for 8 bits (default),
                65535 for 16 bits, None for no rounding.

        Returns:
            (N, 3, height, width), in [0, 1], same dtype and device; a new tensor.

        Raises:
            TypeError: x is not a floating-point tensor, or the weights are not float32.
            ValueError: x is not (N, 3, H, W), or is empty; or, on the CPU, x has levels of 8 bits.
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
        # not on a GPU, where it waits; augmented images may leave [0, 1] a little
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and x.max().item() > 2:
            raise ValueError(
                f"the images have values up to {x.max().item():g}; Downscaler takes [0, 1]: divide "
                "8-bit levels by 255"
            )
        self.check_precision()
        dtype, x = x.dtype, x.float()  # antialiasing has no half precision on CPUs
        return self.thumbnail(x, size or self.thumbnail_size(*x.shape[-2:]), levels).to(dtype)

    def check_precision(self) -> None:
        """Raise TypeError if the weights are not float32."""
        if self.stem.weight.dtype != torch.float32:
            raise TypeError(
                f"this Downscaler was cast to {self.stem.weight.dtype}, which its whole numbers do "
                "not fit in; keep it float32 (.float()): it takes images of any float dtype"
            )

    def thumbnail(
        self, x: Tensor, size: tuple[int, int], levels: int | None, exact: bool = False
    ) -> Tensor:
        """As `forward`, of float32 (N, 3, H, W), or of grey (N, 1, H, W): of
        three equal planes the mean of the residual is added. exact: as `engine.downscale`."""
        sides, target = (x.shape[-1], x.shape[-2]), (size[1], size[0])
        block = 1 if exact or levels != 255 else reduction(sides, target)
        gathered = block == 1 and not exact and takes_patches(sides, target, self.factor)
        extent = None
        if block > 1:
            extent = x.shape[-2] / block, x.shape[-1] / block
            x = block_means(x, block)
        skip = bicubic(x, size, levels, extent)
        fine, eight = (self.factor * size[0], self.factor * size[1]), quantise(x, 255)
        if gathered:
            prepared = patches(eight, size, self.factor)
        else:
            prepared = bicubic(eight, fine, extent=extent)
        pixels = round_through(prepared * 255)
        with torch.autocast(x.device.type, enabled=False):
            residual = self.residual(pixels.expand(-1, 3, -1, -1))
        if x.shape[1] == 1:
            residual = residual.mean(1, keepdim=True)
        if self.qim > 1:
            return self._embedded(skip * 255, residual) / 255
        if levels is None:
            return (skip + residual / 255).clamp(0, 1)
        small = round_through(skip * levels) + residual * (levels / 255)
        return round_through(small).clamp(0, levels) / levels

    def _embedded(self, skip: Tensor, residual: Tensor) -> Tensor:
        """`qim.embed` with gradients; a payload just beyond the ends may still come back."""
        m = self.qim
        payload = round_through(residual.clamp(-1 - m // 2, m // 2)) + m // 2
        payload = pass_gradient(payload, payload.clamp(0, m - 1))
        steps = ((skip - payload.detach()) / m + 0.5).detach().floor().clamp(0, 256 // m - 1)
        return m * steps + payload


class FrozenDownscaler(Downscaler):
    """A copy whose kernels are computed once: gradients reach its images only, and torch.compile
    and torch.export can follow it."""

    def __init__(self, model: Downscaler) -> None:
        super().__init__(**model.config)
        self.load_state_dict(model.state_dict())
        self.eval().requires_grad_(False)
        for i, kernel in enumerate(model.kernels()):
            self.register_buffer(f"kernel_{i}", kernel.detach().clone(), persistent=False)

    def kernels(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(f"kernel_{i}") for i in range(3))


def _zero_sum(weight: Tensor) -> Tensor:
    return weight - weight.mean((2, 3), keepdim=True)


def _activation(x: Tensor) -> Tensor:
    return round_through(x.clamp(0, MAX_ACTIVATION))
