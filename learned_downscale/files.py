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

from PIL import Image, ImageFile, ImageOps

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
NO_PALETTE = ("JPEG", "WEBP")
# Tags of a TIFF that describe the photo and that Pillow can write: title, maker, model, software,
# date, artist, copyright. Its other tags describe how the pixels are stored.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_JPEGS = ("JPEG", "MPO")  # phones write .jpg files as MPO, whose further frames are previews
_WHOLE = 2**30  # bytes, more than any file that is decoded whole
_SUB_IFDS = (0x8769, 0x8825)  # Exif (camera settings) and GPS


def format_of(path: Path) -> str | None:
    """Pillow's name for the format of a file, by its suffix; None for suffixes not in FORMATS."""
    return FORMATS.get(path.suffix.lower())


def image_files(folder: Path, exclude: Path | None = None) -> list[Path]:
    """The image files in a folder, at any depth, sorted; those in a folder `exclude` inside it are
    left out. Broken links, and folders inside that cannot be read, are included, so that opening
    them reports the reason.

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
        found += [path for path in paths if path.suffix.lower() in FORMATS]
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
            ImageOps.exif_transpose(upright, in_place=True)  # a copy only where it is turned
            exif = _exif(upright)
        if upright.mode in ("L", "RGB") and upright.has_transparency_data:
            upright = upright.convert(upright.mode + "A")  # a transparent colour (PNG's tRNS)
        return upright, exif, size if image.format in _JPEGS else upright.size


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
            return ImageOps.exif_transpose(image)
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
        options["compression"] = "raw"  # the compression of the original may not fit the mode
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
