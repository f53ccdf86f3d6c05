"""The work on one job: an image file -> the file of its thumbnail."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial

from learned_downscale.conversion.jobs import Job, check_formats
from learned_downscale.files import NO_PALETTE, coloured, encode, format_of, open_upright
from learned_downscale.plan import REDUCED, Plan
from learned_downscale.resizer import Resizer


def least_size(resizer: Resizer, size: tuple[int, int]) -> tuple[int, int]:
    """What must be left of an image of `size` (width, height) for its thumbnail: as many pixels as
    the network takes, and as many as where means of blocks are taken first."""
    plan = resizer.plan(size)
    if resizer.exact or plan.learned is None:
        return size
    times = max(plan.learned, REDUCED)
    return times * plan.target[0], times * plan.target[1]


def convert_file(
    job: Job, resizer: Resizer, quality: int = 95, overwrite: bool = False
) -> Plan | None:
    """Write one thumbnail.

    The image is turned upright (EXIF orientation) first; a JPEG much larger than its thumbnail is
    decoded at a part of its size, unless the resizer is `exact`. EXIF (of TIFF: maker, model, date,
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
    upright, exif, size = open_upright(job.source, partial(least_size, resizer))
    if resizer.needs_rgb:
        upright = coloured(upright)
    thumbnail, plan = resizer.to(resizer.plan(size).target).planned([upright])[0]
    if upright.size != size:
        share = round(size[0] / upright.width)
        plan = replace(plan, source=size, reason=f"decoded at 1/{share}, {plan.reason}")
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
    part = job.target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        part.write_bytes(content)
        part.replace(job.target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return plan
