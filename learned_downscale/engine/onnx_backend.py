"""The network in ONNX Runtime, bicubic by Pillow: nothing here imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from learned_downscale.core.qim import embed
from learned_downscale.core.resampling import Array, Axis, resample

# The names in model.onnx; see `learned_downscale.engine.export`.
IMAGE, THUMBNAIL, RESIDUAL = "image", "thumbnail", "residual"


class OnnxBackend:
    """See `learned_downscale.engine.Backend`."""

    name = "onnx"

    def __init__(
        self, model: bytes | None, factor: int | None, qim: int = 1, reach: int = 2
    ) -> None:
        """model: the content of a model.onnx, or None for bicubic alone."""
        self.factor = factor
        self.qim = qim
        self.reach = reach
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
        if not (rows.grid and columns.grid):
            return resample(resample(x, columns, 2), rows, 1)  # as torch does it, bit for bit
        size = columns.stop - columns.start, rows.stop - rows.start
        return np.stack([_pillow(image, size) for image in x])

    def thumbnail(self, x: Array, skip: Array | None) -> Array:
        if skip is None:
            return self._run(THUMBNAIL, x)
        if self.qim > 1:
            return embed(skip[..., :3], self.residual(x), self.qim).astype(np.uint8)
        total = self.residual(x)
        total += skip[..., :3]
        return np.rint(total, out=total).clip(0, 255, out=total).astype(np.uint8)

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


def processors() -> int:
    """How many processors this process may use."""
    import os

    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _pillow(image: Array, size: tuple[int, int]) -> Array:
    """(H, W, C) uint8 or float32 to `size` (width, height); RGBX has no alpha to multiply by."""
    modes = {1: "L", 3: "RGB", 4: "RGBX"} if image.dtype == np.uint8 else {1: "F"}
    channels = image.shape[-1]
    if channels not in modes:
        planes = [_pillow(image[..., c : c + 1], size) for c in range(channels)]
        return np.concatenate(planes, -1)
    shape = (image.shape[1], image.shape[0])
    raw = np.ascontiguousarray(image)
    picture = Image.frombuffer(modes[channels], shape, raw, "raw", modes[channels], 0, 1)
    # Rows first, whatever the shape: Pillow's own order depends on it, and so would tiles.
    for step in ((size[0], shape[1]), size):
        picture = picture.resize(step, Image.Resampling.BICUBIC)
    small = np.asarray(picture)
    return small[..., None] if small.ndim == 2 else small
