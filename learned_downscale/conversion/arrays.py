"""Thumbnails of one size in one file of raw pixels, for training without decoding.

`thumbnails.npy` holds uint8 (N, height, width, 3), for `numpy.load(..., mmap_mode="r")`;
`index.jsonl` has a line for each of them, in their order: place, input.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import IO

import numpy as np

from learned_downscale.conversion.disk import LocalStore
from learned_downscale.conversion.jobs import Job
from learned_downscale.conversion.manifest import Manifest, OtherRecipeError, Row
from learned_downscale.conversion.stores import Facts, raise_if_full

ARRAY, INDEX = "thumbnails.npy", "index.jsonl"
# Thumbnails, and their bytes, after which they and their rows are written.
MOST_ROWS, MOST_BYTES = 1000, 2**24


class ArraySink:
    """An array that grows.

    Its pixels are flushed to the disk before the rows that speak of them, and the array is cut to
    the rows when a run begins: a run that dies loses what it made last, and leaves no half
    thumbnail.

    Args:
        out: its folder.
        manifest: the rows, which give each thumbnail its place.
        size: (width, height) of every thumbnail.
    """

    grows = True

    def __init__(self, out: LocalStore, manifest: Manifest, size: tuple[int, int]) -> None:
        self.out, self.manifest = out, manifest
        self.shape = size[1], size[0], 3
        self._file: IO[bytes] | None = None
        self._count, self._waiting = 0, list[Row]()
        self._bytes = 0

    def there(self, job: Job, row: Row | None) -> Facts | None:
        return Facts(row.bytes_out, 0) if row is not None and row.place is not None else None

    def check(self, todo: Iterable[tuple[Job, Facts | None]]) -> None:
        """Raise OtherRecipeError if a thumbnail would have to be replaced: an array only grows."""
        rows = self.manifest.rows
        changed = [
            job.name for job, _ in todo if job.name in rows and rows[job.name].place is not None
        ]
        if changed:
            raise OtherRecipeError(
                f"{len(changed)} images have changed since they were put into the array, such as "
                f"{changed[0]}; an array only grows: --overwrite always makes it anew"
            )

    def begin(self) -> None:
        """Cut the array to what the rows speak of; begin it, where there are none.

        Raises:
            OtherRecipeError: the array is shorter than its rows say.
        """
        places = [row.place for row in self.manifest.rows.values() if row.place is not None]
        self._count = max(places, default=-1) + 1
        path = self.out.root / ARRAY
        self._file = open(path, "r+b" if places else "w+b")  # noqa: SIM115
        self._write_head()
        wanted = self._file.tell() + self._count * math.prod(self.shape)
        if self._file.seek(0, os.SEEK_END) < wanted:
            raise OtherRecipeError(
                f"{path} is shorter than its manifest says; --overwrite always makes it anew"
            )
        self._file.truncate(wanted)
        self._file.seek(wanted)

    def _write_head(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        # numpy leaves room for a longer first number
        head = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, head)

    def stage(self, job: Job, content: bytes) -> bytes:
        return content

    def commit(self, row: Row, staged: bytes) -> Row:
        assert self._file is not None
        row = replace(row, place=self._count)
        try:
            self._file.write(staged)
        except OSError as error:
            raise_if_full(error)
            raise
        self._count += 1
        self._bytes += len(staged)
        self._waiting.append(row)
        if self._bytes >= MOST_BYTES or len(self._waiting) >= MOST_ROWS:
            self._flush()
        return row

    def _flush(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self.manifest.append(*self._waiting)
        self._waiting, self._bytes = [], 0

    def end(self) -> None:
        """Write the rows, the number of thumbnails and the index. Raises FullError."""
        if self._file is None:
            return
        try:
            self._flush()
            self._write_head()
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise_if_full(error)
            raise
        finally:
            self._file.close()
            self._file = None
        rows = sorted(
            (row.place, row.input) for row in self.manifest.rows.values() if row.place is not None
        )
        lines = [json.dumps({"place": place, "input": name}) for place, name in rows]
        content = "".join(f"{line}\n" for line in lines).encode("ascii")
        self.out.commit(INDEX, self.out.stage(INDEX, content))
