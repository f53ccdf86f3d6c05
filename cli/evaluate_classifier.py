"""learned-downscale evaluate-classifier."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import click

from learned_downscale.cli.inputs import data_option, read_photos

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("evaluate-classifier")
@click.argument("weights", type=_FOLDER)
@data_option
@click.option(
    "--size",  # 172: the smallest thumbnails, of the middle at 4 per side, have 32 px then
    type=click.IntRange(min=172),
    default=224,
    show_default=True,
    help="Of the photos, px.",
)
@click.option(
    "--against", multiple=True, type=_FOLDER, help="Other weights to compare with. Repeatable."
)
@click.option(
    "--write", is_flag=True, help="Put the temperature, the figures and the card into WEIGHTS."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
def evaluate_classifier(
    weights: Path,
    data: tuple[Path, ...],
    size: int,
    against: tuple[Path, ...],
    write: bool,
    as_json: bool,
) -> None:
    """Measure and calibrate a thumbnail classifier that `train-classifier` wrote.

    --data names photos that were not trained on.
    """
    photos = read_photos(data, size)

    from learned_downscale.thumbnet import evaluate_classifier as library

    try:
        rows, figures = library.evaluate(weights, photos, against)
        if write:
            command = ["learned-downscale", "evaluate-classifier", str(weights)]
            command += [part for path in data for part in ("--data", str(path))]
            command += ["--size", str(size)]
            command += [part for path in against for part in ("--against", str(path))]
            where = f"{len(photos)} photos of {len(photos.classes)} classes, not trained on"
            library.add_figures(weights, rows, figures, where, shlex.join(command))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({"rows": [dataclasses.asdict(r) for r in rows], **figures}, indent=2))
    else:
        click.echo(f"{library.markdown(rows)}\n\n{library.facts(figures)}")
