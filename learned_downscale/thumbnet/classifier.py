"""The thumbnail classifier: its task, its thumbnails, its accuracy and calibration."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from learned_downscale import pretrained
from learned_downscale.api import resize
from learned_downscale.core.filters import FILTERS
from learned_downscale.core.resampling import Array
from learned_downscale.readers.bundled import ThumbnailClassifier
from learned_downscale.readers.network import ClassifierNetwork, with_short_side
from learned_downscale.thumbnet import losses, settings
from learned_downscale.thumbnet import recipe as recipes
from learned_downscale.thumbnet.data import Batch, Batches, Photos, crops
from learned_downscale.thumbnet.lossy import stored
from learned_downscale.thumbnet.tables import column
from learned_downscale.thumbnet.tasks import (
    Models,
    Task,
    Trainable,
    accuracy,
    autocast,
)

ROUNDS = 7  # of the measurement of speed
BINS = 15  # of the expected calibration error
# The files of measured thumbnails -> quality and format in `lossy`.
FILES: dict[str, Any] = {
    "PNG": (),
    "JPEG 90": (90, "jpeg"),
    "JPEG 75, 4:2:0": (75, "jpeg-420"),
    "WebP 80": (80, "webp"),
}

# Photo pixels per thumbnail pixel, drawn per batch: mostly 4, for which it is measured; the others
# keep it able to read larger thumbnails.
FACTORS = ((4.0, 0.8), (4.5, 0.05), (3.0, 0.08), (2.0, 0.07))


class ClassifyThumbnails(Task):
    """L = cl L_CL + kd L_KD + fm L_FM. S is the moving average of a network in training."""

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__(made_of, models)
        self.S, self.trained = models.S, copy.deepcopy(models.S)
        networks = [reader.network for reader in (self.S, self.frozen[0])]
        sizes = [n.classify.in_features for n in networks if isinstance(n, ClassifierNetwork)]
        if len(set(sizes)) != 1 or len(sizes) != 2:
            raise ValueError(
                "classify_thumbnails compares the features of S and T; both must be ResNets or "
                "EfficientNet-Lites with as many features"
            )

    def trainable(self) -> list[Trainable]:
        return [Trainable("rate", list(self.trained.network.parameters()), self.settings.rate)]

    def batches(self, photos: Photos, device: torch.device) -> Thumbnails:
        return Thumbnails(photos, self.settings, self.run, device)

    def begin(self) -> None:
        self.trained.load_state_dict(self.S.state_dict())

    def after_step(self, step: int) -> None:
        # the first steps count fully, so that T's weights are forgotten as fast as S forgets them
        keep = min(self.settings.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(self.S.parameters(), self.trained.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network, teacher = self.trained.network, self.frozen[0].network
        assert isinstance(network, ClassifierNetwork) and isinstance(teacher, ClassifierNetwork)
        assert batch.photos is not None  # `Thumbnails` gives them
        made = self.settings
        with autocast(batch.x.device, self.run.precision):
            features = network.features(self.trained.decoder(batch.x))
            logits = network.classify(features).float()
            terms = {"CL": losses.classification(logits, batch.labels)} if made.cl else {}
            if made.kd or made.fm:
                # S learns to see in the thumbnail what T sees in the very crop
                with torch.no_grad():
                    x = with_short_side(batch.photos.float() / 255, self.run.size)
                    known = teacher.features(x).float()
                    wanted = teacher.classify(known).float()
                terms["KD"] = losses.distillation(logits, wanted, made.temperature)
                terms["FM"] = losses.feature_mapping(features.float(), known)
        return {name: term for name, term in terms.items() if name in made.weights()}


class Thumbnails(Batches):
    """Batches of thumbnails. Augmentation (ours): crops of any aspect at the photo's own resolution
    and flips; then, on the thumbnail, brightness and contrast, and JPEG. One crop size and factor a
    batch, one place an image."""

    def __init__(
        self, photos: Photos, made_of: Any, run: settings.Run, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(photos, run)
        self.settings, self.device = made_of, device

    def take(self, step: int, part: slice = slice(None)) -> Batch:
        x, index, photos = (t[part].to(self.device) for t in self._make(step))
        labels = self.photos.labels.to(self.device)[index]
        return Batch(x, labels, index, step, photos=photos)

    def _make(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Thumbnails (N, 3, h, w) in [0, 1], the places (N,) of their photos, and the crops
        (N, 3, H, W), uint8, that they were made of."""
        index = self.shuffled(step)
        draw = np.random.default_rng((self.seed, 1, step))
        side = self.photos.images.shape[-1]
        factors, chances = zip(*FACTORS, strict=True)
        factor = draw.choice(factors, p=chances)
        # whole factors of the photo, so that thumbnail pixels hold whole pixels
        height, width = (
            min(side, round(round(part * side / factor) * factor))
            for part in draw.uniform(self.settings.min_crop, self.settings.max_crop, 2)
        )
        tops, lefts = (
            draw.integers(0, side - length, len(index), endpoint=True) for length in (height, width)
        )
        flips = torch.from_numpy(draw.random(len(index)) < 0.5)
        corners = torch.from_numpy(np.stack([tops, lefts], 1))
        x = crops(self.photos.images, index, corners, (height, width), flips)
        size = round(width / factor), round(height / factor)
        kind = str(draw.choice(self.settings.thumbnails))
        return self._through_files(make_thumbnails(x, size, kind), draw), index, x

    def _through_files(self, x_s: Tensor, draw: np.random.Generator) -> Tensor:
        x = x_s.float() / 255
        for i in np.flatnonzero(draw.random(len(x)) < self.settings.lossy):
            quality = int(draw.integers(self.settings.min_quality, 95, endpoint=True))
            kind = str(draw.choice(self.settings.formats))
            x[i] = stored(x[i : i + 1], quality, kind)[0]
        return x


