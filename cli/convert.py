"""learned-downscale convert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from learned_downscale.cli.terminal import tell


class Size(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        width, x, height = str(value).lower().partition("x")
        if not (x and width.isdecimal() and height.isdecimal()):
            self.fail(f"{value!r} is no size; write width x height in pixels, such as 320x240")
        return int(width), int(height)


@click.command()
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--factor", type=float, help="Divide both sides by this, such as 4.")
@click.option("--size", type=Size(), help="Exact size of every thumbnail.")
@click.option("--weights", help="Folder or Hugging Face model id instead of the bundled weights.")
@click.option(
    "--format",
    "ending",
    type=click.Choice(["jpg", "png", "tif", "webp"]),
    help="Of all thumbnails.  [default: that of their image]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="Of JPEG and WebP files.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that OUT has; else they are kept.")
@click.option("-v", "--verbose", is_flag=True, help="Say of each file how it was made.")
def convert(
    source: Path,
    out: Path,
    factor: float | None,
    size: tuple[int, int] | None,
    weights: str | None,
    ending: str | None,
    quality: int,
    overwrite: bool,
    verbose: bool,
) -> None:
    """Make thumbnails of a file, or of all JPEG, PNG, WebP and TIFF files in a folder.

    OUT gets the same folders and names and, without --format, formats. Photos are turned upright;
    EXIF and colour profile are kept. A file that fails is reported, the rest is done, and the exit
    status is 1.
    """
    if (factor is None) == (size is None):
        raise click.UsageError("give either --factor (such as 4) or --size (such as 320x240)")
    from learned_downscale.conversion import worker as library
    from learned_downscale import pretrained

    try:
        library.check_size(factor if size is None else size)
        model = None if weights is None else pretrained.load(weights)
        jobs = library.find_jobs(source, out, ending and f".{ending}")
        library.check_formats(jobs, model)
    except (ValueError, TypeError, OSError) as error:
        raise click.UsageError(str(error)) from error

    converted, kept, failed = 0, 0, 0
    with click.progressbar(jobs, label="Converting", file=sys.stderr) as bar:
        for job in bar:
            try:
                plan = library.convert_file(
                    job, factor if size is None else size, model, quality, overwrite
                )
            except Exception as error:  # one bad file must not stop the rest
                failed += 1
                line = f"failed: {job.source}: {str(error) or type(error).__name__}"
            else:
                converted, kept = converted + (plan is not None), kept + (plan is None)
                line = f"{job.source}: {plan or 'kept: OUT has it already'}" if verbose else ""
            if line:
                tell(line)
    summary = f"{converted} converted"
    if kept:
        summary += f", {kept} kept as they were (--overwrite replaces them)"
    if failed:
        summary += f", {failed} failed"
    click.echo(summary)
    if failed:
        sys.exit(1)
