"""learned-downscale verify."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from learned_downscale.cli.terminal import Size, shown, tell
from learned_downscale.core.filters import FILTERS

if TYPE_CHECKING:
    from learned_downscale.verification.results import Verification

WORST = 200  # photos in a report

# The library's arguments in its messages -> the options of this command.
OPTIONS = {
    "reader='reference'": "--judge teacher",
    "labels='none'": "--labels none",
    "leave decoder out": "leave --decoder out",
    "as reference": "with --teacher",
    "let it read originals and thumbnails": "let it read originals and thumbnails (--teacher NAME "
    "--judge teacher)",
}

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("verify")
@click.argument("folder", metavar="[DIR]", required=False, type=_FOLDER)
@click.option("--originals", type=_FOLDER, help="The same as DIR.")
@click.option(
    "--thumbnails",
    type=_FOLDER,
    help="Folder of thumbnails that you have, under the originals' names; compared, too.",
)
@click.option(
    "--decoder",
    metavar="WEIGHTS",
    help="Weights (x4-machine) whose decoder reconstructs the photos from --thumbnails.",
)
@click.option("--factor", type=float, help="Of the thumbnails that are made.  [default: 4]")
@click.option("--size", type=Size(), help="Exact size of the thumbnails that are made.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("learned", "bicubic"),
    show_default=True,
    help=f"learned, {', '.join(FILTERS)}, or weights: a bundled name (x4-machine), a folder or a "
    "Hugging Face model id. Repeatable; the first one counts.",
)
@click.option(
    "--teacher",
    metavar="NAME",
    help="Reads the originals: a Hugging Face image classifier, model id or folder.  "
    "[default: the thumbnail classifier]",
)
@click.option(
    "--judge",
    type=click.Choice(["classifier", "teacher"]),
    default="classifier",
    show_default=True,
    help="Reads the thumbnails: a thumbnail classifier, or the network of --teacher.",
)
@click.option(
    "--classifier",
    metavar="FOLDER",
    help="Weights of the thumbnail classifier, such as a trained student.  "
    "[default: the bundled one]",
)
@click.option(
    "--labels",
    type=click.Choice(["auto", "folders", "none"]),
    default="auto",
    show_default=True,
    help="Whether the names of the photos' folders are their classes (WordNet ids or readable "
    "names).",
)
@click.option("--limit", type=click.IntRange(min=1), help="Compare at most so many photos.")
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="Quality of JPEG and WebP thumbnails.",
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
    help="Exit with status 1 if the top-1 accuracy (without labels: the agreement) of the first "
    "method, a share from 0 to 1, is lower.",
)
def command(as_json: bool, report: Path | None, fail_below: float | None, **options: Any) -> None:
    """Compare the predictions of a classifier for photos in DIR and for their thumbnails.

    Every method makes a thumbnail of each photo, which is saved as `convert` would and read by the
    bundled thumbnail classifier (the 1000 classes of ImageNet). The label of a photo is the name of
    its folder (n02102040, "golden retriever"), or else the prediction for the original.

    Photos that cannot be compared are reported, and the exit status is 1.
    """
    _check(report, fail_below, options)
    from learned_downscale.verification.report import as_json as in_json
    from learned_downscale.verification.report import markdown, remarks, write_page

    found = _verified(_arguments(options), keep_images=WORST if report else 0)
    for name, reason in found.failed.items():
        tell(f"failed: {shown(name)}: {reason}")
    for line in remarks(found):
        tell(_in_options(line))
    if as_json:
        click.echo(json.dumps(in_json(found), indent=2))
    else:
        click.echo(_head(found))
        click.echo(markdown(found))
    if not found.images:
        tell("no photo could be compared")
        sys.exit(1)
    if report is not None:
        try:
            write_page(found, report)
        except OSError as error:
            tell(f"the report {report} cannot be written: {error.strerror}")
            sys.exit(1)
        tell(f"The report is in {report}")
    first = next(iter(found.methods))
    below = found.score(first) < (-math.inf if fail_below is None else fail_below)
    if below:
        name = "top-1" if found.labelled else "agreement"
        tell(f"{first}: {name} {found.score(first):.4f} is below {fail_below}")
    if below or found.failed:
        sys.exit(1)


def _check(report: Path | None, fail_below: float | None, options: dict[str, Any]) -> None:
    """Refuse wrong usage before the networks are loaded."""
    folder, factor, size = options["folder"], options["factor"], options["size"]
    if (folder is None) == (options["originals"] is None):
        raise click.UsageError("name the photos once, as DIR or with --originals")
    if factor is not None and size is not None:
        raise click.UsageError("give --factor or --size, not both")
    if options["thumbnails"] is not None and (factor is not None or size is not None):
        raise click.UsageError(
            "thumbnails that are made get the size of those in --thumbnails: leave out --factor "
            "and --size"
        )
    if options["decoder"] is not None and options["thumbnails"] is None:
        raise click.UsageError(
            "--decoder is for thumbnails that you have: name their folder with --thumbnails"
        )
    if options["judge"] == "teacher" and options["teacher"] is None:
        raise click.UsageError("--judge teacher needs a teacher: name a classifier with --teacher")
    if options["judge"] == "teacher" and options["classifier"] is not None:
        raise click.UsageError(
            "--classifier reads no thumbnails with --judge teacher: leave one out"
        )
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--report writes an HTML page; {report} does not end in .html")
    if report is not None and not report.parent.is_dir():
        raise click.UsageError(f"--report: there is no folder {report.parent}")
    if fail_below is not None and not 0 <= fail_below <= 1:
        raise click.UsageError(f"--fail-below is a share from 0 to 1, not {fail_below}")


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `verify` that the options stand for."""
    same = ("thumbnails", "methods", "decoder", "labels", "limit", "quality")
    classifier = options["classifier"] or "bundled"
    return {
        **{name: options[name] for name in same},
        "originals": options["folder"] or options["originals"],
        "size": options["size"] or (4 if options["factor"] is None else options["factor"]),
        "reference": options["teacher"],
        "reader": "reference" if options["judge"] == "teacher" else classifier,
    }


def _verified(arguments: dict[str, Any], keep_images: int) -> Verification:
    """Run `verify` with a progress bar; its errors end the command with status 2."""
    from learned_downscale.verification.compare import verify

    bar: Any = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = click.progressbar(length=total, label="Comparing", file=sys.stderr)
        bar.update(done - bar.pos)

    try:
        return verify(**arguments, keep_images=keep_images, progress=progress)
    except (OSError, ValueError, ImportError) as error:
        raise click.UsageError(_in_options(str(error))) from error
    finally:
        if bar is not None:
            bar.render_finish()


def _in_options(message: str) -> str:
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    return message


def _head(found: Verification) -> str:
    right = "" if found.original_top1 is None else f" (top-1 {found.original_top1:.1%})"
    failed = f", {len(found.failed)} failed" if found.failed else ""
    return (
        f"{found.images} photos{failed}; originals read by {found.reference}{right}, "
        f"thumbnails by {found.reader}\n"
    )
