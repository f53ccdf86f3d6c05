"""Photos a second of `learned-downscale convert` with 1 and 2 workers, and on Ray where it is
installed, beside decoding alone.

    python benchmarks/workers.py --photos 2000

Draws JPEGs of 1280 x 853 (quality 88) into a temporary folder and converts them at factor 4, as
whole processes; each round runs every system once, in turns forwards and backwards. Decoding alone
is Pillow in one process; at this factor `convert` decodes whole, too. Prints medians: photos/s,
processors used (of Ray: all), core-hours for a billion photos at that rate, and the ratio of Ray to
2 local workers. Start-up (import of torch, start of Ray) counts: with more photos it weighs less.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from folders import draw

SIZE = (1280, 853)
DECODING = """
import sys
from pathlib import Path
from PIL import Image

for path in sorted(Path(sys.argv[1]).iterdir()):
    with Image.open(path) as image:
        image.load()
"""
TWO, RAY = "convert, 2 workers", "convert, Ray, 2 workers"


def systems(source: Path, out: Path) -> dict[str, list[str]]:
    """Name -> command."""
    convert = [sys.executable, "-m", "learned_downscale.cli", "convert", str(source), str(out)]
    convert += ["--factor", "4", "--workers"]
    found = {
        "decoding alone, Pillow": [sys.executable, "-c", DECODING, str(source)],
        "convert, 1 worker": [*convert, "1"],
        TWO: [*convert, "2"],
    }
    if importlib.util.find_spec("ray"):
        found[RAY] = [*convert, "2", "--engine", "ray"]
    return found


def timed(command: list[str], out: Path) -> tuple[float, float]:
    """Seconds, and seconds of processors (Ray's processes end with others and are not counted)."""
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        source, out = Path(temporary, "in"), Path(temporary, "out")
        draw(source, args.photos, SIZE)
        times: dict[str, list[tuple[float, float]]] = {}
        for turn in range(args.rounds):
            commands = list(systems(source, out).items())
            for name, command in commands[:: -1 if turn % 2 else 1]:
                times.setdefault(name, []).append(timed(command, out))
    cores = len(os.sched_getaffinity(0))
    print(f"{args.photos} JPEGs of {SIZE[0]} x {SIZE[1]}, {args.rounds} rounds, {cores} processors")
    print(f"{'':24} photos/s  processors  core-hours for 10^9")
    rate = {}
    for name, found in sorted(times.items()):
        seconds = statistics.median(wall for wall, _ in found)
        used = statistics.median(work / wall for wall, work in found)
        if name == RAY:  # all: what they do is not known
            used = cores
        rate[name] = args.photos / seconds
        hours = 1e9 / rate[name] * used / 3600
        print(f"{name:24} {rate[name]:8.1f}  {used:10.2f}  {hours:20,.0f}")
    if RAY in rate:
        print(f"Ray / local, 2 workers: {rate[RAY] / rate[TWO]:.2f}")


if __name__ == "__main__":
    main()
