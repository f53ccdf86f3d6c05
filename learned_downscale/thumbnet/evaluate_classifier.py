"""Measure a thumbnail classifier, choose the temperature of its probabilities, write its card."""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from learned_downscale import pretrained
from learned_downscale.readers.bundled import ThumbnailClassifier
from learned_downscale.core.bicubic import Array
from learned_downscale.readers.efficientnet_lite import ThumbnailNetwork
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.settings import ClassifierSettings
from learned_downscale.thumbnet.train_classifier import DOWNSCALE, FACTORS

ROUNDS = 7  # of the measurement of speed
BINS = 15  # of the expected calibration error

# A set of uint8 photos (M, 3, H, W) -> their thumbnails, uint8
Thumbnails = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the table: a network on the thumbnails of the photos.

    network: name of its weights folder. trained_on: the thumbnails of its training, "learned" or
    "bicubic". thumbnails: those it reads here. size: "WxH", px. top1, top5, ece: percent; the ECE
    over 15 bins of equal width.
    """

    network: str
    trained_on: str
    thumbnails: str
    size: str
    top1: float
    top5: float
    ece: float


def _saved(thumbnails: Thumbnails, quality: int) -> Thumbnails:
    """The same, saved as JPEG and read again."""

    def through_files(x: Tensor) -> Tensor:
        back = []
        for pixels in thumbnails(x).permute(0, 2, 3, 1).contiguous().numpy():
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=quality)
            with Image.open(file) as image:
                back.append(np.array(image))
        return torch.from_numpy(np.stack(back)).permute(0, 3, 1, 2)

    return through_files


def _reached(probabilities: Array, labels: Array) -> tuple[float, float, float]:
    """Top-1, top-5 and ECE, percent."""
    right = np.argsort(-probabilities, axis=1)[:, :5] == labels[:, None]
    shares = right[:, 0].mean(), right.any(1).mean(), calibration_error(probabilities, labels)
    top1, top5, ece = (100 * float(share) for share in shares)
    return top1, top5, ece


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

    probabilities: what the network gave at temperature 1 for photos that it was not trained on.
    """
    logits = torch.from_numpy(probabilities).clamp(min=1e-12).log()
    truth = torch.from_numpy(labels)
    temperatures = torch.logspace(-1, 1, 401)
    losses = [F.cross_entropy(logits / t, truth).item() for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])


