"""The command line, one thin module for each command; installed as `learned_downscale.cli`.

Results go to standard output, everything else to standard error. Exit status: 0 success, 1 a
failure, 2 wrong usage. A command's module is imported when the command or its help is wanted, and
heavy libraries when the command runs.
"""

from __future__ import annotations

import atexit
import gc
from importlib import import_module

import click

from learned_downscale import __version__

# name -> module of this package whose `command` it is
COMMANDS = {
    "bench": "bench",
    "classify": "classify",
    "convert": "convert",
    "demo": "demo",
    "download": "download",
    "evaluate": "evaluate",
    "export": "export",
    "models": "models",
    "parity": "parity",
    "push": "push",
    "train": "train",
    "verify": "verify",
}


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"learned_downscale.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="learned-downscale")
def main() -> None:
    """Make images smaller with a downscaler that is trained to keep what a classifier needs."""
    # what torch leaves goes with the process; to look for garbage in it would take 0.2 seconds
    atexit.register(gc.freeze)
