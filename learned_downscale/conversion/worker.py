"""The work on one job: an image file -> the file of its thumbnail."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial

from learned_downscale.conversion.jobs import Job, check_formats
from learned_downscale.files import coloured, encode, fitted, open_upright, writable
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
    job: Job,
    resizer: Resizer,
    quality: int = 95,
    overwrite: bool = False,
    background: str = "white",
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
        background: a colour, by Pillow's names, under transparency where the format has none.

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
    if job.source.exists() and not job.source.is_file():  # reading a pipe waits for ever
        raise ValueError(f"{job.source} is no regular file")
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
    thumbnail, changes = fitted(thumbnail, job.target.suffix, background)
    exif, lost = writable(exif)
    if lost:
        changes = (*changes, f"EXIF without {', '.join(lost)}, which cannot be written")
    if changes:
        plan = replace(plan, reason=f"{plan.reason}, then {', '.join(changes)}")
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
