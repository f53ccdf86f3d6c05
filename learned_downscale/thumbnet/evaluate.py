"""Measure E through classifiers: T on originals, S on thumbnails."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.core.downscaler import Downscaler, bicubic
from learned_downscale.core.bicubic import Array
from learned_downscale.verification.similarity import psnr, ssim
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.jpeg import jpeg
from learned_downscale.thumbnet.networks import Classifier
from learned_downscale.thumbnet.settings import (
    PRESETS,
    Settings,
    called,
    student_is_trained,
    student_side,
)
from learned_downscale.thumbnet.train import check_runs, load_run, load_settings, predict


@dataclass(frozen=True)
class Row:
    """One line of the table.

    top1, top5: percent of the photos. psnr: mean over photos, dB, against Pillow's bicubic of
    the same size (100 dB where they are equal); None where there is no thumbnail, or it is that
    bicubic one.
    """

    system: str
    factor: int
    seed: int | None
    top1: float
    top5: float
    psnr: float | None
    photos: int


def evaluate(
    photos: Photos,
    teacher: Classifier,
    runs: Sequence[Path],
    quality: int | None = None,
    reader: Classifier | None = None,
) -> list[Row]:
    """T on the originals, then S on E's thumbnails (8 bits) for each finished run.

    Everything is computed in float32. quality: S sees the thumbnails as they come back from JPEG
    files of this quality. reader: a network that was trained on photos reads them in S's place,
    behind S's decoder, if it has one, and enlarged (bicubic) to the size of the photos; it reads
    the originals, too, in T's place.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: a run had another teacher, other classes or photos of another size.
    """
    check_runs(runs, teacher, photos)
    rows = [_row("original", 1, None, predict(reader or teacher, photos.images), photos, None)]
    for run in runs:
        settings, E, S = load_run(run, teacher, photos.classes)
        small = thumbnails(photos.images, E, teacher.mean.device)
        seen = partial(_seen, quality, None if reader is None else S.front, photos.images.shape[-1])
        logits = predict(S if reader is None else reader, small, seen)
        ratio = likeness(photos.images, small)[0] if isinstance(E, Downscaler) else None
        system = name(settings)
        if reader is None and len(students(runs, settings.factor)) > 1:
            system += f"; S: {student(settings)}"
        rows.append(_row(system, settings.factor, settings.seed, logits, photos, ratio))
    return rows


def name(settings: Settings) -> str:
    """What a run is called in the table: the baselines, "thumbnet", and what it leaves out or
    does otherwise."""
    if settings.downscaler != "learned":
        system = f"{settings.downscaler}-retrained"
    else:
        unsupervised = settings.stage1 == "autoencoder" and settings.freeze == "stage2"
        system = "autoencoder" if unsupervised else "thumbnet"
    if not student_is_trained(settings):
        system = system.removesuffix("-retrained")
    return ", ".join((system, *_hidden(settings), *otherwise(settings)))


def student(settings: Settings) -> str:
    """What reads the thumbnails."""
    parts = [called(settings.student)]
    if settings.width < 1:
        parts.append(f"width {settings.width:g}")
    if settings.first_stride:
        parts.append(f"first stride {settings.first_stride}")
    if settings.crop_odd:
        parts.append("odd maps cropped")
    if settings.rebuild > 1:
        parts.append(f"rebuilds {settings.rebuild}x")
        if settings.decoder_width != Settings.decoder_width:
            parts[-1] += f" by {settings.decoder_width} channels"
    if settings.rescale != 1:
        parts.append(f"at {student_side(settings)} px")
    if not student_is_trained(settings):
        return ", ".join((*parts, "not retrained"))
    usual = PRESETS["default" if settings.rebuild > 1 else "supervised"].student_lr
    if settings.student_lr != usual:
        parts.append(f"learning rate {settings.student_lr:g}")
    if settings.epochs != 1:
        parts.append(f"{settings.epochs} epochs" if settings.epochs else "stage 1 alone")
    return ", ".join(parts)


def students(runs: Sequence[Path], factor: int) -> set[str]:
    """The S of the runs of a factor; all else is equal only where there is one."""
    return {student(s) for s in map(load_settings, runs) if s.factor == factor}


def _hidden(settings: Settings) -> list[str]:
    """How E is told to hide its detail, where it is not the recipe's way."""
    marks: list[str] = []
    recipe = PRESETS["default"]
    if settings.downscaler != "learned":
        return marks  # a filter is told nothing
    if settings.rebuild > 1:
        if settings.qim == 1:
            marks.append("no code")
        elif settings.qim != recipe.qim:
            marks.append(f"qim {settings.qim}")
    if settings.freeze == "always":
        pass  # no loss reaches E
    elif settings.stage1 in ("autoencoder", "perceptual"):
        if settings.mm and (settings.mm, settings.ae) != (recipe.mm, recipe.ae):
            marks.append(f"MM {settings.mm:g}, AE {settings.ae:g}")
    elif settings.mm not in (0, recipe.mm):
        marks.append(f"MM {settings.mm:g}")
    return marks


