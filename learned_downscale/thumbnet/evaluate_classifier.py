"""Measure and calibrate classifiers that `classify_thumbnails` trained."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learned_downscale import pretrained
from learned_downscale.core.resampling import Array
from learned_downscale.readers.bundled import ThumbnailClassifier
from learned_downscale.thumbnet import recipe as recipes
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.evaluate import accuracy
from learned_downscale.thumbnet.settings import ClassifyThumbnails
from learned_downscale.thumbnet.tables import as_changes, column
from learned_downscale.thumbnet.thumbnails import make_thumbnails, saved

ROUNDS = 7  # of the measurement of speed
BINS = 15  # of the expected calibration error


@dataclass(frozen=True)
class Row:
    """One line of the table: a classifier on the thumbnails of the photos.

    recipe, changes: how it was trained. thumbnails: those that it reads here. size: "WxH", px.
    top1, top5, ece: percent; the ECE over 15 bins of equal width.
    """

    recipe: str = column("recipe")
    changes: tuple[str, ...] = column("changes")
    thumbnails: str = column("thumbnails")
    size: str = column("size, px")
    top1: float = column("top-1 %", ".1f")
    top5: float = column("top-5 %", ".1f")
    ece: float = column("ECE %", ".1f")


def evaluate(photos: Photos, folders: Sequence[Path]) -> tuple[list[Row], dict[str, Any]]:
    """The rows of weights folders, and other figures of the first one.

    The temperature is chosen on every other photo at factor 4; all probabilities are at it.
    figures: `temperature`; `ece_before`, `ece_after`: percent, on the photos that it was not
    chosen on; `threshold`, `named`, `right_of_named`: effect of the threshold at factor 4, percent
    of the thumbnails that get a label, and of those labels that are right (None: there are none);
    `per_second`: thumbnails of 56 px on all cores.

    Raises:
        FileNotFoundError, ValueError: as `ThumbnailClassifier.from_pretrained`; a classifier that
            other tasks trained or that does not know the classes; or a single photo.
    """
    if len(photos) < 2:
        raise ValueError("one photo: the temperature is chosen on one half, measured on the other")
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    # all of them first: what is wrong with one is said before minutes of work
    every = [(_recipe(f), ThumbnailClassifier.from_pretrained(f)) for f in folders]
    places = [_places(classifier, photos) for _, classifier in every]
    for n, ((recipe, classifier), labels) in enumerate(zip(every, places, strict=True)):
        kind = _thumbnails_of(recipe)
        side = photos.images.shape[-1] // 4
        quarter = partial(make_thumbnails, size=(side, side), kind=kind)
        classifier.temperature = 1.0
        raw = _probabilities(classifier, photos.images, quarter)
        classifier.temperature = best_temperature(raw[::2], labels[::2])
        rows += [
            Row(recipe.name, as_changes(dict(recipe.changes)), name, f"{w}x{h}", *reached)
            for name, (w, h), reached in _measure(classifier, kind, photos.images, labels, n == 0)
        ]
        if n == 0:
            cool = _probabilities(classifier, photos.images, quarter)
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


def _recipe(folder: Path) -> recipes.Recipe:
    config = pretrained.read_config(folder, "classifier")
    if "training" not in config:
        raise ValueError(f"{folder} does not say how it was trained, so not what it reads")
    return recipes.from_config(config["training"]["recipe"])


def _thumbnails_of(recipe: recipes.Recipe) -> str:
    last = recipe.settings.tasks[-1] if recipe.settings.tasks else None
    if not isinstance(last, ClassifyThumbnails):
        raise ValueError(
            f"a student of recipe {recipe.name} reads thumbnails of the downscaler that it was "
            "trained with; measure the run that trained both"
        )
    return last.thumbnails


def _places(classifier: ThumbnailClassifier, photos: Photos) -> Array:
    """The class of each photo among the classifier's."""
    places = [classifier.output_of(name) for name in photos.classes]
    unknown = [n for n, place in zip(photos.classes, places, strict=True) if place is None]
    if unknown:
        raise ValueError(f"the classifier does not know the class folders {', '.join(unknown)}")
    return np.array(places)[photos.labels.numpy()]


# Thumbnails, uint8, of photos (M, 3, H, W), uint8
_Maker = Callable[[Tensor], Tensor]
_Reached = tuple[float, float, float]


def _measure(
    classifier: ThumbnailClassifier, kind: str, images: Tensor, labels: Array, full: bool
) -> list[tuple[str, tuple[int, int], _Reached]]:
    """Thumbnails, their size, and top-1, top-5 and ECE, percent."""
    side = images.shape[-1]
    quarter = side // 4, side // 4

    def maker(size: tuple[int, int], kind: str = kind) -> _Maker:
        return partial(make_thumbnails, size=size, kind=kind)

    def through_jpeg(quality: int) -> _Maker:
        return lambda x: saved(maker(quarter)(x), quality)

    sets = [(kind, quarter, maker(quarter))]
    sets += [(f"{kind}, JPEG {q}", quarter, through_jpeg(q)) for q in (95, 75)]
    if full:
        sets += [(kind, (s, s), maker((s, s))) for s in (48, 64, 80, 96, 112, 128)]
        cut, flat = side // 8, (side // 4, side // 4 * 3 // 4)
        sets.append(
            (f"{kind}, cropped", flat, lambda x: maker(flat)(x[:, :, cut:-cut].contiguous()))
        )
        other = "bicubic" if kind == "default" else "default"
        sets.append((other, quarter, maker(quarter, other)))
    return [
        (name, size, _reached(_probabilities(classifier, images, make), labels))
        for name, size, make in sets
    ]


def _reached(probabilities: Array, labels: Array) -> _Reached:
    top1, top5 = accuracy(torch.from_numpy(probabilities), torch.from_numpy(labels))
    return top1, top5, 100 * calibration_error(probabilities, labels)


def _probabilities(classifier: ThumbnailClassifier, images: Tensor, make: _Maker) -> Array:
    return np.concatenate([classifier.probabilities(make(x)) for x in images.split(64)])


def calibration_error(probabilities: Array, labels: Array) -> float:
    """ECE = sum_b n_b / n |accuracy_b - confidence_b| over 15 bins of the confidence.

    Source: Guo et al. 2017.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        (bins == b).sum() * abs(right[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    ]
    return float(sum(gaps) / len(labels))


def best_temperature(probabilities: Array, labels: Array) -> float:
    """The temperature by which dividing the logits gives the least negative log-likelihood.

    probabilities: at temperature 1, of photos that the network was not trained on.
    """
    logits = torch.from_numpy(probabilities).clamp(min=1e-12).log()
    truth = torch.from_numpy(labels)
    temperatures = torch.logspace(-1, 1, 401)
    losses = [F.cross_entropy(logits / t, truth).item() for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])


def thumbnails_per_second(classifier: ThumbnailClassifier, side: int = 56) -> float:
    """Median of several rounds of 256 thumbnails, as the library reads them, on all cores."""
    images = list(np.random.default_rng(0).integers(0, 256, (256, side, side, 3), np.uint8))
    classifier.probabilities(images)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        classifier.probabilities(images)
        times.append(time.perf_counter() - start)
    return len(images) / statistics.median(times)
