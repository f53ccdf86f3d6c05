"""Names of classes: labels, their synonyms, WordNet ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> dict[str, str]:
    """The 1000 ImageNet classes, in the order of their outputs: WordNet id -> label."""
    lines = files("learned_downscale.readers").joinpath("imagenet_synsets.txt").read_text()
    return dict(line.split(" ", 1) for line in lines.splitlines())


def outputs_by_name(labels: Sequence[str]) -> dict[str, int]:
    """The outputs of a network by every `plain` name: the label, each of the label's
    comma-separated synonyms and, of the 1000 ImageNet classes, the WordNet id."""
    meant = defaultdict(set)
    for i, label in enumerate(labels):
        for name in (label, *label.split(",")):
            meant[plain(name)].add(i)
    # ImageNet has two cranes: a name of two outputs is left out
    outputs = {name: min(which) for name, which in meant.items() if len(which) == 1}
    if len(labels) == 1000:
        outputs |= {wordnet: i for i, wordnet in enumerate(imagenet_classes())}
    return outputs


def match_classes(classes: Sequence[str], labels: Sequence[str]) -> list[int]:
    """A network's output for each class folder.

    A folder may be named by the network's label, by one of the label's comma-separated synonyms
    (any case, spaces or underscores), or, of the 1000 ImageNet classes, by the WordNet id.

    Raises:
        ValueError: a folder fits no label, or several.
    """
    outputs = outputs_by_name(labels)
    unknown = [name for name in classes if plain(name) not in outputs]
    if unknown:
        raise ValueError(
            f"the network does not know {len(unknown)} of {len(classes)} class folders "
            f"({', '.join(unknown[:5])}); name folders by its labels (such as {labels[0]!r}) "
            "or, for the 1000 ImageNet classes, by WordNet id (such as n01440764)"
        )
    return [outputs[plain(name)] for name in classes]


def plain(name: str) -> str:
    """A name in the form in which names are compared: lower case, spaces for underscores."""
    return name.strip().lower().replace("_", " ")
