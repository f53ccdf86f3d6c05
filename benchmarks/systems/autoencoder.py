"""The unsupervised auto-encoder: E and a decoder learn to rebuild the photo; S is trained on the
thumbnails of E, frozen. Source: the paper names it; layers, loss and length are ours."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from run import System, drawn

from learned_downscale.core.decoder import Decoder
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.losses import autoencoding
from learned_downscale.thumbnet.networks import Reader

STEPS, CROP, RATE = 600, 96, 4e-3


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    E, decoder = Downscaler(factor), Decoder(factor)
    optimiser = torch.optim.AdamW([*E.parameters(), *decoder.parameters()], RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        x = drawn(photos, step, CROP)
        loss = autoencoding(decoder(E(x)), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    print(f"  auto-encoder: {loss.item():.5f}", flush=True)
    E.requires_grad_(False)

    @torch.no_grad()
    def thumbnail(photo: Image.Image) -> Image.Image:
        x = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
        y = (E(x[None])[0] * 255).round().byte()
        return Image.fromarray(y.permute(1, 2, 0).numpy())

    return System(teacher.copied(), thumbnail)
