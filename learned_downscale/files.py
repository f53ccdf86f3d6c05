"""Image files <-> PIL images: found, opened upright, encoded with what they said of the photo."""

from __future__ import annotations

import copy
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def format_of(path: Path) -> str | None:
    """Pillow's name of the format that a file's ending says; None for endings not in FORMATS."""
    return FORMATS.get(path.suffix.lower())


def image_files(folder: Path, exclude: Path | None = None) -> list[Path]:
    """The image files in a folder, at any depth, sorted; none that lie in the folder `exclude`
    inside it. Links to nowhere, and folders that cannot be read, are among them: they fail, and are
    told.

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


def open_upright(source: Path) -> tuple[Image.Image, Image.Exif]:
    """An image, turned upright (EXIF orientation), and the EXIF data that its thumbnail keeps.

    Raises:
        ValueError: it has several frames, or its EXIF data is broken.
        Exception: whatever Pillow raises for a broken file, which is a wide choice.
    """
    with Image.open(source) as image:
        frames = getattr(image, "n_frames", 1)
        # further frames of an MPO, as phones write .jpg files, are previews of the first
        if frames > 1 and image.format != "MPO":
            raise ValueError(f"has {frames} frames; only single images are converted")
        image.load()
        try:
            return ImageOps.exif_transpose(image), _exif(image)
        except Exception as error:  # whatever Pillow raises
            raise ValueError(f"its EXIF data is broken ({error}); remove it") from error


def decode(source: str | Path | bytes) -> Image.Image:
    """An image file, or its content, as an upright PIL image.

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
    except Exception as error:  # whatever Pillow raises, which is a wide choice
        name = "the file" if isinstance(source, bytes) else source
        raise ValueError(f"{name} cannot be read as an image: {error}") from error


def coloured(image: Image.Image) -> Image.Image:
    """8-bit grey as RGB; a profile of grey, which would not fit, is left out. Other images are
    returned unchanged."""
    if image.mode not in ("1", "L", "LA", "P", "PA"):
        return image
    out = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if out.info.get("icc_profile", b"")[16:20] == b"GRAY":
        del out.info["icc_profile"]
    return out


@contextmanager
def quiet() -> Iterator[None]:
    """Between Pillow's pixel limit and twice that it only warns: large inputs are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


# What a TIFF says of the photo and Pillow can write again: title, maker, model, software, date,
# artist, copyright. Its other tags say how its pixels are stored.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_SUB_IFDS = (0x8769, 0x8825)  # Exif (camera settings) and GPS
NO_PALETTE = ("JPEG", "WEBP")


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF data of an image but for its orientation."""
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
    """The content of an image file with this ending; lossless: of WebP, which may be either.

    Raises:
        ValueError: the format holds no images of this mode.
    """
    kind = FORMATS[suffix.lower()]
    if kind == "WEBP" and image.mode not in ("L", "LA", "RGB", "RGBA"):
        # Pillow would convert it, and clip 16 bits to white
        raise ValueError(f"WebP holds no images of mode {image.mode}; write PNG or TIFF")
    options: dict[str, Any] = {}
    if kind == "TIFF":
        options["compression"] = "raw"  # the original's may not fit the thumbnail's mode
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "WEBP" and lossless:
        options["lossless"] = options["exact"] = True  # colours under alpha 0, too
    if kind == "JPEG":
        options["subsampling"] = 0  # a thumbnail has no colour resolution to spare
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    if kind == "TIFF":  # the rest would pass for how the thumbnail's pixels are stored
        exif = copy.deepcopy(exif)
        for tag in set(exif) - {*_DESCRIPTIVE, *_SUB_IFDS}:
            del exif[tag]
    if exif:
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
