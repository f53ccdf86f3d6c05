"""D, the decoder: the first layers of a network that reads E's thumbnails as larger photos."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.engine.code import check_modulus


class Decoder(nn.Module):
    """D: rebuilds a photo at `factor` times the thumbnail's sides, with the detail that E hides.

    (N, 3, h, w) -> (N, 3, factor*h, factor*w), RGB in [0, 1], but for overshoots, which are left
    as they are: bicubic, and what three 3x3 convolutions at the thumbnail's resolution add.
    Computed in float32; the result has the dtype of its weights, as the network behind it.

    Put before a network it takes the place of enlarging, with trained weights or, untrained, to
    be trained with the network. The published ones belong to the E of the same name.

    Args:
        factor: of the sides, a whole number from 2.
        width: channels of the hidden layers.
        modulus: above 1, the layers see what the thumbnail's levels leave modulo this, too: the
            code of an E of the same modulus. Thumbnails must come as they left E, then: 8 bits,
            not enlarged, not turned or mirrored, never through JPEG.

    Source: ours. The paper's D rebuilds T's feature maps of the original; this one the photo.
    """

    def __init__(self, factor: int = 2, width: int = 24, modulus: int = 1) -> None:
        super().__init__()
        if factor < 2:
            raise ValueError(f"factor is {factor}; a decoder enlarges by a whole factor from 2")
        check_modulus(modulus)
        self.factor = factor
        self.modulus = modulus
        self.config: dict[str, Any] = {"factor": factor, "width": width, "modulus": modulus}
        channels = (3 if modulus == 1 else 6, width, width, 3 * factor**2)
        self.layers = nn.Sequential()
        for inside, outside in itertools.pairwise(channels):
            # replicated borders: a border of zeros is an edge that no photo has
            self.layers.append(nn.Conv2d(inside, outside, 3, padding=1, padding_mode="replicate"))
            self.layers.append(nn.ReLU())
        del self.layers[-1]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.to_check = 0  # times, see `_check`
        self._seen_so_far = 0, 0.0

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Decoder:
        """The decoder beside an E: bundled ("x4-machine", "x4-jpeg", "x2-machine"), a folder, or
        a model of the Hugging Face Hub. In evaluation mode, frozen; `requires_grad_()` trains it.

        If it reads a code, it warns of thumbnails among its first batches that carry none.
        See `learned_downscale.pretrained.load` for what is checked and raised.
        """
        from learned_downscale.pretrained import load_decoder

        decoder = load_decoder(name, revision=revision)
        decoder.to_check = 8
        return decoder

    def forward(self, x: Tensor) -> Tensor:
        """Raises TypeError for tensors of whole numbers, whose range is not [0, 1], and for
        bfloat16, in which the levels of 8 bits cannot be told apart; ValueError for other shapes,
        and for values above 1 in the first batches of published weights."""
        if not x.is_floating_point() or x.dtype == torch.bfloat16:
            raise TypeError(
                f"Decoder takes a tensor in [0, 1] of float16 or wider, got {x.dtype}; "
                "give it the 8-bit thumbnail divided by 255"
            )
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(
                f"Decoder takes (N, 3, h, w), RGB, got {tuple(x.shape)}; lay transparency over a "
                "colour, and give a single image a first axis (x[None])"
            )
        # bfloat16 has 8 bits: too few for detail of a few levels on top of a thumbnail
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            dtype = next(self.parameters()).dtype
            seen = self._seen(x)
            if dtype == torch.float32:
                fine = self.layers(seen)
            else:  # with a network around it, by half() and the like
                weights = {name: value.float() for name, value in self.layers.named_parameters()}
                fine = torch.func.functional_call(self.layers, weights, seen)
            large = F.interpolate(x, scale_factor=self.factor, mode="bicubic")
            return (F.pixel_shuffle(fine, self.factor) + large).to(dtype)

    def _seen(self, x: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, 3, h, w), or (N, 6, h, w) with the code in [-0.5, 0.5]."""
        levels = x * 255
        if self.to_check and x.numel() and not torch.compiler.is_compiling():
            self._check(levels)
        if self.modulus == 1:
            return x - 0.5
        coarse = self.modulus * (levels.detach().round() / self.modulus).floor()
        return torch.cat([x - 0.5, (levels - coarse) / self.modulus - 0.5], 1)

    def _check(self, levels: Tensor) -> None:
        """Raise ValueError if thumbnails are no colours, warn if a code is looked for and they look
        like any others.

        E writes its middle code, m/2, where a photo is smooth; levels without a code are modulo m
        what chance makes them: m/4 from the middle, on average. Not so in every crop of a few
        pixels, so several are looked at together; and not for ever: on a GPU it waits.
        """
        if levels.max().item() > 256:
            raise ValueError(
                f"the thumbnails have values up to {levels.max().item() / 255:g}; Decoder takes "
                "[0, 1]: divide 8-bit levels by 255"
            )
        if self.modulus == 1:
            self.to_check -= 1
            return
        away = (levels.detach().round() % self.modulus - self.modulus // 2).abs().sum().item()
        count, total = self._seen_so_far[0] + levels.numel(), self._seen_so_far[1] + away
        self._seen_so_far = count, total
        if count < 3 * 56**2:
            return
        self.to_check, self._seen_so_far = self.to_check - 1, (0, 0.0)
        if total / count > 0.9 * self.modulus / 4:
            self.to_check = 0
            warnings.warn(
                "these thumbnails seem to carry no code of E: were they made by other weights, or "
                "saved as JPEG, scaled or padded since? What the decoder rebuilds is not in them. "
                "Make them with the E of the decoder's name and keep them lossless",
                stacklevel=6,  # the caller, past torch
            )
