"""The graph of a `Preprocess`: resize, crop and normalisation as one ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_downscale.core.downscaler import Downscaler
from learned_downscale.engine.export import (
    BICUBIC,
    IR_VERSION,
    OPSET,
    constants,
    joining_nodes,
    residual_nodes,
)

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
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph()
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
    made = helper.make_graph(
        graph.nodes,
        "learned_downscale_preprocess",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [numpy_helper.from_array(v, k) for k, v in graph.constants.items()],
    )
    content: bytes = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="learned_downscale",
    ).SerializeToString()
    return content


class _Graph:
    """Nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value
        return name

    def ints(self, values: list[int]) -> str:
        return self.constant(np.array(values, np.int64))


def _target(graph: _Graph, size: tuple[int, int] | int) -> None:
    """ "source" and "target", (height, width)."""
    graph.add("Concat", ["height", "width"], "source", axis=0)
    if isinstance(size, tuple):
        graph.add("Identity", [graph.ints([size[1], size[0]])], "target")
        return
    # size * side / shorter side, rounded down, as torchvision has it
    graph.add("Min", ["height", "width"], "shorter")
    graph.add("Mul", ["source", graph.ints([size])], "product")
    graph.add("Div", ["product", "shorter"], "target")


def _resize(graph: _Graph, x: str, out: str, times: str) -> None:
    """Bicubic of x to `times` the target: the rows, then the columns, as the library does it."""
    graph.add("Mul", ["target", times], f"{out}_size")
    graph.add("Slice", [f"{out}_size", graph.ints([0]), graph.ints([1])], f"{out}_height")
    graph.add("Slice", [f"{out}_size", graph.ints([1]), graph.ints([2])], f"{out}_width")
    three = graph.ints([3])
    graph.add("Concat", ["count", three, "height", f"{out}_width"], f"{out}_first", axis=0)
    graph.add("Concat", ["count", three, f"{out}_height", f"{out}_width"], f"{out}_both", axis=0)
    graph.add("Resize", [x, "", "", f"{out}_first"], f"{out}_across", **BICUBIC)
    graph.add("Resize", [f"{out}_across", "", "", f"{out}_both"], out, **BICUBIC)


def _either(graph: _Graph, model: Downscaler, otherwise: str) -> str:
    """The learned thumbnail where the model's factor fits, else `otherwise`."""
    from onnx import TensorProto, helper, numpy_helper

    f, out = model.factor, f"thumbnail_{model.factor}"
    # it fits where the target has no more pixels than ceil(source / factor)
    graph.add("Add", ["source", graph.ints([f - 1])], f"above_{f}")
    graph.add("Div", [f"above_{f}", graph.ints([f])], f"most_{f}")
    graph.add("LessOrEqual", ["target", f"most_{f}"], f"sides_{f}")
    graph.add("Cast", [f"sides_{f}"], f"numbers_{f}", to=TensorProto.INT64)
    graph.add("ReduceMin", [f"numbers_{f}"], f"small_{f}", keepdims=0)
    graph.add("Greater", [f"small_{f}", "same"], f"fits_{f}")
    inside = _Graph()
    inside.constants = {k: np.asarray(v) for k, v in constants(model).items()}
    inside.add("Identity", ["plain"], "skip")
    _resize(inside, "rgb", "pixels", inside.ints([f]))
    inside.nodes += [*residual_nodes(model), *joining_nodes(model)]
    used = {name for node in inside.nodes for name in node.input}
    learned = helper.make_graph(
        inside.nodes,
        f"learned_x{f}",
        [],
        [helper.make_tensor_value_info("joined", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [numpy_helper.from_array(v, k) for k, v in inside.constants.items() if k in used],
    )
    kept = helper.make_graph(
        [helper.make_node("Cast", [otherwise], ["kept"], to=TensorProto.FLOAT)],
        f"not_x{f}",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["n", 3, "h", "w"])],
    )
    graph.add("If", [f"fits_{f}"], out, then_branch=learned, else_branch=kept)
    return out


def _crop(graph: _Graph, x: str, crop: tuple[int, int] | None) -> None:
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
