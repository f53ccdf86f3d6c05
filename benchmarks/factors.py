"""Learned thumbnails and bicubic ones at many factors: accuracy of frozen readers, and PSNR.

    python benchmarks/factors.py val1000/val-000.tar --reader efficientnet-lite2 --plot factors.png

Photos come as for `train`, 224 px. Thumbnails are enlarged (bicubic) to 224 px again. Prints, for
each factor, the mean top-1 of the readers for `resize` and for Pillow's bicubic, %, the difference
with its paired standard error, and the PSNR between both thumbnails, dB. "4 x 2" divides the width
by 4, the height by 2. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from frozen_readers import as_tensor, opened
from PIL import Image

from learned_downscale import Resizer
from learned_downscale.core.similarity import psnr

SIZE = 224
FACTORS: list[tuple[float, float]] = [
    *((f, f) for f in (1.5, 2, 2.5, 3, 4, 5, 6, 8)),
    (4, 2),
    (8, 2),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--reader", action="append", required=True, help="as train --teacher")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    images, _, labels, named = opened(args.data, args.reader, SIZE)
    readers = named.values()

    def hits(small: list[Image.Image]) -> np.ndarray:
        x = torch.stack([as_tensor(image.resize((SIZE, SIZE), 3)) for image in small])
        with torch.no_grad():
            read = [torch.cat([r(part) for part in x.split(50)]).argmax(1) for r in readers]
        return np.mean([(found == labels).numpy() for found in read], 0)

    print(f"{len(images)} photos, {', '.join(args.reader)}\n")
    print("| factor | size | learned | bicubic | difference | PSNR, dB |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for across, down in FACTORS:
        size = round(SIZE / across), round(SIZE / down)
        resizer = Resizer(size)
        learned = [resizer(image) for image in images]
        bicubic = [image.resize(size, Image.Resampling.BICUBIC) for image in images]
        pairs = zip(learned, bicubic, strict=True)
        likeness = statistics.mean(psnr(np.asarray(a), np.asarray(b)) for a, b in pairs)
        mine, theirs = hits(learned), hits(bicubic)
        over = 100 * (mine - theirs)
        error = over.std() / len(over) ** 0.5
        name = f"{across:g}" if across == down else f"{across:g} x {down:g}"
        print(
            f"| {name} | {size[0]} x {size[1]} | {100 * mine.mean():.1f} | "
            f"{100 * theirs.mean():.1f} | {over.mean():+.1f} +- {error:.1f} | {likeness:.1f} |",
            flush=True,
        )
        if across == down:
            rows.append((across, over.mean(), error, likeness))
    if args.plot:
        draw(rows, args.plot)


def draw(rows: list[tuple[float, float, float, float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    factors, gains, errors, likeness = zip(*rows, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.axhline(0, color="0.6", lw=1)
    left.errorbar(factors, gains, errors, marker="o", capsize=3)
    left.set(xlabel="factor", ylabel="points over bicubic", title="top-1 of frozen readers")
    right.plot(factors, np.minimum(likeness, 60), marker="o")
    right.set(xlabel="factor", ylabel="dB (at most 60)", title="PSNR to bicubic")
    for axes in (left, right):
        axes.set_xticks(factors, [f"{f:g}" for f in factors])
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
