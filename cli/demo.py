"""learned-downscale demo."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option("--factor", type=click.FloatRange(min=1), default=4, show_default=True)
def demo(out: Path, factor: float) -> None:
    """Make thumbnails of three photos that scikit-image ships, and compare them in a picture.

    Writes OUT/thumbnails/ and OUT/comparison.png: original, bicubic, learned.
    """
    from learned_downscale.demo import demo as run

    try:
        path = run(out, factor)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    click.echo(f"Thumbnails are in {out / 'thumbnails'}; compare them in {path}")
