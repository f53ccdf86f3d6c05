"""model.onnx from a weights folder: image -> thumbnail, for ONNX Runtime in any language."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from learned_downscale import pretrained
from learned_downscale.core.downscaler import MAX_ACTIVATION, Downscaler
from learned_downscale.engine.onnx_backend import IMAGE, RESIDUAL, THUMBNAIL

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
    from onnx import TensorProto, helper, numpy_helper

    f = model.factor
    values = {"scales": np.array([1, 1, 1 / f, 1 / f], np.float32), **constants(model)}
    nodes = [
        helper.make_node("Transpose", [IMAGE], ["pixels"], perm=[0, 3, 1, 2]),
        *residual_nodes(model),
        helper.make_node("Transpose", ["added"], [RESIDUAL], perm=[0, 2, 3, 1]),
        helper.make_node("Resize", ["pixels", "", "scales"], ["skip"], **BICUBIC),
        *joining_nodes(model),
        helper.make_node("Cast", ["joined"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], [THUMBNAIL], perm=[0, 2, 3, 1]),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "learned_downscale",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["n", "height", "width", 3])],
        [
            helper.make_tensor_value_info(name, kind, ["n", "h", "w", 3])
            for name, kind in ((THUMBNAIL, TensorProto.UINT8), (RESIDUAL, TensorProto.FLOAT))
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items() if k in used],
    )
    opset = [helper.make_opsetid("", OPSET)]
    content: bytes = helper.make_model(
        graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="learned_downscale"
    ).SerializeToString()
    return content


def constants(model: Downscaler) -> dict[str, Any]:
    """Of `residual_nodes` and `joining_nodes`, by name."""
    m = model.qim
    kernels = zip(("stem", "hidden", "out"), model.integers(), strict=True)
    return {
        "black": np.float32(0),
        "white": np.float32(MAX_ACTIVATION),
        "qim": np.float32(m),
        "per_qim": np.float32(1 / m),
        "middle": np.float32(m // 2),
        "last_payload": np.float32(m - 1),
        "last_step": np.float32(256 // m - 1),
        "half": np.float32(0.5),
        **{k: q.numpy().astype(np.float32) * np.float32(2.0**-s) for k, (q, s) in kernels},
    }


def residual_nodes(model: Downscaler) -> list[Any]:
    """Nodes: the residual "added" of "pixels", uint8 (N, 3, f*h, f*w)."""
    from onnx import TensorProto, helper

    # Whole numbers in float32, times powers of two: exact, and ONNX Runtime's fastest (measured:
    # QLinearConv takes 1.3 to 1.9 times as long).
    nodes = [helper.make_node("Cast", ["pixels"], ["levels"], to=TensorProto.FLOAT)]
    x = "levels"
    for name, stride, pad in (("stem", model.factor, 0), ("hidden", 1, 1), ("out", 1, 1)):
        y = "added" if name == "out" else f"{name}_sum"
        conv: dict[str, Any] = {"strides": [stride] * 2, "pads": [pad] * 4}
        nodes.append(helper.make_node("Conv", [x, name], [y], **conv))
        if name != "out":  # the ReLU is in the clamp
            nodes.append(helper.make_node("Round", [y], [f"{name}_whole"]))
            x = f"{name}_levels"
            nodes.append(helper.make_node("Clip", [f"{name}_whole", "black", "white"], [x]))
    return nodes


def joining_nodes(model: Downscaler) -> list[Any]:
    """Nodes: the thumbnail "joined", whole numbers as float32, of "skip", uint8, and "added"."""
    from onnx import TensorProto, helper

    cast = helper.make_node("Cast", ["skip"], ["skip_float"], to=TensorProto.FLOAT)
    return [cast, *(_added() if model.qim == 1 else _embedded())]


def _added() -> list[Any]:
    """Nodes: the rounded sum of "skip_float" and "added", "joined"."""
    from onnx import helper

    return [
        helper.make_node("Add", ["skip_float", "added"], ["both"]),
        helper.make_node("Round", ["both"], ["whole"]),
        helper.make_node("Clip", ["whole", "black", "white"], ["joined"]),
    ]


def _embedded() -> list[Any]:
    """Nodes: `qim.embed` of "skip_float" and "added", "joined"."""
    from onnx import helper

    return [
        helper.make_node("Round", ["added"], ["rounded"]),
        helper.make_node("Add", ["rounded", "middle"], ["shifted"]),
        helper.make_node("Clip", ["shifted", "black", "last_payload"], ["payload"]),
        helper.make_node("Sub", ["skip_float", "payload"], ["rest"]),
        helper.make_node("Mul", ["rest", "per_qim"], ["parts"]),
        helper.make_node("Add", ["parts", "half"], ["above"]),
        helper.make_node("Floor", ["above"], ["floored"]),
        helper.make_node("Clip", ["floored", "black", "last_step"], ["steps"]),
        helper.make_node("Mul", ["steps", "qim"], ["coarse"]),
        helper.make_node("Add", ["coarse", "payload"], ["joined"]),
    ]
