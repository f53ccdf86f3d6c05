"""What commands share of the terminal."""

import sys

import click


def tell(line: str) -> None:
    """A line on standard error, in place of a progress bar's current state."""
    click.echo(("\r\033[K" if sys.stderr.isatty() else "") + line, err=True)
