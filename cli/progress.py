"""How far a batch is: a line that is drawn anew on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time

import click

EVERY = 10.0  # seconds between two lines where standard error is no terminal


def seconds_shown(seconds: float) -> str:
    """A time in words that are short: 42 s, 5 min, 3.1 h, 2.5 days."""
    for limit, unit, divisor, digits in (
        (90, "s", 1, 0),
        (5400, "min", 60, 0),
        (48 * 3600, "h", 3600, 1),
    ):
        if seconds < limit:
            return f"{seconds / divisor:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def bytes_shown(count: float) -> str:
    """A number of bytes in words that are short: 210 MB."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    unit = units[0]
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"


class Progress:
    """Counts images and failures; says rate and remaining time on standard error.

    total: of the images; None where it is not known.
    """

    def __init__(self, total: int | None) -> None:
        self.total, self.done, self.failed = total, 0, 0
        self._terminal = sys.stderr.isatty()
        self._begun = self._last = time.monotonic()

    def step(self, is_failure: bool) -> None:
        self.done += 1
        self.failed += is_failure
        now = time.monotonic()
        if now - self._last > (0.1 if self._terminal else EVERY):
            self._last = now
            if self._terminal:
                click.echo(f"\r\033[K{self.line(now)}", err=True, nl=False)
            else:
                click.echo(self.line(now), err=True)

    def line(self, now: float) -> str:
        rate = self.done / max(1e-9, now - self._begun)
        of = "" if self.total is None else f" of {self.total:,}"
        parts = [f"{self.done:,}{of} images", f"{rate:.1f}/s"]
        if self.total is not None:
            left = seconds_shown((self.total - self.done) / rate)
            parts.insert(1, f"{self.done / max(1, self.total):.0%}")
            parts.append(f"{left} left")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)

    def end(self) -> None:
        """Clear the line."""
        if self._terminal:
            click.echo("\r\033[K", err=True, nl=False)
