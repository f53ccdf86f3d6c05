"""Image files <-> PIL images, with EXIF and colour profile."""

from __future__ import annotations

import copy
import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
# Tags of a TIFF that describe the photo and that Pillow can write: title, maker, model, software,
# date, artist, copyright. Its other tags describe how the pixels are stored.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_JPEGS = ("JPEG", "MPO")  # phones write .jpg files as MPO, whose further frames are previews
# EXIF's orientation -> how the image is brought upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHOLE = 2**30  # bytes, more than any file that is decoded whole
_SUB_IFDS = (0x8769, 0x8825)  # Exif (camera settings) and GPS


def format_of(path: Path) -> str | None:
    """Pillow's name for the format of a file, by its suffix; None for suffixes not in FORMATS."""
    return FORMATS.get(path.suffix.lower())


def image_files(
    folder: Path, exclude: Path | None = None, others: list[Path] | None = None
) -> list[Path]:
    """The image files in a folder, at any depth, sorted; those in a folder `exclude` inside it are
    left out, and what macOS writes beside files (`._NAME`). Broken links, and folders inside that
    cannot be read, are included, so that opening them reports the reason. The other files are
    added to `others`.

    Raises:
        OSError: the folder itself cannot be read.
    """
    apart = None if exclude is None else exclude.resolve()
    inside = apart is not None and folder.resolve() in apart.parents
    found: list[Path] = []

    def refused(error: OSError) -> None:
        path = Path(error.filename)
        if path == folder:
            raise error
        found.append(path)

    for root, _, names in os.walk(folder, onerror=refused):
        if inside and apart in (here := Path(root).resolve(), *here.parents):
            continue
        paths = (Path(root, name) for name in names)
        for path in paths:
            is_image = path.suffix.lower() in FORMATS and not path.name.startswith("._")
            if is_image:
                found.append(path)
            elif others is not None:
                others.append(path)
    return sorted(found)


def open_upright(
    source: Path, least: Callable[[tuple[int, int]], tuple[int, int]] = lambda size: size
) -> tuple[Image.Image, Image.Exif, tuple[int, int]]:
    """An image, turned upright (EXIF orientation), the EXIF data that its thumbnail keeps, and the
    (width, height) of the file's own image, upright.

    least: gives, for that size, the least one that the image must have. A JPEG is decoded at a
        half, a quarter or an eighth where that is enough, which is much faster; pixels at the
        right and the bottom that would stand for less than a whole one are left out.

    Raises:
        ValueError: it has several frames, or its EXIF data is broken.
        Exception: Pillow raises many kinds of errors for broken files.
    """
    with Image.open(source) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise ValueError(f"has {frames} frames; only single images are converted")
        size = image.size
        if isinstance(image, ImageFile.ImageFile):
            image.decodermaxblock = _WHOLE  # not in blocks, each of which waits for Python's lock
        with _exif_errors():
            turned = image.format in _JPEGS and image.getexif().get(0x0112, 1) >= 5
        if image.format in _JPEGS:
            size = size[::-1] if turned else size
            smallest = least(size)
            upright = _load_small(image, smallest[::-1] if turned else smallest)
        else:
            image.load()
            upright = image
        with _exif_errors():
            exif = _exif(image)
            upright = _turned(upright, image.getexif().get(0x0112, 1))
        if upright.mode in ("L", "RGB") and upright.has_transparency_data:
            upright = upright.convert(upright.mode + "A")  # a transparent colour (PNG's tRNS)
        return upright, exif, size if image.format in _JPEGS else upright.size


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image as EXIF's orientation says; the same one where it is upright."""
    method = _TURNS.get(orientation)
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = dict(image.info)
    return turned


def writable(exif: Image.Exif) -> tuple[Image.Exif, list[str]]:
    """EXIF data without the tags that cannot be written (text where a number belongs), and which
    these are."""
    kept, lost = copy.deepcopy(exif), []
    for part in (None, *_SUB_IFDS):
        tags: Any = kept if part is None else kept.get_ifd(part)
        for tag in [tag for tag in tags if tag not in _SUB_IFDS]:
            alone = Image.Exif()
            (alone if part is None else alone.get_ifd(part))[tag] = tags[tag]
            try:
                alone.tobytes()
            except Exception:  # Pillow raises many kinds
                del tags[tag]
                lost.append(ExifTags.TAGS.get(tag, hex(tag)))
    return kept, lost


@contextmanager
def _exif_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow raises many kinds
        raise ValueError(f"its EXIF data is broken ({error}); remove it") from error


def _load_small(image: Image.Image, least: tuple[int, int]) -> Image.Image:
    """A JPEG that is not loaded yet, decoded at 1/8, 1/4 or 1/2 of its size if that is at least
    `least`."""
    width, height = image.size
    for share in (8, 4, 2):
        small = width // share, height // share
        if small[0] >= least[0] and small[1] >= least[1]:
            image.draft(None, small)
            image.load()
            if image.size == small:
                return image
            cropped = image.crop((0, 0, *small))
            cropped.info = image.info
            return cropped
    image.load()
    return image


