"""convert, run more than once and ended in every way."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image

from learned_downscale.cli import main, progress
from learned_downscale.conversion.disk import LocalStore
from learned_downscale.conversion.manifest import Manifest, Row
from learned_downscale.conversion.recipe import Recipe, recipe_hash
from learned_downscale.conversion.stores import FullError, mtime_of

STATE = ".learned-downscale"


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    words = [str(a) for a in arguments]
    return CliRunner().invoke(main, words, input=stdin, catch_exceptions=False)


def convert(source: Path, out: Path, *options: object) -> Result:
    return run("convert", source, out, "--factor", 4, *options)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The last row of every image."""
    lines = (out / STATE / "manifest.jsonl").read_text("ascii").splitlines()
    found = [json.loads(line) for line in lines]
    assert found[0]["schema"] == "learned-downscale manifest 1" and "run" in found[1]
    return {row["input"]: row for row in found if "input" in row}


def thumbnails(out: Path) -> dict[str, bytes]:
    paths = (p for p in out.rglob("*") if p.is_file() and STATE not in p.parts)
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(paths)}


def check_manifest(out: Path) -> None:
    """Every thumbnail has its row, and every row its thumbnail; nothing else is left."""
    made = thumbnails(out)
    done = {r["output"]: r for r in rows(out).values() if r["status"] in ("done", "copied")}
    assert {name: len(content) for name, content in made.items()} == {
        name: row["bytes_out"] for name, row in done.items()
    }
    assert sorted(p.name for p in (out / STATE).iterdir()) in (
        ["lock", "manifest.jsonl"],
        ["manifest.jsonl"],
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six small photos at two depths, one of them broken."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i in range(5):
        name = f"deep/{i}.jpg" if i % 2 else f"{i}.png"
        drawn_photo(64, 48, i).save(tmp_path / "in" / name)
    (tmp_path / "in" / "z.jpg").write_bytes((tmp_path / "in" / "deep/1.jpg").read_bytes()[:900])
    return tmp_path / "in"


def test_a_second_run_does_what_is_left(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "5 converted, 1 failed" in convert(folder, out).stdout
    first = thumbnails(out)
    check_manifest(out)
    drawn_photo(64, 48, 9).save(folder / "0.png")  # another photo
    os.utime(folder / "2.png", ns=(0, 1))  # the same one, but who knows
    (out / "4.png").unlink()
    (out / "deep" / "1.jpg").write_bytes(first["deep/1.jpg"][:100])
    result = convert(folder, out)
    assert result.exit_code == 1
    for part in ("4 converted", "1 unchanged", "1 failed in an earlier run (--retry-failed"):
        assert part in result.stdout
    second = thumbnails(out)
    assert {name for name in first if first[name] != second[name]} == {"0.png"}
    check_manifest(out)
    assert "0 converted, 5 unchanged" in convert(folder, out).stdout


def test_rows_say_what_was_done(folder: Path, tmp_path: Path) -> None:
    import hashlib

    convert(folder, tmp_path / "out", "--hash")
    found = rows(tmp_path / "out")
    content = (folder / "deep/1.jpg").read_bytes()
    row = found["deep/1.jpg"]
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    assert row["size"] == row["bytes_in"] == len(content)
    assert row["mtime_ns"] == (folder / "deep/1.jpg").stat().st_mtime_ns
    assert row["bytes_out"] == (tmp_path / "out/deep/1.jpg").stat().st_size
    assert row["plan"].startswith("64x48 -> 16x12: learned x4 (x4)") and row["seconds"] > 0
    assert row["decoder"].startswith("JPEG: Pillow ") and "libjpeg_turbo" in row["decoder"]
    assert found["z.jpg"]["status"] == "failed" and "truncated" in found["z.jpg"]["reason"]
    assert "transient" not in found["z.jpg"] and "bytes_out" in found["z.jpg"]
    head = json.loads((tmp_path / "out" / STATE / "manifest.jsonl").read_text().splitlines()[0])
    assert head["recipe_sha256"] == recipe_hash(head["recipe"])
    assert len(head["recipe"]["weights_sha256"]["4"]) == 64


def test_what_fails_is_tried_again_when_asked_or_changed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(folder, out)
    assert "1 failed in an earlier run" in convert(folder, out).stdout
    result = convert(folder, out, "--retry-failed")
    assert result.exit_code == 1 and ", 1 failed" in result.stdout and "truncated" in result.stderr
    drawn_photo(64, 48, 7).save(folder / "z.jpg")
    result = convert(folder, out)
    assert result.exit_code == 0 and "1 converted" in result.stdout
    assert convert(folder, out).exit_code == 0


def test_failures_of_reading_are_tried_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalStore.read

    def refused(self: LocalStore, name: str) -> bytes:
        if name == "0.png":
            raise PermissionError(13, "Permission denied", name)
        return read(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "read", refused)
        result = convert(folder, tmp_path / "out")
        assert f"failed: {folder / '0.png'}: Permission denied" in result.stderr
    assert rows(tmp_path / "out")["0.png"]["transient"] is True
    assert "1 converted" in convert(folder, tmp_path / "out").stdout


def test_stopping_at_the_first_failure(folder: Path, tmp_path: Path) -> None:
    (folder / "a.png").write_bytes(b"")
    result = convert(folder, tmp_path / "out", "--on-error", "stop", "--workers", 1)
    assert result.exit_code == 1 and "a.png failed (--on-error stop)" in result.stderr
    assert set(thumbnails(tmp_path / "out")) == {"0.png", "2.png", "4.png"}
    check_manifest(tmp_path / "out")
    assert "2 converted" in convert(folder, tmp_path / "out").stdout


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)
    # started by nohup or in the background, some signals are ignored
    start = signal.signal(number, signal.default_int_handler)
    step, before = progress.Progress.step, signal.getsignal(number)

    def send(self: progress.Progress, is_failure: bool) -> None:
        step(self, is_failure)
        if self.done == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Progress, "step", send)
        result = convert(folder, tmp_path / "out", "--workers", 2)
    assert result.exit_code == 128 + number
    assert f"stopped: {name}; the same command goes on from here" in result.stderr
    assert signal.getsignal(number) == before
    assert len(thumbnails(tmp_path / "out")) == 2
    check_manifest(tmp_path / "out")
    assert "3 converted, 2 unchanged, 1 failed" in convert(folder, tmp_path / "out").stdout
    check_manifest(tmp_path / "out")
    signal.signal(number, start)


