"""Time and memory of resizing on this machine, ours and those of the usual libraries."""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from learned_downscale.core.filters import FILTERS
from learned_downscale.engine.backend import processors
from learned_downscale.plan import target_size
from learned_downscale.resizer import Resizer

ROUNDS = 7


@dataclass(frozen=True)
class Case:
    """Images of `source` (width, height) to `target`, `batch` of them at once."""

    source: tuple[int, int]
    target: tuple[int, int]
    batch: int = 1

    @classmethod
    def of(cls, source: tuple[int, int], size: float | tuple[int, int], batch: int = 1) -> Case:
        return cls(source, target_size(source, size), batch)


SOURCES = (
    (8192, 6144),
    (4000, 3000),
    (4000, 2999),
    (1280, 853),
    (1280, 852),
    (641, 481),
    (500, 375),
    (224, 224),
)
CASES = (
    *(Case.of(source, factor) for source in SOURCES for factor in (4, 2)),
    Case.of((640, 480), (256, 192)),
    Case.of((4000, 3000), 3),
    Case.of((4000, 3000), (256, 192)),
    Case.of((224, 224), 4, batch=64),
)


@dataclass(frozen=True)
class Row:
    """One measurement.

    image, thumbnail: "WxH", px.
    threads: how many may work.
    ms: median time of a round, milliseconds.
    peak_mib: highest resident memory during the call minus that before it, thumbnails included,
        MiB; None on other systems than Linux.
    batch: images of that size in one measurement.
    """

    image: str
    thumbnail: str
    threads: int
    system: str
    ms: float
    peak_mib: float | None
    batch: int = 1


def machine() -> str:
    """The processor and the versions of the libraries, a line of text."""
    packages = [p for p in ("pillow", "opencv-python", "torch", "onnxruntime", "pyvips") if _has(p)]
    versions = ", ".join(f"{p} {_version(p)}".strip() for p in packages)
    return f"{_processor()}, {processors()} cores; Python {platform.python_version()}, {versions}"


def _version(distribution: str) -> str:
    """Empty if another distribution installed the module, such as onnxruntime-gpu."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _has(distribution: str) -> bool:
    return (
        find_spec({"pillow": "PIL", "opencv-python": "cv2"}.get(distribution, distribution))
        is not None
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def measure(
    cases: Sequence[Case] = CASES,
    rounds: int = ROUNDS,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """Measure every system, for each case and number of threads (1 and all).

    Each round runs every system once, so that other load on the machine affects all of them; the
    median of `rounds` rounds counts; small images are resized several times a round. Images are in
    memory, of the kind that suits the system: PIL images for Pillow, `learned` and `learned-onnx`,
    arrays for OpenCV and `learned-array`, a tensor for torch. Of a batch, `learned` gets a list,
    `learned-array` and torch a tensor, the others one image after the other. The threads of libvips
    are not limited.

    Source: ours.
    """
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for case in cases:
            images = [_photo(case.source, seed) for seed in range(case.batch)]
            image, thumbnail = ("x".join(map(str, size)) for size in (case.source, case.target))
            for threads in dict.fromkeys((1, processors())):
                torch.set_num_threads(threads)
                cv2.setNumThreads(threads)
                progress(f"{image} to {thumbnail}, {threads} threads")
                systems = _systems(images, case.target, threads)
                peaks = {name: _peak(call) for name, call in systems.items()}
                times = _times(systems, rounds, case)
                for name, ms in times.items():
                    yield Row(image, thumbnail, threads, name, ms, peaks[name], case.batch)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def backend() -> str:
    """The backend that `learned` runs on here, and why."""
    [(_, plan)] = Resizer(4).planned([Image.new("RGB", (8, 8))])
    return str(plan.backend)


def _photo(size: tuple[int, int], seed: int) -> Image.Image:
    """Smooth noise with about as much detail as a photo."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _systems(
    images: list[Image.Image], size: tuple[int, int], threads: int
) -> dict[str, Callable[[], Any]]:
    import cv2
    import torch
    import torch.nn.functional as F

    arrays = [np.array(image) for image in images]
    tensor = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    batch: Any = arrays[0] if len(arrays) == 1 else tensor

    def each(call: Callable[[Any], Any], inputs: Sequence[Any]) -> Callable[[], Any]:
        return lambda: [call(one) for one in inputs]

    resizer = Resizer(size, num_threads=threads)
    systems: dict[str, Callable[[], Any]] = {
        "learned": lambda: resizer(images),
        "learned-array": lambda: resizer(batch),
    }
    if find_spec("onnxruntime"):
        onnx = Resizer(size, backend="onnx", num_threads=threads)
        systems["learned-onnx"] = lambda: onnx(images)
    bicubic = FILTERS["bicubic"].resampling
    systems |= {
        "pillow-bicubic": each(lambda image: image.resize(size, bicubic), images),
        "pillow-gap": each(lambda image: image.resize(size, bicubic, reducing_gap=2.0), images),
        "opencv-area": each(lambda a: cv2.resize(a, size, interpolation=cv2.INTER_AREA), arrays),
        "torch-bicubic": lambda: F.interpolate(tensor, size[::-1], mode="bicubic", antialias=True),
    }
    if find_spec("pyvips"):
        import pyvips

        vips = [pyvips.Image.new_from_array(array) for array in arrays]
        scale = size[0] / images[0].width
        systems["vips-cubic"] = each(
            lambda image: image.resize(scale, kernel="cubic").numpy(), vips
        )
    return systems


