"""resize(): what was asked -> a plan -> the learned step and a classical remainder."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from learned_downscale import engine, pretrained

if TYPE_CHECKING:
    from learned_downscale.downscaler import Downscaler
    from learned_downscale.pixels import ChannelOrder

Rounding = Literal["up", "nearest", "down"]
_ROUND = {"up": math.ceil, "nearest": round, "down": math.floor}

# The weights that resize() chooses from, by native factor.
DEFAULT_WEIGHTS = {2: "x2", 4: "x4"}


@dataclass(frozen=True)
class Plan:
    """How an image is made smaller.

    source, target: (width, height) in pixels.
    learned: E's native factor, or None where all is plain bicubic.
    weights: what E's weights are called, or None.
    prepared: (width, height) that the image is brought to by antialiased bicubic before E's
        residual is taken; equal to `source` where nothing is left over. None without E.
    backend: what computed it and why that, once it has been.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    learned: int | None
    weights: str | None
    prepared: tuple[int, int] | None
    reason: str
    backend: str | None = None

    def __str__(self) -> str:
        (w, h), (tw, th) = self.source, self.target
        return f"{w}x{h} -> {tw}x{th}: {self.reason}"


def resize(
    image: Any,
    size: float | tuple[int, int],
    *,
    rounding: Rounding = "up",
    channel_order: ChannelOrder = "rgb",
    weights: str | Path | Downscaler | None = None,
    backend: engine.BackendName = "auto",
    device: Any = None,
    num_threads: int | None = None,
    return_plan: bool = False,
) -> Any:
    """Make an image smaller with a learned downscaler; the same kind of image comes back.

    The whole image becomes the whole thumbnail, as in `PIL.Image.resize`. The largest native
    factor that fits (4, then 2) is learned; the remainder is antialiased bicubic before it.
    **Below a factor of 2 (a side longer than half the image's, rounded up) the result is plain
    bicubic**, Pillow's to within one level for opaque 8-bit grey and RGB (more where an image is
    over twice as tall as wide: Pillow filters its columns first then); so it is for PIL modes CMYK
    and LAB at any factor.
    `return_plan` says what was done.

    Args:
        image: a PIL image of any mode; a numpy array (H, W) or (H, W, C); a torch tensor
            (C, H, W) or (N, C, H, W), on any device. C is 1 (grey), 2 (grey, alpha), 3 (RGB) or
            4 (RGB, alpha). Arrays and tensors are uint8, uint16, float16, float32 or float64
            (tensors bfloat16, too); floats lie in [0, 1] and are computed in float32. Colours
            are weighted by alpha, so transparent pixels do not bleed. Never changed. Or a list of
            images, of any kinds and sizes, which gives a list. An array may be larger than the
            memory (numpy.memmap): it is read in strips.
        size: a factor of 1 or more, which divides both sides; or an exact (width, height),
            whatever the kind of image. The image's own size, or 1, gives a copy.
        rounding: of the sides when `size` is a factor: "up" (default), "nearest" (half to even)
            or "down"; never below 1 pixel.
        channel_order: "rgb", or "bgr" for arrays and tensors as OpenCV has them. PIL images know
            their own.
        weights: a folder, a Hugging Face model id or a `Downscaler` to use instead of the bundled
            x2 and x4. Those with a code (`Downscaler.modulus` above 1, as x4-machine) give 8 bits,
            whatever the dtype, and take colour images only.
        backend: "torch", "onnx" (ONNX Runtime, extra `onnx`; does not import torch) or "auto":
            torch where it is installed, which is the faster. They differ by at most one level, two
            in a rare tie; with a code, rarely, by its modulus.
        device: where to compute, as torch names it ("cuda"). Default: a tensor's own device, else
            the CPU. Transparent images are computed on the CPU.
        num_threads: how many threads may work on the CPU; default: as many as torch would take.
            Memory used besides the image and the thumbnail: below 64 MiB for opaque 8-bit arrays;
            PIL images and tensors take one more copy of the thumbnail.
        return_plan: also return the `Plan`: (image, plan).

    Returns:
        A new image of the same kind, dtype and channel order. PIL images keep mode and `.info`,
        except that palettes (P, PA), bits (1) and transparent colours are promoted to L, LA, RGB
        or RGBA. Tensors are detached and stay on their device.

    Raises:
        TypeError: an unknown kind of image or dtype (complex, bool, int32, ...), or a size that
            is not a number or a pair of whole numbers.
        ValueError: a size of zero or below, an enlargement, an empty image, a wrong rank or
            number of channels, floats outside [0, 1], weights whose factor does not fit, weights
            with a code for a grey, CMYK or LAB image, an unknown backend, or fewer than one thread.
        ImportError: the backend is not installed.
        RuntimeError: torch has no such device here.

    Source: E is the paper's; the plan for other factors is ours.
    """
    check_choices(rounding, channel_order, backend, num_threads)
    images = image if isinstance(image, list) else [image]
    if backend == "onnx" and device is not None and str(device) != "cpu":
        raise ValueError(f"backend onnx computes on the CPU, not on {device}; choose torch or auto")
    kind, why = engine.choose(backend)
    given = None if weights is None else load_given(weights, kind)
    jobs = []
    for i, one in enumerate(images):
        try:
            jobs.append(_job(one, size, rounding, channel_order, given, device))
        except Exception as error:
            if isinstance(image, list):
                error.add_note(f"at place {i} of the list of {len(images)} images")
            raise

    alike: dict[Any, list[_Job]] = {}
    for i, job in enumerate(jobs):
        if job.result is None:
            alike.setdefault(job.key if job.samples.count == 1 else i, []).append(job)
    for group in alike.values():
        by = _compute(group, kind, given, num_threads)
        for job in group:
            job.plan = replace(job.plan, backend=f"{by}: {why}")
    results, plans = [job.result for job in jobs], [job.plan for job in jobs]
    if not isinstance(image, list):
        return (results[0], plans[0]) if return_plan else results[0]
    return (results, plans) if return_plan else results


