"""learned-downscale evaluate."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import click

from learned_downscale.cli.inputs import TEACHER, data_option, load_reader, read_photos

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
# of the photos: of the smallest thumbnails, cropped at factor 4, the short side is 32 px then
SMALLEST_FOR_CLASSIFIERS = 172


@click.command("evaluate")
@click.argument("folders", metavar="FOLDER...", nargs=-1, type=_FOLDER)
@data_option
@click.option("--teacher", help=f"T, for runs: {TEACHER}.")
@click.option(
    "--size", type=click.IntRange(min=1), default=224, show_default=True, help="Of the photos, px."
)
@click.option(
    "--card",
    "cards",
    multiple=True,
    type=_FOLDER,
    help="Weights folder whose card gets the rows: of its factor, or of the first classifier. "
    "Repeatable.",
)
@click.option(
    "--jpeg",
    "quality",
    type=click.IntRange(1, 100),
    help="For runs: thumbnails are saved as JPEG of this quality before they are read.",
)
@click.option(
    "--reader",
    help="For runs: a frozen network that reads originals and thumbnails in place of T and S, "
    "with S's decoder, if it has one, in front; as in --teacher.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
def command(
    folders: tuple[Path, ...],
    data: tuple[Path, ...],
    teacher: str | None,
    size: int,
    cards: tuple[Path, ...],
    quality: int | None,
    reader: str | None,
    as_json: bool,
) -> None:
    """Print accuracies on photos that were not trained on.

    FOLDER: runs of `train` (T reads the originals, S the thumbnails), or weights folders of
    thumbnail classifiers, which are calibrated, too; the first one is measured in many sizes.
    """
    of_classifiers = [(folder / "config.json").is_file() for folder in folders]
    if any(of_classifiers):
        if not all(of_classifiers) or teacher or reader or quality:
            raise click.UsageError(
                "give runs, or weights folders of classifiers, and these without --teacher, "
                "--reader and --jpeg"
            )
        if size < SMALLEST_FOR_CLASSIFIERS:
            raise click.UsageError(f"classifiers need --size {SMALLEST_FOR_CLASSIFIERS} or more")
        if any(card.resolve() != folders[0].resolve() for card in cards):
            raise click.UsageError(f"--card gets the figures of the first classifier, {folders[0]}")
    elif teacher is None:
        raise click.UsageError("runs need --teacher")
    elif cards and reader:
        raise click.UsageError("cards are about the students of runs; leave --card or --reader out")
    words = ["learned-downscale", "evaluate", *map(str, folders)]
    for option, values in (("--data", data), ("--teacher", [teacher]), ("--size", [size]),
                           ("--jpeg", [quality]), ("--reader", [reader])):  # fmt: skip
        words += [str(p) for value in values if value is not None for p in (option, value)]
    photos = read_photos(data, size)
    where = f"{len(photos)} photos of {len(photos.classes)} classes, not trained on"
    where += "" if quality is None else f", thumbnails saved as JPEG of quality {quality}"
    figures = {"data": where, "command": shlex.join(words)}
    try:
        if any(of_classifiers):
            _classifiers(photos, folders, cards, figures, as_json)
        else:
            _runs(photos, folders, teacher, cards, quality, reader, figures, as_json)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _runs(
    photos: Any,
    runs: tuple[Path, ...],
    teacher: Any,
    cards: tuple[Path, ...],
    quality: int | None,
    reader: str | None,
    figures: dict[str, Any],
    as_json: bool,
) -> None:
    T = load_reader(teacher, photos.classes)

    import torch

    from learned_downscale.thumbnet.card import add_figures, check_card
    from learned_downscale.thumbnet.evaluate import measure_runs

    torch.backends.cudnn.allow_tf32 = False  # else float32 is none on a GPU
    device = "cuda" if torch.cuda.is_available() else "cpu"
    other = None if reader is None else load_reader(reader, photos.classes).to(device)
    factors = [check_card(folder, runs) for folder in cards]
    rows = measure_runs(photos, T.to(device), runs, quality, other)
    for folder, factor in zip(cards, factors, strict=True):
        add_figures(folder, figures, [row for row in rows if row.factor in (1, factor)])
    _print(rows, {}, as_json)


def _classifiers(
    photos: Any,
    folders: tuple[Path, ...],
    cards: tuple[Path, ...],
    figures: dict[str, Any],
    as_json: bool,
) -> None:
    from learned_downscale.thumbnet.card import add_figures
    from learned_downscale.thumbnet.classifier import measure_classifiers

    rows, found = measure_classifiers(photos, folders)
    for folder in cards:
        add_figures(folder, figures | found, rows)
    _print(rows, found, as_json)


def _print(rows: list[Any], figures: dict[str, Any], as_json: bool) -> None:
    from learned_downscale.thumbnet.card import facts
    from learned_downscale.thumbnet.tables import markdown

    if as_json:
        made: Any = [dataclasses.asdict(row) for row in rows]
        click.echo(json.dumps({"rows": made, **figures} if figures else made, indent=2))
    else:
        click.echo(markdown(rows) + (f"\n\n{facts(figures)}" if figures else ""))
