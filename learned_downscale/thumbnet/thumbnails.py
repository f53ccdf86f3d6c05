"""The task of the thumbnail classifier, and the thumbnails that it is trained and measured on."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from learned_downscale.api import resize
from learned_downscale.core.filters import FILTERS
from learned_downscale.readers.network import ClassifierNetwork
from learned_downscale.thumbnet import losses, settings
from learned_downscale.thumbnet.data import Batch, Photos, shuffled
from learned_downscale.thumbnet.networks import Reader
from learned_downscale.thumbnet.tasks import Models, Task, Trainable, cached, predict

TEACHER_FEATURES = "teacher_features.safetensors"

# Photo pixels per thumbnail pixel, drawn per batch: mostly 4, for which it is measured; the others
# keep it able to read thumbnails of 48 to 128 px.
FACTORS = ((4.0, 0.8), (4.5, 0.05), (3.0, 0.08), (2.0, 0.07))


class ClassifyThumbnails(Task[settings.ClassifyThumbnails]):
    """L = cl L_CL + kd L_KD + fm L_FM. S is the moving average of a network in training."""

    def __init__(self, made_of: settings.ClassifyThumbnails, models: Models) -> None:
        super().__init__(made_of, models)
        self.S, self.trained = models.S, copy.deepcopy(models.S)
        networks = [reader.network for reader in (self.S, self.teacher)]
        sizes = [n.classify.in_features for n in networks if isinstance(n, ClassifierNetwork)]
        if len(set(sizes)) != 1 or len(sizes) != 2:
            raise ValueError(
                "classify_thumbnails compares the features of S and T; both must be ResNets or "
                "EfficientNet-Lites with as many features"
            )
        self.known = torch.empty(0)

    def weights(self) -> dict[str, float]:
        s = self.settings
        return {k: v for k, v in {"CL": s.cl, "KD": s.kd, "FM": s.fm}.items() if v}

    def trainable(self) -> list[Trainable]:
        return [Trainable("rate", list(self.trained.parameters()), self.settings.rate)]

    def batches(self, photos: Photos, device: torch.device) -> Thumbnails:
        return Thumbnails(photos, self.settings, self.run, device)

    def prepare(self, photos: Photos, run: Path) -> None:
        # float16: a tenth of a percent is less than a crop changes
        self.known = (
            cached(
                run / TEACHER_FEATURES,
                self.teacher,
                photos,
                lambda: predict(_Features(self.teacher), photos.images).half(),
            )
            .float()
            .to(self.teacher.device)
        )

    def begin(self) -> None:
        self.trained.load_state_dict(self.S.state_dict())

    def after_step(self, step: int) -> None:
        # the first steps count fully, so that T's weights are forgotten as fast as S forgets them
        keep = min(self.settings.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(self.S.parameters(), self.trained.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network, teacher = self.trained.network, self.teacher.network
        assert isinstance(network, ClassifierNetwork) and isinstance(teacher, ClassifierNetwork)
        features = network.features(self.trained.decoder(batch.x))
        logits = network.classify(features)
        terms = {"CL": losses.classification(logits, batch.labels)}
        if len(self.known):
            known = self.known[batch.index]
            temperature = self.settings.temperature
            terms["KD"] = losses.distillation(logits, teacher.classify(known), temperature)
            terms["FM"] = losses.feature_mapping(features, known)
        return terms


class _Features(nn.Module):
    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, x: Tensor) -> Tensor:
        network = self.reader.network
        assert isinstance(network, ClassifierNetwork)
        return network.features(x)


class Thumbnails:
    """Batches of thumbnails; see `data.Batches`.

    Augmentation (ours): crops of any aspect at the photo's own resolution and flips; then, on the
    thumbnail, brightness and contrast, and JPEG. One crop size and factor a batch, one place an
    image.
    """

    def __init__(
        self,
        photos: Photos,
        made_of: settings.ClassifyThumbnails,
        run: settings.Run,
        device: torch.device | str = "cpu",
    ) -> None:
        self.photos, self.settings, self.seed, self.device = photos, made_of, run.seed, device
        self.batch_size = min(run.batch_size, len(photos))
        self.steps_per_epoch = len(photos) // self.batch_size

    def take(self, step: int, part: slice = slice(None)) -> Batch:
        x, index = self._make(step)
        x, index = x[part].to(self.device), index[part]
        labels = self.photos.labels[index].to(self.device)
        return Batch(x, labels, index.to(self.device), step)

    def smallest(self) -> Batch:
        return self.take(0, slice(0, 1))

    def _make(self, step: int) -> tuple[Tensor, Tensor]:
        """Thumbnails (N, 3, h, w) in [0, 1], and the places (N,) of their photos."""
        index = shuffled(len(self.photos), self.batch_size, self.seed, step)
        draw = np.random.default_rng((self.seed, 1, step))
        side = self.photos.images.shape[-1]
        factors, chances = zip(*FACTORS, strict=True)
        factor = draw.choice(factors, p=chances)
        # whole factors of the photo, so that thumbnail pixels hold whole pixels
        height, width = (
            min(side, round(round(part * side / factor) * factor))
            for part in draw.uniform(self.settings.min_crop, 1, 2)
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
        size = round(width / factor), round(height / factor)
        return self._disturb(make_thumbnails(x, size, self.settings.thumbnails), draw), index

    def _disturb(self, x_s: Tensor, draw: np.random.Generator) -> Tensor:
        amount = self.settings.jitter
        gains = torch.from_numpy(draw.uniform(1 - amount, 1 + amount, (2, len(x_s), 1, 1, 1)))
        brightness, contrast = gains.float()
        x = x_s.float() / 255
        mean = x.mean((1, 2, 3), keepdim=True)
        x = ((x - mean) * contrast + mean * brightness).clamp(0, 1)
        for i in np.flatnonzero(draw.random(len(x)) < self.settings.jpeg):
            levels = (x[i : i + 1] * 255).round().to(torch.uint8)
            x[i] = saved(levels, int(draw.integers(60, 95, endpoint=True)))[0].float() / 255
        return x


def make_thumbnails(x: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """Thumbnails of photos, (N, 3, H, W) uint8, in a size (width, height).

    kind: "default", the library's, or a filter of Pillow.
    """
    if kind == "default":
        made: Tensor = resize(x, size)
        return made
    resampling = FILTERS[kind].resampling
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    small = [np.asarray(Image.fromarray(one).resize(size, resampling)) for one in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)


def saved(x: Tensor, quality: int) -> Tensor:
    """Images (N, 3, H, W) uint8 saved as JPEG and opened again."""
    opened = []
    for pixels in x.permute(0, 2, 3, 1).contiguous().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            opened.append(np.array(image))
    return torch.from_numpy(np.stack(opened)).permute(0, 3, 1, 2)
