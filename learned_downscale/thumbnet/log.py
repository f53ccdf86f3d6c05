"""What a training run says of itself: the loss terms of every step, their curves, and its time."""

from __future__ import annotations

import csv
import time
from pathlib import Path

LOG, CURVES = "log.csv", "curves.png"
TERMS = ("loss", "MM", "CL", "KD", "FM", "AE")
TIMES = ("seconds", "network_seconds")
COLUMNS = ("step", "stage", "learning_rate", *TERMS, *TIMES)


class Stopwatch:
    """Seconds spent in its `with` blocks since the last `take`."""

    def __init__(self) -> None:
        self._sum = self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._sum += time.perf_counter() - self._begun

    def take(self) -> float:
        seconds, self._sum = self._sum, 0.0
        return seconds


class Log:
    """run/log.csv, one line a step; the learning rate is S's.

    seconds: since the step before, with its log line and checkpoint; network_seconds: those in
    which networks and losses were computed and trained.
    """

    def __init__(self, run: Path, done: int) -> None:
        """done: steps that a resumed run has done; later ones are done again, and logged again."""
        self.run = run
        path = run / LOG
        kept = [row for row in read_log(run) if int(row["step"]) <= done] if path.is_file() else []
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        self._last = time.perf_counter()

    def add(
        self,
        step: int,
        stage: int,
        learning_rate: float,
        terms: dict[str, float],
        network_seconds: float,
    ) -> None:
        """A step; terms that a stage does not have stay empty."""
        now = time.perf_counter()
        row = {"step": step, "stage": stage, "learning_rate": f"{learning_rate:.3g}"}
        row |= {name: f"{value:.5g}" for name, value in terms.items()}
        row |= {"seconds": f"{now - self._last:.4g}", "network_seconds": f"{network_seconds:.4g}"}
        self._last = now
        with (self.run / LOG).open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)

    def draw(self) -> None:
        """run/curves.png: every loss term over the steps, smoothed. Needs matplotlib; without it
        there is no picture."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        rows = read_log(self.run)
        terms = [name for name in TERMS if any(row[name] for row in rows)]
        figure = Figure(figsize=(3.2 * len(terms), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(terms), squeeze=False)[0], terms, strict=True):
            points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            width = max(1, len(points) // 50)
            blocks = [points[i : i + width] for i in range(0, len(points), width)]
            steps = [sum(s for s, _ in block) / len(block) for block in blocks]
            axes.plot(steps, [sum(v for _, v in block) / len(block) for block in blocks])
            axes.set_title(name)
            axes.set_xlabel("step")
            axes.set_yscale("log" if all(v > 0 for _, v in points) else "linear")
        figure.savefig(self.run / CURVES, dpi=120)


def read_log(run: Path) -> list[dict[str, str]]:
    """The lines of run/log.csv, by column."""
    with (run / LOG).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def network_share(run: Path) -> float:
    """The part of a run's time in which its networks were computed and trained, from its log."""
    rows = read_log(run)
    seconds, networks = (sum(float(row[name]) for row in rows) for name in TIMES)
    return networks / seconds
