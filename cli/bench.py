"""learned-downscale bench."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from learned_downscale.cli.terminal import tell


@click.command()
@click.option(
    "--megapixels",
    multiple=True,
    type=click.Choice(["0.3", "2", "12", "50"]),
    help="Image sizes; default: all. Repeatable.",
)
@click.option(
    "--factor",
    "factors",
    multiple=True,
    type=click.Choice(["2", "4"]),
    help="Factors; default: both. Repeatable.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=7),
    default=7,
    show_default=True,
    help="Rounds in which the systems take turns; the median counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw time over image size into this file (.png, .svg, .pdf).",
)
def bench(
    megapixels: tuple[str, ...],
    factors: tuple[str, ...],
    rounds: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure the time and memory of resizing, on this machine and now.

    Ours on each backend beside Pillow, OpenCV, torch and, if pyvips is installed, libvips; with 1
    thread and with all. Let nothing else run meanwhile.
    """
    from learned_downscale import bench as run

    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"--plot {plot}: the file must end in .png, .svg or .pdf")
    if plot is not None and not plot.parent.is_dir():
        raise click.UsageError(f"--plot {plot}: there is no folder {plot.parent}")
    tell(run.machine())
    tell(f"learned: {run.backend()}")
    rows = list(
        run.bench(
            [float(mp) for mp in megapixels] or list(run.SIZES),
            [int(f) for f in factors] or [2, 4],
            rounds,
            tell,
        )
    )
    click.echo(
        json.dumps([dataclasses.asdict(row) for row in rows], indent=2)
        if as_json
        else run.table(rows)
    )
    if plot is not None:
        try:
            run.plot(rows, plot)
        except (ImportError, OSError) as error:
            raise click.ClickException(str(error)) from error
