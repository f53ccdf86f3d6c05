"""learned-downscale train."""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import click

from learned_downscale.cli.inputs import data_option, read_inputs, teacher_option
from learned_downscale.cli.terminal import tell
from learned_downscale.thumbnet.settings import PRESETS


def settings_options(settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for each field of settings, whose values are the defaults; None where it is not
    given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(type(settings))
        for field in reversed(dataclasses.fields(settings)):
            if not field.metadata.get("option", True):
                continue
            choices = typing.get_args(hints[field.name])
            kind = click.Choice(choices) if choices else hints[field.name]
            name, default = "--" + field.name.replace("_", "-"), getattr(settings, field.name)
            said = str(default).lower() if isinstance(default, bool) else default
            shown = field.metadata["help"] + (f"  [default: {said}]" if default != "" else "")
            command = click.option(name, type=kind, help=shown, show_default=False)(command)
        return command

    return decorate


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options of `settings_options` that were given."""
    return {name: value for name, value in values.items() if value is not None}


def about_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a model card says that the training does not know."""
    for option in (
        click.option("--teacher-name", help="What the card calls T.  [default: as in --teacher]"),
        click.option(
            "--note",
            default="",
            show_default=False,
            help="A sentence on data or licence, for the card.",
        ),
        click.option(
            "--license", default="as the photos allow", help="Of the weights, for their card."
        ),
    ):
        command = option(command)
    return command


@click.command(context_settings={"show_default": True})
@data_option
@teacher_option
@click.option(
    "--run",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints, E and S. A stopped run goes on from there.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Weights folder to write at the end, such as weights/x4. Not with --downscaler bicubic.",
)
@about_options
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="default",
    help="Settings to start from; those that are given count. The defaults below are of `default`.",
)
@settings_options(PRESETS["default"])
def train(
    data: tuple[Path, ...],
    teacher: str,
    run: Path,
    out: Path | None,
    license: str,
    note: str,
    teacher_name: str | None,
    preset: str,
    **values: Any,
) -> None:
    """Train a downscaler E together with a thumbnail network S, taught by a classifier T.

    E's weights go to --out, with a model card; measure them with `evaluate`. With `--downscaler
    bicubic` (or box, lanczos, area) only S is trained, on its thumbnails: the baseline to compare
    with. `accelerate launch --multi_gpu -m learned_downscale.cli train ...` uses several GPUs; with
    ACCELERATE_USE_CPU=true in the environment, several processes on CPUs.
    """
    try:
        settings = dataclasses.replace(PRESETS[preset], **given(values))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if out is not None and settings.downscaler != "learned":
        raise click.UsageError(
            f"--downscaler {settings.downscaler} trains no weights to write to --out"
        )
    from learned_downscale import Downscaler, pretrained

    if out is not None:
        try:
            pretrained.check_free(out)
        except FileExistsError as error:
            raise click.UsageError(str(error)) from error
    photos, T = read_inputs(data, teacher, settings.size, settings.layer)
    first = os.environ.get("RANK", "0") == "0"  # of several processes: the one that writes
    if first:
        processes = os.environ.get("WORLD_SIZE", "1")
        shared = "" if processes == "1" else f", in {processes} processes"
        click.echo(f"{len(photos)} photos of {len(photos.classes)} classes{shared}", err=True)

    import torch

    from learned_downscale.thumbnet import card
    from learned_downscale.thumbnet.log import network_share
    from learned_downscale.thumbnet.train import decoder_of
    from learned_downscale.thumbnet.train import train as run_training

    if settings.precision == "float32":
        torch.backends.cudnn.allow_tf32 = False  # else float32 is none on a GPU
    with Progress() as progress:
        try:
            E, _ = run_training(settings, photos, T, run, progress)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
    if not first:
        return
    if settings.epochs or settings.stage1 != "none":
        click.echo(f"Networks took {network_share(run):.1%} of the training time", err=True)
    if out is None or not isinstance(E, Downscaler):
        click.echo(f"E and S are in {run}")
        return
    training = card.describe(
        settings,
        data=["/".join(path.resolve().parts[-2:]) for path in data],
        photos=len(photos),
        classes=len(photos.classes),
        teacher=teacher_name or teacher,
        license=license,
        note=note,
    )
    text = card.render(out.name, sum(p.numel() for p in E.parameters()), training, None)
    pretrained.save(out, E, text, decoder=decoder_of(run), training=training)
    try:
        from learned_downscale.engine.export import export

        export(out)
    except ImportError as error:
        click.echo(f"No {pretrained.ONNX}: {error}", err=True)
    click.echo(f"Weights and card are in {out}; E and S are in {run}")


class Progress:
    """A bar on a terminal, and a line with the mean losses now and then everywhere."""

    LINES = 20  # a run

    def __enter__(self) -> Progress:
        self._bar: Any = None
        self._terms: dict[str, list[float]] = {}  # a stage has some of them
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
