"""Folders of this machine."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from learned_downscale.conversion.stores import STATE, BusyError, Facts, Log, raise_if_full


class LocalStore:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._state: Path | None = None
        self._lock: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_state": self._state, "_lock": None}

    def shown(self, name: str) -> str:
        return str(self.root / name)

    def facts(self, name: str) -> Facts | None:
        try:
            found = os.stat(os.path.join(self.root, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Facts(found.st_size, found.st_mtime_ns, stat.S_ISREG(found.st_mode))

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> IO[bytes]:
        return open(os.path.join(self.root, name), "rb")

    def begin(self) -> None:
        from filelock import FileLock, Timeout

        state = self.root / STATE
        state.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(state / "lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise BusyError(
                f"another run is writing into {self.root}; wait for its end, or name another folder"
            ) from error
        self._state = state
        shutil.rmtree(state / "partial", ignore_errors=True)  # of runs that died
        (state / "partial").mkdir(exist_ok=True)

    def end(self) -> None:
        if self._state is not None:
            shutil.rmtree(self._state / "partial", ignore_errors=True)
        if self._lock is not None:
            self._lock.release()

    def scratch(self) -> Path:
        assert self._state is not None
        return self._state / "partial" / secrets.token_hex(8)

    def stage(self, name: str, content: bytes | Path) -> Path:
        target = self.root / name
        part: Path | None = None
        try:
            if target.is_dir():
                raise IsADirectoryError(f"{target} is a folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                part = content
                flush(part)
                return part
            part = self._beside(target) if self._state is None else self.scratch()
            with open(part, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return part
        except BaseException as error:
            if part is not None:
                part.unlink(missing_ok=True)
            raise_if_full(error)
            raise

    def commit(self, name: str, staged: Path) -> None:
        target = self.root / name
        try:
            try:
                staged.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # a folder of OUT is a link into another file system
                part = self._beside(target)
                try:
                    shutil.copyfile(staged, part)
                    flush(part)
                    part.replace(target)
                finally:
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise_if_full(error)
            raise
        finally:
            staged.unlink(missing_ok=True)

    def log(self, name: str) -> Log:
        return LocalLog(self.root / STATE / name)

    @staticmethod
    def _beside(target: Path) -> Path:
        """A name beside the target that says whose it is; those of dead runs are removed."""
        host = socket.gethostname()
        for stale in target.parent.glob(f".*.{glob_plain(host)}.partial"):
            pid = stale.name.split(".")[1]
            if pid.isdecimal() and not _lives(int(pid)):
                stale.unlink(missing_ok=True)
        return target.with_name(f".{os.getpid()}.{secrets.token_hex(8)}.{host}.partial")


class LocalLog:
    """A file that is appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            content = self.path.read_bytes()
            # a run that dies may leave half a line
            return content[: content.rfind(b"\n") + 1].decode("ascii", "replace").splitlines()
        return []

    def append(self, lines: list[str]) -> None:
        try:
            if self._file is None:
                self._file = open(self.path, "a+b")  # noqa: SIM115
                self._file.seek(0)
                whole = self._file.read().rfind(b"\n") + 1
                self._file.truncate(whole)
            self._file.write("".join(f"{line}\n" for line in lines).encode("ascii"))
            self._file.flush()
        except OSError as error:
            raise_if_full(error)
            raise

    def sync(self) -> None:
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise_if_full(error)
                raise

    def restart(self, as_name: str) -> None:
        self.close()
        with suppress(FileNotFoundError):
            self.path.replace(self.path.with_name(as_name))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def flush(path: Path) -> None:
    """Return when a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def glob_plain(text: str) -> str:
    """The text as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
