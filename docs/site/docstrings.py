"""An extension of Griffe: lines "name, name: what it is" of our docstrings become a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): ")


class Fields(griffe.Extension):
    """Docstrings of dataclasses and the like describe their fields without a heading."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None or obj.is_module:
            return
        lines: list[str] = []
        inside = False
        for line in obj.docstring.value.splitlines():
            if ENTRY.match(line):
                if not inside:
                    lines.append("")
                names, _, text = line.partition(": ")
                quoted = ", ".join(f"`{name}`" for name in names.split(", "))
                line, inside = f"- {quoted}: {text}", True
            elif not line.strip():
                inside = False
            elif inside:
                line = f"  {line.strip()}"
            if not line.startswith(" "):  # factor*h, factor*w is no emphasis
                line = re.sub(r"(?<=\w)\*(?=\w)", r"\*", line)
            lines.append(line)
        obj.docstring.value = "\n".join(lines)
