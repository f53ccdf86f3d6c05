"""Time of `learned-downscale convert` on folders of JPEGs, as whole processes, against Pillow.

    python benchmarks/folders.py

Draws the photos of three folders into a temporary one (24 of 12 MP, 160 and 1000 of 1280 x 853)
and converts them; each round runs every system once. Pillow is a script of two processes: open,
resize by bicubic, save as JPEG of quality 95; `draft` lets it decode at a part of the size where
that suffices, as `convert` does. vipsthumbnail is measured where it is installed. Prints medians.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CASES = {
    "24 of 4000 x 3000, factor 4": ("large", "--factor", "4", "1000x750"),
    "160 of 1280 x 853, factor 4": ("small", "--factor", "4", "320x214"),
    "1000 of 1280 x 853, factor 4": ("many", "--factor", "4", "320x214"),
    "24 of 4000 x 3000 to 256 x 192": ("large", "--size", "256x192", "256x192"),
}
PILLOW = """
import sys
from multiprocessing import Pool
from pathlib import Path
from PIL import Image

source, out, size, draft = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "draft"
size = tuple(map(int, size.split("x")))

def work(path):
    with Image.open(path) as image:
        if draft:
            image.draft(None, size)
        image.resize(size, Image.Resampling.BICUBIC).save(out / path.name, quality=95)

if __name__ == "__main__":
    with Pool(2) as pool:
        pool.map(work, sorted(source.iterdir()), chunksize=1)
"""


def draw(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Smooth noise with about as much detail as photos."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        noise = generator.integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8)
        photo = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        photo.save(folder / f"{i:03}.jpg", quality=88)


def systems(source: Path, out: Path, option: str, value: str, size: str) -> dict[str, list[str]]:
    ours = [sys.executable, "-m", "learned_downscale.cli", "convert", str(source), str(out)]
    script = str(source.parent / "pillow.py")
    pillow = [sys.executable, script, str(source), str(out), size]
    found = {
        "learned-downscale": [*ours, option, value],
        "Pillow, 2 processes": [*pillow, "whole"],
        "Pillow, 2 processes, draft": [*pillow, "draft"],
    }
    if shutil.which("vipsthumbnail"):
        photos = [str(p) for p in sorted(source.iterdir())]
        to = f"{out}/%s.jpg[Q=95]"
        found["vipsthumbnail"] = ["vipsthumbnail", *photos, "--size", f"{size}!", "-o", to]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        draw(root / "large", 24, (4000, 3000))
        draw(root / "small", 160, (1280, 853))
        draw(root / "many", 1000, (1280, 853))
        (root / "pillow.py").write_text(PILLOW)
        for name in args.case or CASES:
            folder, option, value, size = CASES[name]
            times: dict[str, list[float]] = {}
            for _ in range(args.rounds):
                for system, command in systems(
                    root / folder, root / "out", option, value, size
                ).items():
                    shutil.rmtree(root / "out", ignore_errors=True)
                    (root / "out").mkdir()
                    begun = time.perf_counter()
                    subprocess.run(command, check=True, capture_output=True)
                    times.setdefault(system, []).append(time.perf_counter() - begun)
            print(name)
            for system, seconds in times.items():
                print(f"  {system:28} {statistics.median(seconds):6.2f} s", flush=True)


if __name__ == "__main__":
    main()
