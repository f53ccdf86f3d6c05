"""learned-downscale push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from learned_downscale.hub import Upload


@click.command("push")
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.argument("repo", required=False, metavar="[OWNER/NAME]")
@click.option("--all", "everything", is_flag=True, help="All bundled weights, to ORG/WEIGHTS.")
@click.option("--org", metavar="ORG", help="User or organisation on the Hub, for --all.")
@click.option("--private", is_flag=True, help="Models that are made are private.")
@click.option("--message", help="Of the commit.")
@click.option(
    "--dry-run", is_flag=True, help="Show every file with its size and SHA-256; send nothing."
)
def command(
    folder: Path | None,
    repo: str | None,
    everything: bool,
    org: str | None,
    private: bool,
    message: str | None,
    dry_run: bool,
) -> None:
    """Send a weights FOLDER with its card to the model OWNER/NAME of the Hugging Face Hub.

    The folder is checked first: its hashes, whether the networks load, and that it holds nothing
    else. Prints OWNER/NAME@COMMIT, which from_pretrained takes. The token is HF_TOKEN, or that of
    `hf auth login`.
    """
    if everything:
        if folder is not None or org is None:
            raise click.UsageError("--all goes with --org ORG, without a folder")
        from learned_downscale import pretrained

        names = sorted({name for kind in pretrained.KINDS for name in pretrained.bundled(kind)})
        jobs = [(_bundled_folder(name), f"{org}/{name}") for name in names]
    else:
        if folder is None or repo is None or org is not None:
            raise click.UsageError("give FOLDER and OWNER/NAME; or --all and --org ORG")
        jobs = [(folder, repo)]
    try:
        from learned_downscale import hub

        files = {target: _checked(source, target) for source, target in jobs}  # all, before any
        for source, target in jobs:
            if dry_run:
                click.echo(f"{target}, from {source}:")
                for file in files[target]:
                    click.echo(f"  {len(file.content):>10,} bytes  {file.sha256}  {file.name}")
            else:
                click.echo(hub.push(source, target, private=private, message=message))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _bundled_folder(name: str) -> Path:
    from learned_downscale import pretrained

    return next(filter(None, (pretrained.folder_of(name, kind) for kind in pretrained.KINDS)))


def _checked(folder: Path, repo: str) -> list[Upload]:
    """What would be sent of a folder whose networks all load."""
    from learned_downscale import Decoder, Downscaler, ThumbnailClassifier, hub, pretrained

    config = pretrained.check_folder(folder)
    if "downscaler" in config:
        Downscaler.from_pretrained(folder)
    if "classifier" in config:
        ThumbnailClassifier.from_pretrained(folder)
    if "decoder" in config:
        Decoder.from_pretrained(folder)
    return hub.uploads(folder, repo)
