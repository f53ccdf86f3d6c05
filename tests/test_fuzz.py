"""Images of every kind, dtype, shape and memory layout, in every size: a result of the right kind,
or a ValueError or TypeError that says something; and the input as it was."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from learned_downscale import Resizer, pillow, resize

hypothesis = pytest.importorskip("hypothesis", reason="needs the extra [test]")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10000"))
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB",
         "HSV", "I", "F", "I;16", "I;16B"]  # fmt: skip
DTYPES = ["uint8", "uint16", "int16", "float16", "float32", "float64", "int32", "bool", ">u2",
          "complex64", "int8"]  # fmt: skip

sides = st.integers(1, 70)


def mostly(valid: Any, anything: Any) -> Any:
    return st.integers(0, 9).flatmap(lambda n: valid if n else anything)


sizes = mostly(
    st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.floats(1, 20),
        st.sampled_from([1, 1.5, 2, 2.5, 3, 4, 5, 8, 100]),
    ),
    st.one_of(
        st.tuples(st.integers(-1, 75), st.integers(-1, 75)),
        st.sampled_from([0, 0.5, float("nan"), float("inf"), -4, "4", None, (1, 2, 3)]),
    ),
)
options = mostly(
    st.fixed_dictionaries(
        {},
        optional={
            "rounding": st.sampled_from(["up", "nearest", "down"]),
            "channel_order": st.sampled_from(["rgb", "bgr"]),
            "num_threads": st.sampled_from([None, 1, 2, 3]),
            "exact": st.booleans(),
            "linear_light": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "weights": st.sampled_from(["x2", "x4", "x4-machine", "x4-jpeg", "x2-machine", ""]),
            "rounding": st.sampled_from(["up", "floor"]),
            "channel_order": st.sampled_from(["rgb", "hsv"]),
            "num_threads": st.sampled_from([2, 0, 1.5]),
            "value_range": st.sampled_from([(0, 1), (-5, 300), (1, 0), (0, float("nan")), 3]),
        },
    ),
)


@st.composite
def arrays(draw: Any) -> Any:
    """numpy arrays: dtypes, ranks, channels, strides of all kinds, values beyond the range."""
    dtype = draw(mostly(st.sampled_from(DTYPES[:6]), st.sampled_from(DTYPES)))
    channels = draw(mostly(st.sampled_from([None, 1, 2, 3, 4]), st.sampled_from([0, 5])))
    shape = (draw(sides), draw(sides)) + (() if channels is None else (channels,))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.random(shape)
    low, high = draw(mostly(st.just((0, 1)), st.sampled_from([(-3, 200), (0, float("nan"))])))
    if np.dtype(dtype).kind in "iu" and high == high:
        limits = np.iinfo(dtype)
        x = limits.min + x * (float(limits.max) - limits.min)
    elif high == high:
        x = low + x * (high - low)
    else:
        x[0, 0] = high
    with np.errstate(invalid="ignore"):
        x = x.astype(dtype)
    layout = draw(st.sampled_from(["plain", "plain", "flipped", "strided", "fortran", "read-only"]))
    if layout == "flipped":
        x = x[::-1, ::-1]
    elif layout == "strided":
        x = np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2]
    elif layout == "fortran":
        x = np.asfortranarray(x)
    elif layout == "read-only":
        x.setflags(write=False)
    return x


@st.composite
def tensors(draw: Any) -> Any:
    """torch tensors of 2 to 5 dimensions."""
    good, bad = [(3,), (1,), (2, 3), (4,), (2, 2)], [(5,), (), (1, 1, 3), (0, 3)]
    shape = draw(mostly(st.sampled_from(good), st.sampled_from(bad)))
    shape = (*shape, draw(sides), draw(sides))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    good = ["uint8", "uint16", "int16", "float16", "bfloat16", "float32", "float64"]
    dtype = draw(mostly(st.sampled_from(good), st.sampled_from(["int64", "bool"])))
    kind = getattr(torch, dtype)
    x = x.to(kind) if kind.is_floating_point else (x * 255).to(kind)
    layout = draw(st.sampled_from(["plain", "channels_last", "transposed", "grad"]))
    if layout == "channels_last" and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.transpose(-1, -2)
    elif layout == "grad" and kind.is_floating_point:
        x.requires_grad_()
    return x


@st.composite
def pictures(draw: Any) -> Any:
    """PIL images of every mode, with and without a transparent colour."""
    mode = draw(st.sampled_from(MODES))
    width, height = draw(sides), draw(sides)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if mode == "F":
        image = Image.fromarray((rng.random((height, width)) * 9000 - 400).astype(np.float32))
    elif mode == "I":
        image = Image.fromarray(rng.integers(-(10**6), 10**6, (height, width)).astype(np.int32))
    elif mode.startswith("I;16"):
        image = Image.frombytes(mode, (width, height), rng.bytes(2 * width * height))
    elif mode == "1":
        image = Image.frombytes("1", (width, height), rng.bytes((width + 7) // 8 * height))
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        image = Image.frombytes(mode, (width, height), rng.bytes(bands * width * height))
    if draw(st.booleans()) and mode in ("1", "L", "P", "RGB", "I;16"):
        image.info["transparency"] = (1, 2, 3) if mode == "RGB" else 0
    return image


def kept(image: Any) -> Any:
    """What must not change."""
    if isinstance(image, Image.Image):
        return image.mode, image.size, image.tobytes(), dict(image.info)
    if isinstance(image, np.ndarray):
        return image.dtype, image.shape, image.tobytes()
    return (
        image.dtype,
        image.shape,
        image.detach().contiguous().clone().view(-1).view(torch.uint8).numpy().tobytes(),
    )


def check(image: Any, size: Any, options: dict[str, Any]) -> None:
    before = kept(image)
    try:
        out = resize(image, size, **options)
    except (ValueError, TypeError) as error:
        assert str(error).strip()
        return
    except FileNotFoundError as error:
        assert options.get("weights") == "" or "bundled are" in str(error)
        return
    finally:
        assert kept(image) == before
    plan = Resizer(size, **options).plan(size_of(image))
    assert size_of(out) == plan.target
    assert type(out) is (Image.Image if isinstance(image, Image.Image) else type(image))
    if isinstance(image, Image.Image):
        promoted = image.mode in ("1", "P", "PA") and plan.source != plan.target
        assert promoted or out.mode == image.mode
        return
    assert out.dtype == image.dtype and out.shape[2 if isinstance(out, np.ndarray) else 99:] == (
        image.shape[2 if isinstance(out, np.ndarray) else 99:])  # fmt: skip
    if out.dtype in (np.float16, np.float32, np.float64):
        low, high = options.get("value_range") or (0, 1)
        slack = 0 if plan.source != plan.target else (high - low) / 256
        assert out.min() >= low - slack - 0.1 and out.max() <= high + slack + 0.1


def size_of(image: Any) -> tuple[int, int]:
    if isinstance(image, Image.Image):
        return image.size
    shape = image.shape[:2] if isinstance(image, np.ndarray) else image.shape[-2:]
    return shape[1], shape[0]


FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@FUZZ
@given(st.one_of(arrays(), tensors(), pictures()), sizes, options)
def test_every_image_in_every_size(image: Any, size: Any, options: dict[str, Any]) -> None:
    check(image, size, options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(FUZZ, max_examples=max(1, EXAMPLES // 5))
@given(pictures(), st.tuples(*[st.floats(-2, 75)] * 4), st.tuples(st.integers(-1, 75), sides))
def test_boxes_through_the_door_of_pillow(image: Any, box: Any, size: Any) -> None:
    before = kept(image)
    try:
        out = pillow.resize(image, size, box=box)
    except (ValueError, TypeError) as error:
        assert str(error).strip()
    else:
        assert out.size == size
    assert kept(image) == before
