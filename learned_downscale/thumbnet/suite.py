"""The table of the paper: every system that was run, what it reaches and what it costs."""

from __future__ import annotations

import io
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from learned_downscale.core.downscaler import Downscaler
from learned_downscale.thumbnet import baselines
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.evaluate import (
    accuracy,
    likeness,
    name,
    otherwise,
    pixels,
    student,
    thumbnails,
)
from learned_downscale.thumbnet.networks import Classifier
from learned_downscale.thumbnet.settings import Settings
from learned_downscale.thumbnet.train import check_runs, load_run, load_settings, predict

# The systems of which a row is wanted at each factor, whether or not they were run.
WANTED = (
    "bicubic-retrained",
    "box-retrained",
    "lanczos-retrained",
    "area-retrained",
    "autoencoder",
    "thumbnet",
)


@dataclass(frozen=True)
class Row:
    """One system at one factor; None where it was not run, or there is no such figure.

    student: S. seeds: the seeds of its runs; the accuracies, psnr and ssim are their means. top1,
    top5: percent. top1_std: sample standard deviation, in points. flops: multiply-adds of what
    classifies one thumbnail, as the paper counts; params: its parameters. downscaler_flops:
    multiply-adds of the thumbnail of one photo. activation_mb: largest input and output of a
    layer together, float32.
    images_per_s: thumbnails classified, in batches of 32, on this machine's CPU; None where the
    figures come from a GPU. psnr, ssim: E's
    thumbnails against Pillow's bicubic; psnr in dB. png_kb: mean size of the thumbnails as PNG
    files, kB. qim: of E's code, 1 where it writes none. otherwise: what the runs do otherwise
    than the recipe, but for the code and the losses' weights. settings: the runs', where they are
    not the defaults of `Settings`, but for the seed; None in rows of earlier versions.
    """

    system: str
    factor: int
    student: str
    seeds: list[int]
    top1: float | None = None
    top5: float | None = None
    top1_std: float | None = None
    flops: int | None = None
    params: int | None = None
    downscaler_flops: int | None = None
    activation_mb: float | None = None
    images_per_s: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    png_kb: float | None = None
    command: str = ""
    qim: int | None = None
    otherwise: list[str] = field(default_factory=list)
    settings: dict[str, Any] | None = None


