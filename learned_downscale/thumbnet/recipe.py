"""Recipes: a published one by its name, a TOML file, and changes to either (`--set KEY=VALUE`)."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from learned_downscale.thumbnet.settings import Settings, parse

SUFFIX = ".toml"
_FOLDER = files("learned_downscale.thumbnet").joinpath("recipes")


@dataclass(frozen=True)
class Recipe:
    """name: of a published recipe, or of a file with its suffix. changes: the keys that `--set`
    changed, with their values. tables: all that is set, the changes included. settings: the same,
    checked, with all defaults."""

    name: str
    changes: Mapping[str, Any]
    tables: Mapping[str, Any]
    settings: Settings

    def config(self) -> dict[str, Any]:
        """The recipe as config.json and run.json hold it."""
        changes = {"changes": dict(self.changes)} if self.changes else {}
        return {"name": self.name, **changes, **self.tables}


def from_config(config: Mapping[str, Any]) -> Recipe:
    """The recipe of config.json or run.json."""
    tables = {k: v for k, v in config.items() if k not in ("name", "changes")}
    return Recipe(config["name"], config.get("changes", {}), tables, parse(tables))


def published() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return sorted(p.name.removesuffix(SUFFIX) for p in _FOLDER.iterdir() if SUFFIX in p.name)


def load(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe.

    Args:
        name: of a published recipe, or a file that ends in .toml.
        changes: "KEY=VALUE", KEY dotted ("task.0.epochs"), VALUE as in TOML (without quotes, too).

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: it is no TOML, or holds what `settings.parse` refuses; or a change is no
            KEY=VALUE, or names a task that is not there.
    """
    name, path = str(name), Path(name)
    if name in published():
        text = _FOLDER.joinpath(name + SUFFIX).read_text(encoding="utf-8")
    elif path.suffix == SUFFIX and path.is_file():
        name, text = path.name, path.read_text(encoding="utf-8")
    else:
        known = ", ".join(published())
        raise FileNotFoundError(f"no recipe {name!r}; choose {known}, or give a {SUFFIX} file")
    try:
        tables = tomllib.loads(text)
        parse(tables)
    except ValueError as error:
        raise ValueError(f"recipe {name}: {error}") from error
    made: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} is no change of a recipe; write KEY=VALUE")
        if _set(tables, key, _parsed(value)):
            made[key] = _parsed(value)
    return Recipe(name, made, tables, parse(tables))


def as_changes(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """The changes of a recipe as `--set` takes them."""
    return tuple(f"{key}={str(value).replace(' ', '')}" for key, value in changes.items())


def as_toml(tables: Mapping[str, Any]) -> str:
    """The tables of a recipe as TOML."""
    lines = []
    for name, content in tables.items():
        if isinstance(content, list):
            head, every = f"[[{name}]]", content
        else:
            head, every = f"[{name}]", [content]
        for table in every:
            # JSON's strings, numbers and lists of strings are TOML's, too
            lines += [head, *(f"{k} = {json.dumps(v)}" for k, v in table.items()), ""]
    return "\n".join(lines).rstrip()


def _parsed(value: str) -> Any:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _set(tables: dict[str, Any], key: str, value: Any) -> bool:
    """Set a key; whether that changes its value."""
    *path, last = key.split(".")
    at: Any = tables
    for part in path:
        if isinstance(at, list):
            if not part.isdigit() or int(part) >= len(at):
                raise ValueError(f"{key}: the recipe has tasks 0 to {len(at) - 1}, not {part}")
            at = at[int(part)]
        elif isinstance(at, dict):
            at = at.setdefault(part, {})
    if not isinstance(at, dict):
        raise ValueError(f"{key} is no key of a table, such as run.seed or task.0.epochs")
    before, at[last] = at.get(last), value
    return bool(before != value)