def evaluate(
    folder: Path, photos: Photos, against: Sequence[Path] = ()
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a weights folder, and of others to compare it with; and its other figures.

    The temperature is chosen on every other photo at 4 per side; all probabilities are at it.
    figures: `temperature`; `ece_before`, `ece_after`: percent, on the photos that it was not
    chosen on; `threshold`, `named`, `right_of_named`: what the threshold does at 4 per side,
    percent of the thumbnails that get a label, and of those labels that are right (None: there are
    none); `per_second`:
    thumbnails of 56 px on all cores.
    """
    if len(photos) < 2:
        raise ValueError("one photo: the temperature is chosen on one half, measured on the other")
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    folders = (folder, *against)
    # all of them first: what is wrong with one is said before minutes of work
    classifiers = [ThumbnailClassifier.from_pretrained(one) for one in folders]
    every = [_places(classifier, photos) for classifier in classifiers]
    for one, classifier, labels in zip(folders, classifiers, every, strict=True):
        trained_on = str(read_config(one)["training"]["settings"]["downscaler"])
        classifier.temperature = 1.0
        raw = _read(classifier, photos.images, _quarter(trained_on))
        classifier.temperature = best_temperature(raw[::2], labels[::2])
        rows += [
            Row(one.resolve().name, trained_on, *values)
            for values in _measure(classifier, trained_on, photos.images, labels, one == folder)
        ]
        if one == folder:
            cool = _read(classifier, photos.images, _quarter(trained_on))
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


def _places(classifier: ThumbnailClassifier, photos: Photos) -> Array:
    """The class of each photo among the classifier's."""
    places = [classifier.output_of(name) for name in photos.classes]
    unknown = [n for n, place in zip(photos.classes, places, strict=True) if place is None]
    if unknown:
        raise ValueError(f"the classifier does not know the class folders {', '.join(unknown)}")
    return np.array(places)[photos.labels.numpy()]


def _measure(
    classifier: ThumbnailClassifier, trained_on: str, images: Tensor, labels: Array, full: bool
) -> list[tuple[str, str, float, float, float]]:
    """The rest of a row, from `thumbnails` on."""
    side = images.shape[-1]
    quarter = side // 4
    make, usual = DOWNSCALE[trained_on], _quarter(trained_on)
    sets: list[tuple[str, tuple[int, int], Thumbnails]] = [(trained_on, (quarter, quarter), usual)]
    for quality in (95, 75):
        name = f"{trained_on}, JPEG {quality}"
        sets.append((name, (quarter, quarter), _saved(usual, quality)))
    if full:
        for size in ((48, 48), (64, 64), (80, 80), (96, 96), (112, 112), (128, 128)):
            sets.append((trained_on, size, _maker(make, size)))
        cut, flat = side // 8, (quarter, quarter * 3 // 4)
        middle = f"{trained_on}, the middle"
        sets.append((middle, flat, lambda x: make(x[:, :, cut:-cut].contiguous(), flat)))
        other = "bicubic" if trained_on == "learned" else "learned"
        sets.append((other, (quarter, quarter), _quarter(other)))
    return [
        (name, f"{w}x{h}", *_reached(_read(classifier, images, thumbnails), labels))
        for name, (w, h), thumbnails in sets
    ]


def _maker(make: Callable[[Tensor, tuple[int, int]], Tensor], size: tuple[int, int]) -> Thumbnails:
    return lambda x: make(x, size)


def _quarter(downscaler: str) -> Thumbnails:
    return lambda x: DOWNSCALE[downscaler](x, (x.shape[-1] // 4, x.shape[-2] // 4))


def _read(classifier: ThumbnailClassifier, images: Tensor, thumbnails: Thumbnails) -> Array:
    return np.concatenate([classifier.probabilities(thumbnails(x)) for x in images.split(64)])


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


def markdown(rows: Sequence[Row]) -> str:
    """The table as people read it."""
    lines = [
        "| network | trained on | thumbnails | size, px | top-1 % | top-5 % | ECE % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.network} | {r.trained_on} | {r.thumbnails} | {r.size} | {r.top1:.1f} | {r.top5:.1f} "
        f"| {r.ece:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def facts(figures: Mapping[str, Any]) -> str:
    """What the table does not say."""
    right = figures["right_of_named"]
    are = "none of those labels" if right is None else f"{right:.1f} % of those labels"
    return (
        f"{figures['per_second']:.0f} thumbnails of 56 px a second, on all cores. At 4 per side "
        f"{figures['named']:.1f} % of the thumbnails get a label (probability "
        f"{figures['threshold']} or more), and {are} "
        f"are right. Temperature {figures['temperature']:.3f}, chosen on every other photo: on the "
        f"rest it brings the ECE from {figures['ece_before']:.1f} to {figures['ece_after']:.1f} %."
    )


def add_figures(
    folder: Path, rows: Sequence[Row], figures: Mapping[str, Any], data: str, command: str
) -> None:
    """Write what was measured, and the temperature, into config.json and the card."""
    path = folder / pretrained.CONFIG
    config = read_config(folder)
    config["temperature"] = figures["temperature"]
    config["figures"] = {
        "data": data,
        "command": command,
        "rows": [asdict(row) for row in rows],
        **figures,
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render(folder.resolve().name, config), encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a classifier that `train-classifier` wrote."""
    config: dict[str, Any] = json.loads((folder / pretrained.CONFIG).read_text(encoding="utf-8"))
    if "classifier" not in config or "training" not in config:
        raise ValueError(f"{folder} holds no classifier that train-classifier wrote")
    return config


def render(name: str, config: Mapping[str, Any]) -> str:
    """The text of the card."""
    training, figures = config["training"], config.get("figures")
    settings = ClassifierSettings(**training["settings"])
    network = ThumbnailNetwork(**config["classifier"])
    text = "Not measured: `learned-downscale evaluate-classifier --write` writes them here."
    if figures:
        text = (
            f"{figures['data']}. ECE: expected calibration error, 15 bins.\n\n"
            + markdown([Row(**row) for row in figures["rows"]])
            + f"\n\n{facts(figures)} One seed: differences below about 1 point are noise.\n\n"
            f"Printed by\n\n```\n{figures['command']}\n```"
        )
    return _CARD.format(
        name=name,
        parameters=sum(p.numel() for p in network.parameters()),
        count=len(config["classes"]),
        classes=", ".join(entry["label"] for entry in config["classes"]),
        threshold=config["threshold"],
        figures=text,
        settings="\n".join(f"| {f.name} | {getattr(settings, f.name)} |" for f in fields(settings)),
        data="\n".join(f"- {item}" for item in training["data"]),
        before=_before(settings, training.get("before", [])),
        factors=", ".join(f"{factor:g}" for factor, _ in FACTORS),
        cl=settings.cl,
        kd=settings.kd,
        fm=settings.fm,
        **{k: training[k] for k in ("photos", "teacher", "license", "note")},
    )


def _before(settings: ClassifierSettings, earlier: Sequence[Mapping[str, Any]]) -> str:
    """How the trainings that went before differed, the last one first."""
    if not earlier:
        return ""
    mine = asdict(settings)
    changed = (
        ", ".join(f"{k} {v}" for k, v in one.items() if mine.get(k) != v and k != "start")
        for one in earlier
    )
    return f" Before that it was trained with {', and before with '.join(changed)}."


_CARD = """\
---
library_name: learned_downscale
license: other
license_name: {license}
pipeline_tag: image-classification
tags: [thumbnails, thumbnet]
---

# {name}: a thumbnail classifier

S of ThumbNet (Zhao and Ghanem, "ThumbNet: One Thumbnail Image Contains All You Need for
Recognition", ACM MM 2020) as a product: a {parameters:,}-parameter network, float16 on disk, that
tells whether what was in a photo is still in its thumbnail.

```python
from learned_downscale import ThumbnailClassifier

classifier = ThumbnailClassifier.from_pretrained()
print(classifier("thumbnail.jpg"))
```

**Classes** ({count}): {classes}.

**Use**: checking thumbnails of 48 to 128 px, as `learned-downscale verify` does. **Not for**:
deciding about people or safety, and images of anything else: it knows these classes only. Below a
probability of {threshold} it says "none of these"; how many foreign images that catches has not
been measured on a data set of them.

## Figures

{figures}

## Data and licence

{data}

Licence: {license}. {note}

## Recipe

T: {teacher}. S is T with the stride of its first layer removed, initialised from T, batch norm
folded into the convolutions, and trained on thumbnails of {photos:,} photos (at {factors}
per side): L = {cl} L_CL + {kd} L_KD + {fm} L_FM, with the formulas in
`learned_downscale/thumbnet/losses.py`; L_FM compares the means of the last maps. T saw each photo
whole. AdamW, a warm-up, then a cosine to 0; S is the moving average of the steps.{before}

| setting | value |
| --- | --- |
{settings}
"""