def make_thumbnails(x: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """Thumbnails of photos, (N, 3, H, W) uint8, in a size (width, height); kind: "default", the
    library's, or a filter of Pillow."""
    if kind == "default":
        made: Tensor = resize(x, size)
        return made
    resampling = FILTERS[kind].resampling
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    small = [np.asarray(Image.fromarray(one).resize(size, resampling)) for one in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Row:
    """A classifier on thumbnails. recipe, changes: how it was trained. thumbnails: what it reads
    here. size: "WxH", px. top1, top5, ece (15 bins of equal width): percent."""

    recipe: str = column("recipe")
    changes: tuple[str, ...] = column("changes")
    thumbnails: str = column("thumbnails")
    file: str = column("file")
    size: str = column("size, px")
    top1: float = column("top-1 %", ".1f")
    top5: float = column("top-5 %", ".1f")
    ece: float = column("ECE %", ".1f")


def measure_classifiers(
    photos: Photos, folders: Sequence[Path]
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of weights folders, and other figures of the first one.

    The temperature is chosen on every other photo, on bicubic thumbnails at factor 4, which favours
    no weights; all probabilities are at it. figures: `temperature`; `ece_before`, `ece_after`:
    percent, on the photos that it was not chosen on; `threshold`, `named`, `right_of_named`:
    percent of the same thumbnails that get a label, and of those labels that are right (None:
    there are none); `per_second`: thumbnails of 56 px on all cores.

    Raises:
        FileNotFoundError, ValueError: as `ThumbnailClassifier.from_pretrained`; a classifier that
            other tasks trained or that does not know the classes; or a single photo.
    """
    if len(photos) < 2:
        raise ValueError("one photo: the temperature is chosen on one half, measured on the other")
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    side = photos.images.shape[-1]
    chosen_on = ("bicubic", "PNG", side // 4)
    # all of them first: what is wrong with one is said before minutes of work
    every = [_read(folder, photos) for folder in folders]
    for classifier, recipe, labels in every:
        classifier.temperature = 1.0
        raw = _probabilities(classifier, photos.images, *chosen_on)
        classifier.temperature = best_temperature(raw[::2], labels[::2])
        for kind, file, length in _sets(side):
            found = _probabilities(classifier, photos.images, kind, file, length)
            top1, top5 = accuracy(torch.from_numpy(found), torch.from_numpy(labels))
            ece = 100 * calibration_error(found, labels)
            changes, size = recipes.as_changes(recipe.changes), f"{length}x{length}"
            rows.append(Row(recipe.name, changes, kind, file, size, top1, top5, ece))
        if not figures:
            cool = _probabilities(classifier, photos.images, *chosen_on)
            named, right = cool.max(1) >= classifier.threshold, cool.argmax(1) == labels
            figures = {
                "temperature": classifier.temperature,
                "ece_before": 100 * calibration_error(raw[1::2], labels[1::2]),
                "ece_after": 100 * calibration_error(cool[1::2], labels[1::2]),
                "threshold": classifier.threshold,
                "named": 100 * float(named.mean()),
                "right_of_named": 100 * float(right[named].mean()) if named.any() else None,
                "per_second": thumbnails_per_second(classifier),
            }
    return rows, figures


def _read(folder: Path, photos: Photos) -> tuple[ThumbnailClassifier, recipes.Recipe, Array]:
    """A classifier, its recipe, and the photos' labels."""
    training = pretrained.read_config(folder, "classifier").get("training")
    if training is None:
        raise ValueError(f"{folder} does not say how it was trained, so not what it reads")
    recipe = recipes.from_config(training["recipe"])
    last = recipe.settings.tasks[-1] if recipe.settings.tasks else None
    if not isinstance(last, settings.ClassifyThumbnails):
        raise ValueError(
            f"{folder} reads thumbnails of the downscaler that it was trained with; measure the "
            "run that trained both"
        )
    classifier = ThumbnailClassifier.from_pretrained(folder)
    places = [classifier.output_of(name) for name in photos.classes]
    if unknown := [n for n, place in zip(photos.classes, places, strict=True) if place is None]:
        raise ValueError(f"the classifier does not know the class folders {', '.join(unknown)}")
    return classifier, recipe, np.array(places)[photos.labels.numpy()]


def _sets(side: int) -> list[tuple[str, str, int]]:
    """The thumbnails of the rows: who makes them, their file, their width and height."""
    quarter = side // 4
    return [
        *((kind, file, quarter) for kind in ("default", "bicubic") for file in FILES),
        *((kind, "PNG", quarter) for kind in ("box", "lanczos")),
        *(("bicubic", "PNG", length) for length in (48, 64, 80, 96, 128, 160)),
    ]


def _probabilities(
    classifier: ThumbnailClassifier, images: Tensor, kind: str, file: str, side: int
) -> Array:
    found = []
    for x in images.split(64):
        small = make_thumbnails(x, (side, side), kind)
        if FILES[file]:
            small = (stored(small.float() / 255, *FILES[file]) * 255).round().byte()
        found.append(classifier.probabilities(small))
    return np.concatenate(found)


def calibration_error(probabilities: Array, labels: Array) -> float:
    """ECE = sum_b n_b / n |accuracy_b - confidence_b| over 15 bins of the confidence (Guo et al.
    2017)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        (bins == b).sum() * abs(right[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    ]
    return float(sum(gaps) / len(labels))


def best_temperature(probabilities: Array, labels: Array) -> float:
    """The temperature by which dividing the logits gives the least negative log-likelihood;
    probabilities: at temperature 1, of photos that the network was not trained on."""
    logits = torch.from_numpy(probabilities).clamp(min=1e-12).log()
    truth = torch.from_numpy(labels)
    temperatures = torch.logspace(-1, 1, 401)
    losses = [F.cross_entropy(logits / t, truth).item() for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])


def thumbnails_per_second(classifier: ThumbnailClassifier, side: int = 56) -> float:
    """Median of several rounds of 256 thumbnails, as the library reads them, on all cores."""
    images = list(np.random.default_rng(0).integers(0, 256, (256, side, side, 3), np.uint8))
    times = repeat(lambda: classifier.probabilities(images), number=1, repeat=ROUNDS + 1)
    return len(images) / statistics.median(times[1:])
