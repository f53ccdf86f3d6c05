"""The photos and the networks, as `train` and `evaluate` take them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

data_option = click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Photos in ImageFolder layout: a folder of class folders, or a .tar shard. Repeatable.",
)
TEACHER = (
    "a Hugging Face image classifier (model id or folder), efficientnet-lite0 (1, 2), or "
    "module:callable"
)


def read_photos(data: tuple[Path, ...], size: int) -> Any:
    """The photos, for training or measuring; wrong ones, or a missing extra, end the command with
    status 2."""
    for needed in ("accelerate", "transformers"):
        if find_spec(needed) is None:
            raise click.UsageError(
                f"{needed} is not installed; training needs: pip install 'learned-downscale[train]'"
            )
    from learned_downscale.thumbnet import data as library

    try:
        return library.read_photos(data, size, warn=lambda line: click.echo(line, err=True))
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def load_reader(name: str, classes: tuple[str, ...] | None) -> Any:
    """T, or another network; a wrong one ends the command with status 2."""
    from learned_downscale.thumbnet.networks import load_reader as load

    try:
        return load(name, classes)
    except (ImportError, OSError, ValueError) as error:
        raise click.UsageError(f"network {name!r}: {error}") from error
