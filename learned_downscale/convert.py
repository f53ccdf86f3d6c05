"""Files and folders of images -> files and folders of thumbnails."""

from __future__ import annotations

import warnings
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


def find_jobs(source: Path, out: Path) -> list[Job]:
    """A job for `source`, or for each image file in it at any depth, sorted.

    A single file goes to `out` itself if that has an image's ending, else into the folder `out`.
    Files that lie in `out` are no sources.

    Raises:
        ValueError: nothing to convert, a format that is not in FORMATS, or `out` is `source`.
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
        inside = out.resolve()
        jobs = [
            Job(path, out / path.relative_to(source))
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in FORMATS
            and path.is_file()
            and inside not in path.resolve().parents
        ]
        if not jobs:
            raise ValueError(f"{source} holds no files ending in {', '.join(FORMATS)}")
    for job in jobs:
        if job.source.resolve() == job.target.resolve():
            raise ValueError(f"{job.source} would be overwritten; name another OUT")
    if out.is_file() and jobs[0].target != out:
        raise NotADirectoryError(f"{out} is a file; OUT must be a folder")
    return jobs


def convert_file(
    job: Job,
    size: Any,
    weights: Downscaler | None = None,
    quality: int = 95,
    overwrite: bool = False,
) -> Plan | None:
    """Write one thumbnail; see `resize` for `size`.

    The image is turned upright (EXIF orientation) first; EXIF and ICC profile are kept.
    The target appears whole or not at all.

    Returns:
        What was done, or None if the target was there and is kept.

    Raises:
        ValueError: the image has several frames, or `resize` refuses it.
        Exception: whatever Pillow raises for a broken file, which is a wide choice.
    """
    if job.target.exists() and not overwrite:
        return None
    with warnings.catch_warnings():
        # between Pillow's limit and twice that it only warns: large photos are what we are for
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(job.source) as image:
            frames = getattr(image, "n_frames", 1)
            # further frames of an MPO, as phones write .jpg files, are previews of the first
            if frames > 1 and image.format != "MPO":
                raise ValueError(f"has {frames} frames; only single images are converted")
            upright = ImageOps.exif_transpose(image)
    thumbnail, plan = resize(upright, size, weights=weights, return_plan=True)
    _save(thumbnail, job.target, quality)
    return plan


def _save(image: Image.Image, target: Path, quality: int) -> None:
    kind = FORMATS[target.suffix.lower()]
    options: dict[str, Any] = {}
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "JPEG":
        options["subsampling"] = 0  # a thumbnail has no colour resolution to spare
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    if exif := image.getexif():
        options["exif"] = exif
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as file:
            image.save(file, kind, **options)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
