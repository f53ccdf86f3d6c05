"""The network of a downscaler as ONNX nodes.

In 8-bit integers, which ONNX Runtime computes fastest where the channels lie next to each other
and are multiples of 16 (measured: about 3 times as fast as in float32). So several pixels of a row
are computed at once: their channels lie one behind the other, as those of one pixel do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from learned_downscale.core.downscaler import MAX_ACTIVATION, Downscaler
from learned_downscale.engine.graph import Graph

Kernel = np.ndarray[Any, Any]

LANES = 32  # channels, at most, of the pixels that are computed at once
STEP_KINDS = 4  # of `steps`


def _abreast(model: Downscaler) -> int:
    return max(1, LANES // model.channels)


def _kernels(model: Downscaler) -> list[tuple[Kernel, int]]:
    return [(q.numpy().astype(np.float32), shift) for q, shift in model.integers()]


def _wide(q: Kernel, before: int, after: int, stride: int = 1, padding: int = 0) -> Kernel:
    """The kernel on `before` pixels abreast, for `after` pixels abreast."""
    outputs, inputs, high, wide = q.shape
    first = -padding // before
    last = (stride * (after - 1) + wide - 1 - padding) // before
    out = np.zeros((after, outputs, before, inputs, high, last - first + 1), q.dtype)
    for pixel in range(after):
        for tap in range(wide):
            group, place = divmod(stride * pixel + tap - padding, before)
            out[pixel, :, place, :, :, group - first] = q[..., tap]
    return out.reshape(after * outputs, before * inputs, high, -1)


def _convolution(
    graph: Graph, x: str, q: Kernel, shift: int, out: str, bias: Kernel | None = None, **shape: Any
) -> str:
    """clamp(round(conv(x, q) * 2^-shift), 0, 255): exact, and half to even."""
    one, black = graph.constant(np.float32(1)), graph.constant(np.uint8(0))
    weight = [graph.constant(q.astype(np.int8)), one, graph.constant(np.int8(0))]
    scale = graph.constant(np.float32(2.0**shift))
    more = [] if bias is None else [graph.constant(bias.astype(np.int32))]
    return graph.add("QLinearConv", [x, one, black, *weight, scale, black, *more], out, **shape)


def add_features(graph: Graph, model: Downscaler, image: str) -> None:
    """ "features", uint8 (N, channels * n, h, ceil(w / n)): the last activations, of n pixels
    abreast, of an image, uint8 (N, f*h, f*w, 3); and "columns", w."""
    n, f, c = _abreast(model), model.factor, model.channels
    (stem, a), (hidden, b), _ = _kernels(model)
    black, width = graph.constant(np.uint8(0)), graph.ints([2])
    graph.add("Shape", [image], "image_shape")
    graph.add("Slice", ["image_shape", width, graph.ints([3])], "image_width")
    graph.add("Div", ["image_width", graph.ints([f])], "columns")
    # of black, the stem makes 0, as there is nothing outside of the image
    graph.add("Neg", ["columns"], "negative")
    graph.add("Mod", ["negative", graph.ints([n])], "missing")
    graph.add("Mul", ["missing", graph.ints([f])], "missing_width")
    graph.add("Concat", [graph.ints([0] * 6), "missing_width", graph.ints([0])], "ends", axis=0)
    graph.add("Pad", [image, "ends", black], "padded")
    graph.add("Reshape", ["padded", graph.ints([0, 0, -1, n * f * 3])], "patches")
    graph.add("Transpose", ["patches"], "patches_first", perm=[0, 3, 1, 2])
    stem = _wide(stem, n * f, n, stride=f)
    _convolution(graph, "patches_first", stem, a, "stem", strides=[f, 1])
    hidden = _wide(hidden, n, n, padding=1)
    if n == 1:
        _convolution(graph, "stem", hidden, b, "features", pads=[1] * 4)
        return
    _convolution(graph, "stem", hidden, b, "hidden", pads=[1] * 4)
    graph.add("Transpose", ["hidden"], "hidden_last", perm=[0, 2, 3, 1])
    graph.add("Reshape", ["hidden_last", graph.ints([0, 0, -1, c])], "pixels")
    graph.add("Slice", ["pixels", graph.ints([0]), "columns", width], "inside")
    graph.add("Concat", [graph.ints([0] * 6), "missing", graph.ints([0])], "last_ends", axis=0)
    graph.add("Pad", ["inside", "last_ends", black], "blackened")
    graph.add("Reshape", ["blackened", graph.ints([0, 0, -1, n * c])], "blackened_wide")
    graph.add("Transpose", ["blackened_wide"], "features", perm=[0, 3, 1, 2])


def add_residual(graph: Graph, model: Downscaler, out: str) -> None:
    """`out`, float32 (N, h, w, 3), in levels, of "features"."""
    from onnx import TensorProto

    n, (q, shift) = _abreast(model), _kernels(model)[2]
    weight = graph.constant(_wide(q, n, n, padding=1) * np.float32(2.0**-shift))
    graph.add("Cast", ["features"], "features_float", to=TensorProto.FLOAT)
    graph.add("Conv", ["features_float", weight], "added", pads=[1] * 4)
    _apart(graph, "added", 3, out)


def add_steps(graph: Graph, model: Downscaler, out: str) -> None:
    """`out`, uint8 (N, h, w, 4 or 12), of "features": for each channel, or for all if the residual
    is shared, clamp(round(v), 0, 255) of v = r, -r, r + 1 and -(r + 1), where r is the residual.

    This is all that `OnnxBackend` needs to round the sum of r and a bicubic level half to even.
    """
    n, (q, shift) = _abreast(model), _kernels(model)[2]
    q = q[:1] if model.shared else q
    kinds = np.stack([q, -q, q, -q], 1).reshape(-1, *q.shape[1:])
    bias = np.tile(np.array([0, 0, 1, -1]) << shift, n * len(q))
    wide = _wide(kinds, n, n, padding=1)
    _convolution(graph, "features", wide, shift, "kinds", bias, pads=[1] * 4)
    _apart(graph, "kinds", len(kinds), out)


def _apart(graph: Graph, x: str, channels: int, out: str) -> None:
    """(N, n * channels, h, ceil(w / n)) -> (N, h, w, channels)."""
    graph.add("Transpose", [x], f"{x}_last", perm=[0, 2, 3, 1])
    graph.add("Reshape", [f"{x}_last", graph.ints([0, 0, -1, channels])], f"{x}_pixels")
    graph.add("Slice", [f"{x}_pixels", graph.ints([0]), "columns", graph.ints([2])], out)


def add_joined(graph: Graph, model: Downscaler, skip: str) -> None:
    """ "joined", whole numbers as float32, of a bicubic thumbnail, uint8, and "residual"."""
    from onnx import TensorProto

    graph.add("Cast", [skip], "skip_float", to=TensorProto.FLOAT)
    m, black = model.qim, graph.constant(np.float32(0))
    if m == 1:
        graph.add("Add", ["skip_float", "residual"], "both")
        graph.add("Round", ["both"], "whole")
        white = graph.constant(np.float32(MAX_ACTIVATION))
        graph.add("Clip", ["whole", black, white], "joined")
        return
    # `qim.embed`
    last, end = graph.constant(np.float32(m - 1)), graph.constant(np.float32(256 // m - 1))
    graph.add("Round", ["residual"], "rounded")
    graph.add("Add", ["rounded", graph.constant(np.float32(m // 2))], "shifted")
    graph.add("Clip", ["shifted", black, last], "payload")
    graph.add("Sub", ["skip_float", "payload"], "without")
    graph.add("Mul", ["without", graph.constant(np.float32(1 / m))], "parts")
    graph.add("Add", ["parts", graph.constant(np.float32(0.5))], "above")
    graph.add("Floor", ["above"], "floored")
    graph.add("Clip", ["floored", black, end], "steps_up")
    graph.add("Mul", ["steps_up", graph.constant(np.float32(m))], "coarse")
    graph.add("Add", ["coarse", "payload"], "joined")
