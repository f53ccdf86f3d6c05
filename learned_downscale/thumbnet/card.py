"""Trained weights as folders, and their model cards, which are written from config.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.readers.architectures import architecture_of, load_network
from learned_downscale.readers.bundled import Sizes
from learned_downscale.readers.network import ClassifierNetwork
from learned_downscale.thumbnet import classifier, costs, evaluate, recipe
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader
from learned_downscale.thumbnet.recipe import Recipe
from learned_downscale.thumbnet.settings import Recognise, Settings
from learned_downscale.thumbnet.tables import markdown
from learned_downscale.thumbnet.train import DOWNSCALER, STUDENT, load_recipe, make_student

# Below this probability a new classifier says "none of these".
THRESHOLD = 0.5
LISTED = 20  # classes in a card


def describe(made: Recipe, photos: Photos, **about: Any) -> dict[str, Any]:
    """The entry "training" of config.json. about: data (list of names), teacher, license, note."""
    counts = {"photos": len(photos), "classes": len(photos.classes)}
    return {"recipe": made.config(), **counts, **about}


def save_downscaler(folder: Path, E: Any, S: Reader, training: dict[str, Any]) -> None:
    """Write a trained E, and the decoder of its S, into a weights folder with its card."""
    _save(folder, [E], S, {"training": training})


def save_student(
    folder: Path, S: Reader, made: Settings, labels: dict[str, str], training: dict[str, Any]
) -> None:
    """Write a trained S into a weights folder, for `ThumbnailClassifier.from_pretrained`: it needs
    neither T nor the training code. labels: of the class folders, in the order of S's outputs."""
    about: dict[str, Any] = {
        "classes": [{"wordnet_id": name, "label": label} for name, label in labels.items()],
        "threshold": THRESHOLD,
        "temperature": 1.0,
        "training": training,
    }
    if made.downscaler is not None:
        # half and twice what it was trained on; only its own downscaler makes its thumbnails
        side = made.run.size // made.downscaler.factor
        about["sizes"] = {"smallest": max(1, side // 2), "largest": 2 * side, "shrinks": False}
    _save(folder, [S.network], S, about)


def _save(folder: Path, networks: list[Any], S: Reader, about: dict[str, Any]) -> None:
    if isinstance(S.decoder, Decoder):
        networks.append(S.decoder)
    config = {network.kind: network.config for network in networks}
    pretrained.save(folder, networks, render(folder.name, config | about), **about)


def check_student(made: Settings, teacher: Reader, classes: tuple[str, ...] | None) -> None:
    """Raise ValueError if the student could not be loaded without the library that made it."""
    network = make_student(made, teacher, classes).network
    if not isinstance(network, ClassifierNetwork):
        raise ValueError(
            f"a student of the architecture {type(network.model).__name__} would need its own "
            "library wherever it is loaded; train a ResNet or an EfficientNet-Lite "
            "(--set student.network=efficientnet-lite0), or leave --out-student out"
        )


def render(name: str, config: Mapping[str, Any]) -> str:
    """The text of the card of weights called `name`: a downscaler's, or a classifier's."""
    training = config["training"]
    made = recipe.from_config(training["recipe"])
    tail = {
        "note": f" {training['note']}" if training["note"] else "",
        "changes": "".join(f" --set {c}" for c in recipe.as_changes(made.changes)),
        "tables": recipe.as_toml(made.tables),
        "data": "\n".join(f"- {item}" for item in training["data"]),
        "figures": _figures(config.get("figures")),
        "recipe": made.name,
    }
    kind, own = (_classifier if "classifier" in config else _downscaler)(name, config, made)
    known = training["license"] == "Apache-2.0"  # the Hub has a name for it
    terms = (
        "license: apache-2.0" if known else f"license: other\nlicense_name: {training['license']}"
    )
    head = _text(kind, name=name, terms=terms, **own)
    return head + "\n\n" + _text("tail", **{**training, **tail}) + "\n"


def _text(part: str, /, **values: Any) -> str:
    """A part of the card, from cards/PART.md."""
    path = files("learned_downscale.thumbnet").joinpath("cards", f"{part}.md")
    return path.read_text(encoding="utf-8").removesuffix("\n").format(**values)


def _downscaler(name: str, config: Mapping[str, Any], made: Recipe) -> tuple[str, dict[str, Any]]:
    E, use = Downscaler(**config["downscaler"]), _text("plain")
    if E.shared:
        use += _text("shared")
    plain = any(isinstance(task, Recognise) for task in made.settings.tasks)
    if "decoder" in config and plain:
        use += _text("blind", name=name, times=config["decoder"]["factor"])
    elif "decoder" in config:
        use = _text("decoder", name=name, times=config["decoder"]["factor"])
        if E.qim > 1:
            use += _text("qim", bits=E.qim.bit_length() - 1, half=E.qim // 2)
        if any(task.lossy for task in made.settings.tasks):
            use += _text("jpeg")
    weights = "" if name in ("x2", "x4") else f', weights="{name}"'
    parameters = costs.parameters(E)
    own = {"parameters": parameters, "factor": E.factor, "weights": weights, "use": use}
    return "downscaler", own


def _classifier(name: str, config: Mapping[str, Any], made: Recipe) -> tuple[str, dict[str, Any]]:
    network = architecture_of(config["classifier"])(**config["classifier"])
    return "classifier", {
        "parameters": costs.parameters(network),
        "architecture": type(network).__name__,
        "count": len(config["classes"]),
        "labels": _listed([entry["label"] for entry in config["classes"]]),
        "decoder": _text("in_front", **config["decoder"]) if "decoder" in config else "",
        "threshold": config["threshold"],
        "of": ", made by the downscaler of its training" if made.settings.downscaler else "",
        **asdict(Sizes(**config.get("sizes", {}))),
    }


def _listed(labels: list[str]) -> str:
    shown = ", ".join(labels[:LISTED])
    return shown if len(labels) <= LISTED else f"{shown} and others, all in config.json"


def _figures(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "Not measured: `learned-downscale evaluate --card` writes them here."
    if "table" in figures:  # printed by a script
        return "\n".join((*figures["table"], "", figures["note"], "", "Printed by", "", "```",
                          figures["command"], "```"))  # fmt: skip
    of_runs = "system" in figures["rows"][0]
    row = evaluate.Row if of_runs else classifier.Row
    table = markdown([row(**values) for values in figures["rows"]])
    more = _text("runs") if of_runs else facts(figures)
    command = f"Printed by\n\n```\n{figures['command']}\n```"
    return f"On {figures['data']}.\n\n{table}\n\n{more}\n\n{command}"


def facts(figures: Mapping[str, Any]) -> str:
    """The figures of a classifier that are not in the table."""
    right = figures["right_of_named"]
    share = "none of those labels" if right is None else f"{right:.1f} % of those labels"
    return _text("facts", share=share, **figures)


def check_card(folder: Path, runs: Sequence[Path]) -> int:
    """The factor of a weights folder whose card can have the figures of `runs`.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: none of the runs trained these weights, those of its factor differ in S, or
            config.json does not say how they were trained.
    """
    config = json.loads((folder / pretrained.CONFIG).read_text(encoding="utf-8"))
    training = config.get("training")
    mine = recipe.from_config(training["recipe"]).settings.downscaler if training else None
    if mine is None:
        raise ValueError(f"{folder} does not name a downscaler that it was trained with")
    if "classifier" in config:
        network: Any = load_network(folder)
        file, prefix = STUDENT, "network."
    else:
        network, file, prefix = pretrained.load(Downscaler, folder), DOWNSCALER, ""
    made = [load_recipe(run).settings for run in runs]
    if not any(_same(network, run / file, prefix) for run in runs):
        raise ValueError(f"{folder} holds not the weights of {', '.join(map(str, runs))}")
    students = {m.student for m in made if m.downscaler and m.downscaler.factor == mine.factor}
    if len(students) > 1:
        raise ValueError(
            "a card compares thumbnails, all else equal, but the runs have different students; "
            "leave the others out"
        )
    return mine.factor


def _same(network: Any, file: Path, prefix: str) -> bool:
    """Whether a run's file holds these weights, which may have been rounded to float16."""
    theirs = {k: v.half().float() if network.float16 else v for k, v in load_file(file).items()}
    return all(
        prefix + k in theirs and theirs[prefix + k].shape == v.shape and theirs[prefix + k].equal(v)
        for k, v in network.state_dict().items()
    )


def add_figures(folder: Path, figures: Mapping[str, Any], rows: Sequence[Any]) -> None:
    """Write what was measured into config.json and the card of a weights folder. figures: "data",
    "command" and what `measure_classifiers` gave, whose temperature becomes the folder's."""
    config = json.loads((folder / pretrained.CONFIG).read_text(encoding="utf-8"))
    if "temperature" in figures:
        config["temperature"] = figures["temperature"]
    config["figures"] = {**figures, "rows": [asdict(row) for row in rows]}
    pretrained.write_config(folder, config)
    card = render(folder.resolve().name, config)
    (folder / "README.md").write_text(card, encoding="utf-8")
