"""The work on one job: an image file -> the file of its thumbnail."""

from __future__ import annotations

import secrets

from learned_downscale.conversion.jobs import Job, check_formats
from learned_downscale.files import NO_PALETTE, coloured, encode, format_of, open_upright, quiet
from learned_downscale.plan import Plan
from learned_downscale.resizer import Resizer


def convert_file(
    job: Job, resizer: Resizer, quality: int = 95, overwrite: bool = False
) -> Plan | None:
    """Write one thumbnail.

    The image is turned upright (EXIF orientation) first. EXIF (of TIFF: maker, model, date,
    copyright and the like, not the camera's settings) and ICC profile are kept. For weights with a
    payload, 8-bit grey becomes RGB. The target appears whole or not at all.

    Args:
        job: the image file, and the file of the thumbnail; its suffix says the format.
        resizer: makes the thumbnail.
        quality: of JPEG and WebP, from 1 to 100.
        overwrite: replace a target that exists.

    Returns:
        The plan of the thumbnail, or None if the target exists and is kept.

    Raises:
        IsADirectoryError: the target is a folder.
        ValueError: the image has several frames; `resize` refuses it; or the weights have a
            payload, and the target is JPEG or the image has the thumbnail's size already.
        Exception: Pillow raises many kinds of errors for broken files.
    """
    if job.target.is_dir():
        raise IsADirectoryError(f"{job.target} is a folder")
    if job.target.exists() and not overwrite:
        return None
    lossless = resizer.needs_lossless
    if lossless:
        check_formats([job])
    with quiet():
        upright, exif = open_upright(job.source)
    if resizer.needs_rgb:
        upright = coloured(upright)
    thumbnail, plan = resizer.planned([upright])[0]
    if lossless and plan.learned is None:
        raise ValueError(
            "it has the thumbnail's size already, and a copy would carry no payload; ask for a "
            "smaller size, or leave the file out"
        )
    if thumbnail.mode in ("1", "P", "PA") and format_of(job.target) in NO_PALETTE:
        thumbnail = coloured(thumbnail)  # of the image's size: resizing leaves no such mode
    content = encode(thumbnail, job.target.suffix, quality, exif, lossless)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    # unique among threads, processes and machines that share the folder
    partial = job.target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(job.target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return plan