@dataclass
class _Job:
    """One image of a call: its plan, its samples, the way back to its kind, its thumbnail."""

    plan: Plan
    image: Any = None
    samples: Any = None
    pack: Any = None
    channel_order: ChannelOrder = "rgb"
    device: str = ""
    result: Any = None

    @property
    def key(self) -> Any:
        """Equal for those that can be computed together."""
        s = self.samples
        # PIL's samples have a fourth byte
        return (self.plan, type(self.image), self.device, s.colours, s.alpha, s.levels)


def _job(
    image: Any, size: Any, rounding: Rounding, channel_order: ChannelOrder, given: Any, device: Any
) -> _Job:
    from learned_downscale import pixels

    source = pixels.size_of(image)
    target = target_size(source, size, rounding)
    where = _device(image, device)
    plan = make_plan(source, target, None if given is None else given.factor)
    mode = getattr(image, "mode", None)
    coded = source != target and given is not None and given.modulus > 1
    if coded and mode in (*pixels.PIL_BICUBIC_ONLY, *pixels.PIL_INEXACT):
        raise ValueError(f"{_CODED}, which an image of mode {mode} does not hold: {_RGB}")
    if mode in pixels.PIL_BICUBIC_ONLY:
        if source != target:
            reason = f"plain bicubic: E is trained on RGB, not on {mode}"
            plan = replace(_plain(source, target, reason), backend="Pillow")
        # 3: PIL.Image.Resampling.BICUBIC; always a copy
        return _Job(plan, result=image.resize(target, 3))
    samples, pack = pixels.unpack(image, channel_order)  # what is refused is refused at any size
    if coded:
        check_colours(samples)
    if source == target:
        copy = pixels.copy_of(image)
        return _Job(plan, result=copy.to(device) if device and pixels.is_tensor(copy) else copy)
    return _Job(plan, image, samples, pack, channel_order, where)


