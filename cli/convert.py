"""learned-downscale convert."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from learned_downscale.cli.terminal import Size, tell


def check_colour(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no colour; give a name or #rrggbb") from error
    return value


@click.command("convert")
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--factor", type=float, help="Divide width and height by this, such as 4.")
@click.option("--size", type=Size(), help="Exact size of every thumbnail.")
@click.option(
    "--weights",
    help="A bundled name (x4-machine), a folder or a Hugging Face model id.  [default: x4 or x2, "
    "by the factor]",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["jpg", "png", "tif", "webp"]),
    help="Format of all thumbnails.  [default: the format of each image]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="Quality of JPEG and WebP files.",
)
@click.option(
    "--background",
    default="white",
    show_default=True,
    callback=check_colour,
    help="Colour under transparency where the format has none (JPEG): a name or #rrggbb.",
)
@click.option("--overwrite", is_flag=True, help="Replace files in OUT; default: keep them.")
@click.option(
    "--exact",
    is_flag=True,
    help="Decode JPEGs whole and resample by antialiased bicubic always: slower, as `resize` with "
    "exact=True.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Files that are worked on at once.  [default: two more than there are processors]",
)
@click.option("-v", "--verbose", is_flag=True, help="Print how each thumbnail was made.")
def command(
    source: Path,
    out: Path,
    factor: float | None,
    size: tuple[int, int] | None,
    weights: str | None,
    suffix: str | None,
    quality: int,
    background: str,
    overwrite: bool,
    exact: bool,
    workers: int | None,
    verbose: bool,
) -> None:
    """Make thumbnails of a file, or of all JPEG, PNG, WebP and TIFF files in a folder.

    OUT gets the same folders and names and, without --format, formats. Photos are turned upright;
    EXIF and colour profile are kept. A file that fails is reported, the rest is converted, and the
    exit status is 1.
    """
    if (factor is None) == (size is None):
        raise click.UsageError("give either --factor (such as 4) or --size (such as 320x240)")
    from learned_downscale.conversion.jobs import check_formats, find_jobs
    from learned_downscale.conversion.local import convert_files
    from learned_downscale.engine.backend import processors
    from learned_downscale.resizer import Resizer

    try:
        others: list[Path] = []
        jobs = find_jobs(source, out, suffix and f".{suffix}", others)
        workers = min(len(jobs), workers or processors() + 2)
        # several files at once, or several threads for one
        threads = 1 if workers > 1 else None
        resizer = Resizer(size or factor or 0, weights=weights, num_threads=threads, exact=exact)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    if resizer.needs_lossless:
        try:
            check_formats(jobs)
        except ValueError as error:
            raise click.UsageError(f"{error} (--format png)") from error

    converted, kept, failed = 0, 0, 0
    options = {"quality": quality, "overwrite": overwrite, "background": background}
    done = convert_files(jobs, resizer, workers, **options)
    with click.progressbar(done, len(jobs), label="Converting", file=sys.stderr) as bar:
        for job, plan in bar:
            if isinstance(plan, Exception):  # one bad file must not stop the rest
                failed += 1
                line = f"failed: {job.source}: {str(plan) or type(plan).__name__}"
            else:
                converted, kept = converted + (plan is not None), kept + (plan is None)
                line = f"{job.source}: {plan or 'kept: OUT has it already'}" if verbose else ""
            if line:
                tell(line)
    summary = f"{converted} converted"
    if kept:
        summary += f", {kept} kept (--overwrite replaces them)"
    if failed:
        summary += f", {failed} failed"
    if others:
        endings = Counter(path.suffix.lower() or "no ending" for path in others)
        named = ", ".join(f"{n} {ending}" for ending, n in endings.most_common(5))
        summary += f", {len(others)} skipped ({named}{', ...' * (len(endings) > 5)})"
    click.echo(summary)
    if failed:
        sys.exit(1)
