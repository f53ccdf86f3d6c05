"""Jobs: image files, and the files of their thumbnails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from learned_downscale.files import FORMATS, format_of, image_files


@dataclass(frozen=True)
class Job:
    """One image file, and the file of its thumbnail."""

    source: Path
    target: Path


def find_jobs(
    source: Path, out: Path, suffix: str | None = None, others: list[Path] | None = None
) -> list[Job]:
    """A job for `source`, or for each image file in it at any depth, sorted. Links to folders
    are not followed.

    Args:
        source: an image file or a folder. Files inside `out` are skipped.
        out: the file of the thumbnail, if `source` is a file and `out` has an image's suffix; else
            the folder of the thumbnails.
        suffix: of all thumbnails, such as ".png". Default: that of each image.
        others: files in `source` that are no images, by their endings, are added to it.

    Raises:
        ValueError: there is nothing to convert; a format is not in FORMATS; `out` is `source`, or
            a thumbnail would replace an original; or two images would have the same thumbnail.
        NotADirectoryError: `out` is a file, and should be a folder.
    """
    if source.resolve() == out.resolve():
        raise ValueError(f"source and out are both {source}; originals are never overwritten")
    if source.is_file():
        as_file = format_of(out) is not None and not out.is_dir()
        jobs = [Job(source, out if as_file else out / source.name)]
        a_file = out.suffix.lower() in Image.registered_extensions() and not out.is_dir()
        for path in (source, out if a_file else jobs[0].target):
            if format_of(path) is None:
                raise ValueError(f"{path}: unknown suffix; choose from {', '.join(FORMATS)}")
    else:
        jobs = [
            Job(path, out / path.relative_to(source)) for path in image_files(source, out, others)
        ]
        if not jobs:
            raise ValueError(f"{source} holds no files ending in {', '.join(FORMATS)}")
    if suffix is not None:
        jobs = [Job(job.source, job.target.with_suffix(suffix)) for job in jobs]
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.target, job.source)
        if other != job.source:
            raise ValueError(f"{other} and {job.source} would both become {job.target}; rename one")
    originals = {os.path.realpath(job.source) for job in jobs}  # realpath takes circular links
    for job in jobs:
        if os.path.realpath(job.target) in originals:
            raise ValueError(f"{job.target} is an original and would be overwritten; change out")
    if out.is_file() and jobs[0].target != out:
        raise NotADirectoryError(f"{out} is a file; out must be a folder")
    return jobs


def check_formats(jobs: Sequence[Job]) -> None:
    """Raise ValueError if a thumbnail would be JPEG, for weights whose thumbnails must be stored
    losslessly (`Resizer.needs_lossless`)."""
    lossy = [job for job in jobs if format_of(job.target) == "JPEG"]
    if lossy:
        raise ValueError(
            f"{lossy[0].target}{' and others' * (len(lossy) > 1)} would be JPEG, which destroys "
            "the payload that these weights embed; choose PNG"
        )
