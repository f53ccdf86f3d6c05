"""Tables of results, for cards and for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, field, fields
from typing import Any


def column(heading: str, form: str = "", scale: float = 1.0, default: Any = MISSING) -> Any:
    """A field of a row with its heading. form: a format of its numbers, after they are multiplied
    by `scale`."""
    metadata = {"heading": heading, "form": form, "scale": scale}
    return field(default=default, metadata=metadata)


def markdown(rows: Sequence[Any]) -> str:
    """Dataclasses whose fields are `column`s as a table; columns without a value are left out."""
    shown = [
        f
        for f in fields(rows[0])
        if any(getattr(r, f.name) not in (None, "", [], ()) for r in rows)
    ]
    lines = [[f.metadata["heading"] for f in shown], ["---"] * len(shown)]
    lines += [[_cell(getattr(row, f.name), **f.metadata) for f in shown] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any, heading: str, form: str, scale: float) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return format(value * scale, form) if form else str(value)
