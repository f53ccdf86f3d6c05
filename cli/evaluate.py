"""learned-downscale evaluate."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import click

from learned_downscale.cli.inputs import data_option, load_network, read_inputs, teacher_option
from learned_downscale.cli.terminal import tell


@click.command()
@click.argument(
    "runs",
    metavar="RUN...",
    nargs=-1,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@data_option
@teacher_option
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=224,
    show_default=True,
    help="Side of the photos, px.",
)
@click.option(
    "--card",
    "cards",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Weights folder whose card gets the rows of its factor. Repeatable.",
)
@click.option(
    "--suite",
    type=click.Choice(["paper"]),
    help="The paper's table: means over seeds, costs, and what was not run.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to which --suite writes its table, such as benchmarks. Rows of other systems "
    "or S that are there stay, and T's are not measured again.",
)
@click.option(
    "--jpeg",
    "quality",
    type=click.IntRange(1, 100),
    help="S sees thumbnails that were saved as JPEG of this quality.",
)
@click.option(
    "--reader",
    help="A network, as in --teacher, that reads the originals in T's place and the thumbnails in "
    "S's, behind S's decoder if it has one, enlarged to the size of the photos; it is not trained.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
def evaluate(
    runs: tuple[Path, ...],
    data: tuple[Path, ...],
    teacher: str,
    size: int,
    cards: tuple[Path, ...],
    suite: str | None,
    out: Path | None,
    quality: int | None,
    reader: str | None,
    as_json: bool,
) -> None:
    """Print the accuracy of T on originals and of S on thumbnails, for runs of `train`.

    --data names photos that were not trained on.
    """
    if suite is None and out is not None:
        raise click.UsageError("--out is where --suite writes to; without it there is --json")
    if cards and (suite is not None or reader is not None):
        raise click.UsageError("cards hold no --suite or --reader; leave --card out")
    if suite is not None and (quality is not None or reader is not None):
        raise click.UsageError("--suite measures no --jpeg or --reader; leave one out")
    photos, T = read_inputs(data, teacher, size)

    import torch

    from learned_downscale.thumbnet.card import add_figures, check_card
    from learned_downscale.thumbnet.evaluate import evaluate as measure
    from learned_downscale.thumbnet.evaluate import markdown

    torch.backends.cudnn.allow_tf32 = False  # else float32 is none on a GPU
    device = "cuda" if torch.cuda.is_available() else "cpu"
    T.to(device)
    other = None if reader is None else load_network(reader, photos.classes).to(device)
    command = ["learned-downscale", "evaluate", *map(str, runs)]
    for option, values in (("--data", data), ("--teacher", [teacher]), ("--size", [size])):
        command += [str(part) for value in values for part in (option, value)]
    where = f"{len(photos)} photos of {len(photos.classes)} classes"
    if quality is not None:
        command += ["--jpeg", str(quality)]
        where += f", thumbnails saved as JPEG of quality {quality}"
    if suite is not None:
        _suite(photos, T, runs, [*command, "--suite", suite], where, teacher, out, as_json)
        return
    try:
        factors = [check_card(folder, runs).factor for folder in cards]
        rows = measure(photos, T, runs, quality, other)
        for folder, factor in zip(cards, factors, strict=True):
            shown = [row for row in rows if row.factor in (1, factor)]
            add_figures(folder, runs, shown, where, shlex.join(command))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        click.echo(markdown(rows))


def _suite(
    photos: Any,
    teacher: Any,
    runs: tuple[Path, ...],
    command: list[str],
    where: str,
    name: str,
    out: Path | None,
    as_json: bool,
) -> None:
    from learned_downscale.thumbnet import suite as library

    words = shlex.join(command)
    which = f"{photos.images.shape[-1]} px, SHA-256 of their names {photos.fingerprint()[:8]}"
    note = f"Top-1 and top-5 on {where} ({which}). T is {name}."
    try:
        earlier = [] if out is None else library.read(out, note)
        rows = library.suite(photos, teacher, runs, words, tell, earlier)
        rows = library.complete(rows, earlier)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if out is not None:
        library.write(out, rows, note)
        click.echo(f"The table is in {out}", err=True)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        click.echo(library.markdown(rows))
