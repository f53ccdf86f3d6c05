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
STEPS, SKIP, ACROSS = "steps", "skip", "across"
EDGE = 2  # samples at each end of SKIP, whose filter reaches beyond the image, are not Pillow's
SMALL = 800_000  # samples


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
            # those of older versions make a thumbnail and a residual, and always both
            self._names = {output.name for output in self._session.get_outputs()}
            given = self._session.get_overridable_initializers()
            self._flags = {i.name: i.name.removeprefix("with_") for i in given}

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
        colours = _colours(x)
        # smaller ones are faster in Pillow (measured)
        whole = skip is None and SKIP in self._names and colours.size > SMALL
        first = STEPS if STEPS in self._names else RESIDUAL
        made, *bicubic = self._run([first, *((SKIP, ACROSS) if whole else ())], colours)
        if whole:
            skip = _with_edges(colours, *bicubic)
        elif skip is None:
            axes = (
                Axis(s, s // self.factor, 0, s // self.factor, 0, True, True) for s in x.shape[1:3]
            )
            skip = self.bicubic(x, *axes)
        out = np.full((*skip.shape[:3], x.shape[-1] if whole else skip.shape[-1]), 255, np.uint8)
        small = skip[..., :3]
        if first == STEPS:
            small = _stepped(small, made)
        elif self.qim > 1:
            small = embed(small, made, self.qim)
        else:
            small = np.rint(made + small).clip(0, 255)
        out[..., :3] = small
        return out

    def residual(self, x: Array) -> Array:
        return self._run([RESIDUAL], _colours(x))[0]

    def _run(self, names: list[str], colours: Array) -> list[Array]:
        flags = {flag: np.array(name in names) for flag, name in self._flags.items()}
        result: list[Array] = self._session.run(names, {IMAGE: colours, **flags})
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
    rows = max(1, 65_536 // x.shape[2])  # of so few pixels it starts no threads
    for image, to in zip(x, out, strict=True):
        for start in range(0, len(image), rows):
            part = slice(start, start + rows)
            cv2.cvtColor(image[part], cv2.COLOR_RGBA2RGB, dst=to[part])
    return out


def _stepped(skip: Array, steps: Array) -> Array:
    """round(skip + residual), half to even, clipped, of what `engine.network_graph.add_steps`
    makes: the residual's own rounding serves where the skip is even, that of the residual plus 1
    where it is odd."""
    import cv2

    shape, rows = skip.shape, skip.shape[0] * skip.shape[1]
    planes = cv2.split(steps.reshape(rows, skip.shape[2], -1))
    planes *= 12 // len(planes)
    up, down, up_odd, down_odd = (cv2.merge(planes[k::4]).reshape(rows, -1) for k in range(4))
    skip = skip.reshape(rows, -1)
    odd = skip & 1
    even = skip - odd
    out = cv2.subtract(cv2.add(even, up), down)
    cv2.copyTo(cv2.subtract(cv2.add(even, up_odd), down_odd), odd, out)
    return out.reshape(shape)


def _with_edges(x: Array, skip: Array, across: Array) -> Array:
    """The bicubic thumbnail of x with its edges as Pillow has them; see `bicubic_graph`."""
    count, high, wide = x.shape[:3]
    height, width = skip.shape[1:3]
    planes = across.reshape(count, 3, high, width)
    for axis, part in _edges(high, height):
        edge = resample(planes[:, :, part], axis, 2, FINE_BITS)
        skip[:, axis.start : axis.stop] = edge.transpose(0, 2, 3, 1)
    rows = Axis(high, height, 0, height, 0, True, True)
    for axis, part in _edges(wide, width):
        edge = resample(x[:, :, part], axis, 2, FINE_BITS)
        skip[:, :, axis.start : axis.stop] = resample(edge, rows, 1, FINE_BITS)
    return skip


def _edges(source: int, target: int) -> Iterator[tuple[Axis, slice]]:
    """Both ends of an axis, and the samples that they are made of."""
    reach = 2 * EDGE * (source // target)
    for start, first in ((0, 0), (max(0, target - EDGE), max(0, source - reach))):
        stop = min(target, start + EDGE)
        yield Axis(source, target, start, stop, first, False, True), slice(first, first + reach)


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
