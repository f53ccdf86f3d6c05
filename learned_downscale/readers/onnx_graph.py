"""model.onnx of a classifier's weights folder: thumbnail -> probabilities; and decoder.onnx of a
downscaler's: thumbnail -> image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.readers.bundled import ThumbnailClassifier
from learned_downscale.readers.efficientnet_lite import MEAN, STD, EfficientNetLite
from learned_downscale.readers.resnet import ResNet

OPSET, IR_VERSION = 19, 9  # ONNX Runtime 1.16 and newer; antialiased Resize is in 18
THUMBNAIL, PROBABILITIES, IMAGE = "thumbnail", "probabilities", "image"


def export_classifier(folder: Path) -> Path:
    """Write model.onnx into a classifier's weights folder, and its SHA-256 into config.json.

    The model takes "thumbnail", uint8 (N, h, w, 3), RGB, and gives "probabilities", float32
    (N, classes), in the order of config.json's classes, at its temperature. N, h and w are dynamic.
    Weights are stored in float16, as in model.safetensors.

    Raises:
        ImportError: the package onnx is missing (extra `onnx`).
        FileNotFoundError, ValueError: as `ThumbnailClassifier.from_pretrained`.
    """
    content = _checked(lambda: make(ThumbnailClassifier.from_pretrained(folder)))
    return _written(folder, "classifier", pretrained.ONNX, "onnx_sha256", content)


def export_decoder(folder: Path) -> Path:
    """Write decoder.onnx into a weights folder that has a decoder, and its SHA-256 into
    config.json.

    The model takes "thumbnail", uint8 (N, h, w, 3), RGB, and gives "image", uint8
    (N, f*h, f*w, 3): `Decoder.forward`, clipped and rounded to 8 bits. N, h and w are dynamic.

    Raises:
        ImportError: the package onnx is missing (extra `onnx`).
        FileNotFoundError, ValueError: as `pretrained.load`.
    """
    content = _checked(lambda: make_decoder(pretrained.load(Decoder, folder)))
    return _written(folder, "decoder", pretrained.DECODER_ONNX, "decoder_onnx_sha256", content)


def _checked(build: Callable[[], bytes]) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("export needs onnx: pip install 'learned-downscale[onnx]'") from error
    content = build()
    onnx.checker.check_model(content, full_check=True)
    return content


def _written(folder: Path, kind: str, file: str, key: str, content: bytes) -> Path:
    path = folder / file
    path.write_bytes(content)
    config = pretrained.read_config(folder, kind)
    config[key] = hashlib.sha256(content).hexdigest()
    pretrained.write_config(folder, config)
    return path


def make(classifier: ThumbnailClassifier) -> bytes:
    """The content of model.onnx; see `export_classifier`."""
    from onnx import TensorProto

    graph, network = _Graph(), classifier.network
    x = graph.node("Transpose", THUMBNAIL, perm=[0, 3, 1, 2])
    x = graph.node("Cast", x, to=TensorProto.FLOAT)
    if classifier.decoder is None:
        x = graph.node("Mul", x, 1 / 255)
    else:
        x = _decoded(graph, classifier.decoder, x)
    if network.input_side:
        x = graph.with_short_side(x, network.input_side)
    elif network.input_scale != 1:
        x = graph.resize(x, network.input_scale)
    if isinstance(network, EfficientNetLite):
        x = _efficientnet_lite(graph, network, x)
    elif isinstance(network, ResNet):
        x = _resnet(graph, network, x)
    else:
        raise ValueError(f"{type(network).__name__} has no ONNX form")
    x = graph.node("ReduceMean", x, np.array([2, 3], np.int64), keepdims=0)
    weight, bias = network.classify.weight, network.classify.bias
    x = graph.node("Gemm", x, graph.weights(weight), graph.weights(bias), transB=1)
    x = graph.node("Mul", x, 1 / classifier.temperature)
    graph.node("Softmax", x, name=PROBABILITIES, axis=1)
    classes = len(classifier.labels)
    return graph.model(PROBABILITIES, TensorProto.FLOAT, ["n", classes])


def make_decoder(decoder: Decoder) -> bytes:
    """The content of decoder.onnx; see `export_decoder`."""
    from onnx import TensorProto

    graph = _Graph()
    x = graph.node("Transpose", THUMBNAIL, perm=[0, 3, 1, 2])
    x = _decoded(graph, decoder, graph.node("Cast", x, to=TensorProto.FLOAT))
    x = graph.node("Round", graph.node("Mul", graph.node("Clip", x, 0.0, 1.0), 255.0))
    x = graph.node("Cast", x, to=TensorProto.UINT8)
    graph.node("Transpose", x, name=IMAGE, perm=[0, 2, 3, 1])
    return graph.model(IMAGE, TensorProto.UINT8, ["n", "fine_h", "fine_w", 3])


class _Graph:
    """Nodes and constants, under numbered names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def node(self, kind: str, *inputs: Any, name: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output. inputs: names, numbers (float32) or arrays."""
        from onnx import helper

        names = [i if isinstance(i, str) else self.constant(np.asarray(i)) for i in inputs]
        name = name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [name], **attributes))
        return name

    def model(self, output: str, kind: int, shape: list[int | str]) -> bytes:
        """The model from a thumbnail, uint8 (n, h, w, 3), to a named output."""
        from onnx import TensorProto, helper

        given = helper.make_tensor_value_info(THUMBNAIL, TensorProto.UINT8, ["n", "h", "w", 3])
        made = helper.make_graph(
            self.nodes,
            "learned_downscale",
            [given],
            [helper.make_tensor_value_info(output, kind, shape)],
            self.initializers,
        )
        opset = [helper.make_opsetid("", OPSET)]
        content: bytes = helper.make_model(
            made, opset_imports=opset, ir_version=IR_VERSION, producer_name="learned_downscale"
        ).SerializeToString()
        return content

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.initializers)}"
        value = value.astype(np.float32) if value.dtype == np.float64 else value
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weights(self, value: Tensor) -> str:
        """Weights that are stored in float16."""
        from onnx import TensorProto

        half = self.constant(value.detach().cpu().half().contiguous().numpy())
        return self.node("Cast", half, to=TensorProto.FLOAT)

    def convolution(self, x: str, layer: nn.Module, half: bool = True) -> str:
        """A convolution; replicated borders are a node of their own."""
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        weight, bias = (
            self.weights(p) if half else p.detach().cpu().contiguous().numpy()
            for p in (layer.weight, layer.bias)
        )
        top, left = (int(p) for p in layer.padding)
        pads = [top, left, top, left]
        if layer.padding_mode == "replicate":
            border = np.array([0, 0, top, left, 0, 0, top, left], np.int64)
            x, pads = self.node("Pad", x, border, mode="edge"), [0] * 4
        strides, groups = list(layer.stride), layer.groups
        return self.node("Conv", x, weight, bias, strides=strides, pads=pads, group=groups)

    def resize(self, x: str, scale: float, clip: bool = True) -> str:
        """`network.rescaled`: bicubic as torch has it, antialiased below 1."""
        factors = np.array([1, 1, scale, scale], np.float32)
        size = self.node("Mul", self._shape(x), factors)
        x = self._resized(x, size, antialias=scale < 1)
        return self.node("Clip", x, 0.0, 1.0) if clip else x

    def with_short_side(self, x: str, side: int) -> str:
        """`network.with_short_side`."""
        shape = self._shape(x)
        sides = self.node("Slice", shape, np.array([2], np.int64), np.array([4], np.int64))
        scaled = self.node("Mul", sides, float(side))
        sides = self.node("Div", scaled, self.node("ReduceMin", sides))
        others = self.node("Slice", shape, np.array([0], np.int64), np.array([2], np.int64))
        x = self._resized(x, self.node("Concat", others, sides, axis=0), antialias=True)
        return self.node("Clip", x, 0.0, 1.0)

    def _shape(self, x: str) -> str:
        from onnx import TensorProto

        return self.node("Cast", self.node("Shape", x), to=TensorProto.FLOAT)

    def _resized(self, x: str, size: str, antialias: bool) -> str:
        from onnx import TensorProto

        size = self.node("Cast", self.node("Round", size), to=TensorProto.INT64)
        return self.node(
            "Resize",
            *(x, "", "", size),
            mode="cubic",
            cubic_coeff_a=-0.5 if antialias else -0.75,
            antialias=int(antialias),
            exclude_outside=int(antialias),
            coordinate_transformation_mode="half_pixel",
        )


def _decoded(graph: _Graph, decoder: Decoder, levels: str) -> str:
    """`Decoder.forward` of a thumbnail in levels."""
    x = graph.node("Mul", levels, 1 / 255)
    y = graph.node("Sub", x, 0.5)
    if decoder.qim > 1:
        payload = graph.node("Mod", levels, float(decoder.qim), fmod=1)
        payload = graph.node("Sub", graph.node("Mul", payload, 1 / decoder.qim), 0.5)
        y = graph.node("Concat", y, payload, axis=1)
    for layer in decoder.layers:
        convolution = isinstance(layer, nn.Conv2d)
        y = graph.convolution(y, layer, half=False) if convolution else graph.node("Relu", y)
    y = graph.node("DepthToSpace", y, blocksize=decoder.factor, mode="CRD")
    return graph.node("Add", y, graph.resize(x, decoder.factor, clip=False))


def _efficientnet_lite(graph: _Graph, network: Any, x: str) -> str:
    x = graph.node("Mul", graph.node("Sub", x, MEAN), 1 / STD)
    ends = np.array([-1, -1], np.int64)
    lowest = np.array([np.iinfo(np.int64).min] * 2, np.int64)
    x = graph.node("Slice", x, ends, lowest, np.array([2, 3], np.int64), ends)

    def relu6(x: str, layer: nn.Module) -> str:
        if isinstance(layer, nn.Identity):
            return x
        return graph.node("Clip", graph.convolution(x, layer), 0.0, 6.0)

    x = relu6(x, network.stem)
    for block in network.blocks:
        y = relu6(relu6(x, block.expand), block.filter)
        y = graph.convolution(y, block.project)
        x = graph.node("Add", x, y) if block.skip else y
    return relu6(x, network.head)


def _resnet(graph: _Graph, network: Any, x: str) -> str:
    mean, std = (t.detach().cpu().numpy() for t in (network.mean, network.std))
    x = graph.node("Div", graph.node("Sub", x, mean), std)
    x = graph.node("Relu", graph.convolution(x, network.stem))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for block in (block for stage in network.stages for block in stage):
        y = x
        for i, layer in enumerate(block.layers):
            y = graph.convolution(graph.node("Relu", y) if i else y, layer)
        if not isinstance(block.shortcut, nn.Identity):
            x = graph.convolution(x, block.shortcut)
        x = graph.node("Relu", graph.node("Add", y, x))
    return x
