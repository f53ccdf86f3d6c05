"""learned-downscale train."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import click

from learned_downscale.cli.inputs import TEACHER, data_option, load_reader, read_photos
from learned_downscale.cli.terminal import tell
from learned_downscale.readers.labels import imagenet_classes

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("train", context_settings={"show_default": True})
@click.option(
    "--recipe",
    "name",
    required=True,
    help="A published recipe (x4, x2, x4-machine, x2-machine, x4-jpeg, thumbnail1000, paper) or "
    "a file that ends in .toml.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, such as run.seed=1 or task.0.epochs=2. Repeatable.",
)
@data_option
@click.option("--teacher", required=True, help=f"T: {TEACHER}.")
@click.option(
    "--run", required=True, type=_FOLDER, help="Folder for checkpoints. Interrupted runs resume."
)
@click.option("--out", type=_FOLDER, help="Weights folder to write for the trained downscaler.")
@click.option("--out-student", type=_FOLDER, help="Weights folder to write for the student.")
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file {class folder: readable label}, for the student.",
)
@click.option(
    "--license", default="as the photos allow", help="Licence of the weights, for their cards."
)
@click.option("--note", default="", help="A sentence on data or licence, for the cards.")
@click.option("--teacher-name", help="Name of T in the cards.  [default: as in --teacher]")
def command(
    name: str,
    changes: tuple[str, ...],
    data: tuple[Path, ...],
    teacher: str,
    run: Path,
    out: Path | None,
    out_student: Path | None,
    labels: Path | None,
    **about: Any,
) -> None:
    """Train a downscaler E and a student S, which classifies thumbnails, with a teacher T.

    What is trained, and how, is in the recipe. Weights folders get a model card; `evaluate`
    measures them. `accelerate launch --multi_gpu -m learned_downscale.cli train ...` uses several
    GPUs; with ACCELERATE_USE_CPU=true in the environment, several processes on CPUs.
    """
    from learned_downscale.thumbnet import recipe as recipes

    try:
        recipe = recipes.load(name, changes)
        _check_outputs(recipe.settings, out, out_student)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    photos = read_photos(data, recipe.settings.run.size)
    T = load_reader(teacher, photos.classes if recipe.settings.labelled else None)

    import torch

    from learned_downscale.thumbnet import card
    from learned_downscale.thumbnet.log import network_share
    from learned_downscale.thumbnet.train import train_recipe

    try:
        classes = photos.classes if recipe.settings.labelled else None
        if classes is None and out_student is not None:
            readable = _read_labels(labels, _all_classes(T))
        else:
            readable = _read_labels(labels, photos.classes)
        if out_student is not None:
            card.check_student(recipe.settings, T, classes)
    except (ImportError, OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    first = os.environ.get("RANK", "0") == "0"  # of several processes: the one that writes
    if first:
        processes = os.environ.get("WORLD_SIZE", "1")
        shared = "" if processes == "1" else f", in {processes} processes"
        click.echo(f"{len(photos)} photos of {len(photos.classes)} classes{shared}", err=True)
    if recipe.settings.run.precision == "float32":
        torch.backends.cudnn.allow_tf32 = False  # else float32 is none on a GPU
    with Progress() as progress:
        try:
            E, S = train_recipe(recipe, photos, T, run, progress)
        except (ImportError, OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
    if not first:
        return
    if recipe.settings.tasks:
        click.echo(f"Networks took {network_share(run):.1%} of the training time", err=True)
    about["teacher"] = about.pop("teacher_name") or teacher
    about["data"] = ["/".join(path.resolve().parts[-2:]) for path in data]
    training = card.describe(recipe, photos, **about)
    if out is not None:
        card.save_downscaler(out, E, S, training)
        _export(out, "engine.export", "export_onnx")
    if out_student is not None:
        card.save_student(out_student, S, recipe.settings, readable, training)
        _export(out_student, "readers.onnx_graph", "export_classifier")
    written = [str(folder) for folder in (out, out_student) if folder is not None]
    click.echo(f"Weights and card are in {' and '.join(written)}" if written else f"Run: {run}")


def _check_outputs(settings: Any, out: Path | None, out_student: Path | None) -> None:
    """Before the training: what cannot be written."""
    from learned_downscale import pretrained

    if out is not None:
        if settings.downscaler is None or settings.downscaler.kind != "learned":
            raise ValueError("the recipe trains no downscaler for --out; give --out-student")
        pretrained.check_free(out)
    if out_student is not None:
        if out_student == out:
            raise ValueError("--out and --out-student need a folder each")
        pretrained.check_free(out_student, "classifier")


def _all_classes(T: Any) -> tuple[str, ...]:
    """The names of T's classes, of which a student keeps all where no labels are used. Raises
    ValueError where these are not ImageNet's 1000, which alone have names here."""
    import torch

    from learned_downscale.thumbnet.networks import SIDE

    outputs = T(torch.zeros(1, 3, SIDE, SIDE)).shape[1]
    names = tuple(imagenet_classes())
    if outputs != len(names):
        raise ValueError(
            f"without labels the student has all {outputs} classes of the teacher, whose names are "
            "unknown; use a teacher with ImageNet's 1000 classes, or leave --out-student out"
        )
    return names


def _read_labels(path: Path | None, classes: tuple[str, ...]) -> dict[str, str]:
    """The readable label of each class folder; folders that --labels does not name keep their
    names, WordNet ids of ImageNet's classes become readable. Raises ValueError for a file that does
    not hold such labels."""
    known = imagenet_classes()
    found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not all(isinstance(v, str) and v for v in found.values()):
        raise ValueError("--labels must hold a JSON object {class folder: label}")
    if unknown := sorted(found.keys() - set(classes)):
        raise ValueError(f"--labels names {', '.join(unknown[:3])}, which are no class folders")
    labels = {c: found.get(c, known.get(c, c)) for c in classes}
    shared = [label for label, n in Counter(labels.values()).items() if n > 1]
    if shared:
        raise ValueError(f"--labels gives {shared[0]!r} to several classes; tell them apart")
    return labels


def _export(folder: Path, module: str, function: str) -> None:
    """model.onnx, where the extra is installed."""
    from importlib import import_module

    try:
        getattr(import_module(f"learned_downscale.{module}"), function)(folder)
    except ImportError as error:
        click.echo(f"No model.onnx in {folder}: {error}", err=True)


class Progress:
    """A bar on a terminal, and everywhere a line with the mean losses now and then."""

    LINES = 20  # a run

    def __enter__(self) -> Progress:
        self._bar: Any = None
        self._terms: dict[str, list[float]] = {}  # a task has some of them
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def __call__(self, done: int, total: int, terms: dict[str, float]) -> None:
        if self._bar is None:
            self._bar = click.progressbar(length=total, label="Training", file=sys.stderr)
            self._bar.update(done - 1)
        self._bar.update(1)
        for name, value in terms.items():
            self._terms.setdefault(name, []).append(value)
        if done == total or done % max(1, total // self.LINES) == 0:
            means = ", ".join(f"{k} {mean(v):.4g}" for k, v in self._terms.items())
            tell(f"step {done} of {total}: {means}")
            self._terms = {}
