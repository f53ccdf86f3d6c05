"""fsspec URLs: s3://, gs://, hf://, memory:// and the like."""

from __future__ import annotations

import io
import secrets
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from learned_downscale.conversion.disk import LocalStore
from learned_downscale.conversion.stores import STATE, Facts, Log, Store, joined, mtime_of

EVERY = 5.0  # seconds between two parts of a log


class RemoteStore:
    """A folder of an fsspec file system that puts whole objects.

    Raises:
        ValueError: the URL's protocol is not known, or needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self.fs, root = url_to_fs(url)
        except ImportError as error:
            raise ValueError(f"{url} cannot be opened: {error}") from error
        self.url, self.root = url.rstrip("/"), str(root).rstrip("/")
        self._scratch: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStore, (self.url,)

    def path(self, name: str) -> str:
        return joined(self.root, name)

    def shown(self, name: str) -> str:
        return joined(self.url, name)

    def facts(self, name: str) -> Facts | None:
        try:
            info = self.fs.info(self.path(name))
        except FileNotFoundError:
            return None
        return Facts(int(info.get("size") or 0), mtime_of(info), info.get("type") == "file")

    def read(self, name: str) -> bytes:
        return bytes(self.fs.cat_file(self.path(name)))

    def open(self, name: str) -> IO[bytes]:
        file: IO[bytes] = self.fs.open(self.path(name), "rb")
        return file

    def names(self) -> list[str]:
        """The names of all files, at any depth, sorted."""
        return self._relative(self.fs.find(self.root))

    def top(self) -> list[str]:
        """The names of files and folders at the top, sorted.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        try:
            return self._relative(self.fs.ls(self.root, detail=False))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is nothing at {self.url}") from error

    def _relative(self, paths: Iterable[Any]) -> list[str]:
        return sorted(str(path).removeprefix(self.root).lstrip("/") for path in paths)

    def begin(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="learned-downscale-")

    def end(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    def scratch(self) -> Path:
        return Path(self._scratch.name, secrets.token_hex(8))

    def stage(self, name: str, content: bytes | Path) -> None:
        """Puts the object: there is no last step."""
        path = self.path(name)
        self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if isinstance(content, Path):
            self.fs.put_file(str(content), path)
            content.unlink()
        else:
            self.fs.pipe_file(path, content)

    def commit(self, name: str, staged: Any) -> None:
        pass

    def log(self, name: str) -> Log:
        return RemoteLog(self, joined(STATE, name))


class RemoteLog:
    """Objects cannot grow: a folder of parts, each of the lines of some seconds."""

    def __init__(self, store: RemoteStore, name: str) -> None:
        self.store, self.name = store, name
        self._run, self._part = f"{time.time_ns():020}-{secrets.token_hex(4)}", 0
        self._waiting: list[str] = []
        self._last = time.monotonic()

    def _parts(self) -> list[str]:
        folder = self.store.path(self.name)
        try:
            return sorted(str(path) for path in self.store.fs.find(folder))
        except FileNotFoundError:
            return []

    def lines(self) -> list[str]:
        found: list[str] = []
        for part in self._parts():
            found += self.store.fs.cat_file(part).decode("ascii").splitlines()
        return found

    def append(self, lines: list[str]) -> None:
        self._waiting += lines
        if time.monotonic() - self._last > EVERY:
            self.sync()

    def sync(self) -> None:
        if self._waiting:
            content = io.BytesIO("".join(f"{line}\n" for line in self._waiting).encode("ascii"))
            part = joined(self.name, f"{self._run}-{self._part:06}.jsonl")
            self.store.stage(part, content.getvalue())
            self._part += 1
            self._waiting = []
        self._last = time.monotonic()

    def restart(self, as_name: str) -> None:
        for part in self._parts():
            name = part.rpartition("/")[2]
            self.store.fs.mv(part, self.store.path(joined(STATE, as_name, name)))
        self._waiting = []

    def close(self) -> None:
        self.sync()


def is_url(place: str) -> bool:
    return "://" in place


def open_store(place: str) -> Store:
    """The store of a folder or of an fsspec URL (`s3://bucket/folder`).

    Raises:
        ValueError: the URL's protocol is not known, or needs a package that is not installed.
    """
    return RemoteStore(place) if is_url(place) else LocalStore(Path(place))
