"""Bicubic at a native factor as ONNX convolutions: the interior of what Pillow gives, bit for bit.

There the filter's weights are whole numbers times a power of two, and float32 is exact. Each
convolution makes BLOCK samples of an axis as its channels, which ONNX Runtime computes many times
as fast as its Resize and twice as fast as Pillow (measured).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from learned_downscale.core.resampling import cubic
from learned_downscale.engine.graph import Graph

FACTORS = (2, 4)
BLOCK = 16


def add_bicubic(graph: Graph, factor: int, image: str, across: str, skip: str) -> None:
    """`across`, uint8 (3 * N, f*h, w), the rows filtered, and `skip`, uint8 (N, h, w, 3), of an
    image, uint8 (N, f*h, f*w, 3)."""
    graph.add("Shape", [image], "sides")
    ends = [graph.ints([k]) for k in range(4)]
    for name, k in (("count", 0), ("high", 1), ("wide", 2)):
        graph.add("Slice", ["sides", ends[k], ends[k + 1]], name)
    for name, side in (("skip_rows", "high"), ("skip_columns", "wide")):
        graph.add("Div", [side, graph.ints([factor])], name)
    graph.add("Transpose", [image], "planes_of_each", perm=[0, 3, 1, 2])
    graph.add("Reshape", ["planes_of_each", graph.ints([-1, 1, 0, 0])], "planes")
    _filter(graph, factor, "planes", 3, "blocks_across")
    graph.add("Transpose", ["blocks_across"], "across_last", perm=[0, 2, 3, 1])
    graph.add("Reshape", ["across_last", graph.ints([0, 0, -1])], "across_long")
    graph.add("Slice", ["across_long", ends[0], "skip_columns", ends[2]], across)
    graph.add("Unsqueeze", [across, ends[1]], "across_planes")
    _filter(graph, factor, "across_planes", 2, "blocks_down")
    graph.add("Transpose", ["blocks_down"], "down_blocks", perm=[0, 2, 1, 3])
    graph.add("Concat", ["count", graph.ints([3, -1]), "skip_columns"], "down_shape", axis=0)
    graph.add("Reshape", ["down_blocks", "down_shape"], "down_long")
    graph.add("Slice", ["down_long", ends[0], "skip_rows", ends[2]], "down")
    graph.add("Transpose", ["down"], skip, perm=[0, 2, 3, 1])


def _filter(graph: Graph, factor: int, x: str, axis: int, out: str) -> None:
    """One axis of uint8 (n, 1, h, w), BLOCK samples of it as channels, clipped and rounded."""
    from onnx import TensorProto

    taps = cubic((np.arange(4 * factor) + 0.5) / factor - 2) / factor
    reach = (BLOCK + 3) * factor
    kernel = np.zeros((BLOCK, 1, reach), np.float32)
    for k in range(BLOCK):
        kernel[k, 0, k * factor : (k + 4) * factor] = taps
    # halves are rounded up: less than the weights' last bit makes them a little more
    up = np.full(BLOCK, 2.0**-14, np.float32)
    before = 3 * factor // 2
    after = reach - before - 1  # a last block of one sample
    shape: dict[str, Any] = {"strides": [1, 1], "pads": [0, 0, 0, 0]}
    shape["strides"][axis - 2] = BLOCK * factor
    shape["pads"][axis - 2], shape["pads"][axis] = before, after
    inputs = [f"{out}_float", graph.constant(np.expand_dims(kernel, 5 - axis)), graph.constant(up)]
    graph.add("Cast", [x], inputs[0], to=TensorProto.FLOAT)
    graph.add("Conv", inputs, f"{out}_sum", **shape)
    scale = [graph.constant(np.float32(1)), graph.constant(np.uint8(0))]
    graph.add("QuantizeLinear", [f"{out}_sum", *scale], out)
