"""convert on shards, at URLs, and on a Ray cluster."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import drawn_photo
from test_convert_runs import STATE, check_manifest, convert, rows, run, thumbnails

from learned_downscale.conversion import shards
from learned_downscale.conversion.remote import RemoteStore


def image_bytes(seed: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    drawn_photo(64, 48, seed).save(file, kind)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            head = tarfile.TarInfo(name)
            head.size, head.mtime = len(content), 1_000_000_000
            tar.addfile(head, io.BytesIO(content))


def read_tar(content: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for head in tar:
            opened = tar.extractfile(head)
            assert opened is not None and head.mtime >= 1_000_000_000
            found[head.name] = opened.read()
    return found


def samples(shard: int, count: int = 4) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for i in range(count):
        key = f"deep/{shard:02}{i:04}"
        members[f"{key}.jpg"] = image_bytes(10 * shard + i)
        members[f"{key}.cls"] = str(i).encode()
        members[f"{key}.seg.png"] = image_bytes(i, "PNG")
    return members


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    for shard in range(3):
        write_tar(tmp_path / "tars" / f"{shard:05}.tar", samples(shard))
    return tmp_path / "tars"


def test_shards_become_shards(tars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = convert(tars, out, "--include", "*.jpg", "--workers", 3)
    assert result.exit_code == 0 and "12 converted" in result.stdout
    write_tar(tmp_path / "loose.tar", {})
    for name, content in thumbnails(out).items():
        before, after = samples(int(name[:5])), read_tar(content)
        assert list(after) == list(before)  # the same keys in the same order
        for member, small in after.items():
            if member.endswith(".jpg"):
                (tmp_path / "a.jpg").write_bytes(before[member])
                run("convert", tmp_path / "a.jpg", tmp_path / "b.jpg", "--factor", 4,
                    "--overwrite", "always")  # fmt: skip
                assert small == (tmp_path / "b.jpg").read_bytes()
            else:
                assert small == before[member]
    found = rows(out)
    assert found["00001.tar"]["status"] == "done" and len(found) == 3 + 12
    assert found["00001.tar::deep/010002.jpg"]["bytes_out"] < 3000
    again = convert(tars, out, "--include", "*.jpg")
    assert "0 converted, 3 unchanged" in again.stdout


def test_another_format_in_shards(tars: Path, tmp_path: Path) -> None:
    assert convert(tars, tmp_path / "out", "--format", "webp").exit_code == 0
    names = list(read_tar(thumbnails(tmp_path / "out")["00000.tar"]))
    assert names[:3] == ["deep/000000.webp", "deep/000000.cls", "deep/000000.seg.webp"]


def test_a_shard_is_done_or_not(tars: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A run that ends inside a shard leaves nothing of it, and goes on with it."""
    out, commits = tmp_path / "out", []
    work = shards.SampleWork.__call__

    def dies(self: Any, sample: Any) -> Any:
        commits.append(sample)
        if len(commits) == 6:
            raise SystemExit(9)
        return work(self, sample)

    with monkeypatch.context() as patched:
        patched.setattr(shards.SampleWork, "__call__", dies)
        assert convert(tars, out, "--workers", 1).exit_code == 9
    assert set(thumbnails(out)) == {"00000.tar"}
    assert {name.partition("::")[0] for name in rows(out)} == {"00000.tar"}
    assert "16 converted, 1 unchanged" in convert(tars, out).stdout
    assert set(thumbnails(out)) == {"00000.tar", "00001.tar", "00002.tar"}
    write_tar(tars / "00001.tar", samples(7))
    assert "8 converted, 2 unchanged" in convert(tars, out).stdout


def test_stopping_inside_a_shard(tars: Path, tmp_path: Path) -> None:
    members = samples(0)
    members["deep/000001.jpg"] = b"no image"
    write_tar(tars / "00000.tar", members)
    result = convert(tars, tmp_path / "out", "--on-error", "stop", "--workers", 1)
    assert result.exit_code == 1 and "000001.jpg failed (--on-error stop)" in result.stderr
    assert thumbnails(tmp_path / "out") == {}
    assert not list((tmp_path / "out" / STATE).glob("partial"))


