"""The log of a training run: the loss terms of every step, their curves, and its time."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

LOG, CURVES = "log.csv", "curves.png"
FIRST = ("step", "task", "learning_rate", "loss")
TIMES = ("seconds", "network_seconds")


class Log:
    """run/log.csv, one line a step; the learning rate is that of the first parameters which the
    task names. seconds: since the step before, with its log line and checkpoint; network_seconds:
    those in which networks and losses were computed and trained.

    terms: names of the loss terms. done: steps that a resumed run keeps of an earlier log."""

    def __init__(self, run: Path, terms: Sequence[str], done: int) -> None:
        self.run, self.columns = run, (*FIRST, *terms, *TIMES)
        known = read_log(run) if (run / LOG).is_file() else []
        with (run / LOG).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(row for row in known if int(row["step"]) <= done)
        self._last = time.perf_counter()

    def add(
        self, step: int, task: int, rate: float, terms: dict[str, float], network_seconds: float
    ) -> None:
        """A step; terms that its task does not have stay empty."""
        now = time.perf_counter()
        row = {"step": step, "task": task, "learning_rate": f"{rate:.3g}"}
        row |= {name: f"{value:.5g}" for name, value in terms.items()}
        row |= {"seconds": f"{now - self._last:.4g}", "network_seconds": f"{network_seconds:.4g}"}
        self._last = now
        with (self.run / LOG).open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def draw(self) -> None:
        """run/curves.png: every loss term over the steps, smoothed. Needs matplotlib; without it
        there is no picture."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        rows, terms = read_log(self.run), self.columns[3:-2]
        figure = Figure(figsize=(3.2 * len(terms), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(terms), squeeze=False)[0], terms, strict=True):
            points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            width = max(1, len(points) // 50)
            blocks = [points[i : i + width] for i in range(0, len(points), width)]
            means = [
                [sum(values) / len(block) for values in zip(*block, strict=True)]
                for block in blocks
            ]
            axes.plot(*zip(*means, strict=True))
            axes.set_title(name)
            axes.set_xlabel("step")
            axes.set_yscale("log" if all(v > 0 for _, v in points) else "linear")
        figure.savefig(self.run / CURVES, dpi=120)


def read_log(run: Path) -> list[dict[str, str]]:
    """The lines of run/log.csv, by column."""
    with (run / LOG).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def network_share(run: Path) -> float:
    """The share of a run's time in which its networks were computed and trained, from its log."""
    rows = read_log(run)
    seconds, networks = (sum(float(row[name]) for row in rows) for name in TIMES)
    return networks / seconds
