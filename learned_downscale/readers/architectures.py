"""The architectures of classifiers that weights folders hold."""

from __future__ import annotations

from pathlib import Path

from learned_downscale import pretrained
from learned_downscale.readers.efficientnet_lite import EfficientNetLite
from learned_downscale.readers.network import ClassifierNetwork
from learned_downscale.readers.resnet import ResNet

ARCHITECTURES: dict[str, type[ClassifierNetwork]] = {
    cls.architecture: cls for cls in (EfficientNetLite, ResNet)
}


def architecture_of(arguments: dict[str, object]) -> type[ClassifierNetwork]:
    """The class of the network that config.json describes under "classifier".

    Raises:
        ValueError: the architecture is unknown.
    """
    name = arguments.get("architecture", EfficientNetLite.architecture)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is none of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def load_network(name: str | Path, *, revision: str | None = None) -> ClassifierNetwork:
    """The network of a classifier's weights; raises as `pretrained.load`."""
    config = pretrained.read_config(name, "classifier", revision=revision)
    try:
        cls = architecture_of(config["classifier"])
    except ValueError as error:
        raise ValueError(f"the config.json of {name} does not fit: {error}") from error
    return pretrained.load(cls, name, revision=revision)