def test_a_sample_that_fails_is_left_out(tars: Path, tmp_path: Path) -> None:
    members = samples(0)
    members["deep/000001.jpg"] = b""
    write_tar(tars / "00000.tar", members)
    out = tmp_path / "out"
    result = convert(tars, out)
    assert result.exit_code == 1 and "22 converted, 2 failed" in result.stdout
    assert "00000.tar::deep/000001.jpg: the file is empty" in result.stderr
    kept = read_tar(thumbnails(out)["00000.tar"])
    assert not any("000001" in name for name in kept) and len(kept) == 9
    found = rows(out)
    assert found["00000.tar"]["reason"] == "2 images failed; their samples are left out"
    assert found["00000.tar::deep/000001.jpg"]["status"] == "failed"
    beside = found["00000.tar::deep/000001.seg.png"]
    assert beside["status"] == "failed" and "left out with deep/000001.jpg" in beside["reason"]
    result = convert(tars, out)
    assert result.exit_code == 1 and "2 unchanged, 1 failed in an earlier run" in result.stdout
    assert "6 converted, 2 unchanged, 2 failed" in convert(tars, out, "--retry-failed").stdout


@pytest.mark.parametrize("cut", [700, 512 * 3, 1])
def test_a_shard_that_ends_early(cut: int, tars: Path, tmp_path: Path) -> None:
    """Also where it is cut between two members, which tarfile takes for its end."""
    path = tars / "00001.tar"
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2]
    path.write_bytes(content[: third.offset if cut == 512 * 3 else -cut])
    if cut == 1:
        path.write_bytes(content[: third.offset_data + 10])
    result = convert(tars, tmp_path / "out")
    assert result.exit_code == 1 and "16 converted" in result.stdout
    assert "failed: 00001.tar: the shard ends early" in result.stderr
    assert set(thumbnails(tmp_path / "out")) == {"00000.tar", "00002.tar"}