@pytest.mark.parametrize("kind", ["ENOSPC", "EDQUOT", "EROFS"])
def test_a_full_disk_stops_the_run(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) > 2:
            raise OSError(getattr(errno, kind), "no room")
        fsync(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        result = convert(folder, tmp_path / "out", "--workers", 1)
    assert result.exit_code == 1 and len(thumbnails(tmp_path / "out")) <= 2
    said = {"ENOSPC": "the disk is full", "EDQUOT": "quota", "EROFS": "read-only"}[kind]
    assert said in result.stderr and "goes on from here" in result.stderr
    check_manifest(tmp_path / "out")
    convert(folder, tmp_path / "out")
    assert len(thumbnails(tmp_path / "out")) == 5
    check_manifest(tmp_path / "out")


def test_two_runs_at_once(folder: Path, tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "out")
    other.begin()
    result = convert(folder, tmp_path / "out")
    assert result.exit_code == 1 and "another run is writing into" in result.stderr
    assert thumbnails(tmp_path / "out") == {}
    other.end()
    assert "5 converted" in convert(folder, tmp_path / "out").stdout


def test_what_dead_runs_left_is_removed(folder: Path, tmp_path: Path) -> None:
    partial = tmp_path / "out" / STATE / "partial"
    partial.mkdir(parents=True)
    (partial / "abc").write_bytes(b"half")
    convert(folder, tmp_path / "out")
    check_manifest(tmp_path / "out")


def test_partial_files_beside_single_ones(folder: Path, tmp_path: Path) -> None:
    import socket
    import subprocess
    import sys

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    dead = tmp_path / f".{ended.pid}.00.{host}.partial"
    lives = tmp_path / f".{os.getpid()}.00.{host}.partial"
    elsewhere = tmp_path / f".{ended.pid}.00.another-{host}.partial"
    for path in (dead, lives, elsewhere):
        path.write_bytes(b"half")
    assert run("convert", folder / "0.png", tmp_path / "a.png", "--factor", 4).exit_code == 0
    assert not dead.exists() and lives.exists() and elsewhere.exists()
    assert not (tmp_path / STATE).exists()


def test_half_a_line_is_taken_for_none(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "out")
    path = tmp_path / "out" / STATE / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    result = convert(folder, tmp_path / "out")
    assert "5 unchanged, 1 failed" in result.stdout  # z.jpg's row was cut
    check_manifest(tmp_path / "out")
    path.write_text(path.read_text() + "no JSON\n")
    result = convert(folder, tmp_path / "out")
    assert result.exit_code == 2 and "is no row of a manifest" in result.stderr


def test_another_folder_of_images(folder: Path, tmp_path: Path) -> None:
    out, moved, other = tmp_path / "out", tmp_path / "moved", tmp_path / "other"
    convert(folder, out)
    folder.rename(moved)
    assert "5 unchanged" in convert(moved, out).stdout
    other.mkdir()
    drawn_photo(64, 48, 11).save(other / "new.png")
    assert "1 converted" in convert(other, out).stdout  # a name of its own
    drawn_photo(64, 48, 12).save(other / "0.png")
    before = thumbnails(out)
    result = convert(other, out)
    assert result.exit_code == 2 and "0.png is another image there" in result.stderr
    assert thumbnails(out) == before
    assert convert(other, out, "--overwrite", "always").exit_code == 0
    assert thumbnails(out)["0.png"] != before["0.png"]


def test_files_of_others_are_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.png").write_bytes(b"somebody's")
    for _ in range(2):
        result = convert(folder, tmp_path / "out")
        assert "1 kept" in result.stdout and thumbnails(tmp_path / "out")["0.png"] == b"somebody's"
    assert rows(tmp_path / "out")["0.png"]["status"] == "kept"
    assert "5 converted" in convert(folder, tmp_path / "out", "--overwrite", "always").stdout
    check_manifest(tmp_path / "out")


def test_never_replacing(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "out")
    before = thumbnails(tmp_path / "out")
    drawn_photo(64, 48, 9).save(folder / "0.png")
    result = convert(folder, tmp_path / "out", "--overwrite", "never")
    assert "0 converted, 5 unchanged" in result.stdout
    assert thumbnails(tmp_path / "out") == before


def test_a_manifest_of_another_recipe_is_kept_aside(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(folder, out, "--quality", 80)
    result = convert(folder, out)
    assert result.exit_code == 2 and "quality 80 and now 95" in result.stderr
    convert(folder, out, "--overwrite", "always")
    kept = [p for p in (out / STATE).glob("manifest-*.jsonl")]
    assert len(kept) == 1 and json.loads(kept[0].read_text().splitlines()[0])["recipe"]
    assert "5 unchanged" in convert(folder, out).stdout


def test_recipes_differ_by_all_that_changes_a_thumbnail() -> None:
    def identity(**options: Any) -> str:
        recipe = Recipe(**{"factor": 4.0, **options})
        return recipe_hash(recipe.identity("1", {"4": "abc"}))

    first = identity()
    assert first == identity(backend="onnx") == identity(device="cuda")
    for options in ({"factor": 2.0}, {"quality": 80}, {"ending": ".png"}, {"exact": True}):
        assert identity(**options) != first
    assert recipe_hash(Recipe(factor=4.0).identity("2", {"4": "abc"})) != first
    assert recipe_hash(Recipe(factor=4.0).identity("1", {"4": "abd"})) != first


@pytest.mark.parametrize(
    ("options", "source", "target"),
    [
        ({"max_side": 512}, (4000, 3000), (512, 384)),
        ({"max_side": 512}, (3000, 4000), (384, 512)),
        ({"max_side": 512}, (512, 100), None),
        ({"max_side": 512}, (10000, 3), (512, 1)),
        ({"fit": (1920, 1080)}, (4000, 3000), (1440, 1080)),
        ({"fit": (1920, 1080)}, (3000, 4000), (1080, 1440)),
        ({"fit": (1080, 1920)}, (3000, 4000), (1080, 1440)),
        ({"fit": (1920, 1080)}, (3000, 3000), (1080, 1080)),
        ({"fit": (1920, 1080)}, (1000, 1900), None),
        ({"size": (64, 64)}, (64, 64), (64, 64)),
        ({"size": (64, 64), "small": "copy"}, (64, 48), None),
        ({"factor": 4.0}, (101, 99), (26, 25)),
    ],
)
def test_sizes(
    options: dict[str, Any], source: tuple[int, int], target: tuple[int, int] | None
) -> None:
    assert Recipe(**options).target(source) == target


def test_small_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    drawn_photo(80, 60).save(tmp_path / "in" / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn_photo(30, 20).save(tmp_path / "in" / "small.jpg")
    drawn_photo(30, 20).save(tmp_path / "in" / "turned.jpg", exif=exif)
    drawn_photo(30, 20).save(tmp_path / "in" / "other.webp")
    options = ("convert", tmp_path / "in")
    result = run(*options, tmp_path / "copy", "--max-side", 40, "--format", "jpg")
    assert "3 converted, 1 copied (not larger than asked)" in result.stdout
    small = thumbnails(tmp_path / "copy")["small.jpg"]
    assert small == (tmp_path / "in" / "small.jpg").read_bytes()  # not encoded again
    with Image.open(tmp_path / "copy" / "turned.jpg") as image:
        assert image.size == (20, 30) and 0x0112 not in image.getexif()
    check_manifest(tmp_path / "copy")
    for _ in range(2):
        result = run(*options, tmp_path / "skip", "--fit", "40x30", "--small", "skip")
        assert "3 skipped (not larger than asked)" in result.stdout and result.exit_code == 0
        assert set(thumbnails(tmp_path / "skip")) == {"a.jpg"}
    result = run(*options, tmp_path / "fail", "--max-side", 40, "--small", "fail")
    assert result.exit_code == 1 and "--small copy or skip takes such images" in result.stderr


def test_which_images(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "a", "--include", "*.png", "--include", "z*", "--exclude", "4*")
    assert set(rows(tmp_path / "a")) == {"0.png", "2.png", "z.jpg"}
    names = tmp_path / "list"
    for content in (b"deep/1.jpg\n0.png\n\n0.png\n", b"deep/1.jpg\0" + bytes(folder / "0.png")):
        names.write_bytes(content)
        out = tmp_path / f"b{len(content)}"
        assert convert(folder, out, "--files-from", names).exit_code == 0
        assert list(rows(out)) == ["deep/1.jpg", "0.png"]
    names.write_text("gone.png\nnotes.txt\n2.png\n")
    result = convert(folder, tmp_path / "c", "--files-from", names)
    assert result.exit_code == 1 and "1 converted, 2 failed" in result.stdout
    assert "No such file" in result.stderr and "its ending is none of" in result.stderr
    for outside in ("../x.png", "/x.png"):
        names.write_text(outside)
        result = convert(folder, tmp_path / "d", "--files-from", names)
        assert result.exit_code == 2 and "relative to IN" in result.stderr
    assert (
        "that --include and --exclude leave"
        in convert(folder, tmp_path / "e", "--include", "x").stderr
    )


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    name = os.fsencode(tmp_path / "in") + b"/caf\xe9.png"
    try:
        open(name, "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    drawn_photo(64, 48).save(os.fsdecode(name))
    (tmp_path / "in" / "two\nlines.png").write_bytes(b"")
    open(name.replace(b"png", b"\xff"), "wb").close()
    result = convert(tmp_path / "in", tmp_path / "out", "-v")
    assert "1 converted, 1 failed, 1 other files left out (1 ." in result.stdout
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/caf\xe9.png")
    assert "two\\nlines.png" in result.stderr
    assert "caf\udce9.png" in rows(tmp_path / "out")
    assert "1 unchanged" in convert(tmp_path / "in", tmp_path / "out").stdout


def test_pipes(folder: Path, tmp_path: Path) -> None:
    content = (folder / "deep/1.jpg").read_bytes()
    convert(folder, tmp_path / "out")
    want = thumbnails(tmp_path / "out")["deep/1.jpg"]
    result = run("convert", "-", "-", "--factor", 4, stdin=content)
    assert result.exit_code == 0 and result.stdout_bytes == want
    assert run("convert", folder / "deep/1.jpg", "-", "--factor", 4).stdout_bytes == want
    result = run("convert", "-", tmp_path / "a.png", "--factor", 4, stdin=content)
    with Image.open(tmp_path / "a.png") as image:
        assert result.exit_code == 0 and image.format == "PNG" and image.size == (16, 12)
    result = run("convert", "-", "-", "--factor", 4, stdin=content[:900])
    assert result.exit_code == 1 and "truncated" in result.stderr and result.stdout_bytes == b""
    result = run("convert", "-", tmp_path / "folder", "--factor", 4, stdin=content)
    assert result.exit_code == 2 and "names no format" in result.stderr


def test_array(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("convert", folder, out, "--size", "16x12", "--to", "array")
    drawn_photo(64, 48).convert("LA").save(folder / "grey.png")
    result = run(*options, "--include", "[0-2]*")
    assert result.exit_code == 0, result.output
    result = run(*options)
    assert result.exit_code == 1 and "4 converted, 2 unchanged, 1 failed" in result.stdout
    pixels = np.load(out / "thumbnails.npy", mmap_mode="r")
    index = (out / "index.jsonl").read_text().splitlines()
    names = [json.loads(line)["input"] for line in index]
    assert [json.loads(line)["place"] for line in index] == list(range(6))
    assert pixels.shape == (6, 12, 16, 3) and pixels.dtype == np.uint8
    assert names == ["0.png", "2.png", "4.png", "deep/1.jpg", "deep/3.jpg", "grey.png"]
    run("convert", folder, tmp_path / "files", "--size", "16x12", "--format", "png")
    for place, name in enumerate(names):
        with Image.open((tmp_path / "files" / name).with_suffix(".png")) as image:
            assert np.array_equal(pixels[place], image.convert("RGB")), name
    with open(out / "thumbnails.npy", "ab") as file:
        file.write(b"what a dead run left")
    assert "0 converted, 6 unchanged" in run(*options).stdout
    assert (out / "thumbnails.npy").stat().st_size == 128 + 6 * 12 * 16 * 3
    drawn_photo(64, 48, 9).save(folder / "0.png")
    result = run(*options)
    assert result.exit_code == 2 and "an array only grows" in result.stderr
    assert "6 converted" in run(*options, "--overwrite", "always").stdout
    assert len(np.load(out / "thumbnails.npy")) == 6
    os.truncate(out / "thumbnails.npy", 1000)
    result = run(*options)
    assert result.exit_code == 2 and "shorter than its manifest says" in result.stderr
    for wrong in (("--factor", 4), ("--max-side", 9)):
        result = run("convert", folder, tmp_path / "x", *wrong, "--to", "array")
        assert result.exit_code == 2 and "give --size" in result.stderr


def test_summaries(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("x")
    found = json.loads(convert(folder, tmp_path / "out", "--json").stdout)
    assert found["counts"] == {"done": 5, "failed": 1} and found["other_files"] == {".txt": 1}
    assert found["failures"][0]["input"] == "z.jpg" and found["stopped"] is None
    sizes = {name: len(content) for name, content in thumbnails(tmp_path / "out").items()}
    assert found["bytes_out"] == sum(sizes.values())
    assert found["manifest"] == str(tmp_path / "out" / STATE / "manifest.jsonl")


def test_dry_run(folder: Path, tmp_path: Path) -> None:
    result = convert(folder, tmp_path / "out", "--dry-run")
    assert result.exit_code == 0 and "would convert 6 images" in result.stdout
    assert "a sample of 6, of which 1 failed" in result.stdout
    assert not (tmp_path / "out").exists()
    found = json.loads(convert(folder, tmp_path / "out", "--dry-run", "--json").stdout)
    convert(folder, tmp_path / "out")
    assert found["bytes_out"] == sum(len(c) for c in thumbnails(tmp_path / "out").values())
    assert found["bytes_in"] == sum(p.stat().st_size for p in folder.rglob("*.*"))


def test_verify_reads_a_sample(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(2):
        drawn_photo(256, 192, i).save(tmp_path / "in" / f"{i}.png")
    Image.new("RGB", (64, 8)).save(tmp_path / "in" / "long.png")  # nothing for the classifier
    result = run(
        "convert", tmp_path / "in", tmp_path / "out", "--factor", 2, "--verify", 9, "--json"
    )
    found = json.loads(result.stdout)["verified"]
    assert found["images"] == 2 and 0 <= found["same"] <= 2
    assert f"{found['same']} of 2 thumbnails are read as their originals are" in result.stderr


def test_names_get_a_suffix(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "out", "--suffix", "_s", "--format", "webp", "--include", "*1*")
    assert set(thumbnails(tmp_path / "out")) == {"deep/1_s.webp"}


def test_a_limit_of_pixels(folder: Path, tmp_path: Path) -> None:
    drawn_photo(65, 48).save(folder / "0.png")
    result = convert(folder, tmp_path / "out", "--max-pixels", 64 * 48)
    assert "has 65 x 48 = 0.00312 million pixels" in result.stderr
    assert "4 converted, 2 failed" in result.stdout


def test_progress_in_lines(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.Progress(100)
    for i in range(30):
        now[0] += 1
        bar.step(is_failure=i == 3)
    bar.end()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "11 of 100 images, 11%, 1.0/s, 89 s left, 1 failed",
        "22 of 100 images, 22%, 1.0/s, 78 s left, 1 failed",
    ]
    assert progress.seconds_shown(7000) == "1.9 h" and progress.bytes_shown(12_345) == "12 kB"
    assert progress.seconds_shown(3e5) == "3.5 days" and progress.bytes_shown(1.2e6) == "1.2 MB"


def test_the_manifest_as_parquet(folder: Path, tmp_path: Path) -> None:
    result = None
    try:
        import pyarrow.parquet as pq
    except ImportError:
        result = convert(folder, tmp_path / "out", "--parquet")
        assert result.exit_code == 2 and "pip install pyarrow" in result.stderr
        return
    convert(folder, tmp_path / "out", "--parquet")
    table = pq.read_table(tmp_path / "out" / STATE / "manifest.parquet").to_pylist()
    assert {row["input"]: row["bytes_out"] for row in table} == {
        name: row["bytes_out"] for name, row in rows(tmp_path / "out").items()
    }


def test_rows_are_flushed_and_read_back(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.begin()
    manifest = Manifest(store, "/in", {"a": 1})
    manifest.begin()
    row = Row("a\udcff.jpg", "b.jpg", "done", 5, 7, plan="x", place=0, seconds=0.5)
    manifest.append(row)
    manifest.log.close()
    again = Manifest(store, "/in", {"a": 1})
    again.read()
    assert again.rows == {"a\udcff.jpg": row}
    store.end()


def test_files_of_many_threads(tmp_path: Path) -> None:
    for i in range(24):
        Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(tmp_path / f"{i}.png")
    assert "24 converted" in convert(tmp_path, tmp_path / "out", "--workers", 4).stdout
    for i in range(24):
        with Image.open(tmp_path / "out" / f"{i}.png") as small:
            assert small.getpixel((4, 4)) == (10 * i, 0, 0)
    assert threading.active_count() < 10


def test_a_folder_in_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, replace = LocalStore(tmp_path / "out"), Path.replace

    def across(self: Path, target: Path) -> Path:
        if "partial" in self.parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    store.begin()
    staged = store.stage("deep/a.txt", b"content")
    monkeypatch.setattr(Path, "replace", across)
    store.commit("deep/a.txt", staged)
    store.end()
    assert thumbnails(tmp_path / "out") == {"deep/a.txt": b"content"}


def test_a_full_disk_has_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FullError, match="the disk is full"):
        LocalStore(tmp_path).stage("a.txt", b"content")
    assert list(tmp_path.iterdir()) == []


def test_times_of_stores() -> None:
    from datetime import UTC, datetime

    assert mtime_of({"LastModified": datetime(1970, 1, 2, tzinfo=UTC)}) == 86400 * 10**9
    assert mtime_of({"mtime": 1.5}) == 1_500_000_000 and mtime_of({}) == 0


@pytest.mark.slow
def test_runs_that_are_killed() -> None:
    """SIGKILL at random points: nothing is lost or half-written, and the next run goes on."""
    import subprocess
    import sys

    script = Path(__file__).parents[1] / "benchmarks" / "kill.py"
    command = [sys.executable, str(script), "--kills", "6", "--seed", str(os.getpid())]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0 and "6 kills, 0 with faults" in out.stdout, out.stdout + out.stderr


def test_options_that_would_do_nothing_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, out = folder / "0.png", tmp_path / "out"
    pipe = ("convert", photo, "-", "--size", "16x12")
    for options in (
        ("--to", "array"),
        ("--to", "shards"),
        ("--engine", "ray"),
        ("--dry-run",),
        ("--verify", 3),
        ("--parquet",),
        ("--hash",),
    ):
        result = run(*pipe, *options)
        assert result.exit_code == 2 and f"{options[0]}: not for one image" in result.stderr
        assert result.stdout == ""
    result = run("convert", photo, tmp_path / "a.png", "--factor", 4, "--parquet")
    assert result.exit_code == 2 and "one file has no manifest" in result.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = convert(folder, out, "--parquet")
    assert result.exit_code == 2 and "pip install pyarrow" in result.stderr and not out.exists()
