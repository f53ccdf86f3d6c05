"""resize(): what was asked -> a plan -> the learned step and a classical remainder."""

from __future__ import annotations

import copy
import math
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from learned_downscale import pretrained

if TYPE_CHECKING:
    from torch import Tensor

    from learned_downscale.downscaler import Downscaler
    from learned_downscale.pixels import ChannelOrder, Planes

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
    """

    source: tuple[int, int]
    target: tuple[int, int]
    learned: int | None
    weights: str | None
    prepared: tuple[int, int] | None
    reason: str

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
    return_plan: bool = False,
) -> Any:
    """Make an image smaller with a learned downscaler; the same kind of image comes back.

    The whole image becomes the whole thumbnail, as in `PIL.Image.resize`. The largest native
    factor that fits (4, then 2) is learned; the remainder is antialiased bicubic before it.
    **Below a factor of 2 (a side longer than half the image's, rounded up) the result is plain
    bicubic**, Pillow's to within one level for opaque 8-bit grey and RGB; so it is for PIL modes
    CMYK and LAB at any factor.
    `return_plan` says what was done.

    Args:
        image: a PIL image of any mode; a numpy array (H, W) or (H, W, C); a torch tensor
            (C, H, W) or (N, C, H, W), on any device. C is 1 (grey), 2 (grey, alpha), 3 (RGB) or
            4 (RGB, alpha). Arrays and tensors are uint8, uint16, float16, float32 or float64
            (tensors bfloat16, too); floats lie in [0, 1] and are computed in float32. Colours
            are weighted by alpha, so transparent pixels do not bleed. Never changed.
        size: a factor of 1 or more, which divides both sides; or an exact (width, height),
            whatever the kind of image. The image's own size, or 1, gives a copy.
        rounding: of the sides when `size` is a factor: "up" (default), "nearest" (half to even)
            or "down"; never below 1 pixel.
        channel_order: "rgb", or "bgr" for arrays and tensors as OpenCV has them. PIL images know
            their own.
        weights: a folder, a Hugging Face model id or a `Downscaler` to use instead of the bundled
            x2 and x4.
        return_plan: also return the `Plan`: (image, plan).

    Returns:
        A new image of the same kind, dtype and channel order. PIL images keep mode and `.info`,
        except that palettes (P, PA), bits (1) and transparent colours are promoted to L, LA, RGB
        or RGBA. Tensors are detached and stay on their device.

    Raises:
        TypeError: an unknown kind of image or dtype (complex, bool, int32, ...), or a size that
            is not a number or a pair of whole numbers.
        ValueError: a size of zero or below, an enlargement, an empty image, a wrong rank or
            number of channels, floats outside [0, 1], or weights whose factor does not fit.

    Source: E is the paper's; the plan for other factors is ours.
    """
    for name, value, choices in (
        ("rounding", rounding, tuple(_ROUND)),
        ("channel_order", channel_order, ("rgb", "bgr")),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")

    from learned_downscale import pixels

    source = pixels.size_of(image)
    target = target_size(source, size, rounding)
    model = None if weights is None else _model(weights)
    plan = make_plan(source, target, model)

    bicubic_only = getattr(image, "mode", None) in pixels.PIL_BICUBIC_ONLY
    if source == target:
        if not bicubic_only:
            pixels.unpack(image, channel_order)  # what is refused is refused at any size
        result = pixels.copy_of(image)
    elif bicubic_only:
        plan = _plain(source, target, f"plain bicubic: E is trained on RGB, not on {image.mode}")
        result = image.resize(target, 3)  # 3: PIL.Image.Resampling.BICUBIC
    else:
        planes, pack = pixels.unpack(image, channel_order)
        result = pack(_run(planes, plan, model))
    return (result, plan) if return_plan else result


def _model(weights: Any) -> Downscaler:
    from learned_downscale.downscaler import Downscaler

    if isinstance(weights, (str, Path)):
        return pretrained.load(weights)
    if not isinstance(weights, Downscaler):
        raise TypeError(
            f"weights is a {type(weights).__name__}; expected a name, a folder or a Downscaler"
        )
    return weights


def target_size(
    source: tuple[int, int], size: float | tuple[int, int], rounding: Rounding = "up"
) -> tuple[int, int]:
    """(width, height) that `resize` gives for a source (width, height); raises as `resize`."""
    if isinstance(size, numbers.Real) and not isinstance(size, bool):
        try:
            factor = float(size)
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
        sides = [] if isinstance(size, (str, bytes)) else list(size)  # type: ignore[arg-type]
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


def make_plan(
    source: tuple[int, int], target: tuple[int, int], model: Downscaler | None = None
) -> Plan:
    """The plan for an RGB image of `source` (width, height); see `Plan`.

    Raises:
        ValueError: `model` is given and its factor does not fit.
    """
    if source == target:
        return _plain(source, target, "a copy: the size stays")
    names = {model.factor: "given weights"} if model is not None else DEFAULT_WEIGHTS
    # A native factor fits where the thumbnail has no more pixels than it would give by itself.
    fitting = [
        factor
        for factor in sorted(names, reverse=True)
        if all(t <= -(-s // factor) for s, t in zip(source, target, strict=True))
    ]
    if not fitting:
        if model is not None:
            raise ValueError(
                f"the given weights divide by {model.factor}, but {source[0]} x {source[1]} to "
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


def _run(planes: Planes, plan: Plan, model: Downscaler | None) -> Planes:
    import torch

    from learned_downscale.downscaler import bicubic, quantise
    from learned_downscale.pixels import Planes

    device = planes.colour.device
    if plan.learned is None:
        model = None
    elif model is None:
        model = pretrained.load_bundled(DEFAULT_WEIGHTS[plan.learned], str(device))
    elif model.stem.weight.device != device:
        model = copy.deepcopy(model).to(device)
    size = plan.target[1], plan.target[0]
    x, alpha, levels = planes.colour, planes.alpha, planes.levels
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        colour = bicubic(x, size, levels)
        if alpha is not None:
            colour, x, alpha = _weighted(colour, x, alpha, levels)
        if model is not None:
            prepared = bicubic(x, (model.factor * size[0], model.factor * size[1]), levels)
            # Grey: E sees three equal planes, and adds the mean of what it would add to them.
            added = model.residual(prepared.expand(-1, 3, -1, -1).to(model.stem.weight.dtype))
            colour = colour + (added if x.shape[1] == 3 else added.mean(1, keepdim=True))
        colour = quantise(colour.clamp(0, 1), levels)
        if alpha is not None:
            colour = colour.where(alpha > 0, colour.new_zeros(()))
    return Planes(colour, alpha, levels)


def _weighted(
    small: Tensor, x: Tensor, alpha: Tensor, levels: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What transparency changes: the small colours, the image that E sees, and the small alpha.

    Where nothing transparent is near, all stays as it is without alpha. Elsewhere small colours
    are means weighted by alpha, and E sees the image with its transparent parts filled by the
    colours around them: what cannot be seen gives no contrast, so no rim is sharpened.
    """
    import torch.nn.functional as F

    from learned_downscale.downscaler import bicubic

    size = (small.shape[-2], small.shape[-1])
    # 9 thumbnail pixels: wider than what bicubic and E see around one
    hidden = F.max_pool2d(F.adaptive_max_pool2d(1 - alpha, size), 9, 1, 4) > 0
    # not clipped before the division: overshoot that one has and the other lacks is a false colour
    small_alpha, premultiplied = (
        F.interpolate(t, size, mode="bicubic", antialias=True) for t in (alpha, x * alpha)
    )
    seen = 0.5 / levels if levels else 1e-6  # an alpha that will not be rounded to 0
    colour = premultiplied / small_alpha.clamp(min=seen)
    around, weight = (F.avg_pool2d(t, 9, 1, 4) for t in (premultiplied, small_alpha))
    fill = (around / weight.clamp(min=seen / 81)).where(small_alpha < seen, colour)
    fill = F.interpolate(fill.clamp(0, 1), x.shape[-2:], mode="bilinear")
    filled = x * alpha + fill * (1 - alpha)
    return colour.where(hidden, small), filled, bicubic(alpha, size, levels)