_CODED = "the given weights write what networks read into three colours"
_RGB = "convert it to RGB first, or use weights without a code (x4, x2)"


def check_colours(samples: Any) -> None:
    """Raise ValueError if these samples, a `Source`, cannot hold the code of an E that has one."""
    if samples.colours != 3:
        raise ValueError(f"{_CODED}, and the image is grey: {_RGB}")


def _device(image: Any, device: Any) -> str:
    """Where to compute, as torch names it; "" for the CPU."""
    own = str(getattr(image, "device", "cpu"))
    if device is None and own.startswith("cuda"):
        return own  # it computes, since it holds the image
    device = own if device is None else device
    if str(device) == "cpu":
        return ""
    engine.choose("torch")  # or say how to install it
    from learned_downscale.engine.device import check

    return check(device)


def _compute(group: list[_Job], kind: str, given: Any, num_threads: int | None) -> str:
    """The thumbnails of images that are alike; returns what computed them."""
    from learned_downscale.engine.tiles import downscale, stack

    plan = group[0].plan
    size = plan.target[1], plan.target[0]
    device = group[0].device
    if device:
        from learned_downscale.engine.device import downscale as downscale_on

        if kind == "onnx":
            raise ValueError(f"backend onnx computes on the CPU, not on {device}; choose torch")
        model = given if plan.learned else None
        if plan.learned and given is None:
            model = pretrained.load_bundled(DEFAULT_WEIGHTS[plan.learned])
        for job in group:
            image, order = job.image, job.channel_order
            job.result = downscale_on(
                device, image, job.samples, job.pack, order, size, model, num_threads
            )
        return f"torch, float32 on {device}"
    runs = backend_of(kind, plan.learned, given)
    samples = group[0].samples if len(group) == 1 else stack([job.samples for job in group])
    small = downscale(samples, size, runs, num_threads)
    for i, job in enumerate(group):
        job.result = job.pack(small if len(group) == 1 else small[i : i + 1].copy())
    return runs.name


