"""Modes and colours that a format can store: transparency, palettes, colour spaces, gamma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from learned_downscale.files.formats import FORMATS
from learned_downscale.files.profiles import by_profile, deep_by_profile, samples_of
from learned_downscale.files.samples import eight_bits

Array = NDArray[Any]

# x and y of white, red, green and blue, by cICP's number of the primaries (ITU-T H.273)
_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_PRIMARIES = {
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_SRGB = _PRIMARIES[1]
# cICP's transfer functions -> the exponent from samples to light; None: that of sRGB, with which
# the curves of television are shown, too
_TRANSFERS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
_SRGB_GAMMA = 0.45455
_GAMMA_COLOURS = ("srgb", "gamma", "chromaticity", "cicp")
_OTHER_SPACES = ("CMYK", "LAB", "YCbCr", "HSV")


def coloured(image: Any) -> Any:
    """Images of bits, 8-bit grey or a palette as RGB or RGBA, without a grey colour profile, which
    would not fit; images of other modes unchanged. Arrays of grey with alpha as RGB with alpha."""
    if isinstance(image, np.ndarray):
        return image[..., [0, 0, 0, 1]] if image.shape[2] == 2 else image
    if image.mode not in ("1", "L", "LA", "P", "PA"):
        return image
    out = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if out.info.get("icc_profile", b"")[16:20] == b"GRAY":
        del out.info["icc_profile"]
    return out


def fitted(
    image: Any,
    suffix: str,
    background: str = "white",
    colour: Mapping[str, Any] | None = None,
) -> tuple[Any, tuple[str, ...]]:
    """The image in a mode that the format stores, and what was done for that: transparency is laid
    over the background, colours become sRGB (by their profile, or by the gamma, chromaticities or
    cICP of a PNG, which other formats do not hold), 16 bits 8.

    Args:
        image: a PIL image, or the array of uint16 or float32 that `open_image` gave.
        suffix: says the format; one of FORMATS.
        background: a colour, by Pillow's names.
        colour: `Metadata.colour`, for an array. A PIL image has it in its `info`.

    Returns:
        A PIL image; or an array, for PNG (uint16) and TIFF.

    Raises:
        ValueError: no such mode holds its values (32-bit floats in a PNG); the colours are those
            of high dynamic range, which only PNG says.
    """
    kind, done = FORMATS[suffix.lower()], []
    if kind != "PNG":
        info = image.info if isinstance(image, Image.Image) else colour or {}
        image, change = _shown_as_srgb(image, info)
        done += change
    if isinstance(image, np.ndarray):
        image, change = _fitted_array(image, kind, colour or {})
        done += change
    if isinstance(image, np.ndarray) or kind == "TIFF":
        return image, tuple(done)
    image, change = _fitted_mode(image, kind)
    done += change
    if kind == "JPEG" and image.mode in ("LA", "RGBA", "La", "RGBa"):
        below = Image.new("RGBA", image.size, background)
        below.alpha_composite(image.convert("RGBA"))
        done.append(f"laid over {background}")
        image = _with_info(below.convert("L" if image.mode[0] == "L" else "RGB"), image)
    return image, tuple(done)


def _fitted_mode(image: Image.Image, kind: str) -> tuple[Image.Image, list[str]]:
    done = []
    if image.mode in ("1", "P", "PA") and kind != "PNG":
        image = coloured(image)
    if image.mode in ("LAB", "HSV") or (image.mode in ("CMYK", "YCbCr") and kind != "JPEG"):
        done.append(f"{image.mode} to sRGB")
        image = _in_srgb(image)
    if image.mode == "F" or (image.mode[0] == "I" and kind != "PNG"):
        if kind == "PNG":
            raise ValueError("PNG stores no images of mode F; choose TIFF")
        samples = np.asarray(image, np.float64) * (255 if image.mode == "F" else 1 / 257)
        done.append(f"{image.mode} to 8 bits")
        image = _with_info(Image.fromarray(np.rint(samples).clip(0, 255).astype(np.uint8)), image)
    return image, done


def _fitted_array(array: Array, kind: str, colour: Mapping[str, Any]) -> tuple[Any, list[str]]:
    if kind == "TIFF" or (kind == "PNG" and array.dtype == np.uint16):
        return array, []
    if kind == "PNG":
        raise ValueError("PNG stores no images of floats; choose TIFF")
    deep = "16 bits" if array.dtype == np.uint16 else "floats"
    return with_colour(Image.fromarray(eight_bits(array)), colour), [f"{deep} to 8 bits"]


def with_colour(image: Image.Image, colour: Mapping[str, Any]) -> Image.Image:
    """The image, with what says how its colours look in its `info`."""
    image.info.update(colour)
    return image


def _in_srgb(image: Image.Image) -> Image.Image:
    """An image of another colour space as RGB, by its profile, if it has one."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        lab, srgb = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
        made: Any = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    elif image.mode == "CMYK" and profile:
        made = by_profile(image, profile)
    else:
        made = image.convert("RGB")
    return _with_info(made, image)


