"""A slimmable network: one set of weights that runs at two widths, each with batch norm of its own,
on whole photos. Its widths need the multiply-adds of T on thumbnails of both factors; the one that
fits --factor is measured. Source: Yu et al., ICLR 2019. Ours: T's full width is none of its widths,
since training it takes 13 times as long as all else here; the leading channels of T's folded
layers are the first weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from run import SIDE, System
from torch import Tensor, nn

from learned_downscale.thumbnet.costs import multiply_adds
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader


class SlimConv(nn.Module):
    """A convolution that uses its leading channels, and a batch norm for each width."""

    def __init__(self, layer: nn.Conv2d, widths: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.stride, self.padding = layer.stride, layer.padding
        self.outside = [max(1, round(w * layer.out_channels)) for w in widths]
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in self.outside)

    def forward(self, x: Tensor, width: int) -> Tensor:
        weight = self.weight[: self.outside[width], : x.shape[1]]
        y: Tensor = self.norms[width](F.conv2d(x, weight, None, self.stride, self.padding))
        return y


class Slimmable(nn.Module):
    """(N, 3, H, W) in [0, 1] -> logits at `self.width`, a place among the widths; in training the
    widths take turns, a batch each."""

    def __init__(self, teacher: Reader, widths: list[float]) -> None:
        super().__init__()
        old = teacher.network
        self.width, self.turn, self.mean, self.std = 0, 0, old.mean, old.std
        self.stem = SlimConv(old.stem, widths)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                SlimConv(layer, widths)
                for layer in [*block.layers, block.shortcut]
                if isinstance(layer, nn.Conv2d)
            )
            for stage in old.stages
            for block in stage
        )
        self.weight = nn.Parameter(old.classify.weight.detach().clone())
        self.bias = nn.Parameter(old.classify.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.turn = 1 - self.turn
        width = self.turn if self.training else self.width
        x = self.stem((x - self.mean) / self.std, width)
        x = F.max_pool2d(F.relu(x), 3, 2, 1)
        for block in self.blocks:
            y = x
            for i, layer in enumerate(block[:3]):
                y = layer(F.relu(y) if i else y, width)
            x = F.relu(y + (block[3](x, width) if len(block) > 3 else x))
        means = x.mean((2, 3))
        return F.linear(means, self.weight[:, : means.shape[1]], self.bias)


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    # multiply-adds are about quadratic in the width
    network = Slimmable(teacher, [0.97 / f for f in (2, 4)])
    photo = torch.zeros(1, 3, SIDE, SIDE)
    for network.width in (0, 1):
        print(f"  width {network.width}: {multiply_adds(network.eval(), photo) / 1e9:.3f} G")
    network.width = int(math.log2(factor)) - 1
    return System(network)
