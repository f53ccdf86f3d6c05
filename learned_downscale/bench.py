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
from learned_downscale.resizer import Resizer

# (width, height) by megapixels; multiples of 4, like those of most photos
SIZES = {0.3: (640, 480), 2.0: (1632, 1224), 12.0: (4000, 3000), 50.0: (8192, 6144)}
BATCH, BATCH_SIDE = 64, 224
ROUNDS = 7
OURS = ("learned", "learned-array", "learned-onnx")


@dataclass(frozen=True)
class Row:
    """One measurement.

    megapixels: of one image.
    factor: of width and height.
    threads: how many may work.
    ms: median time of a round, milliseconds.
    peak_mib: highest resident memory during the call minus that before it, thumbnails included,
        MiB; None on other systems than Linux.
    batch: images of that size in one measurement.
    """

    megapixels: float
    factor: int
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
    megapixels: Sequence[float] = tuple(SIZES),
    factors: Sequence[int] = (2, 4),
    rounds: int = ROUNDS,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """Measure every system, for each size, factor and number of threads (1 and all).

    Each round runs every system once, so that other load on the machine affects all of them; the
    median of `rounds` rounds counts. Images are in memory, of the kind that suits the system: PIL
    images for Pillow and `learned`, arrays for OpenCV and `learned-array`, a tensor for torch. The
    last case is a batch of 64 images of 224 px: a list for `learned`, a tensor for `learned-array`
    and torch, a loop for the others. The threads of libvips are not limited. OpenCV's cubic is not
    antialiased.

    Source: ours.
    """
    import cv2
    import torch

    cases = [(mp, SIZES[mp], 1) for mp in megapixels]
    cases.append((BATCH_SIDE**2 / 1e6, (BATCH_SIDE, BATCH_SIDE), BATCH))
    all_threads = processors()
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for mp, size, batch in cases:
            images = [_photo(size, seed) for seed in range(batch)]
            for threads in dict.fromkeys((1, all_threads)):
                torch.set_num_threads(threads)
                cv2.setNumThreads(threads)
                for factor in factors:
                    progress(f"{mp:.3g} MP, factor {factor}, {threads} threads")
                    systems = _systems(images, factor, threads)
                    peaks = {name: _peak(call) for name, call in systems.items()}
                    for name, ms in _times(systems, rounds).items():
                        yield Row(round(mp, 4), factor, threads, name, ms, peaks[name], batch)
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


def _systems(images: list[Image.Image], factor: int, threads: int) -> dict[str, Callable[[], Any]]:
    import cv2
    import torch
    import torch.nn.functional as F

    width, height = images[0].size
    size = width // factor, height // factor
    arrays = [np.array(image) for image in images]
    tensor = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    batch: Any = arrays[0] if len(arrays) == 1 else tensor

    def each(call: Callable[[Any], Any], inputs: Sequence[Any]) -> Callable[[], Any]:
        return lambda: [call(one) for one in inputs]

    resizer = Resizer(factor, num_threads=threads)
    systems: dict[str, Callable[[], Any]] = {
        "learned": lambda: resizer(images),
        "learned-array": lambda: resizer(batch),
    }
    if find_spec("onnxruntime"):
        onnx = Resizer(factor, backend="onnx", num_threads=threads)
        systems["learned-onnx"] = lambda: onnx(images)
    resampling = FILTERS["bicubic"].resampling
    systems |= {
        "pillow-bicubic": each(lambda image: image.resize(size, resampling), images),
        "pillow-reduce": each(lambda image: image.reduce(factor), images),
        "opencv-area": each(lambda a: cv2.resize(a, size, interpolation=cv2.INTER_AREA), arrays),
        "opencv-cubic": each(lambda a: cv2.resize(a, size, interpolation=cv2.INTER_CUBIC), arrays),
        "torch-bicubic": lambda: F.interpolate(tensor, size[::-1], mode="bicubic", antialias=True),
    }
    if find_spec("pyvips"):
        import pyvips

        vips = [pyvips.Image.new_from_array(array) for array in arrays]
        systems["vips-cubic"] = each(
            lambda image: image.resize(1 / factor, kernel="cubic").numpy(), vips
        )
    return systems


def _times(systems: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each system."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    for call in systems.values():
        call()
    for _ in range(rounds):
        for name, call in systems.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
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


def table(rows: Sequence[Row]) -> str:
    """Markdown, one row per measurement; `learned / this` is the ratio of the times."""
    ours = {(r.megapixels, r.factor, r.threads): r.ms for r in rows if r.system == "learned"}
    lines = [
        "| MP | factor | threads | system | ms | learned / this | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        mp = f"{r.megapixels:.3g}" + (f" x {r.batch}" if r.batch > 1 else "")
        ratio = ours[r.megapixels, r.factor, r.threads] / r.ms
        peak = "" if r.peak_mib is None else f"{r.peak_mib:.0f}"
        lines.append(
            f"| {mp} | {r.factor} | {r.threads} | {r.system} | {r.ms:.2f} | {ratio:.2f} | {peak} |"
        )
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw time over image size into a file; one panel per factor and number of threads.

    Raises:
        ImportError: matplotlib is missing (extra `plot`).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the plot needs matplotlib: pip install 'learned-downscale[plot]'"
        ) from error
    single = [r for r in rows if r.batch == 1]
    factors = sorted({r.factor for r in single})
    threads = sorted({r.threads for r in single})
    figure = Figure(figsize=(5.2 * len(threads), 4.2 * len(factors)), layout="constrained")
    panels = figure.subplots(len(factors), len(threads), squeeze=False, sharex=True, sharey=True)
    systems = list(dict.fromkeys(r.system for r in single))
    for factor, line in zip(factors, panels, strict=True):
        for count, panel in zip(threads, line, strict=True):
            for number, system in enumerate(systems):
                points = [
                    (r.megapixels, r.ms)
                    for r in single
                    if (r.factor, r.threads, r.system) == (factor, count, system)
                ]
                ours = system in OURS
                panel.plot(
                    *zip(*sorted(points), strict=True),
                    marker="o" if ours else ".",
                    linewidth=2.2 if ours else 1,
                    linestyle="-" if ours else "--",
                    color=f"C{number}",
                    label=system,
                )
            panel.set(xscale="log", yscale="log")
            panel.set_title(f"factor {factor}, {count} thread{'s' if count > 1 else ''}")
            panel.set(xlabel="megapixels", ylabel="ms")
            panel.grid(True, which="major", alpha=0.3)
    panels[0][0].legend(fontsize="small")
    figure.suptitle(machine().split(";")[0])
    figure.savefig(path, dpi=120)
