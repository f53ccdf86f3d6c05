"""Measure runs: T reads the originals, S the thumbnails."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.core.downscaler import Downscaler
from learned_downscale.core.similarity import psnr, ssim
from learned_downscale.core.tensors import bicubic
from learned_downscale.thumbnet import costs
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.lossy import stored
from learned_downscale.thumbnet.networks import Reader
from learned_downscale.thumbnet.recipe import as_changes
from learned_downscale.thumbnet.tables import column
from learned_downscale.thumbnet.tasks import accuracy, predict
from learned_downscale.thumbnet.train import load_run


@dataclass(frozen=True)
class Row:
    """What a network reads in originals, or in the thumbnails of a run. system: "original",
    "learned" or the filter. recipe, changes: of the run, without its filter and seed. top1, top5:
    percent of the photos. psnr (dB; 100: equal), ssim: mean over the photos, against Pillow's
    bicubic thumbnails; None where there are no others. multiply_adds, parameters, activations
    (bytes in float32): of what reads one image; downscaler_multiply_adds: of its thumbnail; None
    where they were not counted."""

    system: str = column("thumbnails")
    recipe: str = column("recipe")
    changes: tuple[str, ...] = column("changes")
    factor: int = column("factor")
    seed: int | None = column("seed")
    top1: float = column("top-1 %", ".1f")
    top5: float = column("top-5 %", ".1f")
    psnr: float | None = column("PSNR to bicubic, dB", ".1f")
    photos: int = column("photos")
    ssim: float | None = column("SSIM", ".3f", default=None)
    multiply_adds: int | None = column("G multiply-adds", ".3f", 1e-9, None)
    parameters: int | None = column("M parameters", ".1f", 1e-6, None)
    activations: int | None = column("activations, MB", ".1f", 1e-6, None)
    downscaler_multiply_adds: int | None = column("downscaler, M multiply-adds", ".2f", 1e-6, None)


def measure_runs(
    photos: Photos,
    teacher: Reader,
    runs: Iterable[Path],
    quality: int | None = None,
    reader: Reader | None = None,
) -> list[Row]:
    """T on the originals, then S on the 8-bit thumbnails of each finished run, in float32.

    quality: the thumbnails are saved as JPEG of this quality first. reader: a frozen network that
    reads the originals in T's place, and the thumbnails in S's, through S's decoder, if it has one,
    and enlarged (bicubic) to the size of the photos.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: it had another teacher, other classes, another size, or no downscaler.
    """
    size = photos.images.shape[-1]
    every = [(run, *load_run(run, teacher, photos.classes)) for run in runs]
    for run, recipe, *_ in every:  # at once, before T reads photos for minutes
        if recipe.settings.run.size != size:
            raise ValueError(
                f"{run} was trained on photos of {recipe.settings.run.size} px, these have {size}; "
                f"give --size {recipe.settings.run.size}"
            )
        if recipe.settings.downscaler is None:
            raise ValueError(f"{run} has no downscaler; measure its classifier's weights folder")
    x = photos.images[:1].to(teacher.device).float() / 255
    first = reader or teacher
    top1, top5 = accuracy(predict(first, photos.images), photos.labels)
    cost = _costs(first, x)
    rows = [Row("original", "", (), 1, None, top1, top5, None, len(photos), **cost)]
    for _, recipe, E, S in every:
        small = thumbnails(photos.images, E, teacher.device)
        read = reader or S

        def inputs(x_s: Tensor, decoder: nn.Module = S.decoder) -> Tensor:
            x_s = x_s if quality is None else stored(x_s, quality)
            if reader is None:
                return x_s
            return F.interpolate(decoder(x_s), (size, size), mode="bicubic").clamp(0, 1)

        top1, top5 = accuracy(predict(read, small, inputs), photos.labels)
        learned = isinstance(E, Downscaler)
        ratio, similarity = likeness(photos.images, small) if learned else (None, None)
        with torch.no_grad():
            cost = _costs(read, inputs(E(x)))
        made, seed = recipe.settings.downscaler, recipe.settings.run.seed
        assert made is not None  # looked at above
        known = ("downscaler.kind", "run.seed")
        changes = as_changes({k: v for k, v in recipe.changes.items() if k not in known})
        cost["downscaler_multiply_adds"] = costs.downscaler_multiply_adds(E, x)
        reached = top1, top5, ratio, len(photos), similarity
        rows.append(Row(made.kind, recipe.name, changes, made.factor, seed, *reached, **cost))
    return rows


def _costs(reader: nn.Module, inputs: Tensor) -> dict[str, Any]:
    return {
        "multiply_adds": costs.multiply_adds(reader, inputs),
        "parameters": costs.parameters(reader),
        "activations": costs.activation_bytes(reader, inputs),
    }


@torch.no_grad()
def thumbnails(images: Tensor, E: Callable[[Tensor], Tensor], device: Any = "cpu") -> Tensor:
    """(M, 3, h, w) uint8, what E or a filter makes of images (M, 3, H, W), uint8."""
    made = [E(batch.to(device).float() / 255) for batch in images.split(64)]
    return torch.cat([(255 * x_s).round().byte().cpu() for x_s in made])


def likeness(images: Tensor, small: Tensor) -> tuple[float, float]:
    """Mean PSNR (dB, at most 100 each) and SSIM of thumbnails (M, 3, h, w) of the images
    (M, 3, H, W; all uint8) against Pillow's bicubic ones."""
    h, w = small.shape[-2:]
    other = thumbnails(images, lambda x: bicubic(x, (h, w)))
    pixels = [t.permute(0, 2, 3, 1).numpy() for t in (small, other)]
    pairs = list(zip(*pixels, strict=True))
    ratio, similarity = (statistics.mean(f(a, b) for a, b in pairs) for f in (psnr, ssim))
    return ratio, similarity
