"""Kill `learned-downscale convert` at random points, and check what is left each time.

    python benchmarks/kill.py --kills 100

Draws photos into a temporary folder, one of them broken, and converts them once undisturbed. Then,
for each kill: a run into an empty folder is killed (SIGKILL) at a random size of its manifest
and some ms later, often twice; what it left is checked; and one more run goes to the end. After
each kill

- no original has changed,
- every thumbnail is, byte by byte, the undisturbed run's, and has its row in the manifest,
- there is no other file outside of `.learned-downscale`,

and after the last run all thumbnails are there, and the manifest's rows are true. It runs all three
kinds of output in turn: files, an array, shards. Prints a line each kill; the exit status is 1 if
anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from learned_downscale.cli import main as command
from learned_downscale.conversion import arrays, batch  # noqa: F401  imported before the forks
from learned_downscale.engine import thumbnail, tiles, torch_backend  # noqa: F401

STATE = ".learned-downscale"
KINDS = {
    "files": ["--size", "40x30"],
    "array": ["--size", "40x30", "--to", "array"],
    "shards": ["--size", "40x30", "--to", "shards", "--shard-size", "8"],
}


def draw(folder: Path, count: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        noise = generator.integers(0, 256, (30, 40, 3), np.uint8)
        photo = Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)
        photo.save(folder / f"{i:04}.{'png' if i % 3 else 'jpg'}")
    (folder / "broken.jpg").write_bytes((folder / "0000.jpg").read_bytes()[:2000])


def start(source: Path, out: Path, kind: str) -> int:
    """A run in a process of its own, forked before any thread begins."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        arguments = ["convert", str(source), str(out), *KINDS[kind], "--workers", "2"]
        command(arguments, standalone_mode=False)
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        os._exit(status)


def run(source: Path, out: Path, kind: str) -> int:
    """The exit status of a run to its end."""
    _, status = os.waitpid(start(source, out, kind), 0)
    return os.waitstatus_to_exitcode(status)


def wait(out: Path, size: float) -> None:
    """Return when the manifest has a size, or does not grow for two seconds."""
    path, last, since = out / STATE / "manifest.jsonl", -1, time.monotonic()
    while time.monotonic() - since < 2:
        now = path.stat().st_size if path.exists() else -1
        if now >= size:
            return
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.001)


def contents(out: Path) -> dict[str, bytes]:
    paths = (p for p in out.rglob("*") if p.is_file() and STATE not in p.parts)
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in paths}


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The last rows, of whole lines."""
    path = out / STATE / "manifest.jsonl"
    text = path.read_text("ascii") if path.exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return {row["input"]: row for row in lines if "input" in row}


def wrong_after_kill(out: Path, kind: str, whole: dict[str, bytes]) -> list[str]:
    """What a killed run should not have left."""
    found, done = contents(out), rows(out)
    if kind == "array":
        pixels, head = found.get("thumbnails.npy", b""), 128
        known = sum("place" in row for row in done.values()) * 40 * 30 * 3
        begun = whole["thumbnails.npy"][head : head + known]
        return [] if pixels[head : head + known] == begun else ["the array lacks what rows name"]
    outputs = {row["output"] for row in done.values() if row["status"] in ("done", "copied")}
    wrong = [f"{name} is not whole" for name in found if found[name] != whole.get(name)]
    return wrong + [f"{name} has no row" for name in found if name not in outputs]


def wrong_at_end(out: Path, kind: str, whole: dict[str, bytes], status: int) -> list[str]:
    """What the run after it should not have left."""
    wrong = [] if status == 1 else [f"exit status {status}, not 1 (one photo is broken)"]
    found = contents(out)
    wrong += [f"{name} is missing" for name in whole.keys() - found.keys()]
    wrong += [f"{name} differs" for name in found if found[name] != whole.get(name)]
    states = {name: row["status"] for name, row in rows(out).items()}
    bad = [name for name, state in states.items() if state == "failed"]
    if len(bad) != 1 or set(states.values()) - {"failed"} != {"done"}:
        wrong.append(f"the manifest says {states}")
    if kind == "files":
        for row in rows(out).values():
            if row["status"] == "done" and row["bytes_out"] != len(found[row["output"]]):
                wrong.append(f"{row['output']} has another size than its row")
    left = {p.name for p in (out / STATE).iterdir()} - {"lock", "manifest.jsonl"}
    return wrong + [f"{name} was left in {STATE}" for name in left]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    arrays.MOST_ROWS = 8  # so that there are times between two
    chance, faults, early = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        source, out = root / "in", root / "out"
        draw(source, args.photos)
        originals = {p.name: p.read_bytes() for p in source.iterdir()}
        whole, sizes = {}, {}
        for kind in KINDS:
            run(source, root / kind, kind)
            whole[kind] = contents(root / kind)
            sizes[kind] = (root / kind / STATE / "manifest.jsonl").stat().st_size
        for i in range(args.kills):
            kind = list(KINDS)[i % len(KINDS)]
            shutil.rmtree(out, ignore_errors=True)
            wrong = []
            for _ in range(chance.choice((1, 2))):
                child = start(source, out, kind)
                wait(out, chance.uniform(0, sizes[kind]))
                time.sleep(chance.uniform(0, 0.03))
                ended, _ = os.waitpid(child, os.WNOHANG)
                early += ended != 0
                if not ended:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                wrong += wrong_after_kill(out, kind, whole[kind])
            left = len(rows(out))
            status = run(source, out, kind)
            wrong += wrong_at_end(out, kind, whole[kind], status)
            if {p.name: p.read_bytes() for p in source.iterdir()} != originals:
                wrong.append("an original has changed")
            faults += bool(wrong)
            said = "; ".join(wrong) or "all is whole"
            print(f"{i + 1:3} {kind:6} killed at {left:2} rows: {said}", flush=True)
    print(f"{args.kills} kills, {faults} with faults; {early} runs had ended before theirs")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
