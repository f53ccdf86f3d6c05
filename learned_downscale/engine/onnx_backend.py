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
IMAGE, THUMBNAIL, RESIDUAL, STEPS = "image", "thumbnail", "residual", "steps"


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
            # models exported before have neither the steps nor the flags
            self._names = {output.name for output in self._session.get_outputs()}
            self._flags = [i.name for i in self._session.get_overridable_initializers()]

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
        if skip is None:
            rows, columns = (
                Axis(s, s // self.factor, 0, s // self.factor, 0, True, True) for s in x.shape[1:3]
            )
            skip = self.bicubic(x, rows, columns)
        if STEPS in self._names:
            return _stepped(np.ascontiguousarray(skip), self._run(STEPS, x))
        out, residual = np.full(skip.shape, 255, np.uint8), self.residual(x)
        if self.qim > 1:
            out[..., :3] = embed(skip[..., :3], residual, self.qim)
        else:
            out[..., :3] = np.rint(residual + skip[..., :3]).clip(0, 255)
        return out

    def residual(self, x: Array) -> Array:
        return self._run(RESIDUAL, x)

    def _run(self, name: str, x: Array) -> Array:
        flags = {flag: np.array(flag == f"with_{name}") for flag in self._flags}
        result: Array = self._session.run([name], {IMAGE: _colours(x), **flags})[0]
        return result

    def default_threads(self) -> int:
        torch = sys.modules.get("torch")
        if torch is not None:  # what the process has agreed on, as in a DataLoader's workers
            return int(torch.get_num_threads())
        return processors()

    @contextmanager
    def single_thread(self) -> Iterator[None]:
        yield


def _colours(x: Array) -> Array:
    """(N, H, W, 3), contiguous, of uint8 (N, H, W, 3 or 4)."""
    if x.shape[-1] == 3:
        return np.ascontiguousarray(x)
    import cv2  # many times faster than numpy

    out = np.empty((*x.shape[:3], 3), np.uint8)
    for image, to in zip(x, out, strict=True):
        for part in _strips(*image.shape[:2]):
            cv2.cvtColor(image[part], cv2.COLOR_RGBA2RGB, dst=to[part])
    return out


def _stepped(skip: Array, steps: Array) -> Array:
    """round(skip + residual), half to even, clipped, of what `engine.network_graph.add_steps`
    makes: where the skip is even, of the rounded residual; where it is odd, of the rounded
    residual + 1 and the level below. A fourth sample becomes 255."""
    import cv2

    width, samples = skip.shape[2:]
    rows, levels = skip.reshape(-1, width, samples), steps.reshape(-1, width, steps.shape[-1])
    out = np.empty_like(rows)
    for part in _strips(len(rows), width):
        colours: Array = rows[part]
        if samples == 4:
            colours = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGBA2RGB))
        planes = list(cv2.split(levels[part]))
        planes *= 12 // len(planes)  # of a shared residual there are 4
        up, down, up_odd, down_odd = (cv2.merge(planes[k::4]) for k in range(4))
        odd = colours & 1
        even = colours - odd
        small = cv2.subtract(cv2.add(even, up), down)
        other = cv2.subtract(cv2.add(even, up_odd), down_odd)
        flat = len(small), 3 * width
        small = cv2.copyTo(other.reshape(flat), odd.reshape(flat), small.reshape(flat))
        small = small.reshape(len(small), width, 3)
        out[part] = small if samples == 3 else cv2.cvtColor(small, cv2.COLOR_RGB2RGBA)
    return out.reshape(skip.shape)


def _strips(height: int, width: int) -> Iterator[slice]:
    """Rows of so few pixels that OpenCV starts no threads and they fit the processor's cache."""
    rows = max(1, 32_768 // width)
    return (slice(start, start + rows) for start in range(0, height, rows))


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