def _times(systems: dict[str, Callable[[], Any]], rounds: int, case: Case) -> dict[str, float]:
    """Median milliseconds of each system."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    calls = max(1, 1_000_000 // (case.source[0] * case.source[1] * case.batch))
    for call in systems.values():
        call()
    for _ in range(rounds):
        for name, call in systems.items():
            start = time.perf_counter()
            for _ in range(calls):
                call()
            times[name].append(1000 * (time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in times.items()}


def _peak(call: Callable[[], Any]) -> float | None:
    """See `Row.peak_mib`."""
    if not sys.platform.startswith("linux"):
        return None
    call()  # caches that stay are not counted
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    before = _status("VmRSS")
    result = call()
    peak = _status("VmHWM")
    del result
    return max(0.0, (peak - before) / 1024)


def _status(key: str) -> int:
    """A size in KiB from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


# Columns of the table: systems that `learned` is divided by
_PEERS = {
    "Pillow bicubic": "pillow-bicubic",
    "Pillow, gap 2": "pillow-gap",
    "OpenCV area": "opencv-area",
    "torch bicubic": "torch-bicubic",
    "array": "learned-array",
    "ONNX": "learned-onnx",
}


def table(rows: Sequence[Row]) -> str:
    """Markdown, a line for each case and number of threads: the time of `learned`, then that time
    divided by those of other systems (below 1: `learned` is faster), then its peak memory."""
    cases: dict[tuple[str, str, int, int], dict[str, Row]] = {}
    for row in rows:
        key = (row.image, row.thumbnail, row.batch, row.threads)
        cases.setdefault(key, {})[row.system] = row
    heads = ["image", "thumbnail", "threads", "ms", *(f"/ {name}" for name in _PEERS), "peak MiB"]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    for (image, thumbnail, batch, threads), systems in cases.items():
        mine = systems["learned"]
        ratios = [
            f"{mine.ms / systems[name].ms:.2f}" if name in systems else ""
            for name in _PEERS.values()
        ]
        peak = "" if mine.peak_mib is None else f"{mine.peak_mib:.0f}"
        name = image + (f" x {batch}" if batch > 1 else "")
        cells = [name, thumbnail, str(threads), f"{mine.ms:.2f}", *ratios, peak]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
