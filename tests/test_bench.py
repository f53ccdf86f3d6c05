"""bench: every system is measured, and the figures are printed and drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from learned_downscale import bench
from learned_downscale.cli import main


@pytest.mark.slow
def test_every_system_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    arguments = ["bench", "--source", "64x47", "--factor", "4", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    assert "learned: torch" in result.stderr
    rows = json.loads(result.stdout)
    assert {"image", "thumbnail", "threads", "system", "ms", "peak_mib"} <= set(rows[0])
    systems = {row["system"] for row in rows}
    assert {"learned", "pillow-bicubic", "pillow-gap", "opencv-area", "torch-bicubic"} <= systems
    assert all(row["ms"] > 0 and row["thumbnail"] == "16x12" for row in rows)
    assert torch.get_num_threads() == before
    table = bench.table([bench.Row(**row) for row in rows])
    assert table.count("\n") == 1 + len({row["threads"] for row in rows})
    [row] = [
        row
        for row in bench.measure([bench.Case.of((64, 48), 4, batch=2)], rounds=1)
        if (row.system, row.threads) == ("learned", 1)
    ]
    assert row.batch == 2 and row.image == "64x48"


def test_the_ratio_is_that_of_the_same_case() -> None:
    rows = [
        bench.Row("64x48", "16x12", n, system, ms, 1.5)
        for n in (1, 2)
        for system, ms in (("learned", 6 / n), ("pillow-bicubic", 2))
    ]
    *_, last = bench.table(rows).splitlines()
    assert last == "| 64x48 | 16x12 | 2 | 3.00 | 1.50 |  |  |  |  |  | 2 |"


@pytest.mark.parametrize(
    "options",
    [
        ["--factor", "2"],
        ["--source", "64"],
        ["--source", "64x48", "--size", "128x96"],
        ["--source", "64x48", "--factor", "2", "--size", "32x24"],
        ["--source", "64x48", "--factor", "0.5"],
    ],
)
def test_what_makes_no_case_is_refused(options: list[str]) -> None:
    result = CliRunner().invoke(main, ["bench", *options])
    assert result.exit_code == 2 and "Error" in result.stderr and not result.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_peak_memory_is_measured() -> None:
    call: Callable[[], Any] = lambda: np.ones(40 * 2**20, np.uint8)  # noqa: E731
    peak = bench._peak(call)
    assert peak is not None and 39 < peak < 45
