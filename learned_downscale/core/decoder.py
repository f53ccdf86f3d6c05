"""The decoder: from a thumbnail back to an image that any network accepts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale import pretrained
from learned_downscale.core.arguments import check_whole
from learned_downscale.core.qim import check_qim
from learned_downscale.hub import Storable


class Decoder(Storable, nn.Module):
    """Reconstructs an RGB image at `factor` times the thumbnail's width and height.

        large = bicubic(x) + layers(x)

    (N, 3, h, w) in [0, 1] -> (N, 3, factor*h, factor*w), in [0, 1] but for overshoots, which are
    not clipped. `layers` are three 3x3 convolutions at the thumbnail's resolution, computed in
    float32; the result has the dtype of the weights, as the network after it expects.

    In front of a network it takes the place of enlarging. The published decoders belong to the
    downscaler of the same name.

    Args:
        factor: of width and height, a whole number from 2 to 16.
        width: channels of the hidden layers, 1 to 1024.
        qim: above 1, the layers also see the payload: what the thumbnail's levels leave modulo
            this, the `qim` of its downscaler. Thumbnails must then arrive as they were made: 8
            bits, not enlarged, turned or mirrored, never saved as JPEG
            (`learned_downscale.core.qim.lacks_payload` looks for that).

    Source: ours. The paper's D reconstructs the teacher's feature maps; this one the image.
    """

    kind: ClassVar[str] = "decoder"
    file: ClassVar[str] = pretrained.DECODER
    sha256: ClassVar[str] = "decoder_sha256"
    float16: ClassVar[bool] = True

    def __init__(self, factor: int = 2, width: int = 24, qim: int = 1) -> None:
        super().__init__()
        check_whole("factor", factor, 2, 16)
        check_whole("width", width, 1, 1024)
        check_qim(qim)
        self.factor = factor
        self.qim = qim
        self.config: dict[str, Any] = {"factor": factor, "width": width, "qim": qim}
        channels = (3 if qim == 1 else 6, width, width, 3 * factor**2)
        self.layers = nn.Sequential()
        for inside, outside in itertools.pairwise(channels):
            # replicated borders: a border of zeros is an edge that no picture has
            self.layers.append(nn.Conv2d(inside, outside, 3, padding=1, padding_mode="replicate"))
            self.layers.append(nn.ReLU())
        del self.layers[-1]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Decoder:
        """The decoder of a downscaler: bundled ("x4-machine", "x4-jpeg", "x2-machine"), a folder,
        or a model of the Hugging Face Hub ("owner/name" or "owner/name@revision"). In evaluation
        mode, frozen; `requires_grad_()` unfreezes it. See `learned_downscale.pretrained.load` for
        what is checked and raised.
        """
        return pretrained.load(cls, name, revision=revision)

    def forward(self, x: Tensor) -> Tensor:
        """Raises TypeError for tensors of whole numbers, whose range is not [0, 1], and for
        bfloat16, which cannot tell the levels of 8 bits apart; ValueError for other shapes, and on
        the CPU for values above 1."""
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
        # on a GPU, looking would wait for it
        if x.device.type == "cpu" and x.numel() and not torch.compiler.is_compiling():
            largest = x.detach().max().item()
            if largest > 256 / 255:
                raise ValueError(
                    f"the thumbnails have values up to {largest:g}; Decoder takes [0, 1]: divide "
                    "8-bit levels by 255"
                )
        # bfloat16 has 8 bits: too few for detail of a few levels on top of a thumbnail
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            dtype = next(self.parameters()).dtype
            inputs = self._inputs(x)
            if dtype == torch.float32:
                fine = self.layers(inputs)
            else:  # with a network around it, by half() and the like
                weights = {name: value.float() for name, value in self.layers.named_parameters()}
                fine = torch.func.functional_call(self.layers, weights, inputs)
            large = F.interpolate(x, scale_factor=self.factor, mode="bicubic")
            return (F.pixel_shuffle(fine, self.factor) + large).to(dtype)

    def _inputs(self, x: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, 3, h, w), or (N, 6, h, w) with the payload in [-0.5, 0.5]."""
        if self.qim == 1:
            return x - 0.5
        levels = x * 255
        coarse = self.qim * (levels.detach().round() / self.qim).floor()
        return torch.cat([x - 0.5, (levels - coarse) / self.qim - 0.5], 1)
