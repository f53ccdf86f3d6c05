"""The network in torch on the CPU: 8-bit integers where torch can, else float32 with the same
result."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learned_downscale.core.downscaler import MAX_ACTIVATION, MAX_WEIGHT, Downscaler
from learned_downscale.core.qim import embed
from learned_downscale.core.resampling import Array, Axis, resample, whole_taps


class TorchBackend:
    """See `learned_downscale.engine.Backend`."""

    def __init__(self, model: Downscaler | None) -> None:
        self.factor: int | None = None if model is None else model.factor
        self.qim = 1 if model is None else model.qim
        with self.single_thread():
            self._prepare(model)

    def _prepare(self, model: Downscaler | None) -> None:
        self.int8 = int8_is_exact()
        self.name = "torch, " + ("int8" if self.int8 else "float32")
        if model is None:
            return
        make: type[Int8Layers | FloatLayers] = Int8Layers if self.int8 else FloatLayers
        integers = [(q.to("cpu", torch.float32), shift) for q, shift in model.integers()]
        self._layers = make(integers, model.factor)

    def bicubic(self, x: Array, rows: Axis, columns: Axis) -> Array:
        exact = x.dtype == np.uint8
        # Of float32, what is computed in one piece would differ in the last bits from its parts.
        across, down = (a.alone and (exact or a.grid) for a in (columns, rows))
        width = columns.stop - columns.start
        if not exact and 1 in (width, x.shape[2]):  # torch filters these wrongly
            across = down = False
        tensor = _nchw(x if across else resample(x, columns, 2))
        height = rows.stop - rows.start if down else x.shape[1]
        if tensor.shape[-2:] != (height, width):
            scales = rows.scale if down else None, columns.scale if across else None
            tensor = _bicubic(tensor, (height, width), scales)
        if down:
            return _nhwc(tensor)
        return _nhwc(_resample_rows(tensor, rows)) if exact else resample(_nhwc(tensor), rows, 1)

    def thumbnail(self, x: Array, skip: Array | None) -> Array:
        pixels = _nchw(x)
        small = (
            _bicubic(pixels, (x.shape[1] // self.factor, x.shape[2] // self.factor))
            if skip is None
            else _nchw(skip)
        )
        if self.qim > 1:
            total = np.array(_nhwc(small))
            residual = _nhwc(self._layers(pixels, None))
            total[..., :3] = embed(total[..., :3], residual, self.qim)
            return total
        return _nhwc(self._layers(pixels, small))

    def residual(self, x: Array) -> Array:
        return _nhwc(self._layers(_nchw(x), None))

    def default_threads(self) -> int:
        return torch.get_num_threads()

    @contextmanager
    def single_thread(self) -> Iterator[None]:
        # The count belongs to the calling thread, but torch sets it from its own on first use.
        before, own = torch.get_num_threads(), 0
        openmp, mkl = _limits() if before > 1 else ([], None)
        for limit in openmp:
            limit(1)
        if mkl is not None:
            own = mkl(1)  # 0: it had none
        try:
            with torch.autocast("cpu", enabled=False):
                yield
        finally:
            for limit in openmp:
                limit(before)
            if mkl is not None:
                mkl(own)


class FloatLayers:
    """The network on whole numbers kept in float32."""

    def __init__(self, integers: list[tuple[Tensor, int]], factor: int) -> None:
        self.factor = factor
        last = torch.channels_last
        self.weights = [(q.contiguous(memory_format=last), 2.0**-shift) for q, shift in integers]

    def __call__(self, x: Tensor, skip: Tensor | None) -> Tensor:
        (stem, a), (hidden, b), (out, c) = self.weights
        h = F.conv2d(x[:, :3].float(), stem, stride=self.factor)
        h = h.mul_(a).round_().clamp_(0, MAX_ACTIVATION)
        h = F.conv2d(h, hidden, padding=1).mul_(b).round_().clamp_(0, MAX_ACTIVATION)
        added = F.conv2d(h, out, padding=out.shape[-1] // 2).mul_(c)
        if skip is None:
            return added
        total = skip.contiguous(memory_format=torch.channels_last).clone()
        total[:, :3] = added.add_(skip[:, :3]).round_().clamp_(0, 255).to(torch.uint8)
        return total


class Int8Layers:
    """The network by oneDNN's 8-bit convolutions, the last one adding to the bicubic thumbnail.

    They compute 16 channels in the time of one. So those of fewer channels compute several pixels
    of a row at once: their channels lie one behind the other, as those of one pixel do.
    """

    LANES = 16
    LAST = 4  # pixels at once in the last layer: of 3 or 4 samples each

    def __init__(self, integers: list[tuple[Tensor, int]], factor: int) -> None:
        self.factor = f = factor
        (stem, a), (hidden, b), (out, c) = integers
        channels = len(stem)
        self.abreast = n = {4: 4, 8: 2}.get(channels, 1)
        # PIL's pixels have 4 bytes; the fourth is not looked at.
        fourth = F.pad(stem, (0, 0, 0, 0, 0, 1))
        self.stem = {len(q[0]): Convolution(q, a, 1, n, stride=f) for q in (stem, fourth)}
        self.hidden = Convolution(hidden, b, n, n, padding=1)
        reach = out.shape[-1] // 2
        kept = torch.cat([out, torch.zeros_like(out[:1])])  # a fourth sample stays as it is
        self.out = {len(q): Convolution(q, c, n, self.LAST, padding=reach) for q in (out, kept)}

    def __call__(self, x: Tensor, skip: Tensor | None) -> Tensor:
        n, _, height, width = x.shape
        height, width = height // self.factor, width // self.factor
        missing = -width % self.LAST
        if -width % self.abreast:
            # of black, the stem makes 0, as there is nothing outside of the image
            x = F.pad(x, (0, missing * self.factor)).contiguous(memory_format=torch.channels_last)
        h = self.stem[x.shape[1]](x)
        h = self.hidden(h)
        pixels = h.shape[3] * self.abreast
        if pixels > width:
            flat = h.permute(0, 2, 3, 1).view(n, height, pixels, -1)
            flat[:, :, width:] = 0
        elif missing:
            h = F.pad(h, (0, missing // self.abreast)).contiguous(memory_format=torch.channels_last)
        samples = 3 if skip is None else skip.shape[1]
        if skip is None:
            wide = self.out[3](h, of=torch.float32)
        else:
            rows = skip.permute(0, 2, 3, 1)
            rows = F.pad(rows, (0, 0, 0, missing)) if missing else rows.contiguous()
            wide = self.out[samples].added(h, rows.view(n, height, -1, self.LAST * samples))
        small = wide.permute(0, 2, 3, 1).reshape(n, height, -1, samples)
        return small[:, :, :width].permute(0, 3, 1, 2)


class Convolution:
    """Of whole numbers, on `before` pixels abreast, for `after` pixels abreast."""

    def __init__(
        self, q: Tensor, shift: int, before: int, after: int, stride: int = 1, padding: int = 0
    ) -> None:
        outputs, inputs, high, wide = q.shape
        first = -padding // before
        last = (stride * (after - 1) + wide - 1 - padding) // before
        weight = torch.zeros(after, outputs, before, inputs, high, last - first + 1)
        for pixel in range(after):
            for tap in range(wide):
                group, place = divmod(stride * pixel + tap - padding, before)
                weight[pixel, :, place, :, :, group - first] = q[..., tap]
        packed = weight.flatten(2, 3).flatten(0, 1)
        step = [stride, stride * after // before]
        self.shape = step, [padding, -first], [1, 1], 1  # stride, padding, dilation, groups
        scale = torch.full((len(packed),), 2.0**-shift, dtype=torch.float32, device="cpu")
        typical = [1, packed.shape[1], 32 * step[0], 256 * step[1]]
        prepacked = torch.ops.onednn.qconv_prepack(
            packed.to(torch.int8), scale, 1.0, 0, *self.shape, typical
        )
        zeros = torch.zeros(len(packed), dtype=torch.int32, device="cpu")
        self.weight = prepacked, scale, zeros

    def __call__(self, x: Tensor, of: torch.dtype = torch.uint8) -> Tensor:
        """uint8 with ReLU, or float32 without."""
        op, relu = torch.ops.onednn.qconv2d_pointwise, "relu" if of == torch.uint8 else "none"
        y: Tensor = op(x, 1.0, 0, *self.weight, None, *self.shape, 1.0, 0, of, relu, [], "")
        return y

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """To uint8 (n, h, w, channels), which it overwrites."""
        op, u8 = torch.ops.onednn.qconv2d_pointwise.binary, torch.uint8
        y: Tensor = op(
            x, 1.0, 0, *self.weight, to.permute(0, 3, 1, 2), None, *self.shape, 1.0, 0, u8, 1.0, 0,
            "sum", 1.0, "none", [], "",
        )  # fmt: skip
        return y


@cache
def int8_is_exact() -> bool:
    """Whether this torch on this processor has 8-bit convolutions, and they count exactly.

    Asked of the operator itself, on values that saturate what is not exact: it is not part of
    torch's stable interface, and not every processor multiplies 8-bit integers without loss.
    """
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator, device="cpu")

    x = (
        (draw(0, 2, 1, 3, 16, 36) * 255)
        .to(torch.uint8)
        .contiguous(memory_format=torch.channels_last)
    )
    skip = draw(0, 256, 1, 3, 8, 18).to(torch.uint8).contiguous(memory_format=torch.channels_last)
    integers = [
        ((draw(0, 2, *shape) * 2 - 1).to(torch.float32) * MAX_WEIGHT, shift)
        for shape, shift in (((16, 3, 2, 2), 6), ((16, 16, 3, 3), 8), ((3, 16, 3, 3), 10))
    ]
    try:
        fast, exact = Int8Layers(integers, 2), FloatLayers(integers, 2)
        return torch.equal(fast(x, None), exact(x, None)) and torch.equal(
            fast(x, skip.clone()), exact(x, skip)
        )
    except (RuntimeError, AttributeError, TypeError):
        return False


@cache
def _limits() -> tuple[list[Callable[[int], Any]], Callable[[int], int] | None]:
    """What sets how many threads the calling thread may start: of OpenMP, and of torch's MKL,
    which does not ask OpenMP. `torch.set_num_threads` is no way to limit one thread: it changes
    what threads that start later begin with."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="openmp").lib_controllers
    # a library finds the functions of those that it brought along, too
    mkl = getattr(ctypes.CDLL(torch._C.__file__), "MKL_Set_Num_Threads_Local", None)
    return [controller.dynlib.omp_set_num_threads for controller in found], mkl


