"""learned-downscale download."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("download")
@click.argument("name", metavar="OWNER/NAME[@REVISION]")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Fetch files that are in the cache again.")
def command(name: str, folder: Path | None, force: bool) -> None:
    """Fetch weights from the Hugging Face Hub into FOLDER, or into the cache (HF_HOME).

    Every file is checked against the SHA-256 in config.json. Prints the folder and
    OWNER/NAME@COMMIT, which from_pretrained takes; with HF_HUB_OFFLINE=1, too. Bundled weights need
    no download.
    """
    from learned_downscale import hub, pretrained

    if any(pretrained.is_bundled(name, kind) for kind in pretrained.KINDS):
        raise click.UsageError(f"{name} is inside the package: there is nothing to download")
    try:
        path, pinned = hub.download(name, folder, force=force)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{path}\n{pinned}")