def otherwise(settings: Settings) -> list[str]:
    """What else a run does otherwise than the recipe; and its stage 1, but for the auto-encoder,
    which is behind most figures there are."""
    marks, recipe = [], PRESETS["default"]
    if settings.downscaler == "learned" and settings.channels != recipe.channels:
        marks.append(f"{settings.channels} channels")
    if settings.stage1 != "none" and settings.stage1_epochs != recipe.stage1_epochs:
        plural = "s" * (settings.stage1_epochs > 1)
        marks.append(f"{settings.stage1_epochs} epoch{plural} of stage 1")
    marks += [f"no {loss.upper()}" for loss in ("cl", "kd", "mm") if not getattr(settings, loss)]
    weight = "FM" if settings.fm in (0, 1) else f"FM {settings.fm:g}"
    if settings.stage1 == "none" and settings.rebuild > 1 and not settings.start:
        marks.append("no stage 1")
    elif settings.stage1 == "fm":
        marks.append(f"{weight} in stage 1")
    elif settings.stage1 == "perceptual":
        marks.append("perceptual" if weight == "FM" else f"perceptual, {weight}")
    if settings.fm and settings.epochs:
        marks.append(weight)
    if settings.jpeg:
        marks.append("JPEG" if settings.jpeg == 1 else f"JPEG in {settings.jpeg:.0%}")
    if settings.kd and settings.kd_on == "crop":
        marks.append("T on crops")
    if settings.epochs and settings.enlarge:
        marks.append(f"crops from {settings.min_crop:g} enlarged")
    if settings.epochs and settings.mixup:
        marks.append(f"mixup {settings.mixup:g}")
    if settings.epochs and settings.batch_norm != "teacher":
        marks.append("batch norm of batches")
    if settings.others:
        marks.append(f"learned for {called(settings.others)}, too")
    if not settings.student_lr and settings.epochs > 1:
        marks.append(f"{settings.epochs} epochs")
    if settings.start and settings.downscaler != "learned":
        marks.append("decoder of another run")
    elif settings.start:
        marks.append("E of another run" + ", trained on" * (settings.freeze == "no"))
    if settings.freeze == "stage2" and settings.stage1 != "autoencoder":
        marks.append("E frozen in stage 2")
    return marks


def _seen(quality: int | None, decoder: nn.Module | None, size: int, x_s: Tensor) -> Tensor:
    """What a network is given of thumbnails: S themselves, a reader what S's decoder makes of them,
    enlarged to the photos' size."""
    if quality is not None:
        x_s = jpeg(x_s, quality)
    if decoder is None:
        return x_s
    return F.interpolate(decoder(x_s), (size, size), mode="bicubic").clamp(0, 1)


@torch.no_grad()
def thumbnails(
    images: Tensor,
    downscaler: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int = 64,
) -> Tensor:
    """(M, 3, h, w) uint8, what E or a filter makes of images (M, 3, H, W), uint8."""
    made = [downscaler(batch.to(device).float() / 255) for batch in images.split(batch_size)]
    return torch.cat([(255 * x_s).round().byte().cpu() for x_s in made])


def likeness(images: Tensor, small: Tensor) -> tuple[float, float]:
    """Mean PSNR (dB, at most 100 each) and SSIM of thumbnails (M, 3, h, w) of the images
    (M, 3, H, W; all uint8) against Pillow's bicubic ones."""
    h, w = small.shape[-2:]
    other = thumbnails(images, lambda x: bicubic(x, (h, w)), torch.device("cpu"))
    pairs = list(zip(pixels(small), pixels(other), strict=True))
    ratio, similarity = (statistics.mean(f(a, b) for a, b in pairs) for f in (psnr, ssim))
    return ratio, similarity


def pixels(images: Tensor) -> Array:
    """(M, H, W, 3) of (M, 3, H, W), uint8."""
    out: Array = images.permute(0, 2, 3, 1).numpy()
    return out


def _row(
    system: str, factor: int, seed: int | None, logits: Tensor, photos: Photos, psnr: float | None
) -> Row:
    top1, top5 = accuracy(logits, photos.labels)
    return Row(system, factor, seed, top1, top5, psnr, len(photos))


def accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 and top-5, percent; with fewer than five classes, top-5 is of all there are."""
    right = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    top1, top5 = (100 * r.float().mean().item() for r in (right[:, 0], right.any(1)))
    return top1, top5


def markdown(rows: Sequence[Row]) -> str:
    """The table as people read it."""
    lines = [
        "| system | factor | seed | top-1 % | top-5 % | PSNR to bicubic, dB | photos |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        seed = "" if row.seed is None else row.seed
        psnr = "" if row.psnr is None else f"{row.psnr:.1f}"
        lines.append(
            f"| {row.system} | {row.factor} | {seed} | {row.top1:.1f} | {row.top5:.1f} "
            f"| {psnr} | {row.photos} |"
        )
    return "\n".join(lines)
