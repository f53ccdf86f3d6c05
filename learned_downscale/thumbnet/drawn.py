"""Drawn pictures that hold E to what photos say little of: waves too fine for thumbnails, and what
clipping at black and white makes darker or brighter: text and stripes."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from learned_downscale.core.tensors import quantise


def gratings(count: int, size: int, factor: int, chance: torch.Generator) -> Tensor:
    """(N, 3, size, size) in [0, 1]: plane waves and chirps, grey and coloured, whose frequency lies
    above the thumbnail's Nyquist frequency along one axis at least."""
    draw = torch.rand(count, 10, generator=chance)
    limit = 1.25 * 0.5 / factor
    place = torch.arange(size).float()
    waves = []
    for u, v, swap, zero, du, dv, phase, contrast, square, grey in draw.tolist():
        high = limit + (0.5 - limit) * u  # cycles per pixel
        low = 0.0 if zero < 0.4 else v - 0.5
        fx, fy = (high, low) if swap < 0.5 else (low, high)
        drift = 0.12 / size if zero > 0.7 else 0.0
        across = fx * place + drift * (du - 0.5) * place**2
        down = fy * place + drift * (dv - 0.5) * place**2
        wave = torch.cos(2 * math.pi * (down[:, None] + across + phase))
        wave = wave.sign() if square < 0.25 else wave
        colour = torch.ones(3) if grey < 0.7 else torch.rand(3, generator=chance)
        waves.append(0.5 + min(0.5, contrast) * wave * colour[:, None, None])
    return quantise(torch.stack(waves).clamp(0, 1), 255)


def pages(count: int, size: int, chance: torch.Generator) -> Tensor:
    """(N, 3, size, size) in [0, 1]: black letters on white, in Pillow's own font."""
    drawn = []
    for _ in range(count):
        page = Image.new("L", (size, size), "white")
        draw = ImageDraw.Draw(page)
        height = int(torch.randint(14, 40, (), generator=chance))
        for top in range(-4, size, int(1.3 * height)):
            codes = torch.randint(33, 127, (size // 6,), generator=chance).tolist()
            words = "".join(" " if code % 6 == 0 else chr(code) for code in codes)
            draw.text((-4, top), words, "black", ImageFont.load_default(height))
        drawn.append(np.array(page))
    levels = torch.from_numpy(np.stack(drawn))[:, None].expand(-1, 3, -1, -1)
    return levels.float() / 255


def stripes(count: int, size: int, chance: torch.Generator) -> Tensor:
    """(N, 3, size, size) in [0, 1]: stripes and checkers of 1 to 4 px, and noise, in a colour on
    black or white."""
    place = torch.arange(size)
    found = []
    for _ in range(count):
        width, kind, white = torch.randint(12, (3,), generator=chance).tolist()
        cells = place // (1 + width % 4)
        down, across = cells[:, None].expand(size, size), cells.expand(size, size)
        noise = torch.randint(2, (size, size), generator=chance)
        which = (down, across, down + across, noise)[kind % 4] % 2
        colour = torch.rand(3, generator=chance)
        colour = colour.round() if white % 3 else colour
        picture = which * colour[:, None, None]
        found.append(1 - picture if white % 2 else picture)
    return quantise(torch.stack(found), 255)
