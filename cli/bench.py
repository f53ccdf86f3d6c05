"""learned-downscale bench."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from learned_downscale.cli.terminal import tell


@click.command("bench")
@click.option(
    "--megapixels",
    multiple=True,
    type=click.Choice(["0.3", "2", "12", "50"]),
    help="Size of the images.  [default: all]  Repeatable.",
)
@click.option(
    "--factor",
    "factors",
    multiple=True,
    type=click.Choice(["2", "4"]),
    help="Factor of width and height.  [default: both]  Repeatable.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=7),
    default=7,
    show_default=True,
    help="Rounds over all systems; the median counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw time over image size into this file (.png, .svg, .pdf).",
)
def command(
    megapixels: tuple[str, ...],
    factors: tuple[str, ...],
    rounds: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure the time and memory of resizing on this machine.

    Compares each backend with Pillow, OpenCV, torch and, if pyvips is installed, libvips, with 1
    thread and with all. Run nothing else meanwhile.
    """
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"--plot {plot}: the file must end in .png, .svg or .pdf")
    if plot is not None and not plot.parent.is_dir():
        raise click.UsageError(f"--plot {plot}: there is no folder {plot.parent}")
    from learned_downscale import bench

    tell(bench.machine())
    tell(f"learned: {bench.backend()}")
    rows = list(
        bench.measure(
            [float(mp) for mp in megapixels] or list(bench.SIZES),
            [int(f) for f in factors] or [2, 4],
            rounds,
            tell,
        )
    )
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        click.echo(bench.table(rows))
    if plot is not None:
        try:
            bench.draw(rows, plot)
        except (ImportError, OSError) as error:
            raise click.ClickException(str(error)) from error