def test_files_become_shards(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i in range(7):
        (tmp_path / "in" / "deep" / f"a.{i}.jpg").write_bytes(image_bytes(i))
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    options = ("--to", "shards", "--shard-size", 4)
    result = convert(tmp_path / "in", tmp_path / "out", *options)
    assert result.exit_code == 1 and "7 converted, 2 failed" in result.stdout
    convert(tmp_path / "in", tmp_path / "files")
    made = thumbnails(tmp_path / "out")
    assert list(made) == ["000000.tar", "000001.tar", "000002.tar"]
    found: dict[str, bytes] = {}
    for content in made.values():
        members = read_tar(content)
        for name in members:
            if name.endswith(".json"):
                path = json.loads(members[name])["path"]
                found[path] = members[name.replace(".json", ".jpg")]
    assert found == thumbnails(tmp_path / "files")
    assert "1 unchanged, 2 failed" in convert(tmp_path / "in", tmp_path / "out", *options).stdout
    (tmp_path / "in" / "deep" / "a.6.jpg").write_bytes(image_bytes(9))
    result = convert(tmp_path / "in", tmp_path / "out", *options)
    assert result.stdout.startswith("4 converted, 2 failed in")  # the second shard
    result = convert(tmp_path / "in", tmp_path / "out", "--to", "shards", "--shard-size", 5)
    assert result.exit_code == 2 and "another recipe" in result.stderr


def test_two_images_for_one_member(tmp_path: Path) -> None:
    """Neither is guessed, and no member hides another."""
    members = {"a.jpg": image_bytes(0), "a.png": image_bytes(1, "PNG"), "b.jpg": image_bytes(2)}
    members |= {"c.jpg": image_bytes(3), "c.webp": b"not to convert"}
    write_tar(tmp_path / "in.tar", members)
    options = ("--format", "webp", "--include", "*.jpg", "--include", "*.png")
    result = convert(tmp_path / "in.tar", tmp_path / "out", *options)
    assert result.exit_code == 1 and "1 converted, 3 failed" in result.stdout
    assert "in.tar::a.jpg: a.png would be a.webp, too" in result.stderr
    assert "in.tar::c.jpg: c.webp would be c.webp, too" in result.stderr
    assert list(read_tar(thumbnails(tmp_path / "out")["in.tar"])) == ["b.webp"]


def test_names_do_not_meet_where_there_are_none(tmp_path: Path) -> None:
    """Shards of files have numbers."""
    (tmp_path / "in").mkdir()
    for i, kind in enumerate(("JPEG", "PNG")):
        path = tmp_path / "in" / f"a.{'jpg' if kind == 'JPEG' else 'png'}"
        path.write_bytes(image_bytes(i, kind))
    options = ("--to", "shards", "--format", "webp")
    assert "2 converted" in convert(tmp_path / "in", tmp_path / "out", *options).stdout
    made = read_tar(thumbnails(tmp_path / "out")["000000.tar"])
    assert [name for name in made if name.endswith(".webp")] == [
        "000000000.webp",
        "000000001.webp",
    ]


def test_hashes_of_members(tars: Path, tmp_path: Path) -> None:
    convert(tars, tmp_path / "out", "--hash")
    content = samples(1)["deep/010002.jpg"]
    found = rows(tmp_path / "out")["00001.tar::deep/010002.jpg"]
    assert found["sha256"] == hashlib.sha256(content).hexdigest()
    assert "3 unchanged" in convert(tars, tmp_path / "out", "--hash").stdout


def test_wrong_usage_of_shards(tars: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("deep/000001.jpg\n")
    for options, says in (
        (("--size", "8x8", "--to", "array"), "not of shards"),
        (("--factor", 4, "--suffix", "_s"), "keep their keys"),
        (("--factor", 4, "--dry-run"), "not for shards"),
        (("--factor", 4, "--verify", 5), "not for arrays and shards"),
        (("--factor", 4, "--engine", "ray"), "--engine ray makes files"),
        (("--factor", 4, "--files-from", listed), "are for files; --include"),
        (("--factor", 4, "--on-collision", "rename"), "are for files; --include"),
    ):
        result = run("convert", tars, tmp_path / "out", *options)
        assert result.exit_code == 2 and says in result.stderr
    result = convert(tars, tars)
    assert result.exit_code == 2 and "never overwritten" in result.stderr


def test_tars_beside_images_are_other_files(tars: Path, tmp_path: Path) -> None:
    (tars / "a.jpg").write_bytes(image_bytes(0))
    result = convert(tars, tmp_path / "out")
    assert "1 converted, 3 other files left out (3 .tar)" in result.stdout


# -- URLs ------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def objects(fs: Any, folder: str) -> dict[str, bytes]:
    found = {p.removeprefix(folder).lstrip("/"): fs.cat_file(p) for p in fs.find(folder)}
    return {name: content for name, content in found.items() if not name.startswith(STATE)}


def remote_rows(fs: Any, folder: str) -> dict[str, dict[str, Any]]:
    lines: list[str] = []
    for part in sorted(fs.find(f"{folder}/{STATE}/manifest.jsonl")):
        lines += fs.cat_file(part).decode().splitlines()
    assert "schema" in json.loads(lines[0])
    return {row["input"]: row for row in map(json.loads, lines) if "input" in row}


def check_urls(fs: Any, root: str, url: str, tmp_path: Path) -> None:
    """From a URL to a URL, a second run, a change, another recipe, and to this machine."""
    for i in range(3):
        fs.pipe_file(f"{root}/in/deep/{i}.jpg", image_bytes(i))
    fs.pipe_file(f"{root}/in/bad.png", b"")
    fs.pipe_file(f"{root}/in/notes.txt", b"x")
    source, out = f"{url}/in", f"{url}/out"
    result = run("convert", source, out, "--factor", 4)
    assert result.exit_code == 1 and "3 converted, 1 failed, 1 other" in result.stdout
    assert f"failed: {source}/bad.png: the file is empty" in result.stderr
    assert run("convert", source, tmp_path / "here", "--factor", 4).exit_code == 1
    check_manifest(tmp_path / "here")
    made = objects(fs, f"{root}/out")
    assert made == thumbnails(tmp_path / "here") and len(made) == 3
    found = remote_rows(fs, f"{root}/out")
    assert {n: r["bytes_out"] for n, r in found.items() if r["status"] == "done"} == {
        name: len(content) for name, content in made.items()
    }
    again = run("convert", source, out, "--factor", 4).stdout
    assert "0 converted, 3 unchanged, 1 failed in an earlier run" in again
    fs.pipe_file(f"{root}/in/deep/0.jpg", image_bytes(9))
    assert "1 converted, 2 unchanged" in run("convert", source, out, "--factor", 4).stdout
    assert objects(fs, f"{root}/out")["deep/0.jpg"] != made["deep/0.jpg"]
    result = run("convert", source, out, "--factor", 2)
    assert result.exit_code == 2 and "another recipe" in result.stderr
    result = run("convert", source, out, "--factor", 2, "--overwrite", "always")
    assert "3 converted, 1 failed" in result.stdout
    assert "3 unchanged" in run("convert", source, out, "--factor", 2).stdout
    # and up again
    assert "3 converted" in run("convert", tmp_path / "here", f"{url}/up", "--factor", 2).stdout
    assert len(objects(fs, f"{root}/up")) == 3


def test_urls_in_memory(memory: Any, tmp_path: Path) -> None:
    check_urls(memory, "/bucket", "memory://bucket", tmp_path)


def test_shards_at_urls(memory: Any, tars: Path, tmp_path: Path) -> None:
    for path in tars.iterdir():
        memory.pipe_file(f"/shards/in/{path.name}", path.read_bytes())
    url = "memory://shards"
    assert "24 converted" in run("convert", f"{url}/in", f"{url}/out", "--factor", 4).stdout
    convert(tars, tmp_path / "out")
    assert objects(memory, "/shards/out") == thumbnails(tmp_path / "out")
    one = run("convert", f"{url}/in/00000.tar", f"{url}/one", "--factor", 4).stdout
    assert "8 converted" in one and list(objects(memory, "/shards/one")) == ["00000.tar"]
    assert "3 unchanged" in run("convert", f"{url}/in", f"{url}/out", "--factor", 4).stdout


def test_wrong_urls(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/a/notes.txt", b"x")
    for source, out, says in (
        ("memory://a", tmp_path / "out", "holds no files"),
        ("nosuch://x", tmp_path / "out", "Protocol not known"),
        ("memory://empty", tmp_path / "out", "there is nothing at"),
        ("memory://a", "memory://a/", "never overwritten"),
        (tmp_path / "none", "memory://a", "is no folder"),
    ):
        result = run("convert", source, out, "--factor", 4)
        assert result.exit_code == 2 and says in result.stderr, result.stderr


def test_stores_travel() -> None:
    import pickle

    store = pickle.loads(pickle.dumps(RemoteStore("memory://bucket/in/")))
    assert store.shown("a/b.jpg") == "memory://bucket/in/a/b.jpg"


@pytest.mark.slow
def test_urls_of_an_s3_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server that speaks S3, on this machine."""
    pytest.importorskip("s3fs", reason="needs s3fs and moto[server]")
    server = pytest.importorskip("moto.server", reason="needs s3fs and moto[server]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threaded = server.ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    threaded.start()
    try:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        check_urls(fs, "bucket", "s3://bucket", tmp_path)
    finally:
        threaded.stop()
