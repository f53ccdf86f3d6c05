"""What is converted: an image file and the file that its thumbnail goes to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from learned_downscale.files import FORMATS, image_files

@dataclass(frozen=True)
class Job:
    """One image file and the file its thumbnail goes to."""

    source: Path
    target: Path


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


def check_formats(jobs: Sequence[Job]) -> None:
    """Raise ValueError if a thumbnail would be JPEG, for weights whose thumbnails must be stored
    losslessly (`Resizer.needs_lossless`)."""
    lossy = [job for job in jobs if FORMATS.get(job.target.suffix.lower()) == "JPEG"]
    if lossy:
        raise ValueError(
            f"{lossy[0].target}{' and others' * (len(lossy) > 1)} would be JPEG, which destroys "
            "the payload that these weights embed; choose PNG"
        )
