"""Where images come from and thumbnails go: folders of this machine, and fsspec URLs.

A file appears whole or not at all. On this machine it is written under another name, flushed to the
disk (fsync) and renamed. Object stores (s3://, gs://, hf://, memory://) put whole objects.

A folder of thumbnails holds a folder `.learned-downscale`: the manifest, a lock, and the files that
are being written. One run at a time holds the lock. The system drops it when the run ends, however
it ends, and the next run removes what a dead one left.
"""

from __future__ import annotations

import errno
import posixpath
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

STATE = ".learned-downscale"
# Errors that the next file would meet, too.
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


class FullError(Exception):
    """No more can be written; the message says why."""


class BusyError(Exception):
    """Another run writes into the same folder."""


@dataclass(frozen=True)
class Facts:
    """size: bytes. mtime_ns: when it was written, ns since 1970; 0 where the store does not say.
    regular: whether it is a file that can be read to its end."""

    size: int
    mtime_ns: int
    regular: bool = True


class Store(Protocol):
    """Files by their names, relative and with slashes."""

    def shown(self, name: str) -> str:
        """The path or URL of a file."""

    def facts(self, name: str) -> Facts | None:
        """Size and time of a file; None where there is none."""

    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read from its beginning."""

    def stage(self, name: str, content: bytes | Path) -> Any:
        """Write all but the last step; what is returned goes to `commit`. A Path is a local file,
        which is moved. Raises FullError, OSError."""

    def commit(self, name: str, staged: Any) -> None:
        """The last step: the file appears."""

    def begin(self) -> None:
        """Make ready for writing. Raises BusyError, OSError."""

    def end(self) -> None:
        """Remove what was staged and not committed, and let other runs in."""

    def scratch(self) -> Path:
        """The path of a new local file, for `stage`."""

    def log(self, name: str) -> Log:
        """A file of lines that only grows."""


class Log(Protocol):
    """A file of lines that only grows."""

    def lines(self) -> list[str]:
        """Those that were written whole."""

    def append(self, lines: list[str]) -> None:
        """Add lines. Raises FullError."""

    def sync(self) -> None:
        """Return when all lines are stored."""

    def restart(self, as_name: str) -> None:
        """Keep the lines under another name and begin anew."""

    def close(self) -> None:
        """Let go of the file; `append` opens it again."""


def raise_if_full(error: BaseException) -> None:
    """Raise FullError for an error that the next file would meet, too."""
    if isinstance(error, OSError) and error.errno in _FULL:
        raise FullError(_FULL[error.errno]) from error


def mtime_of(info: dict[str, Any]) -> int:
    """The time of change in an fsspec record, ns since 1970; 0 where there is none."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return int(value.timestamp() * 1e9)
        if isinstance(value, int | float):
            return int(value * 1e9)
    return 0


def joined(*parts: str) -> str:
    return posixpath.join(*(part for part in parts if part))
