"""Image classifiers of the Hugging Face Hub: one loader, and a reader for `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from learned_downscale.readers.bundled import rgb
from learned_downscale.readers.labels import outputs_by_name, plain

if TYPE_CHECKING:
    from learned_downscale.core.resampling import Array


def load(name: str | Path) -> tuple[Any, Any, list[str]]:
    """A classifier with its preprocessing; needs the extra `train`.

    Args:
        name: a Hugging Face model id, or a folder as `save_pretrained` writes it.

    Returns:
        (model, processor, labels): the `transformers` model in float32 and evaluation mode, its
        image processor, and the label of each output.

    Raises:
        ImportError: transformers is not installed.
        OSError: there is no such model, it cannot be downloaded, or a file of it is damaged.
        ValueError: its weights lack a layer.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise ImportError(
            f"a Hugging Face classifier needs transformers ({error}): "
            "pip install 'learned-downscale[train]'"
        ) from error
    try:
        model, loaded = AutoModelForImageClassification.from_pretrained(
            name, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(name)
    except Exception as error:  # damaged files raise errors of many libraries
        raise OSError(f"the classifier {str(name)!r} cannot be loaded: {error}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(
            f"the classifier {str(name)!r} lacks weights ({', '.join(missing[:3])}), which would "
            "be random: choose a model that was trained to classify images"
        )
    model = model.float().eval()  # it may have been saved in half precision
    return model, processor, [str(model.config.id2label[i]) for i in range(model.config.num_labels)]


class HuggingFaceReader:
    """A Hugging Face classifier with the preprocessing that belongs to it.

    Args:
        name: as for `load`.
        classes: choose these classes of the network, each given by all of its names. Probabilities
            then sum to 1 over them. Default: all classes.

    Raises:
        ImportError, OSError: as `load`.
        ValueError: as `load`; or the network does not know all of `classes`.
    """

    threshold = 0.0
    has_decoder = False

    def __init__(self, name: str | Path, classes: Sequence[tuple[str, ...]] | None = None) -> None:
        self.name = str(name)
        self._model, self._processor, labels = load(name)
        self._by_name = outputs_by_name(labels)
        if classes is None:
            self._outputs = list(range(len(labels)))
            self.labels = _short(labels)
        else:
            self._outputs = self._chosen(classes)
            self.labels = tuple(names[0] for names in classes)

    def _chosen(self, classes: Sequence[tuple[str, ...]]) -> list[int]:
        known = [[n for n in names if plain(n) in self._by_name] for names in classes]
        missing = [names[0] for names, some in zip(classes, known, strict=True) if not some]
        if missing:
            raise ValueError(
                f"{self.name} knows {len(classes) - len(missing)} of the {len(classes)} classes "
                f"(not {', '.join(missing[:3])})"
            )
        return [self._by_name[plain(some[0])] for some in known]

    def prepare(self, image: Image.Image) -> Any:
        """The network's input, float32 (3, H, W)."""
        pixels = self._processor(
            images=rgb(image), return_tensors="np", input_data_format="channels_last"
        )
        return pixels["pixel_values"][0]

    def probabilities(self, prepared: Sequence[Any]) -> Array:
        """(N, classes) float32. Raises ValueError for a shape that the network refuses."""
        import torch

        out = np.empty((len(prepared), len(self._outputs)), np.float32)
        for shape in {one.shape for one in prepared}:
            places = [i for i, one in enumerate(prepared) if one.shape == shape]
            x = torch.from_numpy(np.stack([prepared[i] for i in places]))
            try:
                with torch.inference_mode():
                    logits = self._model(x).logits.float()
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{self.name} refuses inputs {shape}, which its preprocessing makes: {error}"
                ) from error
            out[places] = logits[:, self._outputs].softmax(1).numpy()
        return out

    def output_of(self, name: str) -> int | None:
        """The index of a class by its label, one of the label's synonyms, or its WordNet id."""
        output = self._by_name.get(plain(name))
        return self._outputs.index(output) if output in self._outputs else None


def _short(labels: Sequence[str]) -> tuple[str, ...]:
    """The first synonym of each label, where it is unique (ImageNet has two cranes)."""
    first = [label.split(",")[0] for label in labels]
    return tuple(
        one if first.count(one) == 1 else f"{label} ({i})"
        for i, (one, label) in enumerate(zip(first, labels, strict=True))
    )
