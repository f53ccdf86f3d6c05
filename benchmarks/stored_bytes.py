"""Accuracy of frozen classifiers against the bytes that are stored of a photo.

    python benchmarks/stored_bytes.py val1000/val-000.tar --reader efficientnet-lite2 \
        --json stored_bytes.json --plot stored_bytes.png

Whole photos (224 px), smaller ones (112 px; bicubic) and thumbnails of weights, in files of
JPEG, WebP, AVIF and PNG of many qualities. What is smaller than the photo is enlarged (bicubic) or,
where NAME+DECODER says so, reconstructed by the decoder of weights. Prints the mean bytes of a file
and the mean top-1 of the readers, %, with a bootstrapped interval of 95 % over the photos; a row is
marked where no other row has as few bytes and as many right. Photos come as for `train`. Needs the
extra `train`.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from frozen_readers import as_tensor, opened
from PIL import Image

from learned_downscale import Decoder, Resizer

SIDE = 224
JPEG = {"format": "JPEG", "subsampling": 2, "optimize": True}
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": JPEG,
    "JPEG 4:4:4": JPEG | {"subsampling": 0},
    "WebP": {"format": "WEBP", "method": 6},
    "AVIF": {"format": "AVIF", "speed": 6},
    "PNG": {"format": "PNG", "optimize": True},
}


class Stored(NamedTuple):
    """A way to store a photo. method: "bicubic" or weights, "+NAME" with a decoder."""

    method: str
    side: int
    file: str
    quality: int = 0


WAYS = [
    *(Stored("bicubic", 224, "JPEG", q) for q in (10, 20, 50)),
    *(Stored("bicubic", 224, "WebP", q) for q in (1, 10, 30, 60)),
    *(Stored("bicubic", 224, "AVIF", q) for q in (10, 25, 40)),
    *(Stored("bicubic", 112, "WebP", q) for q in (30, 60, 80)),
    *(Stored("bicubic+x2", 112, "WebP", q) for q in (30, 60, 80)),
    *(Stored("bicubic+x2", 112, "AVIF", q) for q in (25, 40, 55)),
    *(Stored("x2+x2", 112, "WebP", q) for q in (30, 80)),
    Stored("x2-machine+x2-machine", 112, "PNG"),
    Stored("x4+x4", 56, "WebP", 80),
    Stored("x4-jpeg+x4-jpeg", 56, "JPEG 4:4:4", 90),
    Stored("x4-machine+x4-machine", 56, "PNG"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--reader", action="append", required=True, help="as train --teacher")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    images, _, labels, named = opened(args.data, args.reader, SIDE)
    readers = named.values()
    rows = []
    for way in WAYS:
        x, sizes = stored(images, way)
        with torch.no_grad():
            read = [torch.cat([r(part) for part in x.split(50)]).argmax(1) for r in readers]
        right = np.mean([(found == labels).numpy() for found in read], 0)
        low, high = interval(right)
        rows.append(
            {**way._asdict(), "bytes": sizes, "top1": 100 * right.mean(), "low": low, "high": high}
        )
        print(f"{way}: {sizes:.0f} bytes, {100 * right.mean():.1f}", flush=True)
    print(f"\n{len(images)} photos, {', '.join(args.reader)}\n\n{table(rows)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        draw(rows, args.plot)


def stored(images: list[Image.Image], way: Stored) -> tuple[torch.Tensor, float]:
    """What the readers are given of the photos, (N, 3, 224, 224), and the mean bytes of a file."""
    files, decoder = packed(images, way), decoder_of(way)
    given = torch.stack([unpacked(file, decoder) for file in files])
    return given, float(np.mean([len(file) for file in files]))


def packed(images: list[Image.Image], way: Stored) -> list[bytes]:
    """The photos' files."""
    method = way.method.partition("+")[0]
    resizer = None if method == "bicubic" else Resizer((way.side, way.side), weights=method)
    options = {} if way.file == "PNG" else {"quality": way.quality}
    files = []
    for image in images:
        small = image.resize((way.side, way.side), 3) if resizer is None else resizer(image)
        file = io.BytesIO()
        small.save(file, **FORMATS[way.file], **options)
        files.append(file.getvalue())
    return files


def decoder_of(way: Stored) -> Decoder | None:
    decodes = way.method.partition("+")[2]
    return Decoder.from_pretrained(decodes) if decodes else None


@torch.no_grad()
def unpacked(file: bytes, decoder: Decoder | None, side: int = SIDE) -> torch.Tensor:
    """What a reader is given of a file, (3, side, side): decoded, or resized (bicubic)."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    if decoder is None:
        return as_tensor(image.resize((side, side), 3))
    large = decoder(as_tensor(image)[None])[0].clamp(0, 1)
    return (large * 255).round() / 255


def interval(right: np.ndarray) -> tuple[float, float]:
    """Of 95 %, of the mean, percent: 1000 bootstrap samples of the photos."""
    places = np.random.default_rng(0).integers(0, len(right), (1000, len(right)))
    low, high = np.quantile(right[places].mean(1), [0.025, 0.975])
    return 100 * float(low), 100 * float(high)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| stored | file | bytes | top-1 % | 95 % | best |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda r: r["bytes"]):
        better = [r for r in rows if r["bytes"] <= row["bytes"] and r["top1"] >= row["top1"]]
        quality = f" {row['quality']}" if row["quality"] else ""
        lines.append(
            f"| {row['method']}, {row['side']} px | {row['file']}{quality} | {row['bytes']:.0f} | "
            f"{row['top1']:.1f} | {row['low']:.1f} to {row['high']:.1f} | "
            f"{'yes' if better == [row] else ''} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["side"], row["file"]), []).append(row)
    for (method, side, file), points in groups.items():
        ours = method != "bicubic"
        axes.errorbar(
            [p["bytes"] for p in points],
            [p["top1"] for p in points],
            [[p["top1"] - p["low"] for p in points], [p["high"] - p["top1"] for p in points]],
            marker="o" if ours else "s",
            linestyle="-" if ours else "--",
            linewidth=1,
            elinewidth=0.5,
            markersize=4,
            label=f"{method}, {side} px, {file}",
        )
    axes.set(xscale="log", xlabel="bytes a photo", ylabel="top-1 of frozen readers, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
