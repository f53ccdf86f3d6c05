"""Nodes and constants of an ONNX graph, as they are put together."""

from __future__ import annotations

from typing import Any

import numpy as np


class Graph:
    """prefix: of the names of its constants; that of a branch differs from those around it."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node; its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def ints(self, values: list[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def made(self, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """The GraphProto, of (name, element type, shape) of what goes in and comes out."""
        from onnx import helper, numpy_helper

        return helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
