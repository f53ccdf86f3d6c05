"""model.onnx from a weights folder: image -> thumbnail, for ONNX Runtime in any language."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from learned_downscale import pretrained
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.engine.graph import Graph
from learned_downscale.engine.network_graph import (
    add_features,
    add_joined,
    add_residual,
    add_steps,
)
from learned_downscale.engine.onnx_backend import IMAGE, RESIDUAL, STEPS, THUMBNAIL

OPSET, IR_VERSION = 19, 9  # ONNX Runtime 1.16 and newer; antialiased Resize is in 18
# of Resize: Pillow's
BICUBIC: dict[str, Any] = {
    "mode": "cubic",
    "cubic_coeff_a": -0.5,
    "antialias": 1,
    "exclude_outside": 1,
    "coordinate_transformation_mode": "half_pixel",
}


def export_onnx(folder: Path) -> Path:
    """Write model.onnx into a weights folder, and its SHA-256 into the folder's config.json.

    The model takes "image", uint8 (N, H, W, 3), RGB, H and W multiples of the factor, all three
    dynamic. It gives "thumbnail", uint8 (N, H/f, W/f, 3), Pillow's bicubic plus the residual, or
    with the residual embedded in it; and "residual", float32, in levels, before that. Each is
    empty, and takes no time, if the optional input "with_thumbnail" or "with_residual", a bool, is
    False; a thumbnail needs its residual. Without a payload there are "steps", too, which
    `OnnxBackend` rounds with (`network_graph.add_steps`).

    Raises:
        ImportError: the package onnx is missing (extra `onnx`).
        FileNotFoundError, ValueError: as `pretrained.load`.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("export needs onnx: pip install 'learned-downscale[onnx]'") from error
    content = make(pretrained.load(Downscaler, folder))
    onnx.checker.check_model(content, full_check=True)
    path = folder / pretrained.ONNX
    path.write_bytes(content)
    config = pretrained.read_config(folder)
    config["onnx_sha256"] = hashlib.sha256(content).hexdigest()
    pretrained.write_config(folder, config)
    return path


def make(model: Downscaler) -> bytes:
    """The content of model.onnx; see `export_onnx`."""
    from onnx import TensorProto, helper

    u8, small = TensorProto.UINT8, ["n", "h", "w", 3]
    graph = Graph()
    add_features(graph, model, IMAGE)
    inside = Graph("residual_")
    add_residual(inside, model, "residual_inside")
    _add_if_wanted(graph, inside, RESIDUAL, TensorProto.FLOAT)
    inside = Graph("thumbnail_")
    _add_thumbnail(inside, model, "thumbnail_inside")
    _add_if_wanted(graph, inside, THUMBNAIL, u8)
    outputs = [(THUMBNAIL, u8, small), (RESIDUAL, TensorProto.FLOAT, small)]
    flags: list[Any] = [(f"with_{name}", TensorProto.BOOL, []) for name, _, _ in outputs]
    if model.qim == 1:
        add_steps(graph, model, STEPS)
        outputs.append((STEPS, u8, ["n", "h", "w", 4 if model.shared else 12]))
    inputs = [(IMAGE, u8, ["n", "height", "width", 3]), *flags]
    content: bytes = helper.make_model(
        graph.made("learned_downscale", inputs, outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="learned_downscale",
    ).SerializeToString()
    return content


def _add_thumbnail(graph: Graph, model: Downscaler, out: str) -> None:
    """`out`, uint8 (N, h, w, 3), of "image" and "residual"."""
    from onnx import TensorProto

    graph.add("Transpose", [IMAGE], "image_first", perm=[0, 3, 1, 2])
    scales = graph.constant(np.array([1, 1, 1 / model.factor, 1 / model.factor], np.float32))
    graph.add("Resize", ["image_first", "", scales], "resized", **BICUBIC)
    graph.add("Transpose", ["resized"], "bicubic", perm=[0, 2, 3, 1])
    add_joined(graph, model, "bicubic")
    graph.add("Cast", ["joined"], out, to=TensorProto.UINT8)


def _add_if_wanted(graph: Graph, inside: Graph, name: str, kind: int) -> None:
    """`name`: what the branch makes as "<name>_inside", or, if the input "with_<name>" is given
    as False, nothing: ONNX Runtime computes what nobody asks for, too."""
    from onnx import helper

    flag, shape = f"with_{name}", ["n", "h", "w", 3]
    graph.constants[flag] = np.array(True)
    nothing = Graph(f"no_{name}_")
    empty = nothing.constant(np.zeros((0, 0, 0, 3), helper.tensor_dtype_to_np_dtype(kind)))
    nothing.add("Identity", [empty], f"{name}_nothing")
    wanted = inside.made(f"wanted_{name}", [], [(f"{name}_inside", kind, shape)])
    other = nothing.made(f"unwanted_{name}", [], [(f"{name}_nothing", kind, shape)])
    graph.add("If", [flag], name, then_branch=wanted, else_branch=other)
