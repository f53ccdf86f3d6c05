"""learned-downscale verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from learned_downscale.cli.convert import Size
from learned_downscale.cli.terminal import shown, tell

WORST = 200  # photos shown in a report

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=_FOLDER)
@click.option("--originals", type=_FOLDER, help="The same as DIR.")
@click.option(
    "--thumbnails",
    type=_FOLDER,
    help="Thumbnails that you have, under the originals' names; they are compared, too.",
)
@click.option(
    "--decoder",
    help="Weights (x4-machine) whose decoder your thumbnails are read behind.",
)
@click.option("--factor", type=float, help="Of the thumbnails that are made.  [default: 4]")
@click.option("--size", type=Size(), help="Exact size of the thumbnails that are made.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("learned", "bicubic"),
    show_default=True,
    help="learned, area, bicubic, bilinear, box, hamming, lanczos, nearest, or weights: a name "
    "(x4-machine), a folder or a Hugging Face model id. Repeatable; the first one counts.",
)
@click.option(
    "--teacher",
    help="What reads the originals: a Hugging Face image classifier, model id or folder. "
    "[default: the bundled classifier]",
)
@click.option(
    "--judge",
    type=click.Choice(["classifier", "teacher"]),
    default="classifier",
    show_default=True,
    help="What reads the thumbnails; with teacher, other classes than the bundled ones will do.",
)
@click.option(
    "--labels",
    type=click.Choice(["auto", "folders", "none"]),
    default="auto",
    show_default=True,
    help="Whether the photos' folders are their classes (WordNet ids or readable names).",
)
@click.option("--limit", type=click.IntRange(min=1), help="Look at so many photos only.")
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="Of thumbnails in JPEG and WebP.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; shares lie in [0, 1].")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Also write an HTML page with the {WORST} worst photos.",
)
@click.option(
    "--fail-below",
    type=float,
    help="End with status 1 if the top-1 (without labels: the agreement) of the first row, "
    "a share from 0 to 1, is lower.",
)
def verify(
    folder: Path | None,
    originals: Path | None,
    thumbnails: Path | None,
    factor: float | None,
    size: tuple[int, int] | None,
    as_json: bool,
    report: Path | None,
    fail_below: float | None,
    **options: Any,
) -> None:
    """Say what networks still see in the thumbnails of the photos in DIR.

    Each photo is made smaller by every method, saved as `convert` would, and read again by the
    bundled thumbnail classifier (20 classes). What it should show is said by the photo's folder
    (n02102040, "golden retriever"), or else by what a network reads in the original.

    Photos that cannot be compared are reported, and the exit status is 1.
    """
    if (folder is None) == (originals is None):
        raise click.UsageError("name the photos once, as DIR or with --originals")
    if factor is not None and size is not None:
        raise click.UsageError("give --factor or --size, not both")
    if thumbnails is not None and (factor is not None or size is not None):
        raise click.UsageError("thumbnails that are made get the size of those in --thumbnails")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--report writes an HTML page; {report} does not end in .html")
    if report is not None and not report.parent.is_dir():
        raise click.UsageError(f"--report: there is no folder {report.parent}")
    if fail_below is not None and not 0 <= fail_below <= 1:
        raise click.UsageError(f"--fail-below is a share from 0 to 1, not {fail_below}")
    from learned_downscale.verification import report as library
    from learned_downscale.verification.compare import verify as run

    bar: Any = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = click.progressbar(length=total, label="Comparing", file=sys.stderr)
        bar.update(done - bar.pos)

    try:
        found = run(
            folder or originals or "",
            thumbnails,
            size=size or (4 if factor is None else factor),
            keep_images=WORST if report else 0,
            report=progress,
            **options,
        )
    except (OSError, ValueError, ImportError) as error:
        raise click.UsageError(str(error)) from error
    finally:
        if bar is not None:
            bar.render_finish()
    for name, reason in found.failed.items():
        tell(f"failed: {shown(name)}: {reason}")
    for line in library.remarks(found):
        tell(line)
    if as_json:
        click.echo(json.dumps(library.as_json(found), indent=2))
    else:
        click.echo(_head(found))
        click.echo(library.markdown(found))
    if not found.images:
        tell("nothing could be compared")
        sys.exit(1)
    if report is not None:
        try:
            library.write_page(found, report)
        except OSError as error:
            tell(f"the report {report} cannot be written: {error.strerror}")
            sys.exit(1)
        click.echo(f"The report is in {report}", err=True)
    first = next(iter(found.methods))
    below = fail_below is not None and found.score(first) < fail_below
    if below:
        what = "top-1" if found.labelled else "agreement"
        tell(f"{first}: {what} {found.score(first):.4f} is below {fail_below}")
    if below or found.failed:
        sys.exit(1)


def _head(found: Any) -> str:
    right = "" if found.original_top1 is None else f" ({found.original_top1:.1%} right)"
    failed = f", {len(found.failed)} failed" if found.failed else ""
    return (
        f"{found.images} photos{failed}; originals read by {found.reference}{right}, "
        f"thumbnails by {found.judge}\n"
    )
