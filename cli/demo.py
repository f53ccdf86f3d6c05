"""learned-downscale demo."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--reader",
    metavar="NAME",
    help="A Hugging Face image classifier, model id or folder, whose prediction is written under "
    "each image (extra train).",
)
def command(out: Path, reader: str | None) -> None:
    """Make thumbnails of three photos of scikit-image, and a picture that compares them.

    Writes OUT/thumbnails/ (default weights, factor 4) and OUT/comparison.png: original, bicubic,
    default weights, and the photo that the decoder of x4-machine reconstructs. Needs the extra
    `demo`.
    """
    from learned_downscale.demo import write_demo

    try:
        path = write_demo(out, reader)
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Thumbnails are in {out / 'thumbnails'}; compare them in {path}")
