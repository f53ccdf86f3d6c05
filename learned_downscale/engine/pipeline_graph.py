"""The graph of a `Preprocess`: resize, crop and normalisation as one ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_downscale.core.downscaler import Downscaler
from learned_downscale.engine.export import BICUBIC, IR_VERSION, OPSET
from learned_downscale.engine.graph import Graph
from learned_downscale.engine.network_graph import add_features, add_joined, add_residual

IMAGE, PIXELS = "image", "pixel_values"


def make_graph(
    models: Mapping[int, Downscaler],
    size: tuple[int, int] | int,
    crop: tuple[int, int] | None,
    table: np.ndarray[Any, Any],
) -> bytes:
    """A model that takes "image", uint8 (N, H, W, 3), RGB, of any size, and gives "pixel_values",
    float32 (N, 3, h, w).

    Args:
        models: by their factors; the largest that fits computes, else all is bicubic.
        size: (width, height), or of the shorter side.
        crop: (width, height) of the middle.
        table: (3, 256) float32, the value of each level of each channel.
    """
    from onnx import TensorProto, helper

    graph = Graph()
    graph.add("Shape", [IMAGE], "shape")
    for i, name in enumerate(("count", "height", "width")):
        graph.add("Slice", ["shape", graph.ints([i]), graph.ints([i + 1])], name)
    _target(graph, size)
    graph.add("Transpose", [IMAGE], "rgb", perm=[0, 3, 1, 2])
    _resize(graph, "rgb", "plain", graph.ints([1]))
    graph.add("Equal", ["target", "source"], "equal_sides")
    graph.add("Cast", ["equal_sides"], "equal_numbers", to=TensorProto.INT64)
    graph.add("ReduceMin", ["equal_numbers"], "same", keepdims=0)
    below = "plain"
    for factor in sorted(models):  # the largest one decides, so it comes last
        below = _either(graph, models[factor], below)
    _crop(graph, below, crop)
    offsets = np.array([0, 256, 512], np.int64).reshape(1, 3, 1, 1)
    graph.add("Cast", ["cropped"], "levels_out", to=TensorProto.INT64)
    graph.add("Add", ["levels_out", graph.constant(offsets)], "places")
    graph.add("Gather", [graph.constant(table.ravel()), "places"], PIXELS)
    made = graph.made(
        "learned_downscale_preprocess",
        [(IMAGE, TensorProto.UINT8, ["n", "height", "width", 3])],
        [(PIXELS, TensorProto.FLOAT, ["n", 3, "h", "w"])],
    )
    content: bytes = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="learned_downscale",
    ).SerializeToString()
    return content


def _target(graph: Graph, size: tuple[int, int] | int) -> None:
    """ "source" and "target", (height, width)."""
    graph.add("Concat", ["height", "width"], "source", axis=0)
    if isinstance(size, tuple):
        graph.add("Identity", [graph.ints([size[1], size[0]])], "target")
        return
    # size * side / shorter side, rounded down, as torchvision has it
    graph.add("Min", ["height", "width"], "shorter")
    graph.add("Mul", ["source", graph.ints([size])], "product")
    graph.add("Div", ["product", "shorter"], "target")


def _resize(graph: Graph, x: str, out: str, times: str) -> None:
    """Bicubic of x to `times` the target: the rows, then the columns, as the library does it."""
    graph.add("Mul", ["target", times], f"{out}_size")
    graph.add("Slice", [f"{out}_size", graph.ints([0]), graph.ints([1])], f"{out}_height")
    graph.add("Slice", [f"{out}_size", graph.ints([1]), graph.ints([2])], f"{out}_width")
    three = graph.ints([3])
    graph.add("Concat", ["count", three, "height", f"{out}_width"], f"{out}_first", axis=0)
    graph.add("Concat", ["count", three, f"{out}_height", f"{out}_width"], f"{out}_both", axis=0)
    graph.add("Resize", [x, "", "", f"{out}_first"], f"{out}_across", **BICUBIC)
    graph.add("Resize", [f"{out}_across", "", "", f"{out}_both"], out, **BICUBIC)


def _either(graph: Graph, model: Downscaler, otherwise: str) -> str:
    """The learned thumbnail where the model's factor fits, else `otherwise`."""
    from onnx import TensorProto

    f, out = model.factor, f"thumbnail_{model.factor}"
    # it fits where the target has no more pixels than ceil(source / factor)
    graph.add("Add", ["source", graph.ints([f - 1])], f"above_{f}")
    graph.add("Div", [f"above_{f}", graph.ints([f])], f"most_{f}")
    graph.add("LessOrEqual", ["target", f"most_{f}"], f"sides_{f}")
    graph.add("Cast", [f"sides_{f}"], f"numbers_{f}", to=TensorProto.INT64)
    graph.add("ReduceMin", [f"numbers_{f}"], f"small_{f}", keepdims=0)
    graph.add("Greater", [f"small_{f}", "same"], f"fits_{f}")
    inside = Graph(f"x{f}_")
    _resize(inside, "rgb", "fine", inside.ints([f]))
    inside.add("Transpose", ["fine"], "fine_last", perm=[0, 2, 3, 1])
    add_features(inside, model, "fine_last")
    add_residual(inside, model, "residual_last")
    inside.add("Transpose", ["residual_last"], "residual", perm=[0, 3, 1, 2])
    add_joined(inside, model, "plain")
    shape = ["n", 3, "h", "w"]
    learned = inside.made(f"learned_x{f}", [], [("joined", TensorProto.FLOAT, shape)])
    other = Graph()
    other.add("Cast", [otherwise], "kept", to=TensorProto.FLOAT)
    kept = other.made(f"not_x{f}", [], [("kept", TensorProto.FLOAT, shape)])
    graph.add("If", [f"fits_{f}"], out, then_branch=learned, else_branch=kept)
    return out


def _crop(graph: Graph, x: str, crop: tuple[int, int] | None) -> None:
    """The middle of x, "cropped"; half pixels are rounded to even."""
    from onnx import TensorProto

    if crop is None:
        graph.add("Identity", [x], "cropped")
        return
    cut = graph.ints([crop[1], crop[0]])
    graph.add("Sub", ["target", cut], "rest")
    graph.add("Cast", ["rest"], "rest_double", to=TensorProto.DOUBLE)
    graph.add("Mul", ["rest_double", graph.constant(np.array([0.5]))], "middle_double")
    graph.add("Round", ["middle_double"], "corner_double")
    graph.add("Cast", ["corner_double"], "corner", to=TensorProto.INT64)
    graph.add("Add", ["corner", cut], "corner_end")
    graph.add("Slice", [x, "corner", "corner_end", graph.ints([2, 3])], "cropped")