def decode(source: str | Path | bytes) -> Image.Image:
    """An image file, by its path or as bytes, as an upright PIL image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: Pillow cannot read it.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return _turned(image, image.getexif().get(0x0112, 1))
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow raises many kinds
        name = "the file" if isinstance(source, bytes) else source
        raise ValueError(f"{name} cannot be read as an image: {error}") from error


def coloured(image: Image.Image) -> Image.Image:
    """Images of bits, 8-bit grey or a palette as RGB or RGBA, without a grey colour profile, which
    would not fit; images of other modes unchanged."""
    if image.mode not in ("1", "L", "LA", "P", "PA"):
        return image
    out = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if out.info.get("icc_profile", b"")[16:20] == b"GRAY":
        del out.info["icc_profile"]
    return out


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warning for images above its pixel limit: large inputs are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF data of an image without its orientation."""
    exif = image.getexif()
    if image.format == "TIFF":
        tiff, exif = exif, Image.Exif()
        exif.update({tag: tiff[tag] for tag in _DESCRIPTIVE if tag in tiff})
    else:
        exif = copy.deepcopy(exif)
        exif.pop(0x0112, None)
    return exif


def fitted(
    image: Image.Image, suffix: str, background: str = "white"
) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in a mode that the format stores, and what was done for that: transparency is laid
    over the background, colours become sRGB (by their profile), 16 bits 8.

    Raises:
        ValueError: no such mode holds its values (32-bit floats in a PNG).
    """
    kind, done = FORMATS[suffix.lower()], []
    if kind == "TIFF":
        return image, ()
    if image.mode in ("1", "P", "PA") and kind != "PNG":
        image = coloured(image)
    if image.mode in ("LAB", "HSV") or (image.mode in ("CMYK", "YCbCr") and kind != "JPEG"):
        image, done = _in_srgb(image), [f"{image.mode} to sRGB"]
    if image.mode == "F" or (image.mode[0] == "I" and kind != "PNG"):
        if kind == "PNG":
            raise ValueError("PNG stores no images of mode F; choose TIFF")
        samples = np.asarray(image, np.float64) * (255 if image.mode == "F" else 1 / 257)
        done.append(f"{image.mode} to 8 bits")
        image = _with_info(Image.fromarray(np.rint(samples).clip(0, 255).astype(np.uint8)), image)
    if kind == "JPEG" and image.mode in ("LA", "RGBA", "La", "RGBa"):
        below = Image.new("RGBA", image.size, background)
        below.alpha_composite(image.convert("RGBA"))
        done.append(f"laid over {background}")
        image = _with_info(below.convert("L" if image.mode[0] == "L" else "RGB"), image)
    return image, tuple(done)


def _in_srgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        source: Any = ImageCms.createProfile("LAB")
    elif profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    else:
        return _with_info(image.convert("RGB"), image)
    srgb = ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    assert made is not None
    return _with_info(made, image)


def _with_info(image: Image.Image, of: Image.Image) -> Image.Image:
    """The info of another image, but for a profile that is of another mode."""
    same = image.mode[:1] == of.mode[:1]
    image.info = {k: v for k, v in of.info.items() if same or k != "icc_profile"}
    return image


def encode(
    image: Image.Image, suffix: str, quality: int, exif: Image.Exif, lossless: bool = False
) -> bytes:
    """The content of an image file.

    Args:
        suffix: says the format, such as ".png"; one of FORMATS.
        quality: of JPEG and WebP, from 1 to 100.
        exif: the EXIF data to write; tags that do not belong into a TIFF are left out.
        lossless: write lossless WebP.

    Raises:
        ValueError: the format cannot store images of this mode.
    """
    kind = FORMATS[suffix.lower()]
    if kind == "WEBP" and image.mode not in ("L", "LA", "RGB", "RGBA"):
        # Pillow would convert it, and turn 16 bits into white
        raise ValueError(f"WebP stores no images of mode {image.mode}; choose PNG or TIFF")
    options: dict[str, Any] = {}
    if kind == "TIFF":
        # The original's may not fit the mode, deflate fits all; but what compresses, libtiff,
        # writes no camera settings.
        options["compression"] = "raw" if {*exif} & {*_SUB_IFDS} else "tiff_adobe_deflate"
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "WEBP" and lossless:
        options["lossless"] = options["exact"] = True  # also the colours of transparent pixels
    if kind == "JPEG":
        options["subsampling"] = 0  # keep the full colour resolution
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    if kind == "TIFF":  # other tags would describe the storage of other pixels
        exif = copy.deepcopy(exif)
        for tag in set(exif) - {*_DESCRIPTIVE, *_SUB_IFDS}:
            del exif[tag]
    if exif:
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
