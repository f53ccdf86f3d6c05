"""bench: every system is measured, and the figures are printed and drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from learned_downscale import bench
from learned_downscale.cli import main


@pytest.mark.slow
def test_every_system_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZES", {0.3: (64, 48)})
    monkeypatch.setattr(bench, "BATCH", 2)
    before = torch.get_num_threads()
    result = CliRunner().invoke(main, ["bench", "--megapixels", "0.3", "--factor", "4", "--json"])
    assert result.exit_code == 0, result.stderr
    assert "learned: torch" in result.stderr
    rows = json.loads(result.stdout)
    assert {"megapixels", "factor", "threads", "system", "ms", "peak_mib"} <= set(rows[0])
    systems = {row["system"] for row in rows}
    assert {"learned", "pillow-bicubic", "pillow-reduce", "opencv-area", "torch-bicubic"} <= systems
    assert all(row["ms"] > 0 and row["factor"] == 4 for row in rows)
    assert {row["batch"] for row in rows} == {1, 2} and torch.get_num_threads() == before
    table = bench.table([bench.Row(**row) for row in rows])
    assert table.count("\n") == len(rows) + 1


def test_time_is_drawn_over_size(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [plot]")
    rows = [
        bench.Row(mp, 4, 1, system, ms * mp, None)
        for mp in (0.3, 2.0)
        for system, ms in (("learned", 2.0), ("opencv-area", 1.0))
    ]
    bench.draw(rows, tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as drawn:
        assert drawn.width > 300 and np.asarray(drawn).std() > 1


def test_the_ratio_is_that_of_the_same_case() -> None:
    rows = [
        bench.Row(0.3, 4, n, s, ms, 1.5) for n in (1, 2) for s, ms in (("learned", 6 / n), ("x", 2))
    ]
    *_, last = bench.table(rows).splitlines()
    assert last == "| 0.3 | 4 | 2 | x | 2.00 | 1.50 | 2 |"


@pytest.mark.parametrize("plot", ["a.txt", "none/a.png"])
def test_a_plot_that_could_not_be_written_is_refused(plot: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "--plot", str(tmp_path / plot)])
    assert result.exit_code == 2 and "--plot" in result.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_peak_memory_is_measured() -> None:
    call: Callable[[], Any] = lambda: np.ones(40 * 2**20, np.uint8)  # noqa: E731
    peak = bench._peak(call)
    assert peak is not None and 39 < peak < 45
