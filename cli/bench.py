"""learned-downscale bench."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from learned_downscale.cli.terminal import Size, tell


@click.command("bench")
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=Size(),
    help="Size of the images.  [default: many cases]  Repeatable.",
)
@click.option(
    "--factor",
    "factors",
    multiple=True,
    type=click.FloatRange(1, min_open=True),
    help="Factor of width and height, with --source.  [default: 4 and 2]  Repeatable.",
)
@click.option("--size", type=Size(), help="Size of the thumbnails, with --source.")
@click.option(
    "--rounds",
    type=click.IntRange(min=7),
    default=7,
    show_default=True,
    help="Rounds over all systems; the median counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
def command(
    sources: tuple[tuple[int, int], ...],
    factors: tuple[float, ...],
    size: tuple[int, int] | None,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure the time and memory of resizing on this machine.

    Compares each backend with Pillow, OpenCV, torch and, if pyvips is installed, libvips, with 1
    thread and with all. Run nothing else meanwhile.
    """
    if (factors or size) and not sources:
        raise click.UsageError("--factor and --size need --source, the size of the images")
    if factors and size:
        raise click.UsageError("give either --factor or --size")
    from learned_downscale import bench

    sizes: tuple[Any, ...] = (size,) if size else factors or (4, 2)
    try:
        cases = [bench.Case.of(source, one) for source in sources for one in sizes]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    tell(bench.machine())
    tell(f"learned: {bench.backend()}")
    rows = list(bench.measure(cases or bench.CASES, rounds, tell))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        click.echo(bench.table(rows))
