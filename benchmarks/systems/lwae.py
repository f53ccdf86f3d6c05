"""LWAE, the wavelet-like auto-encoder: two half-size images, low and high, a network for each, and
one score. Source: Chen et al., AAAI 2018. Ours: T's architecture instead of VGG-16, the high
branch is T with a quarter of its channels, the low image is also held close to the area mean, so
that T's weights fit it from the start, and the encoder is trained for some hundreds of steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from run import System, drawn
from torch import Tensor, nn

from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader

WIDTH, STEPS, CROP, RATE = 16, 300, 96, 4e-3


class Encoder(nn.Module):
    """(N, 3, H, W) in [0, 1] -> the low and the high image, (N, 3, H/2, W/2) each."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside in (3, WIDTH, WIDTH):
            layers += [nn.Conv2d(inside, WIDTH, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, 3, 3, 2, 1), nn.BatchNorm2d(3)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(x)
        return self.heads[0](maps), self.heads[1](maps)


class Rebuild(nn.Module):
    """The photo of the two images: a part of each, added."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(3, WIDTH, 4, 2, 1), nn.ReLU(), nn.Conv2d(WIDTH, 3, 3, padding=1)
            )
            for _ in range(2)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        rebuilt: Tensor = self.parts[0](low) + self.parts[1](high)
        return rebuilt


class Branches(nn.Module):
    """Both networks on the two images; the sum of their logits."""

    def __init__(self, encoder: Encoder, low: nn.Module, high: nn.Module) -> None:
        super().__init__()
        self.encoder, self.low, self.high = encoder, low, high

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.encoder(x)
        logits: Tensor = self.low(low) + self.high(high)
        return logits


def apart(encoder: Encoder, rebuild: Rebuild, x: Tensor) -> Tensor:
    """The loss of the encoder: reconstruction, energy of the high image, and the low one's mean."""
    low, high = encoder(x)
    means = F.mse_loss(low, F.avg_pool2d(x, 2))
    return F.mse_loss(rebuild(low, high), x) + 0.1 * high.square().mean() + means


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    if factor != 2:
        raise ValueError(f"LWAE makes images of half the size; the factor is {factor}")
    encoder, rebuild = Encoder(), Rebuild()
    optimiser = torch.optim.AdamW([*encoder.parameters(), *rebuild.parameters()], RATE)
    for step in range(STEPS):
        x = drawn(photos, step, CROP)
        loss = apart(encoder, rebuild, x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"  encoder: {loss.item():.5f}", flush=True)
    high = quarter(teacher)
    network = Branches(encoder, teacher.copied(), high)
    new = [*encoder.parameters(), *rebuild.parameters(), *high.parameters()]
    return System(network, None, encoder, new, lambda x: apart(encoder, rebuild, x))


def quarter(teacher: Reader) -> nn.Module:
    """T's architecture with a quarter of its channels, untrained; its scores begin at 0."""
    old = teacher.network.config
    narrow = type(teacher.network)(
        **old | {"embedding": old["embedding"] // 4, "hidden": [h // 4 for h in old["hidden"]]}
    )
    for layer in narrow.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, 0.5)
    nn.init.zeros_(narrow.classify.weight)
    nn.init.zeros_(narrow.classify.bias)
    return narrow.requires_grad_(True)