def _with_info(image: Image.Image, of: Image.Image) -> Image.Image:
    """The info of another image, but for a profile that is of another mode."""
    same = image.mode[:1] == of.mode[:1]
    image.info = {k: v for k, v in of.info.items() if same or k != "icc_profile"}
    return image


# -- all as sRGB -----------------------------------------------------------------------------------


def is_srgb(image: Any, colour: Mapping[str, Any]) -> bool:
    """Whether `in_srgb` has nothing to do.

    Raises:
        ValueError: as there, of cICP.
    """
    other = isinstance(image, Image.Image) and image.mode in _OTHER_SPACES
    return not other and not colour.get("icc_profile") and _meant(colour) is None


def in_srgb(image: Any, colour: Mapping[str, Any] | None = None) -> tuple[Any, tuple[str, ...]]:
    """The image with the colours of sRGB, and what was done for that: by its profile, by the gamma,
    chromaticities or cICP of a PNG, or since its mode is of other colours (CMYK). Without any of
    them it is taken for sRGB. Grey stays grey, 16 bits 16, alpha stays; a palette becomes RGB. What
    said otherwise is gone from the `info`.

    Args:
        image: a PIL image, or an array (H, W, channels) of uint16 or float32.
        colour: `Metadata.colour`, for an array. A PIL image has it in its `info`.

    Raises:
        ValueError: the profile is broken, of other colours than the image, or a table (of more than
            8 bits); the colours are those of high dynamic range; 32-bit greys have a profile.
    """
    info = image.info if isinstance(image, Image.Image) else colour or {}
    profile = info.get("icc_profile")
    if not profile:
        out, done = _shown_as_srgb(image, info)
        if isinstance(out, Image.Image) and out.mode in _OTHER_SPACES:
            return _in_srgb(out), (f"{out.mode} to sRGB",)
        return out, tuple(done)
    if isinstance(image, np.ndarray):
        return deep_by_profile(image, profile), ("colour profile to sRGB",)
    kept = {k: v for k, v in info.items() if k not in ("icc_profile", *_GAMMA_COLOURS)}
    if image.mode in ("I", "F"):
        raise ValueError(f"its greys (mode {image.mode}) are not converted by its colour profile")
    if image.mode == "1":  # black and white are the same in all
        out = image.copy()
    elif image.mode.startswith("I;16"):
        samples = np.asarray(image)[..., None].astype(np.uint16)
        out = Image.fromarray(deep_by_profile(samples, profile)[..., 0])
    elif image.mode == "LAB":
        out = _in_srgb(image)
    else:
        plain = {"YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
        if image.mode in ("P", "PA"):
            plain[image.mode] = "RGBA" if image.has_transparency_data else "RGB"
        out = by_profile(image.convert(plain.get(image.mode, image.mode)), profile)
    kept.pop("transparency", None)
    out.info = kept
    space = f"{image.mode} to sRGB" if image.mode in _OTHER_SPACES else "colour profile to sRGB"
    return out, (space,)


# -- gamma, chromaticities and cICP of a PNG -------------------------------------------------------


def _shown_as_srgb(image: Any, info: Mapping[Any, Any]) -> tuple[Any, list[str]]:
    """The image as sRGB, if its info says otherwise and by other means than a profile."""
    meant = _meant(info)
    if meant is None:
        return image, []
    exponent, primaries, name = meant
    if isinstance(image, np.ndarray):
        return _converted(image, exponent, primaries), [f"{name} to sRGB"]
    if image.mode == "1":  # black and white are the same in all
        return image, []
    kept = image.info
    if image.mode in ("P", "PA"):
        image = coloured(image)
    if image.mode not in ("L", "LA", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        return image, []
    array = np.asarray(image)
    out = _converted(np.atleast_3d(array), exponent, primaries).reshape(array.shape)
    done = Image.fromarray(out)
    done.info = {k: v for k, v in kept.items() if k not in (*_GAMMA_COLOURS, "transparency")}
    return done, [f"{name} to sRGB"]


def _meant(info: Mapping[Any, Any]) -> tuple[float | None, tuple[float, ...], str] | None:
    """The exponent from samples to light (None: as sRGB), the chromaticities, and what says so;
    None where it is sRGB, or where a profile, which other formats hold, says what it is."""
    if info.get("icc_profile"):
        return None
    if cicp := info.get("cicp"):
        primaries, transfer, matrix, full = cicp
        primaries = 1 if primaries == 2 else primaries
        if transfer not in _TRANSFERS or primaries not in _PRIMARIES or matrix or full != 1:
            raise ValueError(
                f"its colours are those of cICP {'/'.join(map(str, cicp))} (such as high dynamic "
                "range), which are not converted to sRGB; choose PNG (without --to-srgb), which "
                "keeps them"
            )
        exponent = _TRANSFERS[transfer]
        same = exponent is None and primaries == 1
        return None if same else (exponent, _PRIMARIES[primaries], "cICP")
    if info.get("srgb") is not None:
        return None
    gamma = info.get("gamma") or _SRGB_GAMMA
    like_srgb = abs(gamma - _SRGB_GAMMA) < 0.005
    primaries = info.get("chromaticity") or _SRGB
    if not _is_usable(primaries) or np.abs(np.subtract(primaries, _SRGB)).max() < 0.002:
        primaries = _SRGB
    if like_srgb and primaries is _SRGB:
        return None
    name = "gamma" if primaries is _SRGB else "chromaticities" if like_srgb else "gamma and colours"
    return None if like_srgb else 1 / gamma, primaries, name


def _is_usable(primaries: tuple[float, ...]) -> bool:
    if len(primaries) != 8 or min(primaries[1::2]) <= 0:
        return False
    return bool(abs(np.linalg.det(_to_xyz(primaries, scaled=False))) > 1e-4)


def _to_xyz(primaries: tuple[float, ...], scaled: bool = True) -> Array:
    """From linear RGB to CIE XYZ, with white at Y = 1."""
    columns = [
        (x / y, 1.0, (1 - x - y) / y) for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    ]
    white, colours = np.array(columns[0]), np.array(columns[1:]).T
    return colours * np.linalg.solve(colours, white) if scaled else colours


def _to_linear_srgb(primaries: tuple[float, ...]) -> Array:
    """From linear RGB of other chromaticities to linear sRGB; white stays white (Bradford)."""
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    here, there = _to_xyz(primaries), _to_xyz(_SRGB)
    scale = (cone @ there.sum(axis=1)) / (cone @ here.sum(axis=1))
    adapted = np.linalg.inv(cone) @ (scale[:, None] * cone)
    return np.linalg.inv(there) @ adapted @ here


def _converted(array: Array, exponent: float | None, primaries: tuple[float, ...]) -> Array:
    """(H, W, channels) of uint8, uint16 or floats as sRGB; alpha stays."""
    channels = array.shape[2]
    colours = 1 if channels <= 2 else 3
    top = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)
    if array.dtype.kind == "f":
        light = _light(array[..., :colours].clip(0, 1), exponent)
    else:
        table = _light(np.arange(int(top) + 1, dtype=np.float32) / np.float32(top), exponent)
        light = table[array[..., :colours]]
    if colours == 3 and primaries != _SRGB:
        light = (light @ _to_linear_srgb(primaries).T.astype(np.float32)).clip(0, 1)
    return np.concatenate((samples_of(light, array.dtype), array[..., colours:]), axis=2)


def _light(samples: Array, exponent: float | None) -> Array:
    if exponent is not None:
        return samples**exponent
    return np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)