def suite(
    photos: Photos,
    teacher: Classifier,
    runs: Sequence[Path],
    command: str,
    report: Callable[[str], None] = lambda line: None,
    earlier: Sequence[Row] = (),
) -> list[Row]:
    """The rows of T, of T on bicubic thumbnails, and of all finished runs; of T only those that are
    not among the `earlier` ones, of the same photos and T.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: a run had another teacher, other classes or photos of another size, or runs of
            one row, among them those of an `earlier` one, differ in more than their seeds.
    """
    check_runs(runs, teacher, photos)
    found: dict[tuple[int, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        settings = load_settings(run)
        found[settings.factor, student(settings)][name(settings)].append(run)
    there = {(row.factor, row.student, row.system): row.settings for row in earlier}
    for (factor, S), systems in found.items():
        for system, same in systems.items():
            _check_equal(same)
            _check_replaces(there.get((factor, S, system)), same[0])
    size = photos.images.shape[-1]
    rows = []
    known = {(row.factor, row.system) for row in earlier if row.student == "T" and not row.seeds}
    if (1, "original") not in known:
        report("original")
        logits = [predict(teacher, photos.images)]
        rows.append(_row("original", 1, "T", [], logits, photos, teacher, None))
    for factor in sorted({factor for factor, _ in found}):
        bicubic = baselines.make("bicubic", factor).to(teacher.mean.device)

        def enlarged(x: Tensor, bicubic: nn.Module = bicubic) -> Tensor:
            return F.interpolate(bicubic(x), (size, size), mode="bicubic").clamp(0, 1)

        for system, before in (("direct", bicubic), ("upsampled", enlarged)):
            if (factor, system) in known:
                continue
            report(f"{system} at {factor} per side")
            logits = [predict(teacher, photos.images, before)]
            rows.append(_row(system, factor, "T", [], logits, photos, teacher, bicubic, before))
        run_here = {S: systems for (f, S), systems in found.items() if f == factor}
        for S, systems in sorted(run_here.items()):
            for system in systems:
                report(f"{system} at {factor} per side, S: {S}")
                rows.append(_trained(system, S, systems[system], photos, teacher))
    return [replace(row, command=command) for row in rows]


def complete(rows: Sequence[Row], earlier: Sequence[Row] = ()) -> list[Row]:
    """The rows, those of `earlier` commands that they do not replace, and what was not run; by
    factor, S and system."""
    every = {(row.factor, row.student, row.system): row for row in (*earlier, *rows)}
    found = [row for row in every.values() if row.top1 is not None]
    for factor in {row.factor for row in found if row.factor > 1}:
        there = {row.system for row in found if row.factor == factor}
        found += [Row(system, factor, "any", []) for system in WANTED if system not in there]
    return sorted(found, key=_place)


def _place(row: Row) -> tuple[int, bool, str, bool, str]:
    """Filters first, then what is learned; of each factor last what was not run."""
    learned = row.system.startswith(("thumbnet", "autoencoder"))
    return row.factor, row.top1 is None, row.student, learned, row.system


def _trained(
    system: str, student: str, runs: Sequence[Path], photos: Photos, teacher: Classifier
) -> Row:
    """The row of runs that differ in their seeds alone."""
    logits, seeds, alike = [], [], []
    for run in runs:
        settings, E, S = load_run(run, teacher, photos.classes)
        small = thumbnails(photos.images, E, S.mean.device)
        logits.append(predict(S, small))
        seeds.append(settings.seed)
        if isinstance(E, Downscaler):
            alike.append(likeness(photos.images, small))
    row = _row(system, settings.factor, student, seeds, logits, photos, S, E)
    if alike:
        psnr, ssim = map(statistics.mean, zip(*alike, strict=True))
        row = replace(row, psnr=psnr, ssim=ssim, qim=settings.qim)
    return replace(
        row,
        png_kb=_png_bytes(small) / 1e3,
        settings=_set(settings),
        otherwise=otherwise(settings),
    )


def _set(settings: Settings) -> dict[str, Any]:
    """What a run is told: all that is not the default, but for the seed."""
    usual = asdict(Settings())
    return {k: v for k, v in asdict(settings).items() if k != "seed" and v != usual[k]}


def _check_replaces(settings: dict[str, Any] | None, run: Path) -> None:
    """A row takes the place of an earlier one of the same settings alone."""
    mine = _set(load_settings(run))
    if settings is not None and settings != mine:
        changed = [k for k in {**settings, **mine} if settings.get(k) != mine.get(k)]
        raise ValueError(
            f"{run} would replace a row of runs with another {', '.join(changed)}, which the table "
            "calls the same; name another folder as --out"
        )


def _png_bytes(small: Tensor) -> float:
    """Mean size of thumbnails (M, 3, h, w; uint8) as Pillow's PNG files."""
    sizes = []
    for thumbnail in pixels(small):
        file = io.BytesIO()
        Image.fromarray(thumbnail).save(file, "PNG")
        sizes.append(len(file.getvalue()))
    return statistics.mean(sizes)


def _check_equal(runs: Sequence[Path]) -> None:
    """A mean over seeds is one of runs that differ in nothing else."""
    first, *others = (asdict(load_settings(run)) for run in runs)
    for run, other in zip(runs[1:], others, strict=True):
        differ = [k for k, v in first.items() if other[k] != v]
        if differ != ["seed"]:
            raise ValueError(
                f"{runs[0]} and {run} would be one row of the table, but differ in "
                f"{', '.join(differ) or 'nothing'}; leave one out"
            )


def _row(
    system: str,
    factor: int,
    student: str,
    seeds: list[int],
    logits: list[Tensor],
    photos: Photos,
    network: Classifier,
    downscaler: nn.Module | None,
    seen: Callable[[Tensor], Tensor] | None = None,
) -> Row:
    """seen: what the network is given, if not the downscaler's thumbnails."""
    reached = [accuracy(one, photos.labels) for one in logits]
    top1 = [first for first, _ in reached]
    x = photos.images[:1].to(network.mean.device).float() / 255
    given = seen or downscaler or nn.Identity()
    with torch.no_grad():
        thumbnail = given(x)
    return Row(
        system=system,
        factor=factor,
        student=student,
        seeds=seeds,
        top1=statistics.mean(top1),
        top5=statistics.mean(five for _, five in reached),
        top1_std=statistics.stdev(top1) if len(top1) > 1 else None,
        flops=multiply_adds(network, thumbnail),
        params=sum(p.numel() for p in network.parameters()),
        downscaler_flops=None if downscaler is None else downscaler_cost(downscaler, factor, x),
        activation_mb=activation_bytes(network, thumbnail) / 1e6,
        images_per_s=None if thumbnail.is_cuda else _speed(network, thumbnail),
    )


@torch.no_grad()
def multiply_adds(network: nn.Module, x: Tensor) -> int:
    """Of convolutions and matrix products, for x (1, 3, H, W)."""
    with FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops()) // 2


def downscaler_cost(downscaler: nn.Module, factor: int, x: Tensor) -> int:
    """Multiply-adds of a thumbnail of x (1, 3, H, W): rows, then columns, and E's layers."""
    height, width = x.shape[-2:]
    taps, layers = getattr(downscaler, "taps", None), 0
    if isinstance(downscaler, Downscaler):
        taps = baselines.make("bicubic", factor).taps
        layers = multiply_adds_of_residual(downscaler, x)
    assert isinstance(taps, int)
    return layers + 3 * taps * factor * (width // factor) * (height + height // factor)


@torch.no_grad()
def multiply_adds_of_residual(E: Downscaler, x: Tensor) -> int:
    """Of E's three layers."""
    with FlopCounterMode(display=False) as counter:
        E.residual((x * 255).round())
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def activation_bytes(network: nn.Module, x: Tensor) -> int:
    """The largest input and output of a layer together."""
    largest = 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
            largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [m for m in network.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(look) for m in leaves]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


@torch.no_grad()
def _speed(network: nn.Module, x: Tensor) -> float:
    """Images per second, the median of 5 batches of 32."""
    batch = x.expand(32, -1, -1, -1).contiguous()
    times = []
    for _ in range(6):
        start = time.perf_counter()
        network(batch)
        times.append(time.perf_counter() - start)
    return len(batch) / statistics.median(times[1:])


def markdown(rows: Sequence[Row]) -> str:
    """The table as people read it."""
    lines = [
        "| system | factor | S | seeds | top-1 % | top-5 % | S: G multiply-adds | S: M params "
        "| downscaler: M multiply-adds | activations, MB | images/s | PSNR, dB | SSIM | PNG, kB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        if r.top1 is None or r.flops is None or r.params is None:
            lines.append(f"| {r.system} | {r.factor} | {r.student} | not run | | | | | | | | | | |")
            continue
        spread = "" if r.top1_std is None else f" +- {r.top1_std:.1f}"
        cells = [
            r.system,
            r.factor,
            r.student,
            len(r.seeds) or "",
            f"{r.top1:.1f}{spread}",
            f"{r.top5:.1f}",
            f"{r.flops / 1e9:.3f}",
            f"{r.params / 1e6:.1f}",
            "" if r.downscaler_flops is None else f"{r.downscaler_flops / 1e6:.2f}",
            f"{r.activation_mb:.1f}",
            "" if r.images_per_s is None else f"{r.images_per_s:.0f}",
            "" if r.psnr is None else f"{r.psnr:.1f}",
            "" if r.ssim is None else f"{r.ssim:.3f}",
            "" if r.png_kb is None else f"{r.png_kb:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def read(folder: Path, note: str) -> list[Row]:
    """The rows of folder/paper.json, none if it is not there.

    Raises:
        ValueError: they were measured on other photos, or with another T, than `note` names.
    """
    path, text = folder / "paper.json", folder / "paper.md"
    if not path.is_file():
        return []
    if note not in text.read_text(encoding="utf-8"):
        raise ValueError(
            f"{text} is of other photos or another T, not: {note} Name another folder, or delete it"
        )
    return [Row(**row) for row in json.loads(path.read_text())]


def write(folder: Path, rows: Sequence[Row], note: str) -> None:
    """folder/paper.json, folder/paper.md with the commands that printed the rows, and the picture
    of the trade-off."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "paper.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    picture = ""
    if draw(folder / "tradeoff.png", rows):
        picture = f"\n\n![{_DRAWN}](tradeoff.png)\n\n{_DRAWN}."
    commands = "".join(
        f"\n\n{', '.join(by_student)}:\n\n```\n{command}\n```"
        for command, by_student in _by_command(rows).items()
    )
    text = f"# The table of the paper\n\n{note}\n\n{markdown(rows)}{picture}{commands}\n"
    (folder / "paper.md").write_text(text, encoding="utf-8")


def _by_command(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The S of the rows that each command printed."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.command:
            found[row.command][f"S = {row.student} ({row.factor} per side)"] = None
    return {command: list(students) for command, students in found.items()}


_DRAWN = "Accuracy of S against how much E's thumbnails look like bicubic ones; dotted: bicubic"


def draw(path: Path, rows: Sequence[Row]) -> bool:
    """The trade-off between natural and machine-readable thumbnails as a picture, one line for
    each factor and S; False if there are not two E's to compare, at least 1 dB apart."""
    lines: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        # what else an E may differ in is another question
        if row.psnr is not None and not row.otherwise:
            lines[row.factor, row.student].append(row)
    span = {key: [row.psnr or 0 for row in group] for key, group in lines.items()}
    lines = {key: group for key, group in lines.items() if max(span[key]) - min(span[key]) >= 1}
    if not lines:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, title in zip(panels, ("psnr", "ssim"), ("PSNR", "SSIM"), strict=True):
        for n, (key, group) in enumerate(lines.items()):
            label, color = f"{key[0]} per side, S: {key[1]}", f"C{n}"
            points = [(getattr(row, column), row.top1 or 0, row) for row in group]
            # an E without a code is no point between those with one
            curve = sorted(p[:2] for p in points if p[2].qim != 1)
            axes.plot([x for x, _ in curve], [y for _, y in curve], "o-", color=color, label=label)
            for *point, row in points:
                if row.qim == 1:
                    axes.plot(*point, "o", color=color, fillstyle="none")
                usual = f"qim {row.qim}"  # the recipe's, which the name leaves out
                axes.annotate(
                    usual if row.system == "thumbnet" else row.system.removeprefix("thumbnet, "),
                    point,
                    (0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize="small",
                )
            for row in rows:
                if (row.factor, row.student) == key and row.system in _BICUBIC and row.top1:
                    axes.axhline(row.top1, color=color, linestyle=":")
        axes.set_xlabel(f"{title} against Pillow's bicubic" + ", dB" * (column == "psnr"))
        axes.margins(x=0.25)  # room for the names
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("top-1, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    figure.savefig(path, dpi=120)
    return True


_BICUBIC = ("bicubic", "bicubic-retrained")
