"""Files and folders of images -> files and folders of thumbnails."""

from __future__ import annotations

import copy
import io
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from learned_downscale.resize import Plan, resize, target_size

if TYPE_CHECKING:
    from learned_downscale.downscaler import Downscaler

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


@dataclass(frozen=True)
class Job:
    """One image file and the file its thumbnail goes to."""

    source: Path
    target: Path


def check_size(size: Any) -> None:
    """Raise what `resize` raises for a size that no image could have."""
    target_size((2**31, 2**31), size)


def find_jobs(source: Path, out: Path, suffix: str | None = None) -> list[Job]:
    """A job for `source`, or for each image file in it at any depth, sorted. Links to folders
    are not followed.

    A single file goes to `out` itself if that has an image's ending, else into the folder `out`.
    Files that lie in `out` are no sources. suffix: the ending of all thumbnails, such as ".png";
    default: that of their image.

    Raises:
        ValueError: nothing to convert, a format that is not in FORMATS, `out` is `source`, or two
            images would have one thumbnail.
        NotADirectoryError: `out` should be a folder and is a file.
    """
    if source.resolve() == out.resolve():
        raise ValueError(f"IN and OUT are both {source}; originals are never overwritten")
    if source.is_file():
        as_file = out.suffix.lower() in FORMATS and not out.is_dir()
        jobs = [Job(source, out if as_file else out / source.name)]
        for path in {source, jobs[0].target}:
            if path.suffix.lower() not in FORMATS:
                raise ValueError(f"{path}: unknown ending; known are {', '.join(FORMATS)}")
    else:
        jobs = [Job(path, out / path.relative_to(source)) for path in image_files(source, out)]
        if not jobs:
            raise ValueError(f"{source} holds no files ending in {', '.join(FORMATS)}")
    if suffix is not None:
        jobs = [Job(job.source, job.target.with_suffix(suffix)) for job in jobs]
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.target, job.source)
        if other != job.source:
            raise ValueError(f"{other} and {job.source} would both be {job.target}; rename one")
    originals = {os.path.realpath(job.source) for job in jobs}  # a link to itself has one, too
    for job in jobs:  # through links, too
        if os.path.realpath(job.target) in originals:
            raise ValueError(f"{job.target} is an original and would be overwritten; change OUT")
    if out.is_file() and jobs[0].target != out:
        raise NotADirectoryError(f"{out} is a file; OUT must be a folder")
    return jobs


def check_formats(jobs: Sequence[Job], weights: Downscaler | None) -> None:
    """Raise ValueError if a thumbnail would be saved as JPEG, which loses what weights with a code
    write for networks."""
    if weights is None or weights.modulus == 1:
        return
    lossy = [job for job in jobs if FORMATS.get(job.target.suffix.lower()) == "JPEG"]
    if lossy:
        raise ValueError(
            f"{lossy[0].target}{' and others' * (len(lossy) > 1)} would be JPEG, which loses what "
            "these weights write into thumbnails for networks; choose PNG (--format png)"
        )


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


def convert_file(
    job: Job,
    size: Any,
    weights: Downscaler | None = None,
    quality: int = 95,
    overwrite: bool = False,
) -> Plan | None:
    """Write one thumbnail; see `resize` for `size`.

    The image is turned upright (EXIF orientation) first; EXIF (of TIFF: maker, model, date,
    copyright and the like, not the camera's settings) and ICC profile are kept.
    Weights with a code make RGB of 8-bit grey. The target appears whole or not at all.

    Returns:
        What was done, or None if the target was there and is kept.

    Raises:
        ValueError: the image has several frames, `resize` refuses it, or the weights have a code
            and it would be JPEG, or has the thumbnail's size already.
        Exception: whatever Pillow raises for a broken file, which is a wide choice.
    """
    if job.target.is_dir():
        raise IsADirectoryError(f"{job.target} is a folder")
    if job.target.exists() and not overwrite:
        return None
    check_formats([job], weights)
    with quiet():
        upright, exif = open_upright(job.source)
    lossless = weights is not None and weights.modulus > 1
    if lossless:
        upright = coloured(upright)
    thumbnail, plan = resize(upright, size, weights=weights, return_plan=True)
    if lossless and plan.learned is None:
        raise ValueError(
            "it has the thumbnail's size already, and a copy would carry no code; "
            "ask for a smaller size, or leave it out"
        )
    if thumbnail.mode in ("1", "P", "PA") and FORMATS[job.target.suffix.lower()] in _NO_PALETTE:
        thumbnail = coloured(thumbnail)  # a copy: what is resized is so already
    content = encode(thumbnail, job.target.suffix, quality, exif, lossless)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    # no other process or thread has this name, on other machines with the same folder, either
    partial = job.target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(job.target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return plan


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


def coloured(image: Image.Image) -> Image.Image:
    """8-bit grey as RGB, which has room for a code; a profile of grey, which would not fit, is left
    out. Other images as they are."""
    if image.mode not in ("1", "L", "LA", "P", "PA"):
        return image
    out = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if out.info.get("icc_profile", b"")[16:20] == b"GRAY":
        del out.info["icc_profile"]
    return out


@contextmanager
def quiet() -> Iterator[None]:
    """Between Pillow's limit and twice that it only warns: large photos are what we are for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


# What a TIFF says of the photo and Pillow can write again: title, maker, model, software, date,
# artist, copyright. Its other tags say how its pixels are stored.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_SUB_IFDS = (0x8769, 0x8825)  # Exif (camera settings) and GPS
_NO_PALETTE = ("JPEG", "WEBP")


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
