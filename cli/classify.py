"""learned-downscale classify."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from learned_downscale.cli.terminal import shown, tell


@click.command("classify")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--classifier",
    default="thumbnail1000",
    show_default=True,
    help="Weights of a thumbnail classifier: the bundled name, a folder or a Hugging Face id.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes to print."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all classes.")
def command(files: tuple[Path, ...], classifier: str, top: int, as_json: bool) -> None:
    """Classify thumbnails, by default with the bundled classifier (the 1000 classes of
    ImageNet).

    The bundled classifier also takes photos and makes them smaller first. A file that fails is
    reported, the rest is done, and the exit status is 1.
    """
    from learned_downscale.files import quiet
    from learned_downscale.readers.bundled import ThumbnailClassifier

    try:
        network = ThumbnailClassifier.from_pretrained(classifier)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--classifier {classifier}: {error}") from error
    found, failed = [], 0
    for file in files:
        try:
            with quiet():
                prediction = network(file)
        except (OSError, ValueError, TypeError) as error:
            failed += 1
            reason = error.strerror if isinstance(error, FileNotFoundError) else error
            tell(f"failed: {shown(file)}: {reason}")
            continue
        found.append(
            {
                "file": str(file),
                "label": prediction.label,
                "probability": prediction.probability,
                "probabilities": prediction.probabilities,
            }
        )
        if not as_json:
            best = list(prediction.probabilities.items())[:top]
            ranks = ", ".join(f"{label} {p:.1%}" for label, p in best)
            click.echo(f"{shown(file)}: {prediction.label or 'none of these'} ({ranks})")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    if failed:
        sys.exit(1)
