"""The network in ONNX Runtime, bicubic by Pillow: nothing here imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from learned_downscale.core.qim import embed
from learned_downscale.core.resampling import FINE_BITS, Array, Axis, resample
from learned_downscale.engine.backend import processors

# The names in model.onnx; see `learned_downscale.engine.export`.
IMAGE, THUMBNAIL, RESIDUAL = "image", "thumbnail", "residual"


class OnnxBackend:
    """See `learned_downscale.engine.Backend`."""

    name = "onnx"

    def __init__(self, model: bytes | None, factor: int | None, qim: int = 1) -> None:
        """model: the content of a model.onnx, or None for bicubic alone."""
        self.factor = factor
        self.qim = qim
        self._session: Any = None
        if model is not None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # the tiles' threads are all there are
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )

    def bicubic(self, x: Array, rows: Axis, columns: Axis) -> Array:
        grid = rows.grid and columns.grid
        for axis, dimension in ((columns, 2), (rows, 1)):
            if axis.source == axis.target:
                continue
            if axis.alone and (x.dtype == np.uint8 or grid):
                x = np.stack([_pillow(image, axis, dimension - 1) for image in x])
            else:
                x = resample(x, axis, dimension, FINE_BITS)
        return x

    def thumbnail(self, x: Array, skip: Array | None) -> Array:
        channels = x.shape[-1] if skip is None else skip.shape[-1]
        out = np.full((len(x), *(s // self.factor for s in x.shape[1:3]), channels), 255, np.uint8)
        if skip is None:
            out[..., :3] = self._run(THUMBNAIL, x)
        elif self.qim > 1:
            out[..., :3] = embed(skip[..., :3], self.residual(x), self.qim)
        else:
            total = self.residual(x)
            total += skip[..., :3]
            out[..., :3] = np.rint(total, out=total).clip(0, 255, out=total)
        return out

    def residual(self, x: Array) -> Array:
        return self._run(RESIDUAL, x)

    def _run(self, name: str, x: Array) -> Array:
        result: Array = self._session.run([name], {IMAGE: np.ascontiguousarray(x[..., :3])})[0]
        return result

    def default_threads(self) -> int:
        torch = sys.modules.get("torch")
        if torch is not None:  # what the process has agreed on, as in a DataLoader's workers
            return int(torch.get_num_threads())
        return processors()

    @contextmanager
    def single_thread(self) -> Iterator[None]:
        yield


def _pillow(image: Array, axis: Axis, dimension: int) -> Array:
    """One axis of (H, W, C) uint8 or float32, the whole of it."""
    # RGBX has no alpha to multiply by
    modes = {1: "L", 3: "RGB", 4: "RGBX"} if image.dtype == np.uint8 else {1: "F"}
    channels = image.shape[-1]
    if channels not in modes:
        planes = [_pillow(image[..., c : c + 1], axis, dimension) for c in range(channels)]
        return np.concatenate(planes, -1)
    size, box = list(image.shape[1::-1]), [0.0, 0.0, *image.shape[1::-1]]
    raw = np.ascontiguousarray(image)
    picture = Image.frombuffer(
        modes[channels], (size[0], size[1]), raw, "raw", modes[channels], 0, 1
    )
    size[1 - dimension] = axis.stop - axis.start
    if axis.scale is not None:
        box[3 - dimension] = axis.source
    picture = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC, tuple(box))
    small = np.asarray(picture)
    return small[..., None] if small.ndim == 2 else small
