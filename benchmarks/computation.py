"""Accuracy of ways to classify a stored photo, against their computation, memory and time.

    python benchmarks/computation.py val1000/val-000.tar --other MODULE:squeezenet \
        --json computation.json --plot computation.png

Whole photos (224 px, as PNG and as JPEG 75), read by EfficientNet-Lite2; the JPEG files read by it
after they were made smaller, and by smaller networks; thumbnails, enlarged (bicubic) or
reconstructed by a decoder; and thumbnails that the bundled classifier reads. Photos come as for
`train`, in folders of ImageNet's classes. Prints of each way

- the top-1, %, and what it is over the first way, with its paired standard error;
- the multiply-adds of decoder and network, in millions (resizing is not counted);
- the raw bytes: of the pixels as uint8, as an array in memory holds them, of the smallest image on
  the way;
- the bytes of the file, on average;
- the milliseconds from the file, in memory, to the prediction, of one photo on one thread: medians
  of `--rounds` in which every way has its turn with each of 20 photos.

Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from frozen_readers import opened
from stored_bytes import SIDE, Stored, decoder_of, packed, unpacked

from learned_downscale.readers.bundled import ThumbnailClassifier
from learned_downscale.thumbnet.costs import multiply_adds
from learned_downscale.thumbnet.networks import Reader

PHOTO = Stored("bicubic", SIDE, "PNG")
JPEG = Stored("bicubic", SIDE, "JPEG", 75)
LITE2, LITE0 = "efficientnet-lite2", "efficientnet-lite0"
STUDENT = "thumbnail1000"
SAMPLE = 20
BATCH = 16  # more are slower on CPUs: their maps leave the cache


class Way(NamedTuple):
    """A reader, what is stored, and the side in px of what the reader is given of it."""

    reader: str
    stored: Stored
    side: int = SIDE

    @property
    def name(self) -> str:
        """What the reader is given."""
        method, _, decoder = self.stored.method.partition("+")
        if self.stored in (PHOTO, JPEG):
            return "photo" if self.side == SIDE else f"photo, made {self.side} px"
        how = "" if self.side == self.stored.side else ", enlarged"
        return f"{method} {self.stored.side} px" + (f" + decoder {decoder}" if decoder else how)

    @property
    def file(self) -> str:
        return f"{self.stored.file} {self.stored.quality or ''}".strip()

    @property
    def raw(self) -> int:
        return 3 * min(self.side, self.stored.side) ** 2


def thumbnails(method: str, side: int, file: str = "PNG", quality: int = 0) -> Stored:
    return Stored(f"{method}+{method}", side, file, quality)


JPEG90 = ("JPEG 4:4:4", 90)
WAYS = [
    Way(LITE2, PHOTO),
    *(Way(LITE2, JPEG, side) for side in (224, 192, 160, 128, 112)),
    *(Way(LITE0, JPEG, side) for side in (224, 160, 128)),
    *(Way(LITE2, Stored("bicubic", side, "PNG")) for side in (160, 112, 80, 56)),
    *(Way(reader, thumbnails("x2-machine", 112)) for reader in (LITE2, LITE0)),
    Way(LITE2, thumbnails("x2", 112, *JPEG90)),
    *(Way(reader, thumbnails("x4-machine", 56)) for reader in (LITE2, LITE0)),
    Way(LITE2, thumbnails("x4", 56, *JPEG90)),
    *(Way(STUDENT, Stored(method, 112, "PNG"), 112) for method in ("x2", "bicubic")),
    *(Way(STUDENT, Stored(method, 56, "PNG"), 56) for method in ("x4", "bicubic")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--other", action="append", default=[], help="reads photos; as --teacher")
    parser.add_argument("--rounds", type=int, default=5, help="of the times")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    ways = [*WAYS, *(Way(other, JPEG) for other in args.other)]
    images, classes, labels, readers = opened(args.data, [LITE2, LITE0, *args.other], SIDE)
    classifier = ThumbnailClassifier.from_pretrained(STUDENT)
    if list(classifier.wordnet_ids) != classes:
        parser.error("the photos' folders are not of ImageNet's classes")
    readers[STUDENT] = Reader(classifier.network, classifier.decoder).eval()
    files = {way.stored: packed(images, way.stored) for way in ways}
    rows: list[dict[str, Any]] = []
    first = None
    for way in ways:
        right = hits(way, files[way.stored], readers[way.reader], labels)
        first = right if first is None else first
        over = 100 * (right - first)
        rows.append(
            {
                "reader": way.reader.rpartition(":")[2],
                "given": way.name,
                "stored": way.file,
                "top1": 100 * float(right.mean()),
                "over": float(over.mean()),
                "error": float(over.std() / len(over) ** 0.5),
                "multiply_adds": computed(way, readers[way.reader]),
                "raw": way.raw,
                "bytes": float(np.mean([len(file) for file in files[way.stored]])),
            }
        )
        print(f"{way.reader}, {way.name}: {rows[-1]['top1']:.1f}", flush=True)
    every = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int)
    sample = {stored: [made[i] for i in every] for stored, made in files.items()}
    for row, ms in zip(rows, times(ways, sample, readers, args.rounds), strict=True):
        row["ms"] = ms
    print(f"\n{len(images)} photos, {len(classes)} classes\n\n{table(rows)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        draw(rows, args.plot)


@torch.no_grad()
def hits(way: Way, files: list[bytes], reader: Reader, labels: torch.Tensor) -> np.ndarray:
    """Of each photo, 1 where the reader is right and 0 where not."""
    decoder, found = decoder_of(way.stored), []
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        x = torch.stack([unpacked(file, decoder, way.side) for file in part])
        found.append(reader(x).argmax(1))
    return (torch.cat(found) == labels).numpy().astype(float)


def computed(way: Way, reader: Reader) -> int:
    """Multiply-adds of decoder and reader."""
    decoder, small = decoder_of(way.stored), torch.zeros(1, 3, way.stored.side, way.stored.side)
    decoded = 0 if decoder is None else multiply_adds(decoder, small)
    return decoded + multiply_adds(reader, torch.zeros(1, 3, way.side, way.side))


@torch.no_grad()
def times(
    ways: list[Way], files: dict[Stored, list[bytes]], readers: dict[str, Reader], rounds: int
) -> list[float]:
    """Milliseconds of each way, by one thread; the first round warms up and is not counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decoders = {way.stored: decoder_of(way.stored) for way in ways}
    spent: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, kept in zip(ways, spent, strict=True):
            for file in files[way.stored]:
                begin = time.perf_counter()
                x = unpacked(file, decoders[way.stored], way.side)
                readers[way.reader](x[None]).argmax(1).item()
                if number:
                    kept.append(1000 * (time.perf_counter() - begin))
    torch.set_num_threads(threads)
    return [float(np.median(kept)) for kept in spent]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| network | is given | file | top-1 % | over the photo | M multiply-adds | raw bytes | "
        "file bytes | ms |",
        "|" + " --- |" * 9,
    ]
    for row in rows:
        over = f"{row['over']:+.1f} ± {row['error']:.1f}" if row["error"] else ""
        lines.append(
            f"| {row['reader']} | {row['given']} | {row['stored']} | {row['top1']:.1f} | {over} | "
            f"{row['multiply_adds'] / 1e6:.0f} | {row['raw']:,} | {row['bytes']:,.0f} | "
            f"{row['ms']:.0f} |"
        )
    return "\n".join(lines)


