"""What commands share of the terminal."""

import sys

import click


def tell(line: str) -> None:
    """A line on standard error, in place of a progress bar's current state."""
    click.echo(("\r\033[K" if sys.stderr.isatty() else "") + line, err=True)


def shown(name: object) -> str:
    """A file's name that any terminal can print."""
    text = click.format_filename(str(name))
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