def _bicubic(
    x: Tensor, size: tuple[int, int], scales: tuple[float | None, float | None] = (None, None)
) -> Tensor:
    # what F.interpolate calls, which takes no scales together with a size
    result: Tensor = torch.ops.aten._upsample_bicubic2d_aa(x, size, False, *scales)
    return result


def _nchw(x: Array) -> Tensor:
    """(N, C, H, W), channels last in memory: the same memory where x is contiguous."""
    x = np.ascontiguousarray(x)
    if not x.flags.writeable:  # torch warns of these, though nobody writes
        x = np.asarray(_Writeable(x))
    # a batch of one may have any stride, and only the usual one takes torch's fast ways
    return torch.from_numpy(x).view(-1).view(x.shape).permute(0, 3, 1, 2)


class _Writeable:
    """The memory of an array, said to be writeable."""

    def __init__(self, array: Array) -> None:
        self.array = array  # kept alive
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _nhwc(x: Tensor) -> Array:
    array: Array = x.permute(0, 2, 3, 1).numpy()
    return array


def _resample_rows(x: Tensor, axis: Axis) -> Tensor:
    """The rows of uint8 x, where they do not fall on a grid that `F.interpolate` takes."""
    n, channels, length, width = x.shape
    index, weights, bits = whole_taps(axis, length)
    # Sums of products stay whole below 2^24 in float32, and always in float64.
    kind = torch.float32 if bits <= 15 else torch.float64
    flat = x.permute(0, 2, 3, 1).reshape(n, length, width * channels)
    out = torch.empty((n, len(index), width * channels), dtype=torch.uint8, device="cpu")
    for start in range(0, len(index), 16):
        part = slice(start, start + 16)
        first, last = int(index[part].min()), int(index[part].max()) + 1
        # of 1 / 2^bits, and another row for the half that rounds: what is left is to cut off
        matrix = np.zeros((len(index[part]), last - first + 1))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], index[part] - first), weights[part])
        matrix[:, -1] = (1 << bits) >> 1
        whole = torch.from_numpy(matrix * 0.5**bits).to(kind)
        for left in range(0, flat.shape[2], 4096):  # fits the processor's cache
            columns = slice(left, left + 4096)
            samples = flat[:, first:last, columns].to(kind)
            samples = F.pad(samples, (0, 0, 0, 1), value=1.0)
            rows = torch.matmul(whole, samples).clamp_(0, 255)
            out[:, part, columns] = rows.to(torch.uint8)
    return out.view(n, len(index), width, channels).permute(0, 3, 1, 2)
