"""Low-rank factorisation: 1x1 convolutions by SVD, others by Tucker-2 (tensorly), on whole photos,
at the multiply-adds of T on thumbnails. Every layer but the first keeps the same share of its
multiply-adds; no layer is added twice."""

from __future__ import annotations

import math

import tensorly
import torch
from run import SIDE, System
from tensorly.decomposition import partial_tucker
from torch import nn

from learned_downscale.thumbnet.costs import multiply_adds
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader

tensorly.set_backend("pytorch")


def factorised(layer: nn.Conv2d, share: float) -> nn.Sequential:
    """The layer as two or three smaller ones with `share` of its multiply-adds."""
    inside, outside = layer.in_channels, layer.out_channels
    if layer.kernel_size == (1, 1):
        rank = max(1, int(share * inside * outside / (inside + outside)))
        u, s, v = torch.linalg.svd(layer.weight[:, :, 0, 0], full_matrices=False)
        root = s[:rank].sqrt()
        first = nn.Conv2d(inside, rank, 1, layer.stride, bias=False)
        last = nn.Conv2d(rank, outside, 1)
        first.weight.data = (root[:, None] * v[:rank])[..., None, None]
        last.weight.data = (u[:, :rank] * root)[..., None, None]
        last.bias = layer.bias
        return nn.Sequential(first, last)
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    # part^2 taps inside outside + part (inside^2 + outside^2) = share taps inside outside
    a, b = taps * inside * outside, inside**2 + outside**2
    part = (-b + math.sqrt(b**2 + 4 * a * share * a)) / (2 * a)
    ranks = [max(1, int(part * outside)), max(1, int(part * inside))]
    (core, (to, of)), _ = partial_tucker(layer.weight.data, ranks, modes=[0, 1], n_iter_max=5)
    first = nn.Conv2d(inside, ranks[1], 1, bias=False)
    middle = nn.Conv2d(*ranks[::-1], layer.kernel_size, layer.stride, layer.padding, bias=False)
    last = nn.Conv2d(ranks[0], outside, 1)
    first.weight.data, middle.weight.data = of.T[..., None, None].contiguous(), core.contiguous()
    last.weight.data, last.bias = to[..., None, None].contiguous(), layer.bias
    return nn.Sequential(first, middle, last)


@torch.no_grad()
def make(teacher: Reader, factor: int, photos: Photos) -> System:
    most, whole = (
        multiply_adds(teacher, torch.zeros(1, 3, side, side)) for side in (SIDE // factor, SIDE)
    )
    network = teacher.copied()
    ours = network.network
    first = multiply_adds(ours.stem, torch.zeros(1, 3, SIDE, SIDE)) + ours.classify.weight.numel()
    share = (most - first) / (whole - first)  # ranks are rounded down
    print(f"  share {share:.3f}", flush=True)
    for stage in ours.stages:
        for block in stage:
            for i, layer in enumerate(block.layers):
                block.layers[i] = factorised(layer, share)
            if isinstance(block.shortcut, nn.Conv2d):
                block.shortcut = factorised(block.shortcut, share)
    return System(network.requires_grad_(True))
