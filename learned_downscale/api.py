"""`resize` and `downscale_rows`: a `Resizer` for one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack, overload

from learned_downscale.core.arguments import check_flag
from learned_downscale.resizer import Resizer

if TYPE_CHECKING:
    from learned_downscale.core.downscaler import Downscaler
    from learned_downscale.core.resampling import Array
    from learned_downscale.engine.backend import BackendName
    from learned_downscale.pixels import ChannelOrder
    from learned_downscale.plan import Plan, Rounding
    from learned_downscale.resizer import I, Options

Size: TypeAlias = "float | tuple[int, int]"


@overload
def resize(
    image: I, size: Size, *, return_plan: Literal[False] = ..., **options: Unpack[Options]
) -> I: ...
@overload
def resize(
    image: list[I], size: Size, *, return_plan: Literal[False] = ..., **options: Unpack[Options]
) -> list[I]: ...
@overload
def resize(
    image: I, size: Size, *, return_plan: Literal[True], **options: Unpack[Options]
) -> tuple[I, Plan]: ...
@overload
def resize(
    image: list[I], size: Size, *, return_plan: Literal[True], **options: Unpack[Options]
) -> tuple[list[I], list[Plan]]: ...
@overload
def resize(
    image: list[Any], size: Size, *, return_plan: bool = ..., **options: Unpack[Options]
) -> Any: ...


def resize(
    image: Any,
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
    return_plan: bool = False,
) -> Any:
    """Make an image smaller with a learned downscaler; the same kind of image comes back.

    The whole image becomes the whole thumbnail, as in `PIL.Image.resize`. The largest native
    factor that fits (4, then 2) is learned; what remains is resampled before it (see `exact`).
    **Below a factor of 2 (a side longer than half the image's, rounded up) the result is plain
    bicubic**, Pillow's to within one level for opaque 8-bit grey and RGB (more where an image is
    over twice as tall as wide: Pillow filters its columns first then); so it is for PIL modes CMYK
    and LAB at any factor.

    Args:
        image: a PIL image of any mode; a numpy array (H, W) or (H, W, C); a torch tensor
            (C, H, W) or (N, C, H, W), on any device. C is 1 (grey), 2 (grey, alpha), 3 (RGB) or
            4 (RGB, alpha). Arrays and tensors are uint8, uint16, float16, float32 or float64
            (tensors bfloat16, too), or int16; floats lie in [0, 1] (see `value_range`), NaN is
            refused, and they are computed in float32. Colours
            are weighted by alpha, so transparent pixels do not bleed. Never changed. Or a list of
            images, of any kinds and sizes, which gives a list. An array may be larger than the
            memory (numpy.memmap): it is read in strips.
        size: a factor of 1 or more, which divides both sides; or an exact (width, height),
            whatever the kind of image. The image's own size, or 1, gives a copy.
        rounding: of the sides when `size` is a factor: "up" (default), "nearest" (half to even)
            or "down"; never below 1 pixel.
        channel_order: "rgb", or "bgr" for arrays and tensors as OpenCV has them. PIL images know
            their own.
        weights: a bundled name, a folder, a Hugging Face model id or a `Downscaler` to use instead
            of the bundled x2 and x4. Those with a payload (x4-machine, x2-machine) give 8 bits,
            whatever the dtype, and take colour images only.
        revision: branch, tag or commit of a Hub model; pin a commit in production.
        backend: "torch", "onnx" (ONNX Runtime, extra `onnx`; does not import torch) or "auto":
            torch where it is installed, which is the faster. They differ by at most one level, two
            in a rare tie; with a payload, rarely, by its `qim`.
        device: where to compute, as torch names it ("cuda"). Default: a tensor's own device, else
            the CPU. Transparent images are computed on the CPU.
        num_threads: how many threads may work on the CPU; default: as many as torch would take.
            Memory used besides the image and the thumbnail: below 64 MiB for opaque 8-bit arrays;
            PIL images and tensors take one more copy of the thumbnail.
        exact: always compute the residual of the image resampled to factor times the thumbnail by
            antialiased bicubic. Default: where the image is larger or smaller than that by at most
            a sixteenth, of its own pixels, which is several times faster; and where 8-bit images
            are over 8 times the thumbnail, all is made of the means of blocks of pixels, an image
            of at least 4 times the thumbnail's sides, as Pillow does it with `reducing_gap`.
        linear_light: average colours as light (sRGB decoded), where bicubic averages levels; what
            the network adds is that of the levels. Slower; on the CPU; without means of blocks and
            patches, as with `exact`. Not for weights with a payload.
        value_range: (low, high), the values of black and white, for floats and 16 bits; the result
            lies within it. Default: [0, 1] for floats, all that 16 bits hold, and of PIL modes F
            and I, which hold anything, the image's own least and largest value. The network sees
            256 levels of it. Not for images with alpha. On the CPU.
        return_plan: also return the `Plan`: (image, plan).

    Returns:
        A new image of the same kind, dtype and channel order. PIL images keep mode and `.info`,
        except that palettes (P, PA) and bits (1) are promoted to L or RGB, or to LA or RGBA where
        one of their colours is transparent. Tensors are detached and stay on their device.

    Raises:
        TypeError: an unknown kind of image or dtype (complex, bool, int32, ...), or a size that
            is not a number or a pair of whole numbers.
        FileNotFoundError: there are no such weights.
        ValueError: a size of zero or below, an enlargement, an empty image, a wrong rank or
            number of channels, floats outside the range, NaN, weights whose factor does not fit,
            weights with a payload for a grey, CMYK or LAB image, damaged weights, an unknown
            backend, or fewer than one thread.
        ImportError: the backend is not installed.
        RuntimeError: torch has no such device here.

    Repeated calls share what they load; `Resizer` binds all but the image.

    Source: the downscaler is the paper's; the plan for other factors is ours.
    """
    resizer = Resizer(
        size,
        weights=weights,
        revision=revision,
        rounding=rounding,
        channel_order=channel_order,
        backend=backend,
        device=device,
        num_threads=num_threads,
        exact=exact,
        linear_light=linear_light,
        value_range=value_range,
    )
    check_flag("return_plan", return_plan)
    if not return_plan:
        return resizer(image)
    if not isinstance(image, list):
        return resizer.planned([image])[0]
    pairs = resizer.planned(image)
    return [result for result, _ in pairs], [plan for _, plan in pairs]


def downscale_rows(
    rows: Iterable[Array],
    source: tuple[int, int],
    size: float | tuple[int, int],
    *,
    rounding: Rounding = "up",
    channel_order: ChannelOrder = "rgb",
    weights: str | Path | Downscaler | None = None,
    revision: str | None = None,
    backend: BackendName = "auto",
    num_threads: int | None = None,
    exact: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Iterator[Array]:
    """`resize` of an image that comes in blocks of rows, in blocks of rows; the same pixels.

    Args:
        rows: numpy arrays (k, W) or (k, W, C), each the next k rows of the image, k as you like;
            dtypes and C as for `resize`, the same for all. Pulled as they are needed.
        source: (width, height) of the image.
        size, rounding, channel_order, weights, revision, backend, num_threads, exact, value_range:
            as for `resize`. Where blocks of pixels are averaged first, their means are kept, at
            most 4 million pixels.

    Yields:
        Arrays (k, w) or (k, w, C) of the same dtype, from the top to the bottom.

    Raises:
        TypeError, ValueError, ImportError: as `resize`; ValueError, too, if the blocks are of
            several kinds, or hold fewer or more rows than `source` says.
    """
    return Resizer(
        size,
        weights=weights,
        revision=revision,
        rounding=rounding,
        channel_order=channel_order,
        backend=backend,
        num_threads=num_threads,
        exact=exact,
        value_range=value_range,
    ).rows(rows, source)
