"""convert on a Ray cluster: that it works, and what is said where it cannot."""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import drawn_photo
from PIL import Image
from test_convert_runs import STATE, check_manifest, convert, run, thumbnails

from learned_downscale.conversion import ray as engine
from learned_downscale.conversion.disk import LocalStore
from learned_downscale.conversion.runs import EngineError
from learned_downscale.conversion.stores import FullError

RAY = ("--engine", "ray")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(4):
        drawn_photo(64, 48, i).save(tmp_path / "in" / f"{i}.jpg")
    return tmp_path / "in"


# -- a stand-in for Ray ----------------------------------------------------------------------------


class RayError(Exception):
    """As ray.exceptions.RayError."""


class Data:
    """As a Ray dataset, in this process."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def map_batches(self, actor: Any, fn_constructor_args: Any, **_: Any) -> Data:
        work = actor(*pickle.loads(pickle.dumps(fn_constructor_args)))
        made = work({"task": [item["task"] for item in self.items]})["made"]
        return Data([{"made": one} for one in made])

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        yield from self.items


class FakeRay(ModuleType):
    """What of Ray is used. refusal: what `init` raises."""

    __version__ = "2.60.0"

    def __init__(self, refusal: BaseException | None = None) -> None:
        super().__init__("ray")
        self.refusal, self.address, self.runs = refusal, "", False

    def is_initialized(self) -> bool:
        return self.runs

    def init(self, address: str, **_: Any) -> None:
        self.address = address
        if self.refusal is not None:
            raise self.refusal
        self.runs = True

    def shutdown(self) -> None:
        self.runs = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRay]:
    def put(refusal: BaseException | None = None) -> FakeRay:
        ray, data, exceptions = FakeRay(refusal), ModuleType("ray.data"), ModuleType("x")
        data.from_items = lambda items, **_: Data(items)  # type: ignore[attr-defined]
        exceptions.RayError = RayError  # type: ignore[attr-defined]
        ray.data, ray.exceptions = data, exceptions
        for name, module in (("", ray), (".data", data), (".exceptions", exceptions)):
            monkeypatch.setitem(sys.modules, f"ray{name}", module)
        return ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return put


def refused(photos: Path, *options: object) -> str:
    """What is said; status 2, and nothing is written."""
    out = photos.parent / "out"
    result = convert(photos, out, *RAY, *options)
    assert result.exit_code == 2 and not out.exists(), result.output
    return result.stderr


def test_the_same_thumbnails_and_rows(fake: Any, photos: Path, tmp_path: Path) -> None:
    ray = fake()
    (photos / "bad.png").write_bytes(b"")
    result = convert(photos, tmp_path / "out", *RAY)
    assert result.exit_code == 1 and "4 converted, 1 failed" in result.stdout, result.output
    check_manifest(tmp_path / "out")
    assert ray.address == "local" and not ray.runs
    convert(photos, tmp_path / "local")
    assert thumbnails(tmp_path / "out") == thumbnails(tmp_path / "local")
    single = run("convert", photos / "0.jpg", tmp_path / "a.jpg", "--factor", 4, *RAY)
    assert single.exit_code == 0 and (tmp_path / "a.jpg").exists()


def test_options_reach_the_cluster(fake: Any, photos: Path, tmp_path: Path) -> None:
    fake()
    options = ("--hash", "--format", "png", "--suffix", "_s", "--metadata", "strip", "--to-srgb",
               "--subsampling", "4:2:0", "--quality", "50", "--exact")  # fmt: skip
    for name, more in (("out", RAY), ("local", ())):
        assert convert(photos, tmp_path / name, *options, *more).exit_code == 0
    assert thumbnails(tmp_path / "out") == thumbnails(tmp_path / "local")
    heads = [(tmp_path / x / STATE / "manifest.jsonl").read_text() for x in ("out", "local")]
    assert heads[0].splitlines()[0] == heads[1].splitlines()[0] and "sha256" in heads[0]
    assert "4 unchanged" in convert(photos, tmp_path / "local", *options, *RAY).stdout


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (ValueError("Attempting to cap object store memory usage at 1 bytes"), "object store"),
        (PermissionError(13, "Permission denied", "/dev/shm"), "/dev/shm"),
        (OSError(98, "Address already in use"), "already in use"),
        (RuntimeError("The current node timed out during startup.\nmore\nand more"), "timed out"),
        (SystemExit(1), "Ray cannot start on this machine: 1."),
        (RayError(), "RayError"),
    ],
)
def test_what_cannot_start(fake: Any, photos: Path, refusal: BaseException, says: str) -> None:
    fake(refusal)
    said = " ".join(refused(photos).split())
    assert "Ray cannot start on this machine: " in said and says in said
    assert "/dev/shm" in said and "--engine local" in said and "and more" not in said


def test_addresses(fake: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(photos.parent))
    fake(ConnectionError("Could not find any running Ray instance."))
    said = refused(photos, "--address", "auto")
    assert "the Ray cluster at auto cannot be reached: Could not find any running" in said
    assert "ray start" in said
    (photos.parent / "ray").mkdir()
    (photos.parent / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")  # which has died
    assert "at auto (127.0.0.1:1) cannot be reached" in refused(photos, "--address", "auto")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "the Ray cluster at auto (127.0.0.1:1) cannot be reached" in refused(photos)
    result = convert(photos, photos.parent / "out", "--address", "auto")
    assert result.exit_code == 2 and "give --engine ray, too" in result.stderr


def test_versions(fake: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake().__version__ = "2.9.3"
    assert "needs Ray 2.40, and this is 2.9.3" in refused(photos)
    fake()
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert "this Ray 2.60.0 lacks it" in refused(photos)
    monkeypatch.setitem(sys.modules, "ray", None)
    said = refused(photos)
    assert "which is not installed: pip install 'learned-downscale[ray]'" in said


def test_a_cluster_that_ends(
    fake: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = fake()

    def dies(self: Data) -> Iterator[dict[str, Any]]:
        yield self.items[0]
        raise RayError("Traceback (most recent call last):\n  line\nthe node died.")

    with monkeypatch.context() as patched:
        patched.setattr(Data, "iter_rows", dies)
        result = convert(photos, tmp_path / "out", *RAY)
    assert result.exit_code == 1 and "1 converted" in result.stdout
    assert "stopped: the work on the Ray cluster ended: the node died; the same" in result.stderr
    check_manifest(tmp_path / "out")
    assert not ray.runs
    assert "3 converted, 1 unchanged" in convert(photos, tmp_path / "out", *RAY).stdout


def test_a_full_disk(
    fake: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()

    def full(self: LocalStore, name: str, content: Any) -> Any:
        raise FullError("the disk is full")

    monkeypatch.setattr(LocalStore, "stage", full)
    result = convert(photos, tmp_path / "out", *RAY)
    assert result.exit_code == 1 and "stopped: the disk is full" in result.stderr


def test_two_runs_at_once(fake: Any, photos: Path, tmp_path: Path) -> None:
    ray, other = fake(), LocalStore(tmp_path / "out")
    other.begin()
    result = convert(photos, tmp_path / "out", *RAY)
    assert result.exit_code == 1 and "another run is writing into" in result.stderr
    assert not ray.runs
    other.end()


# -- what answers at an address --------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Callable[[bytes], str]]:
    """Answers with some bytes, or not at all."""
    listening: list[socket.socket] = []

    def start(answer: bytes) -> str:
        one = socket.create_server(("127.0.0.1", 0))
        listening.append(one)

        def serve() -> None:
            connection, _ = one.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{one.getsockname()[1]}"

    yield start
    for one in listening:
        one.close()


def test_what_answers(
    server: Callable[[bytes], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WAIT", 0.3)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    engine.check_address("auto")
    engine.check_address(server(b"\0\0\0\x04\0\0\0\0\0and more"))
    engine.check_address("ray://" + server(b"\0\0\x06\x04\0\0\0\0\0" + bytes(6)))
    for address, says in (
        (server(b"HTTP/1.0 400 Bad request"), "what answers there is no Ray cluster"),
        (server(b"\0"), "what answers there is no Ray cluster"),
        (server(b""), "no answer"),
        ("127.0.0.1:1", "refused"),
        ("[::1]:1", "cannot be reached"),
        ("127.0.0.1:99999", "cannot be reached"),
        ("no-such-host.invalid:6379", "cannot be reached"),
    ):
        begun = time.monotonic()
        with pytest.raises(EngineError, match=says):
            engine.check_address(address)
        assert time.monotonic() - begun < 5
    monkeypatch.setenv("RAY_USE_TLS", "1")  # which begins otherwise
    engine.check_address(server(b""))


# -- Ray itself ------------------------------------------------------------------------------------


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return pytest.importorskip("ray", reason="needs the extra [ray]")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_ray_cluster(real: Any, photos: Path, tmp_path: Path) -> None:
    for i in range(4, 40):
        drawn_photo(64, 48, i).save(photos / f"{i}.jpg")
    (photos / "bad.png").write_bytes(b"")
    out = tmp_path / "out"
    result = convert(photos, out, *RAY, "--workers", 2)
    assert result.exit_code == 1 and "40 converted, 1 failed" in result.stdout, result.output
    check_manifest(out)
    convert(photos, tmp_path / "local")
    assert thumbnails(out) == thumbnails(tmp_path / "local")
    with Image.open(out / "0.jpg") as image:
        assert image.size == (16, 12)
    assert "40 unchanged" in convert(photos, out, *RAY).stdout
    # more workers than processors
    (out / "3.jpg").unlink()
    assert "1 converted, 39 unchanged" in convert(photos, out, *RAY, "--workers", 9).stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_real_cluster_that_is_not_there(real: Any, photos: Path) -> None:
    for address in ("127.0.0.1:1", "auto"):
        begun = time.monotonic()
        assert f"the Ray cluster at {address} " in refused(photos, "--address", address)
        assert time.monotonic() - begun < 10
        assert not real.is_initialized()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_real_cluster_that_cannot_start(
    real: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory for its objects."""
    start = real.init
    monkeypatch.setattr(real, "init", lambda **given: start(**given, object_store_memory=1))
    begun = time.monotonic()
    assert "Ray cannot start on this machine: " in refused(photos)
    assert time.monotonic() - begun < 30 and not real.is_initialized()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_another_process(
    real: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray start` and --address, and Ctrl-C while it works."""
    # newer Rays ask for a token: one of this test's own
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = [ray, "start", "--head", "--block", f"--port={port}", "--include-dashboard=false",
            "--num-cpus=2", "--node-ip-address=127.0.0.1"]  # fmt: skip
    with subprocess.Popen(head, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            address = f"127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while True:
                try:
                    engine.check_address(address)
                    break
                except EngineError:
                    assert time.monotonic() < deadline
                    time.sleep(0.5)
            command = [sys.executable, "-m", "learned_downscale.cli", "convert", photos,
                       tmp_path / "out", "--factor", "4", *RAY, "--address", address]  # fmt: skip
            made = subprocess.run(command, capture_output=True, text=True, timeout=200)
            assert made.returncode == 0 and "4 converted" in made.stdout, made.stderr
            for i in range(4, 400):
                shutil.copy(photos / "0.jpg", photos / f"{i}.jpg")
            with subprocess.Popen(
                [*command, "-v"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as stopped:
                assert stopped.stderr is not None
                while "learned x4" not in stopped.stderr.readline():
                    assert stopped.poll() is None
                os.kill(stopped.pid, signal.SIGTERM)
                said = stopped.communicate(timeout=200)[1]
            assert stopped.returncode == 128 + signal.SIGTERM, said[-2000:]
            assert "stopped: SIGTERM" in said
            check_manifest(tmp_path / "out")
        finally:
            started.terminate()
