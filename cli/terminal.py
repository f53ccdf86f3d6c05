"""Helpers of several commands: lines on the terminal, and sizes as arguments."""

from __future__ import annotations

import sys
from typing import Any

import click


def tell(line: str) -> None:
    """Write a line to standard error; on a terminal it replaces a progress bar."""
    click.echo(("\r\033[K" if sys.stderr.isatty() else "") + line, err=True)


def shown(name: object) -> str:
    """A file's name in characters that any terminal can print."""
    text = click.format_filename(str(name))
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Size(click.ParamType[tuple[int, int]]):
    """A size on the command line: WIDTHxHEIGHT."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        width, x, height = str(value).lower().partition("x")
        if not (x and width.isdecimal() and height.isdecimal()):
            self.fail(f"{value!r} is no size; write width x height in pixels, such as 320x240")
        return int(width), int(height)
