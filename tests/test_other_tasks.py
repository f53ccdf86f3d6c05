"""What the figures of benchmarks/other_tasks.py rest on: boxes that agree, and a model's graph."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])


def test_each_box_is_found_again_by_one_of_its_class() -> None:
    from boxes import Box, matched, without_doubles

    def box(label: int, score: float, *corners: float) -> Any:
        return Box(label, score, np.array(corners))

    own = [box(0, 1, 0, 0, 10, 10), box(0, 1, 20, 0, 30, 10), box(1, 1, 40, 0, 50, 10)]
    near, far, other = box(0, 0.5, 0, 0, 10, 8), box(0, 0.9, 3, 0, 20, 10), box(2, 1, 40, 0, 50, 10)
    assert matched(own, [near, far, other]) == {0}
    assert matched(own, [near, near]) == {0}  # the second finds nothing that is left
    assert matched(own, own) == {0, 1, 2}
    assert matched(own, []) == set()
    assert without_doubles([near, own[0], own[2], other]) == [own[0], own[2], other]


def test_the_odd_pixel_of_a_convolution_is_on_the_far_side(tmp_path: Path) -> None:
    """As in TensorFlow: stride 2, 3 x 3, a side of 4."""
    from tfjs import Graph

    def text(value: str) -> str:
        return base64.b64encode(value.encode()).decode()

    node = {
        "name": "y",
        "op": "_FusedConv2D",
        "input": ["x", "w", "b"],
        "attr": {
            "strides": {"list": {"i": ["1", "2", "2", "1"]}},
            "padding": {"s": text("SAME")},
            "fused_ops": {"list": {"s": [text("BiasAdd"), text("Relu")]}},
        },
    }
    names = [("x", "Placeholder"), ("w", "Const"), ("b", "Const")]
    nodes = [*({"name": name, "op": op} for name, op in names), node]
    weights = [
        {"name": "w", "shape": [3, 3, 1, 1], "dtype": "float32"},
        {"name": "b", "shape": [1], "dtype": "float32", "quantization": {"dtype": "float16"}},
    ]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": weights}]}
    (tmp_path / "model.json").write_text(json.dumps(model))
    kernel, bias = np.ones(9, np.float32), np.array([-30], np.float16)
    (tmp_path / "model.bin").write_bytes(kernel.tobytes() + bias.tobytes())
    (y,) = Graph(tmp_path / "model.json")(torch.arange(16.0).reshape(1, 4, 4, 1), "y")
    # sums of 3 x 3, 3 x 2, 2 x 3 and 2 x 2 pixels, less 30
    assert y.flatten().tolist() == [45 - 30, 39 - 30, 66 - 30, 50 - 30]
