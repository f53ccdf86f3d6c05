"""`Resizer`: weights, size, backend, device and threads, bound once; what every door uses."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from PIL import Image

from learned_downscale import pretrained
from learned_downscale.core.arguments import check_flag
from learned_downscale.engine import groups, loading
from learned_downscale.engine.backend import BackendName, check_choices, choose
from learned_downscale.engine.groups import Job
from learned_downscale.pixels.values import check_range
from learned_downscale.plan import Plan, Rounding, check_size, make_plan, plain, target_size

if TYPE_CHECKING:
    from torch import Tensor

    from learned_downscale.core.decoder import Decoder
    from learned_downscale.core.downscaler import Downscaler
    from learned_downscale.core.resampling import Array
    from learned_downscale.engine.backend import Backend
    from learned_downscale.engine.device import DeviceBackend
    from learned_downscale.engine.thumbnail import Tiling
    from learned_downscale.pixels import ChannelOrder

    # A subclass of PIL's Image, as a file gives it, comes back as an Image.
    I = TypeVar("I", Image.Image, Array, Tensor)  # noqa: E741

    class Options(TypedDict, total=False):
        """The keyword arguments of `Resizer`."""

        weights: str | Path | Downscaler | None
        revision: str | None
        rounding: Rounding
        channel_order: ChannelOrder
        backend: BackendName
        device: Any
        num_threads: int | None
        exact: bool
        linear_light: bool
        value_range: tuple[float, float] | None


# The weights that are chosen from where none are named, by native factor.
DEFAULT_WEIGHTS = {2: "x2", 4: "x4"}


class Resizer:
    """Makes images smaller, always in the same way; `resize` with everything but the image bound.

        resizer = Resizer(4)
        thumbnail = resizer(image)

    Picklable, for DataLoader workers of any start method, and safe to call from several threads.
    Weights are read once a process and shared by all Resizers.

    Args:
        size: a factor of 1 or more, which divides both sides; or an exact (width, height).
        weights: a bundled name, a folder, a Hugging Face model id, or a `Downscaler` (as it is
            now: train a copy). Default: x4 or x2, whichever fits.
        revision: branch, tag or commit of a Hub model; pin a commit in production.
        rounding, channel_order, backend, device, num_threads, exact, linear_light, value_range: as
            for `resize`.

    Attributes:
        weights: names of the weights by native factor.
        needs_rgb: whether they take colour images only.
        needs_lossless: whether their thumbnails must be stored losslessly (PNG, lossless WebP).
        has_decoder: whether a decoder belongs to them.
        tiling: how the work is cut into tiles (`engine.thumbnail.Tiling`); results do not depend
            on it.

    Raises:
        as `resize`, for what does not depend on the image.
    """

    def __init__(
        self,
        size: float | tuple[int, int],
        *,
        weights: str | Path | Downscaler | None = None,
        revision: str | None = None,
        rounding: Rounding = "up",
        channel_order: ChannelOrder = "rgb",
        backend: BackendName = "auto",
        device: Any = None,
        num_threads: int | None = None,
        exact: bool = False,
        linear_light: bool = False,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        check_size(size)
        check_choices(rounding, channel_order, backend, num_threads)
        check_range(value_range)
        check_flag("exact", exact)
        check_flag("linear_light", linear_light)
        if isinstance(weights, str):
            weights, revision = loading.pinned(weights, revision)
        self._options = {
            "size": size,
            "weights": weights,
            "revision": revision,
            "rounding": rounding,
            "channel_order": channel_order,
            "backend": backend,
            "device": device,
            "num_threads": num_threads,
            "exact": exact,
            "linear_light": linear_light,
            "value_range": value_range,
        }
        self.size, self.rounding, self.channel_order = size, rounding, channel_order
        self.num_threads, self.exact = num_threads, exact
        self.linear_light, self.value_range = linear_light, value_range
        self.tiling: Tiling | None = None
        if backend == "onnx" and device is not None and str(device) != "cpu":
            raise ValueError(
                f"backend onnx computes on the CPU, not on {device}; choose torch or auto"
            )
        self._kind, self._why = choose(backend)
        self._device, self._given, self._revision = device, weights, revision
        self._own: dict[str, Backend | DeviceBackend] = {}  # of a Downscaler, by device
        self.weights, facts = self._described()
        self.needs_rgb = self.needs_lossless = facts.qim > 1
        self.has_decoder = facts.has_decoder
        if linear_light and self.needs_lossless:
            raise ValueError(
                f"the weights {weights} embed a payload, which linear_light would destroy; leave "
                "it out, or use weights without a payload (x4, x2)"
            )
        if weights is not None:
            self._backend(next(iter(self.weights)), "")  # or say at once what is wrong with it

    def __getstate__(self) -> dict[str, Any]:
        return self._options

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__(**options)  # type: ignore[misc]

    def __repr__(self) -> str:
        given = {k: v for k, v in self._options.items() if k != "size" and v is not None}
        return f"Resizer({self.size}, {', '.join(f'{k}={v!r}' for k, v in given.items())})"

    @overload
    def __call__(self, image: I) -> I: ...
    @overload
    def __call__(self, image: list[I]) -> list[I]: ...
    @overload
    def __call__(self, image: list[Any]) -> list[Any]: ...

    def __call__(self, image: Any) -> Any:
        """The thumbnail of an image, or of each of a list; see `resize` for kinds and errors."""
        if isinstance(image, list):
            return [result for result, _ in self.planned(image)]
        return self._run([image])[0][0]

    def planned(self, images: list[Any]) -> list[tuple[Any, Plan]]:
        """The thumbnails of a list of images, each with what was done."""
        return self._run(images, many=True)

    def plan(self, source: tuple[int, int]) -> Plan:
        """What is done to an RGB image of `source` (width, height).

        Raises:
            TypeError, ValueError: as `resize`, for a size that does not fit.
        """
        return make_plan(
            source,
            target_size(source, self.size, self.rounding),
            self.weights,
            required=self._given is not None,
            exact=self.exact,
        )

    def to(self, size: tuple[int, int]) -> Resizer:
        """A Resizer for thumbnails of another size, (width, height), with all else shared."""
        other = copy.copy(self)
        other._options = {**self._options, "size": size}
        other.size = size
        return other

    def rows(self, rows: Iterable[Array], source: tuple[int, int]) -> Iterator[Array]:
        """The thumbnail of an image that arrives in blocks of rows, in blocks of rows; see
        `downscale_rows`. Computed on the CPU.

        Raises:
            ValueError: the Resizer has another device, or `linear_light`.
        """
        from learned_downscale.engine.window import Window

        if self.linear_light:
            raise ValueError("rows are averaged as sRGB levels; leave linear_light out")

        if isinstance(source, numbers.Number):
            raise TypeError(f"source is {source!r}; expected the image's (width, height)")
        if self._device is not None and str(self._device) != "cpu":
            raise ValueError(f"rows are computed on the CPU, not on {self._device}")
        width, height = target_size(source, source)  # two whole numbers of 1 or more
        plan = self.plan((width, height))
        window = Window(rows, width, height, self.value_range)
        if plan.source == plan.target:
            return window.copies()
        return self._stream(window, plan)

    def _stream(self, window: Any, plan: Plan) -> Iterator[Array]:
        from learned_downscale.engine.thumbnail import TILING
        from learned_downscale.engine.tiles import in_rows
        from learned_downscale.pixels import arrays

        first = window.first()
        samples, pack = arrays.source_of(
            (window.height, *first.shape[1:]),
            first.dtype,
            arrays.array_values(first, self.value_range),
            window.take,
            self.channel_order,
        )
        if samples.colours != 3:
            self._check_room("grey")
        backend: Any = self._backend(plan.learned, "")
        size = plan.target[1], plan.target[0]
        tiling = self.tiling or TILING
        for needed, compute in in_rows(
            samples, size, backend, self.num_threads, tiling, self.exact
        ):
            window.move(needed)
            if (rows := compute()) is not None:
                yield pack(rows[None])
        window.finish()

    def decoder(self) -> Decoder | None:
        """The decoder that belongs to the weights; None where there is none."""
        if not self.has_decoder:
            return None
        from learned_downscale.core.decoder import Decoder

        assert isinstance(self._given, (str, Path))
        return pretrained.load(Decoder, self._given, revision=self._revision)

    # -- what runs ------------------------------------------------------------------------------

    def _described(self) -> tuple[dict[int, str], loading.Facts]:
        """Names by native factor, and what must be known of the weights."""
        given = self._given
        if given is None:
            return DEFAULT_WEIGHTS, loading.Facts(0, 1, False)
        if isinstance(given, (str, Path)):
            if given == "":
                raise ValueError("weights is an empty name; give a name, a folder, or None")
            facts = loading.read_facts(given, self._revision, loading.stamp(given))
            return {facts.factor: str(given)}, facts
        from learned_downscale.core.downscaler import Downscaler

        if not isinstance(given, Downscaler):
            raise TypeError(
                f"weights is a {type(given).__name__}; expected a name, a folder or a Downscaler"
            )
        given.check_precision()
        if self._kind == "onnx":
            raise TypeError("backend onnx takes weights by name or folder, not as a Downscaler")
        return {given.factor: "a given Downscaler"}, loading.Facts(given.factor, given.qim, False)

    def _backend(self, factor: int | None, device: str) -> Backend | DeviceBackend:
        """What computes a native factor, or bicubic alone, on a device ("": the CPU)."""
        if factor is None or self._given is None:
            name = None if factor is None else self.weights[factor]
            return loading.load_backend(name, None, self._kind, device, None)
        if isinstance(self._given, (str, Path)):
            stamp = loading.stamp(self._given)
            return loading.load_backend(self._given, self._revision, self._kind, device, stamp)
        if device not in self._own:
            self._own[device] = loading.on_device(self._given, device)
        return self._own[device]

    def _run(self, images: list[Any], many: bool = False) -> list[tuple[Any, Plan]]:
        jobs = []
        for i, image in enumerate(images):
            try:
                jobs.append(self._job(image))
            except Exception as error:
                if many:
                    error.add_note(f"at place {i} of the list of {len(images)} images")
                raise
        self._compute_all(groups.alike(jobs))
        return [(job.result, job.plan) for job in jobs]

    def _job(self, image: Any) -> Job:
        from learned_downscale import pixels
        from learned_downscale.pixels import pictures

        source = pixels.size_of(image)
        plan = self.plan(source)
        device = self._device_of(image)
        mode = getattr(image, "mode", None)
        if source != plan.target and mode in (*pictures.BICUBIC_ONLY, *pictures.INEXACT):
            self._check_room(f"of mode {mode}")
        if mode in pictures.BICUBIC_ONLY:
            if source != plan.target:
                reason = f"plain bicubic: the weights are for RGB, not for {mode}"
                plan = replace(plain(source, plan.target, reason), backend="Pillow")
            # always a copy
            return Job(plan, result=image.resize(plan.target, Image.Resampling.BICUBIC))
        # what is refused is refused at any size
        samples, pack = pixels.unpack(image, self.channel_order, self.value_range)
        if source == plan.target:
            copy = pixels.copy_of(image)
            moved = self._device is not None and pixels.is_tensor(copy)
            return Job(plan, result=copy.to(self._device) if moved else copy)
        if samples.colours != 3:
            self._check_room("grey")
        return Job(plan, image, samples, pack, device)

    def _check_room(self, image_is: str) -> None:
        """Raise ValueError if an image without three colours cannot hold the weights' payload."""
        if self.needs_rgb:
            raise ValueError(
                f"the weights {next(iter(self.weights.values()))} embed a payload in three colour "
                f"channels, and the image is {image_is}: convert it to RGB first, or use weights "
                "without a payload (x4, x2)"
            )

    def _device_of(self, image: Any) -> str:
        """Where to compute, as torch names it; "" for the CPU."""
        if self.linear_light:
            return ""
        own = str(getattr(image, "device", "cpu"))
        if self._device is None and own.startswith("cuda"):
            name = own  # it computes, since it holds the image
        else:
            asked = own if self._device is None else self._device
            if str(asked) == "cpu":
                return ""
            choose("torch")  # or say how to install it
            from learned_downscale.engine.device import check

            name = check(asked)
        if name and self._kind == "onnx":
            raise ValueError(f"backend onnx computes on the CPU, not on {name}; choose torch")
        return name

    def _compute_all(self, alike: list[list[Job]]) -> None:
        """The thumbnails of groups of images that are alike: several groups at once where there
        are many, else one after the other, each by several threads."""
        from learned_downscale.engine.tiles import run

        on_cpu = [group for group in alike if not group[0].device]
        backend: Any = self._backend(on_cpu[0][0].plan.learned, "") if on_cpu else None
        threads = self.num_threads or (backend.default_threads() if backend else 1)
        if threads > 1 and len(on_cpu) >= 2 * threads:
            run(on_cpu, lambda group: self._compute(group, 1), backend, threads)
            alike = [group for group in alike if group[0].device]
        for group in alike:
            self._compute(group, self.num_threads)

    def _compute(self, group: list[Job], num_threads: int | None) -> None:
        """The thumbnails of images that are alike."""
        from learned_downscale.core.source import stack
        from learned_downscale.engine.thumbnail import TILING
        from learned_downscale.engine.tiles import downscale

        plan, device = group[0].plan, group[0].device
        size = plan.target[1], plan.target[0]
        backend: Any = self._backend(plan.learned, device)
        if device:
            for job in group:
                of = job.image, job.samples, job.pack, self.channel_order
                job.result = backend.downscale(*of, size, num_threads, self.exact)
        else:
            one = len(group) == 1
            samples = group[0].samples if one else stack([job.samples for job in group])
            tiling = self.tiling or TILING
            if self.linear_light:
                from learned_downscale.engine.linear import in_linear_light

                plain: Any = self._backend(None, "")
                small = in_linear_light(samples, size, backend, plain, num_threads, tiling)
            else:
                small = downscale(samples, size, backend, num_threads, tiling, self.exact)
            for i, job in enumerate(group):
                job.result = job.pack(small if one else small[i : i + 1].copy())
        for job in group:
            job.plan = replace(job.plan, backend=f"{backend.name}: {self._why}")
