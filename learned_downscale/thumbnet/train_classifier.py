"""Train the bundled thumbnail classifier on the thumbnails of a finished E.

L = cl L_CL + kd L_KD + fm L_FM. T is an EfficientNet-Lite on the photos; S is the same network on
thumbnails, its first stride removed, initialised from T. The paper's S takes part in E's training;
this one comes after.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from learned_downscale.api import resize
from learned_downscale.readers.efficientnet_lite import ThumbnailNetwork
from learned_downscale.thumbnet import losses
from learned_downscale.thumbnet.data import Photos, generator
from learned_downscale.thumbnet.settings import ClassifierSettings
from learned_downscale.thumbnet.train import (
    CHECKPOINT,
    STUDENT,
    Report,
    cached,
    checkpoint,
    claim,
    learning_rate,
    predict,
    read_checkpoint,
)

TEACHER_FEATURES = "teacher_features.safetensors"

# Photo pixels per thumbnail pixel, drawn per batch: mostly 4, for which it is measured; the others
# keep it able to read thumbnails of 48 to 128 px.
FACTORS = ((4.0, 0.8), (4.5, 0.05), (3.0, 0.08), (2.0, 0.07))


def train_classifier(
    settings: ClassifierSettings,
    photos: Photos,
    teacher: ThumbnailNetwork,
    run: Path,
    report: Report = lambda done, total, terms: None,
    stop_after: int | None = None,
    start: ThumbnailNetwork | None = None,
) -> ThumbnailNetwork:
    """Train S; it is returned and, when all steps are done, kept in the folder `run`.

    A run that was stopped goes on from its last checkpoint (one an epoch) and ends in the state
    that it would have reached uninterrupted. `stop_after`: stop, with a checkpoint, after so many
    steps. `start`: what S begins as, instead of T.

    Raises:
        ValueError: `run` holds a run of other settings, photos or another teacher, or a damaged
            checkpoint; or the loss is no longer finite.
    """
    run.mkdir(parents=True, exist_ok=True)
    claim(run, settings, photos, teacher)
    # float16: a tenth of a percent is less than a crop changes
    teacher_features = cached(
        run / TEACHER_FEATURES,
        teacher,
        photos,
        lambda: predict(Features(teacher), photos.images).half(),
    ).float()
    one_hot = torch.eye(len(photos.classes))

    S, average = (student(teacher, settings.rescale) for _ in range(2))
    if start is not None:
        S.load_state_dict(start.state_dict())
        average.load_state_dict(start.state_dict())
    batches = Thumbnails(photos, settings)
    total = settings.epochs * batches.steps_per_epoch
    optimiser = torch.optim.AdamW(S.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, partial(learning_rate, total=total, warmup=settings.warmup)
    )
    state: dict[str, Any] = {
        "S": S,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    saved = read_checkpoint(run / CHECKPOINT)
    done: int = saved["step"] if saved else 0
    if saved:
        for name, part in state.items():
            part.load_state_dict(saved[name])

    weights = {"CL": settings.cl, "KD": settings.kd, "FM": settings.fm}
    for step in range(done, min(total, stop_after or total)):
        x_s, index, part = batches.mixed(step)
        features = S.features(x_s)
        logits = S.classify(features)
        # blended thumbnails: the same blend of what each should give
        labels, known = (
            part * t + (1 - part) * t.roll(1, 0)
            for t in (one_hot[photos.labels[index]], teacher_features[index])
        )
        terms = {
            "CL": losses.classification(logits, labels),
            "KD": losses.distillation(logits, teacher.classify(known), settings.temperature),
            "FM": losses.feature_mapping(features, known),
        }
        loss = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        if not loss.isfinite():
            raise ValueError(f"the loss is {loss.item()} at step {step}: diverged; lower lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        # the first steps count fully, so that T's weights are forgotten as fast as S forgets them
        keep = min(settings.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), S.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)

        done = step + 1
        report(done, total, {name: t.item() for name, t in {"loss": loss, **terms}.items()})
        if done % batches.steps_per_epoch == 0 or done in (total, stop_after):
            checkpoint(run / CHECKPOINT, done, state)

    if done == total:
        save_file({k: v.contiguous() for k, v in average.state_dict().items()}, run / STUDENT)
    return average


class Features(nn.Module):
    """phi: the means over the positions of a network's last map."""

    def __init__(self, network: ThumbnailNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.features(x)


def student(teacher: ThumbnailNetwork, rescale: float) -> ThumbnailNetwork:
    """S, initialised from T: the same layers, the first without its stride."""
    S = ThumbnailNetwork(**{**teacher.config, "stem_stride": 1, "rescale": rescale})
    S.load_state_dict(teacher.state_dict())
    return S


class Thumbnails:
    """Endless shuffled batches of thumbnails; batch `step` depends on (seed, step) alone.

    Augmentation (ours): crops of any aspect at the photo's own resolution and flips; then, on the
    thumbnail, brightness and contrast, and JPEG. One crop size and factor a batch, one place an
    image.
    """

    def __init__(self, photos: Photos, settings: ClassifierSettings) -> None:
        self.photos, self.settings = photos, settings
        self.batch_size = min(settings.batch_size, len(photos))
        self.steps_per_epoch = len(photos) // self.batch_size
        self.downscale = DOWNSCALE[settings.downscaler]

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """x_s (N, 3, h, w) in [0, 1], and the places (N,) of its photos."""
        settings = self.settings
        epoch, within = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.photos), generator=generator(settings.seed, 0, epoch))
        index = order[within * self.batch_size : (within + 1) * self.batch_size]
        draw = np.random.default_rng((settings.seed, 1, step))
        side = self.photos.images.shape[-1]
        factors, chances = zip(*FACTORS, strict=True)
        factor = draw.choice(factors, p=chances)
        # whole factors of the photo, so that thumbnail pixels hold whole pixels
        height, width = (
            min(side, round(round(part * side / factor) * factor))
            for part in draw.uniform(settings.min_crop, 1, 2)
        )
        tops = draw.integers(0, side - height, len(index), endpoint=True)
        lefts = draw.integers(0, side - width, len(index), endpoint=True)
        x = torch.stack(
            [
                self.photos.images[i, :, top : top + height, left : left + width]
                for i, top, left in zip(index, tops, lefts, strict=True)
            ]
        )
        flips = torch.from_numpy(draw.random(len(index)) < 0.5)
        x = torch.where(flips[:, None, None, None], x.flip(3), x)
        x_s = self.downscale(x, (round(width / factor), round(height / factor)))
        return self._disturb(x_s, draw), index

    def mixed(self, step: int) -> tuple[Tensor, Tensor, float]:
        """A batch, each thumbnail blended with the one before: x_s, the places of its photos, and
        the part that each has in its own; 1 where there is no blend."""
        x_s, index = self[step]
        draw = np.random.default_rng((self.settings.seed, 2, step))
        if draw.random() >= self.settings.mixup:
            return x_s, index, 1.0
        part = float(draw.uniform(0.5, 1))
        return part * x_s + (1 - part) * x_s.roll(1, 0), index, part

    def _disturb(self, x_s: Tensor, draw: np.random.Generator) -> Tensor:
        amount = self.settings.jitter
        gains = torch.from_numpy(draw.uniform(1 - amount, 1 + amount, (2, len(x_s), 1, 1, 1)))
        brightness, contrast = gains.float()
        x = x_s.float() / 255
        mean = x.mean((1, 2, 3), keepdim=True)
        x = ((x - mean) * contrast + mean * brightness).clamp(0, 1)
        for i in np.flatnonzero(draw.random(len(x)) < self.settings.jpeg):
            x[i] = _jpeg(x[i], int(draw.integers(60, 95, endpoint=True)))
        return x


def _jpeg(x: Tensor, quality: int) -> Tensor:
    """(3, H, W) in [0, 1] as it comes back from a JPEG file."""
    pixels = (x * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        back = torch.from_numpy(np.array(image))
    return back.permute(2, 0, 1).float() / 255


def _bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pillow's bicubic."""
    images = [
        Image.fromarray(one.numpy()).resize(size, Image.Resampling.BICUBIC)
        for one in x.permute(0, 2, 3, 1).contiguous()
    ]
    return torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2)


# (N, 3, H, W) uint8 and (width, height) -> thumbnails, uint8, by the name in the settings
DOWNSCALE: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "learned": resize,
    "bicubic": _bicubic,
}
