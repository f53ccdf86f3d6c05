"""T and S around E."""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A Hugging Face image classifier, with its normalisation, on a choice of its classes.

    Called with (N, 3, H, W) in [0, 1], RGB, gives logits (N, len(outputs)).
    T is one, and so is S: the same architecture, initialised from T (the paper).
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        outputs: Sequence[int],
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.outputs: Tensor
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.register_buffer("outputs", torch.tensor(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        logits: Tensor = self.model(x.contiguous(memory_format=torch.channels_last)).logits
        return logits[:, self.outputs].float()

    def fingerprint(self) -> str:
        """Changes with the weights, the normalisation and the choice of classes."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def student(self) -> Classifier:
        """S: a copy of T to be trained.

        Batch norm stays at T's statistics: in training mode it forgets them within the first
        hundreds of steps of small batches, and S never recovers (measured).
        """
        return copy.deepcopy(self).eval().requires_grad_(True)


def load_teacher(name: str | Path, classes: Sequence[str]) -> Classifier:
    """T: an image classifier by Hugging Face model id or folder, restricted to `classes`.

    Raises:
        OSError: there is no such model, or it cannot be downloaded.
        ValueError: T does not know the classes; see `match_classes`.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(name)
    processor = AutoImageProcessor.from_pretrained(name)
    labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
    outputs = match_classes(classes, labels)
    mean, std = processor.image_mean, processor.image_std
    return Classifier(model, mean, std, outputs).eval().requires_grad_(False)


def match_classes(classes: Sequence[str], labels: Sequence[str]) -> list[int]:
    """T's output for each class folder.

    A folder may be named by T's label or one of its comma-separated synonyms (any case, spaces
    or underscores), or by the WordNet id where T has the 1000 ImageNet classes.

    Raises:
        ValueError: a folder fits no label of T, or several.
    """
    meant = defaultdict(set)
    for i, label in enumerate(labels):
        for name in (label, *label.split(",")):
            meant[_plain(name)].add(i)
    # ImageNet has two cranes: a name that means two outputs means none
    outputs = {name: min(which) for name, which in meant.items() if len(which) == 1}
    if len(labels) == 1000:
        synsets = files("learned_downscale.thumbnet").joinpath("imagenet_synsets.txt")
        outputs |= {wnid: i for i, wnid in enumerate(synsets.read_text().split())}
    unknown = [name for name in classes if _plain(name) not in outputs]
    if unknown:
        raise ValueError(
            f"the teacher does not know {len(unknown)} of {len(classes)} class folders "
            f"({', '.join(unknown[:5])}); name folders by its labels (such as {labels[0]!r}) "
            "or, for an ImageNet teacher, by WordNet id (such as n01440764)"
        )
    return [outputs[_plain(name)] for name in classes]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")
