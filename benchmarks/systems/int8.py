"""A trained network in 8 bits: ONNX Runtime's static quantisation, weights per channel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn


class Photos(CalibrationDataReader):  # type: ignore[misc]
    """What the ranges of the activations are found with."""

    def __init__(self, x: Tensor) -> None:
        self.each: Iterator[Tensor] = iter(x.split(1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        x = next(self.each, None)
        return None if x is None else {"x": x.float().numpy() / 255}


class Int8(nn.Module):
    """The network (N, 3, h, w) in [0, 1] -> logits, in 8 bits, one thread. x: some of its inputs,
    (M, 3, h, w) uint8."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        super().__init__()
        with tempfile.TemporaryDirectory() as folder:
            whole, ready, small = (str(Path(folder, f"{n}.onnx")) for n in ("whole", "ready", "8"))
            torch.onnx.export(
                network.eval().to(memory_format=torch.contiguous_format),
                (x[:2].float() / 255,),
                whole,
                input_names=["x"],
                output_names=["logits"],
                dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
                dynamo=False,
            )
            quant_pre_process(whole, ready)
            quantize_static(ready, small, Photos(x), per_channel=True)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(
                small, options, providers=["CPUExecutionProvider"]
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"x": x.numpy()})[0])
