"""The trained student as weights that need neither the teacher nor the training code."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.readers.network import ClassifierNetwork
from learned_downscale.thumbnet import card
from learned_downscale.thumbnet.networks import Reader
from learned_downscale.thumbnet.settings import Settings
from learned_downscale.thumbnet.train import make_student

# Below this probability a new classifier says "none of these".
THRESHOLD = 0.5


def check_student(made: Settings, teacher: Reader, classes: tuple[str, ...]) -> None:
    """Raise ValueError if the student could not be loaded without the library that made it."""
    network = make_student(made, teacher, classes).network
    if not isinstance(network, ClassifierNetwork):
        raise ValueError(
            f"a student of the architecture {type(network.model).__name__} would need its own "
            "library wherever it is loaded; train a ResNet or an EfficientNet-Lite "
            "(--set student.network=efficientnet-lite0), or leave --out-student out"
        )


def save_student(
    folder: Path, S: Reader, made: Settings, labels: dict[str, str], training: dict[str, Any]
) -> None:
    """Write a trained S into a weights folder, for `ThumbnailClassifier.from_pretrained`.

    labels: the readable label of each class folder, in the order of S's outputs. training: as
    `card.describe` gives it.
    """
    networks: list[Any] = [S.network]
    if isinstance(S.decoder, Decoder):
        networks.append(S.decoder)
    about: dict[str, Any] = {
        "classes": [{"wordnet_id": name, "label": label} for name, label in labels.items()],
        "threshold": THRESHOLD,
        "temperature": 1.0,
        "training": training,
    }
    if made.downscaler is not None:
        # half and twice what it was trained on; only its own downscaler makes its thumbnails
        about["sizes"] = {
            "smallest": max(1, made.thumbnail // 2),
            "largest": 2 * made.thumbnail,
            "shrinks": False,
        }
    text = card.render(folder.name, {"classifier": networks[0].config, **about})
    pretrained.save(folder, networks, text, **about)


def read_labels(path: Path | None, classes: tuple[str, ...]) -> dict[str, str]:
    """The readable label of each class folder, from a JSON file {class folder: label}; folders that
    it does not name keep their names.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such JSON, names other folders, or gives one label twice.
    """
    found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not all(isinstance(v, str) and v for v in found.values()):
        raise ValueError(f"{path} must hold a JSON object {{class folder: label}}")
    if unknown := sorted(found.keys() - set(classes)):
        raise ValueError(f"{path} names {', '.join(unknown[:3])}, which are no class folders")
    labels = {c: found.get(c, c) for c in classes}
    shared = [label for label, n in Counter(labels.values()).items() if n > 1]
    if shared:
        raise ValueError(f"{path} gives {shared[0]!r} to several classes; tell them apart")
    return labels
