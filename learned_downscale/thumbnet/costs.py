"""What networks cost: multiply-adds, activation memory, parameters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from learned_downscale.core.downscaler import Downscaler
from learned_downscale.core.filters import FILTERS
from learned_downscale.thumbnet.networks import FixedFilter


@torch.no_grad()
def multiply_adds(network: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Of convolutions and matrix products, for x (1, 3, H, W)."""
    with FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def downscaler_multiply_adds(E: nn.Module, x: Tensor) -> int:
    """Of the thumbnail of x (1, 3, H, W), by E or a filter: rows, then columns, and E's layers."""
    height, width = x.shape[-2:]
    assert isinstance(E, Downscaler | FixedFilter)
    kind, layers = getattr(E, "kind", ""), 0
    if isinstance(E, Downscaler):
        kind, layers = "bicubic", multiply_adds(E.residual, (x * 255).round())
    taps = round(FILTERS[kind].taps * E.factor)
    return layers + 3 * taps * (width // E.factor) * (height + height // E.factor)


@torch.no_grad()
def activation_bytes(network: nn.Module, x: Tensor) -> int:
    """The largest input and output of a layer together."""
    largest = 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
            largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    with ExitStack() as hooks:
        for module in network.modules():
            if not list(module.children()):
                hooks.callback(module.register_forward_hook(look).remove)
        network(x)
    return largest


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