def check_choices(rounding: str, channel_order: str, backend: str, num_threads: int | None) -> None:
    """Raise ValueError for what `resize` does not know."""
    for name, value, choices in (
        ("rounding", rounding, tuple(_ROUND)),
        ("channel_order", channel_order, ("rgb", "bgr")),
        ("backend", backend, engine.BACKENDS),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
    if num_threads is None:
        return
    if isinstance(num_threads, bool) or not isinstance(num_threads, numbers.Integral):
        raise TypeError(f"num_threads is {num_threads!r}; expected a whole number, or None for all")
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; give 1 or more, or None for all")


def load_given(weights: Any, kind: str) -> Any:
    """Weights that a caller names: a Downscaler, or with the backend onnx an OnnxBackend."""
    if weights == "":
        raise ValueError("weights is an empty name; give a name, a folder, or None")
    if not isinstance(weights, (str, Path)):
        from learned_downscale.downscaler import Downscaler

        if not isinstance(weights, Downscaler):
            raise TypeError(
                f"weights is a {type(weights).__name__}; expected a name, a folder or a Downscaler"
            )
        if kind == "onnx":
            raise TypeError("backend onnx takes weights by name or folder, not as a Downscaler")
        return weights
    if kind == "torch":
        return pretrained.load(weights)
    from learned_downscale.engine.onnx_backend import OnnxBackend

    return OnnxBackend(*pretrained.load_onnx(weights))


def backend_of(kind: str, factor: int | None, given: Any) -> engine.Backend:
    """What computes a plan."""
    if factor is None or given is None:
        return _own(kind, factor)
    if kind == "onnx":
        return given
    from learned_downscale.engine.torch_backend import TorchBackend

    return TorchBackend(given)


@cache
def _own(kind: str, factor: int | None) -> engine.Backend:
    """A backend with the bundled weights of a factor, or with none; made once a process."""
    name = None if factor is None else DEFAULT_WEIGHTS[factor]
    if kind == "onnx":
        from learned_downscale.engine.onnx_backend import OnnxBackend

        return OnnxBackend(*pretrained.load_onnx(name)) if name else OnnxBackend(None, None)
    from learned_downscale.engine.torch_backend import TorchBackend

    return TorchBackend(pretrained.load_bundled(name) if name else None)


def target_size(
    source: tuple[int, int], size: float | tuple[int, int], rounding: Rounding = "up"
) -> tuple[int, int]:
    """(width, height) that `resize` gives for a source (width, height); raises as `resize`."""
    if isinstance(size, numbers.Real) and not isinstance(size, bool):
        try:
            # the 1.3 that is written, not the one that float32 holds
            factor = float(str(size) if type(size).__module__ == "numpy" else size)
        except OverflowError:
            factor = math.inf
        if not math.isfinite(factor) or factor <= 0:
            raise ValueError(f"factor is {size}; it divides the sides: give a number above 1")
        if factor < 1:
            raise ValueError(
                f"factor {size} would enlarge; it divides the sides: {1 / factor:g} makes the "
                f"image {1 / factor:g} times smaller"
            )

        # 1e-9: 110 / 1.1 is 99.99..., and 100 / 0.1 style errors must not add a pixel
        def divide(side: int) -> int:
            exact = side / factor
            whole = round(exact)
            return max(1, whole if abs(exact - whole) < 1e-9 * exact else _ROUND[rounding](exact))

        return divide(source[0]), divide(source[1])
    try:
        unordered = isinstance(size, (str, bytes, Set, Mapping, Iterator))
        sides = [] if unordered else list(size)  # type: ignore[arg-type]
    except TypeError:
        sides = []
    if len(sides) != 2:
        raise TypeError(f"size is {size!r}; expected a factor such as 4, or (width, height)")
    if any(isinstance(s, bool) or not isinstance(s, numbers.Integral) for s in sides):
        raise TypeError(f"size is {size!r}; width and height are whole numbers of pixels")
    width, height = int(sides[0]), int(sides[1])
    if width < 1 or height < 1:
        raise ValueError(f"size is {width} x {height}; both sides must be at least 1 pixel")
    if width > source[0] or height > source[1]:
        raise ValueError(
            f"{source[0]} x {source[1]} to {width} x {height} would enlarge; a downscaler only "
            "makes images smaller (size is (width, height), in this order)"
        )
    return width, height


def make_plan(source: tuple[int, int], target: tuple[int, int], given: int | None = None) -> Plan:
    """The plan for an RGB image of `source` (width, height); see `Plan`.

    given: the factor of weights to use instead of the bundled ones.

    Raises:
        ValueError: the given factor does not fit.
    """
    if source == target:
        return _plain(source, target, "a copy: the size stays")
    names = DEFAULT_WEIGHTS if given is None else {given: "given weights"}
    # A native factor fits where the thumbnail has no more pixels than it would give by itself.
    fitting = [
        factor
        for factor in sorted(names, reverse=True)
        if all(t <= -(-s // factor) for s, t in zip(source, target, strict=True))
    ]
    if not fitting:
        if given is not None:
            raise ValueError(
                f"the given weights divide by {given}, but {source[0]} x {source[1]} to "
                f"{target[0]} x {target[1]} is less; ask for a smaller image, or give no weights"
            )
        return _plain(source, target, f"plain bicubic: the factor is below {min(names)}")
    factor = fitting[0]
    prepared = (factor * target[0], factor * target[1])
    reason = f"learned x{factor} ({names[factor]})"
    if prepared != source:
        reason = f"bicubic to {prepared[0]}x{prepared[1]}, then " + reason
    return Plan(source, target, factor, names[factor], prepared, reason)


def _plain(source: tuple[int, int], target: tuple[int, int], reason: str) -> Plan:
    return Plan(source, target, None, None, None, reason)
