"""learned-downscale convert."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from learned_downscale.cli.convert_options import GroupedCommand, options
from learned_downscale.cli.progress import Progress, bytes_shown, seconds_shown
from learned_downscale.cli.signals import caught
from learned_downscale.cli.terminal import shown, tell

if TYPE_CHECKING:
    from learned_downscale.conversion.batch import Batch, Request
    from learned_downscale.conversion.manifest import Row
    from learned_downscale.conversion.recipe import Recipe
    from learned_downscale.conversion.runs import Summary

FAILURES = 100  # that the JSON summary names; the manifest has all
# what became of images -> how the summary says so
WORDS = {
    "done": "converted",
    "copied": "copied (not larger than asked)",
    "skipped": "skipped (not larger than asked)",
    "unchanged": "unchanged",
    "kept": "kept: OUT had them, made by others (--overwrite always replaces them)",
    "failed": "failed",
    "failed before": "failed in an earlier run (--retry-failed tries them again)",
}


@options
@click.command("convert", cls=GroupedCommand)
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
def command(source: str, out: str, as_json: bool, verbose: bool, **given: Any) -> None:
    """Make thumbnails of an image, or of all images in a folder (JPEG, PNG, WebP, TIFF, AVIF, GIF,
    BMP, JPEG 2000; HEIF with the extra `heif`).

    OUT gets the same folders and names and, without --format, formats. Photos are turned upright;
    metadata and colour profile are kept. A file that fails is reported, the rest is converted, and
    the exit status is 1. OUT/.learned-downscale/manifest.jsonl says what became of each image; the
    same command goes on where a stopped one was.

    IN and OUT may be URLs (s3://bucket/photos); - is standard input or output, for one image.
    """
    from learned_downscale.conversion.runs import EngineError
    from learned_downscale.conversion.stores import BusyError

    try:
        recipe = _recipe(given)
        if "-" in (source, out):
            _refuse_for_pipes(given)
            _pipe(source, out, recipe)
            return
        from learned_downscale.conversion.batch import Batch
        from learned_downscale.conversion.manifest import OtherRecipeError

        batch = Batch.of(_request(source, out, recipe, given))
        if given["verify"] and not batch.makes_files:
            raise ValueError("--verify reads files; it is not for arrays and shards")
        if given["parquet"]:
            _check_parquet(batch)
    except (ValueError, OSError, ImportError) as error:
        raise click.UsageError(str(error)) from error
    try:
        if given["dry_run"]:
            _estimate(batch, as_json)
            return
        with batch:
            status = _run(batch, as_json, verbose, given)
    except (OtherRecipeError, EngineError) as error:
        raise click.UsageError(str(error)) from error
    except (BusyError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


def _recipe(given: dict[str, Any]) -> Recipe:
    from learned_downscale.conversion.recipe import Recipe

    same = ("factor", "size", "max_side", "fit", "weights", "quality", "background", "small")
    more = ("suffix", "exact", "max_pixels", "backend", "device")
    kinds = ("metadata", "to_srgb", "subsampling", "frames")
    ending = given["format"] and f".{given['format']}"
    raw = given["to"] == "array"
    return Recipe(**{name: given[name] for name in (*same, *more, *kinds)}, ending=ending, raw=raw)


def _request(source: str, out: str, recipe: Recipe, given: dict[str, Any]) -> Request:
    from learned_downscale.conversion.batch import Request
    from learned_downscale.conversion.jobs import Choice, read_names
    from learned_downscale.conversion.runs import Policy

    file = given["files_from"]
    names = None if file is None else read_names(file.read(), source)
    choice = Choice(given["include"], given["exclude"], names, given["on_collision"])
    policy = Policy(given["overwrite"], given["retry_failed"], given["on_error"], given["hashes"])
    same = ("to", "shard_size", "workers", "engine", "address")
    more = {name: given[name] for name in same}
    return Request(source, out, recipe, choice, policy, **more)


def _refuse_for_pipes(given: dict[str, Any]) -> None:
    """Raise ValueError for options that would do nothing."""
    run = ("dry_run", "verify", "parquet", "hashes", "files_from")
    asked = [f"--{name.replace('_', '-')}" for name in run if given.get(name)]
    asked += ["--to"] if given["to"] != "files" else []
    asked += ["--engine"] if given["engine"] != "local" else []
    if asked:
        named = ", ".join(asked).replace("--hashes", "--hash")
        raise ValueError(f"{named}: not for one image by standard input or output; name IN and OUT")


def _check_parquet(batch: Batch) -> None:
    """Raise ValueError, before anything is made, if no Parquet manifest can be."""
    from importlib.util import find_spec

    if batch.manifest is None:
        raise ValueError("--parquet is for folders: one file has no manifest; name a folder as OUT")
    if find_spec("pyarrow") is None:
        raise ValueError("--parquet needs pyarrow: pip install pyarrow")


def _pipe(source: str, out: str, recipe: Recipe) -> None:
    """One image from standard input or to standard output."""
    from pathlib import Path

    from learned_downscale.conversion.batch import convert_bytes, ending_of
    from learned_downscale.conversion.disk import LocalStore

    ending = ending_of(out) or ending_of(source)
    if out != "-" and ending_of(out) is None:
        raise ValueError(f"{out} names no format; OUT must be a file such as small.jpg, or -")
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        small = convert_bytes(content, recipe, ending)
    except Exception as error:  # Pillow raises many kinds
        raise click.ClickException(f"{shown(source)}: {error}") from error
    if out == "-":
        sys.stdout.buffer.write(small)
        sys.stdout.buffer.flush()
    else:
        store = LocalStore(Path(out).parent)
        store.commit(Path(out).name, store.stage(Path(out).name, small))


def _estimate(batch: Batch, as_json: bool) -> None:
    try:
        found = batch.estimate()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    click.echo(
        f"would convert {found.images:,} images of {bytes_shown(found.bytes_in)} to about "
        f"{bytes_shown(found.bytes_out)} in about {seconds_shown(found.seconds)}, by a sample of "
        f"{found.sample}" + (f", of which {found.failed} failed" if found.failed else "")
    )


def _run(batch: Batch, as_json: bool, verbose: bool, given: dict[str, Any]) -> int:
    """Run, report, and give the exit status."""
    from learned_downscale.conversion.runs import Run, Stop

    stop, failures = Stop(), list[dict[str, str | None]]()
    progress = Progress(batch.total if isinstance(batch.runner, Run) else None)

    def on_row(row: Row) -> None:
        name = shown(batch.jobs.source.shown(row.input)) if batch.jobs else shown(row.input)
        if row.status == "failed":
            tell(f"failed: {name}: {shown(row.reason)}")
            if len(failures) < FAILURES:
                failures.append({"input": row.input, "reason": row.reason})
        elif verbose:
            tell(f"{name}: {row.plan or row.reason}")
        progress.step(row.status == "failed")

    def wind_up(name: str) -> None:
        stop.reason = name
        tell(f"{name}: stopping; a second one ends at once")

    with caught(wind_up) as signals:
        summary = batch.run(on_row, stop)
    progress.end()
    report = asdict(summary) | {"counts": dict(summary.counts), "failures": failures}
    if given["verify"] and batch.done:
        checked = batch.check(given["verify"])
        report["verified"] = asdict(checked)
        tell(f"{checked.same} of {checked.images} thumbnails are read as their originals are")
    if given["parquet"] and batch.manifest is not None:
        tell(f"the manifest is in {shown(batch.write_parquet())}, too")
    endings = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in batch.others)
    report["other_files"] = dict(endings)
    click.echo(json.dumps(report, indent=2) if as_json else _line(summary, endings))
    if summary.stopped:
        tell(f"stopped: {shown(summary.stopped)}; the same command goes on from here")
    return 128 + signals[0] if signals else int(not summary.complete)


def _line(summary: Summary, endings: Counter[str]) -> str:
    """What happened, in a line."""
    counts = {"done": summary.counts["done"], **summary.counts}
    parts = [f"{counts[key]} {words}" for key, words in WORDS.items() if key in counts]
    if endings:
        named = ", ".join(f"{n} {shown(ending)}" for ending, n in endings.most_common(5))
        more = ", ..." * (len(endings) > 5)
        parts.append(f"{endings.total()} other files left out ({named}{more})")
    if summary.bytes_in:
        parts.append(f"{bytes_shown(summary.bytes_in)} -> {bytes_shown(summary.bytes_out)}")
    return ", ".join(parts)