def line_of(row: dict[str, Any]) -> str:
    """The line of the plot that a row is on."""
    kinds = {
        "photo": f"photos as {row['stored']}",
        "enlarged": "bicubic thumbnails, enlarged",
        "decoder x4-machine": "x4-machine or x2-machine thumbnails, decoder",
        "decoder x2-machine": "x4-machine or x2-machine thumbnails, decoder",
        "decoder": "x4 or x2 thumbnails as JPEG 90, decoder",
        "bicubic": "bicubic thumbnails",
    }
    said = [said for word, said in kinds.items() if word in row["given"]]
    kind = said[0] if said else "x4 or x2 thumbnails"
    return f"{row['reader']}: {kind}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 6), sharey=True, layout="constrained")
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(line_of(row), []).append(row)
    panels = (
        ("multiply_adds", 1e6, "multiply-adds a photo, millions", (150, 200, 300, 400, 600, 800)),
        ("raw", 1e3, "raw bytes a photo in memory, kB", (10, 20, 40, 80, 150)),
    )
    for panel, (cost, unit, label, ticks) in zip(axes, panels, strict=True):
        for number, (name, points) in enumerate(lines.items()):
            x, y = [p[cost] / unit for p in points], [p["top1"] for p in points]
            panel.errorbar(
                x,
                y,
                [p["error"] for p in points],
                marker="osD^v*Ph"[number % 8],
                linestyle="--" if "photos" in name or "enlarged" in name else "-",
                linewidth=1,
                elinewidth=0.5,
                markersize=5,
                label=name,
            )
            for point, *place in zip(points, x, y, strict=True):
                side = f"  {(point['raw'] / 3) ** 0.5:.0f}"
                panel.annotate(side, place, fontsize=7, va="center")
        panel.set(xscale="log", xlabel=label)
        panel.set_xticks(ticks, map(str, ticks))
        panel.minorticks_off()
        panel.margins(x=0.07)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("top-1, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
