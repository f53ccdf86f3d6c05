"""model.onnx from a weights folder: image -> thumbnail, for ONNX Runtime in any language."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from learned_downscale import pretrained
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.engine.bicubic_graph import FACTORS, add_bicubic
from learned_downscale.engine.graph import Graph
from learned_downscale.engine.network_graph import (
    add_features,
    add_joined,
    add_residual,
    add_steps,
)
from learned_downscale.engine.onnx_backend import (
    ACROSS,
    IMAGE,
    RESIDUAL,
    SKIP,
    STEPS,
    THUMBNAIL,
)

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
    with the residual embedded in it; and "residual", float32, in levels, before that.

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
    graph, inside = Graph(), {name: Graph(f"{name}_") for name in (RESIDUAL, THUMBNAIL, SKIP)}
    add_features(graph, model, IMAGE)
    add_residual(inside[RESIDUAL], model, "residual_inside")
    branches = {RESIDUAL: [(RESIDUAL, TensorProto.FLOAT, small)]}
    _add_thumbnail(inside[THUMBNAIL], model, "thumbnail_inside")
    branches[THUMBNAIL] = [(THUMBNAIL, u8, small)]
    if model.factor in FACTORS:
        add_bicubic(inside[SKIP], model.factor, IMAGE, "across_inside", "skip_inside")
        branches[SKIP] = [(SKIP, u8, small), (ACROSS, u8, ["planes", "height", "w"])]
    for name, made in branches.items():
        _either(graph, inside[name], f"with_{name}", name != SKIP, made)
    outputs = [value for name in (THUMBNAIL, RESIDUAL, SKIP) for value in branches.get(name, [])]
    if model.qim == 1:
        add_steps(graph, model, STEPS)
        outputs.append((STEPS, u8, ["n", "h", "w", None]))
    flags = [(f"with_{name}", TensorProto.BOOL, []) for name in branches]
    content: bytes = helper.make_model(
        graph.made(
            "learned_downscale", [(IMAGE, u8, ["n", "height", "width", 3]), *flags], outputs
        ),
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


def _either(
    graph: Graph, inside: Graph, flag: str, default: bool, made: list[tuple[str, int, Any]]
) -> None:
    """What the branch makes as "<name>_inside", or, if the input `flag` is False, nothing."""
    from onnx import helper

    graph.constants[flag] = np.array(default)
    then = inside.made(f"{flag}_true", [], [(f"{n}_inside", kind, s) for n, kind, s in made])
    nothing = Graph(f"{flag}_no_")
    for name, kind, shape in made:
        empty = np.zeros([0] * len(shape), helper.tensor_dtype_to_np_dtype(kind))
        nothing.add("Identity", [nothing.constant(empty)], f"{name}_nothing")
    kept = [(f"{n}_nothing", kind, [None] * len(s)) for n, kind, s in made]
    other = nothing.made(f"{flag}_false", [], kept)
    names = [name for name, _, _ in made]
    graph.nodes.append(helper.make_node("If", [flag], names, then_branch=then, else_branch=other))
