"""Colours by an ICC profile -> sRGB: 8 bits by LittleCMS, more by the profile's own curves."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

# What a profile is for (its colour space) -> Pillow's modes that it may stand beside
_FITS = {b"GRAY": ("L",), b"RGB ": ("L", "RGB"), b"CMYK": ("CMYK",)}
_CHANNELS = {b"GRAY": (b"kTRC",), b"RGB ": (b"rTRC", b"gTRC", b"bTRC")}
# parameters of a curve, by its type
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}


def by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """An image of 8 bits (L, LA, RGB, RGBA, CMYK) as sRGB: grey stays grey, alpha stays, CMYK
    becomes RGB. Its `info` is empty.

    Raises:
        ValueError: the profile is broken, or is of other colours than the image.
    """
    from PIL import ImageCms

    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode[:-1]) if alpha else image
    _check_space(profile, colours.mode)
    grey = colours.mode == "L"
    if grey and profile[16:20] == b"RGB ":
        colours = colours.convert("RGB")
    with _profile_errors():
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb: Any = ImageCms.createProfile("sRGB")
        made = ImageCms.profileToProfile(colours, source, srgb, outputMode="RGB")
    assert made is not None
    out = made.getchannel("G") if grey else made
    if alpha is not None:
        out.putalpha(alpha)
    out.info = {}
    return out


def deep_by_profile(array: Array, profile: bytes) -> Array:
    """(H, W, channels) of uint16, or floats from 0 to 1 (what is outside is clipped), as sRGB;
    alpha, the second or the fourth channel, stays.

    Raises:
        ValueError: the profile is broken, or of other colours than the image, or a table, which is
            not used for more than 8 bits.
    """
    channels = array.shape[2]
    colours = 1 if channels <= 2 else 3
    space = profile[16:20]
    _check_space(profile, "L" if colours == 1 else "RGB")
    with _profile_errors():
        curves, matrix = _shape(profile)
    alpha = array[..., colours:]
    samples = array[..., :colours]
    if colours == 1 and space == b"RGB ":
        samples = samples.repeat(3, axis=2)
    light = np.stack([_light(samples[..., i], curve) for i, curve in enumerate(curves)], axis=2)
    if space == b"RGB ":
        with _profile_errors():
            _, srgb = _shape(_srgb_profile())
            light = light @ np.linalg.solve(srgb, matrix).T.astype(np.float32)
    out = samples_of(light.clip(0, 1), array.dtype)[..., -colours:]
    return np.concatenate((out, alpha), axis=2)


def samples_of(light: Array, dtype: Any) -> Array:
    """Linear light from 0 to 1 as samples of sRGB, of whole numbers up to the type's largest."""
    out = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if np.dtype(dtype).kind != "f":
        out = np.rint(out * np.iinfo(dtype).max)
    return out.astype(dtype)


@contextmanager
def _profile_errors() -> Iterator[None]:
    """Errors of broken profiles, of which there are many kinds, as ValueError."""
    from PIL import ImageCms

    try:
        yield
    except (OSError, ImageCms.PyCMSError, struct.error, LookupError, ArithmeticError) as error:
        raise _broken(str(error) or type(error).__name__) from error
    except np.linalg.LinAlgError as error:
        raise _broken(str(error)) from error


def _broken(what: str) -> ValueError:
    return ValueError(
        f"its colour profile cannot be used ({what}); remove it, or convert the image with the "
        "program that it comes from"
    )


def _check_space(profile: bytes, mode: str) -> None:
    space = profile[16:20]
    if space not in _FITS:
        raise _broken("it is damaged, or not of grey, RGB or CMYK")
    if mode not in _FITS[space]:
        raise _broken(f"it is of {space.decode().strip()}, the image of {mode}")


# -- matrix and curves -----------------------------------------------------------------------------

Curve = Callable[[Array], Array]


def _shape(profile: bytes) -> tuple[list[Curve], Array]:
    """The curves from samples to linear light, and the matrix from light to CIE XYZ (of RGB)."""
    tags = {}
    for i in range(struct.unpack_from(">I", profile, 128)[0]):
        name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        tags[name] = profile[offset : offset + length]
    space = profile[16:20]
    names = _CHANNELS[space]
    colorants = (b"rXYZ", b"gXYZ", b"bXYZ") if space == b"RGB " else ()
    if any(name not in tags for name in (*names, *colorants)):
        raise ValueError(
            "its colour profile is a table, which is used for 8 bits only: choose a format of 8 "
            "bits (--format jpg)"
        )
    columns = [np.divide(struct.unpack_from(">3i", tags[name], 8), 65536) for name in colorants]
    return [_curve(tags[name]) for name in names], np.array(columns).T


def _curve(tag: bytes) -> Curve:
    kind, (count,) = tag[:4], struct.unpack_from(">I", tag, 8)
    if kind == b"para":
        return _parametric(count >> 16, tag)
    if kind != b"curv":
        raise LookupError(f"a curve of the kind {kind!r}")
    if count == 0:
        return lambda x: x
    values = np.array(struct.unpack_from(f">{count}H", tag, 12))
    if count == 1:
        return lambda x: x ** (values[0] / 256)
    return lambda x: np.interp(x, np.linspace(0, 1, count), values / 65535)


def _parametric(kind: int, tag: bytes) -> Curve:
    """Of ICC.1, 10.18: a power of a line above a limit, and a line below."""
    given = [x / 65536 for x in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)]
    gamma, a, b, c, d, e, f = given + [0.0] * (7 - len(given))
    if kind == 0:
        a = 1.0
    if kind in (1, 2):
        d, c, e, f = -b / a, 0.0, c, c
    return lambda x: np.where(x >= d, (a * x + b).clip(0) ** gamma + e, c * x + f)


def _light(samples: Array, curve: Curve) -> Array:
    if samples.dtype.kind == "f":
        return curve(samples.clip(0, 1)).astype(np.float32)
    top = np.iinfo(samples.dtype).max
    table = curve(np.arange(top + 1, dtype=np.float64) / top).astype(np.float32)
    return table[samples]


@cache
def _srgb_profile() -> bytes:
    from PIL import ImageCms

    srgb: Any = ImageCms.createProfile("sRGB")
    return ImageCms.ImageCmsProfile(srgb).tobytes()
