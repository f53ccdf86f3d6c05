"""The manifest: what became of every image, and by which recipe. JSON lines.

`OUT/.learned-downscale/manifest.jsonl` (of object stores: a folder of that name, whose files are
read in the order of their names). The first line is the head: schema, recipe_sha256, recipe. A line
with the key "run" says that a run began, and from where it took images. All others are rows, one an
image (`Row`). The last row of an image counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from learned_downscale.conversion.recipe import recipe_hash
from learned_downscale.conversion.stores import STATE, Log, Store, joined

SCHEMA = "learned-downscale manifest 1"
SYNC = 2.0  # seconds between two times that rows are flushed to the disk


class OtherRecipeError(Exception):
    """The folder holds thumbnails of another recipe, or of other images of the same names."""


@dataclass(frozen=True)
class Row:
    """What became of one image.

    input, output: names relative to IN and OUT, with slashes; bytes that are not UTF-8 as Python's
        surrogate escapes. Of an image in a shard: "SHARD::MEMBER".
    size, mtime_ns: of the input, in bytes and ns since 1970, when it was read. sha256: its hash,
        where asked for; of a shard of files: the hash of its files' names, sizes and times.
    status: "done"; "copied": the image is not larger than asked, and the file is the original's;
        "skipped"; "kept": the output was there, and no row says whose it is; "failed".
    reason: why it was skipped, kept or failed.
    transient: whether a failure is one of reading or writing, which is tried again by every run.
    seconds: of reading, making and writing. bytes_in, bytes_out: as read and written.
    plan: how the thumbnail was made. decoder: what decoded the image, with versions.
    place: in an array: which of its thumbnails.
    """

    input: str
    output: str
    status: str
    size: int = 0
    mtime_ns: int = 0
    sha256: str | None = None
    reason: str | None = None
    transient: bool = False
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    plan: str | None = None
    decoder: str | None = None
    place: int | None = None

    def as_json(self) -> str:
        """One line of ASCII, without keys that say nothing."""
        values = asdict(self)
        return json.dumps({k: v for k, v in values.items() if v is not None and v is not False})


_KEYS = {field.name for field in fields(Row)}


class Manifest:
    """The manifest of a folder of thumbnails.

        manifest = Manifest(store, source, identity)
        manifest.begin()
        manifest.append(row)

    Args:
        source: where the images come from, as a person wrote it, absolute.
        identity: `Recipe.identity`.
        name: of the file.

    Attributes:
        rows: the last row of every image, by input.
    """

    def __init__(
        self, out: Store, source: str, identity: dict[str, object], name: str = "manifest.jsonl"
    ) -> None:
        self.source, self.identity, self.name = source, identity, name
        self.rows: dict[str, Row] = {}
        self.log: Log = out.log(name)
        self._out, self._last = out, time.monotonic()
        self._head: dict[str, Any] | None = None
        self._sources: dict[str, str] = {}

    @property
    def shown(self) -> str:
        return self._out.shown(joined(STATE, self.name))

    def read(self) -> None:
        """Take in what earlier runs wrote.

        Raises:
            OtherRecipeError: a line is none of ours.
        """
        source = ""
        for number, line in enumerate(self.log.lines(), 1):
            try:
                found = json.loads(line)
                if "schema" in found:
                    self._head = self._head or found
                elif "run" in found:
                    source = found["source"]
                else:
                    row = Row(**{k: v for k, v in found.items() if k in _KEYS})
                    self.rows[row.input], self._sources[row.input] = row, source
            except (ValueError, TypeError, KeyError) as error:
                raise OtherRecipeError(
                    f"line {number} of {self.shown} is no row of a manifest ({error}); repair or "
                    "remove the file (thumbnails without rows are kept and not made again)"
                ) from error

    def check(self, sizes: Iterator[tuple[str, int, int]]) -> None:
        """Refuse another recipe and other images of the same names.

        sizes: (input, size, mtime_ns) of the images to convert.

        Raises:
            OtherRecipeError: it says what differs.
        """
        if self._head is None:
            return
        before = self._head.get("recipe", {})
        if self._head.get("recipe_sha256") != recipe_hash(self.identity):
            now = json.loads(json.dumps(self.identity))
            differ = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
            named = ", ".join(f"{k} {before.get(k)!r} and now {now.get(k)!r}" for k in differ)
            raise OtherRecipeError(
                f"OUT holds thumbnails of another recipe ({named}); name another folder, or give "
                "--overwrite always, which makes all anew"
            )
        for name, size, mtime_ns in sizes:
            row = self.rows.get(name)
            if row is None or self._sources[name] == self.source:
                continue
            if (row.size, row.mtime_ns) != (size, mtime_ns):
                raise OtherRecipeError(
                    f"OUT holds thumbnails of {self._sources[name]}, and {name} is another image "
                    "there; name another folder, or give --overwrite always"
                )

    def begin(self, restart: bool = False, entirely: bool = False) -> None:
        """Write the head, if there is none, and that a run begins. restart: what another recipe
        (entirely: any) wrote is kept under another name, and all begins anew."""
        recipe = recipe_hash(self.identity)
        other = self._head is not None and self._head.get("recipe_sha256") != recipe
        if restart and self._head is not None and (other or entirely):
            old = str(self._head.get("recipe_sha256"))[:12]
            self.log.restart(self.name.replace(".jsonl", f"-{old}.jsonl"))
            self._head, self.rows = None, {}
        lines = []
        if self._head is None:
            self._head = {"schema": SCHEMA, "recipe_sha256": recipe, "recipe": self.identity}
            lines.append(json.dumps(self._head))
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines.append(json.dumps({"run": began, "source": self.source}))
        self.log.append(lines)
        self.log.sync()

    def append(self, *rows: Row) -> None:
        """Add rows; every two seconds they are flushed to the disk. Raises FullError."""
        self.log.append([row.as_json() for row in rows])
        for row in rows:
            self.rows[row.input], self._sources[row.input] = row, self.source
        if time.monotonic() - self._last > SYNC:
            self.log.sync()
            self._last = time.monotonic()


def write_parquet(rows: list[Row], path: Any) -> None:
    """The rows as a Parquet file, one column a key of `Row`.

    Raises:
        ImportError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("a Parquet manifest needs pyarrow: pip install pyarrow") from error
    kinds = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema(
        [
            (field.name, kinds.get(str(field.type).split(" ")[0], pa.string()))
            for field in fields(Row)
        ]
    )
    plain = [
        {k: _utf8(v) if isinstance(v, str) else v for k, v in asdict(row).items()} for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(plain, schema=schema), path)


def _utf8(text: str) -> str:
    """Without surrogates, which Parquet cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
