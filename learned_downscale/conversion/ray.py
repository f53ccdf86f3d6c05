"""All jobs on a Ray cluster, by Ray Data; the extra `ray`.

Every machine must reach IN and OUT: a shared file system, or URLs. The machine that starts the run
writes the manifest and does the last step of each file.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from learned_downscale.conversion.jobs import Job
from learned_downscale.conversion.manifest import Row
from learned_downscale.conversion.runs import EngineError
from learned_downscale.conversion.stores import Facts, FullError

BATCH = 16  # jobs that an actor is given at once
OLDEST = (2, 40)
WAIT = 5.0  # seconds that a cluster has to answer
INSTALL = "pip install 'learned-downscale[ray]'"
# What begins a conversation of HTTP/2, by which Ray's processes talk, and an empty SETTINGS
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


class Actor:
    """A process of the cluster: one worker, whose weights are loaded once."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from learned_downscale.files import quiet

        with quiet():
            return {"made": [self._made(task) for task in batch["task"]]}

    def _made(self, task: bytes) -> bytes:
        try:
            return pickle.dumps(self.work(pickle.loads(task)))
        except FullError as error:  # Ray would wrap it
            return pickle.dumps(error)


class Cluster:
    """A Ray cluster; a context manager, within which it is a driver as `local.in_order`, whose
    workers are processes of the cluster; 0 workers: as many as it has processors.

    Args:
        address: as `ray.init` takes it. None: that in RAY_ADDRESS, or a new cluster on this
            machine, which ends with the context.

    Raises:
        EngineError: on entering: Ray is not installed, or too old; the cluster does not answer
            within seconds, or cannot be started. While driving: it ended.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._ray: Any = None
        self._started = False

    def __enter__(self) -> Self:
        self._ray = ray = _installed()
        if ray.is_initialized():
            return self
        check_address(self.address)
        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        except (Exception, SystemExit) as error:  # Ray raises many kinds
            ray.shutdown()
            raise EngineError(_refusal(self.address, error)) from error
        self._started = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._ray.shutdown()
            self._started = False

    def __call__(
        self,
        tasks: Iterable[tuple[Job, Facts | None]],
        work: Callable[..., tuple[Row, Any]],
        workers: int,
    ) -> Iterator[tuple[Row, Any]]:
        ray = self._ray
        todo = [{"task": pickle.dumps(task)} for task in tasks]
        if not todo:
            return
        try:
            workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            blocks = max(1, min(len(todo), max(4 * workers, len(todo) // (4 * BATCH))))
            data = ray.data.from_items(todo, override_num_blocks=blocks).map_batches(
                Actor,
                fn_constructor_args=(work,),
                batch_size=BATCH,
                concurrency=workers,
                num_cpus=1,
            )
            for row in data.iter_rows():
                made = pickle.loads(row["made"])
                if isinstance(made, FullError):
                    raise made
                yield made
        except ray.exceptions.RayError as error:
            raise EngineError(f"the work on the Ray cluster ended: {_short(error)}") from error


def _installed() -> ModuleType:
    """Ray, with Ray Data, of a version that is known to do."""
    try:
        import ray
    except ImportError as error:
        raise EngineError(f"--engine ray needs Ray, which is not installed: {INSTALL}") from error
    version: str = ray.__version__
    try:
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise EngineError(
            f"--engine ray needs Ray Data, and this Ray {version} lacks it ({error}): {INSTALL}"
        ) from error
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(f"--engine ray needs Ray {oldest}, and this is {version}: {INSTALL}")
    return ray


def check_address(address: str) -> None:
    """Raise EngineError if no cluster answers at HOST:PORT or ray://HOST:PORT, or where "auto"
    leads: Ray itself tries for minutes. Others are Ray's to check."""
    meant = _last_cluster() or address if address == "auto" else address
    found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d{1,5})", meant)
    if found is None:
        return
    place = found[1], int(found[2])
    named = address if meant == address else f"{address} ({meant})"
    try:
        with socket.create_connection(place, WAIT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
                return
            connection.settimeout(WAIT)
            connection.sendall(_HELLO)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        what = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None)
        raise EngineError(_refusal(named, what or error)) from error
    if len(answer) < 9 or answer[3] != 4:  # SETTINGS
        raise EngineError(_refusal(named, "what answers there is no Ray cluster"))


def _last_cluster() -> str | None:
    """The address that `ray start` left on this machine, perhaps of a cluster that has died."""
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        return Path(temporary, "ray", "ray_current_cluster").read_text().strip()
    except OSError:
        return None


def _refusal(address: str, why: object) -> str:
    if address == "local":
        return (
            f"Ray cannot start on this machine: {_short(why)}. It needs free ports, memory, and "
            "room in /dev/shm and its temporary folder; start a cluster yourself (ray start "
            "--head) and give --address auto, or work without it (--engine local)"
        )
    return (
        f"the Ray cluster at {address} cannot be reached: {_short(why)}. Start it (ray start "
        "--head), give --address HOST:PORT (the port is 6379, if it was not changed) or auto, and, "
        "if the cluster asks for one, its token (RAY_AUTH_TOKEN); or work without it (--engine "
        "local)"
    )


def _short(error: object) -> str:
    """The message of an error without its traceback: Ray's is many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    last = lines[-1] if "Traceback" in str(error) else lines[0]
    return last[:300].rstrip(".")
