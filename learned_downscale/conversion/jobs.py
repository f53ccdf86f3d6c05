"""Jobs: the images of a folder, a list or a URL, and the names of their thumbnails."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from learned_downscale.conversion.disk import LocalStore
from learned_downscale.conversion.recipe import Recipe
from learned_downscale.conversion.remote import RemoteStore, is_url, open_store
from learned_downscale.conversion.stores import STATE, Store
from learned_downscale.files import FORMATS, READABLE, format_of, image_files, suffix_for

OnCollision = Literal["fail", "rename", "ignore"]


@dataclass(frozen=True)
class Job:
    """One image and its thumbnail, by names relative to IN and OUT, with slashes.

    problem: why it cannot be done, found without reading it.
    """

    name: str
    output: str
    problem: str | None = None


@dataclass
class Jobs:
    """What there is to do.

    single: one image into one file that OUT names; then there is no manifest.
    others: names of files that are no images, by their endings.
    origin: IN as an absolute path or a URL.
    """

    source: Store
    out: Store
    jobs: list[Job]
    single: bool = False
    others: list[str] = field(default_factory=list)
    origin: str = ""


@dataclass(frozen=True)
class Choice:
    """Which of the images are taken. Patterns are those of a shell, over whole names relative to
    IN; a star takes slashes, too ("*.png", "2024/*").

    include: an image must fit one of them, if there are any. exclude: it must fit none.
    names: the images, in place of all in the folder.
    on_collision: of thumbnails that would have one name: "fail" reports their images; "rename" puts
        the image's ending into the name (a.png and a.jpg become a_png.webp and a_jpg.webp);
        "ignore" is for thumbnails without names.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    on_collision: OnCollision = "fail"

    def takes(self, name: str) -> bool:
        wanted = not self.include or any(fnmatchcase(name, glob) for glob in self.include)
        return wanted and not any(fnmatchcase(name, glob) for glob in self.exclude)


def read_names(content: bytes, root: str) -> tuple[str, ...]:
    """The names in a list of files: one a line, or with NUL bytes between them (`find -print0`);
    relative to `root`, or absolute and inside it.

    Raises:
        ValueError: a name leads out of the folder.
    """
    apart = b"\0" if b"\0" in content else b"\n"
    names = []
    for raw in content.split(apart):
        line = os.fsdecode(raw.rstrip(b"\r") if apart == b"\n" else raw)
        if not line:
            continue
        path = PurePosixPath(line)
        if path.is_absolute():
            inside = os.path.abspath(root)
            if not path.is_relative_to(inside):
                raise ValueError(
                    f"{line} is not inside {root}: names in the list are relative to IN"
                )
            path = path.relative_to(inside)
        if ".." in path.parts:
            raise ValueError(f"{line} leads out of IN: names in the list are relative to IN")
        names.append(str(path))
    return tuple(dict.fromkeys(names))


def find_jobs(source: str, out: str, recipe: Recipe, choice: Choice = Choice()) -> Jobs:
    """A job for `source`, or for each image in it at any depth, sorted. Links to folders are not
    followed.

    Args:
        source: an image file, a folder, or an fsspec URL of a folder. Files inside `out` are left
            out.
        out: the file of the thumbnail, if `source` is a file and `out` has an image's suffix; else
            the folder of the thumbnails, or a URL of one.

    Raises:
        FileNotFoundError: there is no `source`.
        ValueError: there is nothing to convert; a format is not in FORMATS; `out` is `source`; or a
            thumbnail would replace an original.
        NotADirectoryError: `out` is a file, and should be a folder.
    """
    if is_url(source) or is_url(out):
        found = _remote(source, out, choice)
    elif os.path.realpath(source) == os.path.realpath(out):
        raise ValueError(f"source and out are both {source}; originals are never overwritten")
    elif Path(source).is_file():
        if choice.names is not None:
            raise ValueError(f"{source} is a file; --files-from takes names in a folder")
        found = _one(Path(source), Path(out))
    elif not Path(source).is_dir():
        raise FileNotFoundError(f"{source} does not exist, or is no file or folder")
    else:
        if Path(out).exists() and not Path(out).is_dir():
            raise NotADirectoryError(f"{out} is a file; out must be a folder")
        found = _folder(Path(source), Path(out), choice)
    found.origin = source if is_url(source) else os.path.abspath(source)
    if not found.single:
        found.jobs = _resolved([_named(job, recipe) for job in found.jobs], choice.on_collision)
    elif recipe.ending is not None:
        (job,) = found.jobs
        found.jobs = [
            replace(job, output=str(PurePosixPath(job.output).with_suffix(recipe.ending)))
        ]
    _check_originals(found)
    return found


def _one(source: Path, out: Path) -> Jobs:
    single = format_of(out) is not None and not out.is_dir()
    # an image's ending that is none of ours is no folder's name
    named = out.suffix.lower() in Image.registered_extensions() and not out.is_dir()
    if format_of(source, READABLE) is None:
        raise ValueError(f"{source}: unknown suffix; choose from {', '.join(READABLE)}")
    if named and not single:
        raise ValueError(f"{out}: thumbnails are written as {', '.join(FORMATS)}; choose one")
    if out.is_file() and not single:
        raise NotADirectoryError(f"{out} is a file; out must be a folder")
    folder = LocalStore(out.parent if single else out)
    whole = source.with_suffix(suffix_for(source.suffix)).name
    job = Job(source.name, out.name if single else whole)
    return Jobs(LocalStore(source.parent), folder, [job], single)


def _folder(source: Path, out: Path, choice: Choice) -> Jobs:
    if choice.names is not None:
        names: Iterable[str] = choice.names
        others: list[str] = []
    else:
        skipped: list[Path] = []
        paths = image_files(source, out, skipped, READABLE)
        names = [path.relative_to(source).as_posix() for path in paths]
        others = [path.relative_to(source).as_posix() for path in skipped]
    jobs = [Job(name, name) for name in names if choice.takes(name)]
    if not jobs:
        raise ValueError(f"{source} holds no files ending in {', '.join(READABLE)}{_asked(choice)}")
    others = [name for name in others if choice.takes(name) and STATE not in name]
    return Jobs(LocalStore(source), LocalStore(out), jobs, False, others)


def _remote(source: str, out: str, choice: Choice) -> Jobs:
    if source.rstrip("/") == out.rstrip("/"):
        raise ValueError(f"source and out are both {source}; originals are never overwritten")
    if not is_url(source):
        if not Path(source).is_dir():
            raise FileNotFoundError(
                f"{source} is no folder; thumbnails at URLs are made of folders"
            )
        found = _folder(Path(source), Path(source) / STATE / "none", choice)
        found.out = open_store(out)
        return found
    store, target = RemoteStore(source), open_store(out)
    names, others = list(choice.names or ()), list[str]()
    if choice.names is None:
        inside = out.rstrip("/") + "/"
        for name in store.names():
            if store.shown(name).startswith(inside):
                continue
            (names if format_of(Path(name), READABLE) else others).append(name)
    jobs = [Job(name, name) for name in names if choice.takes(name)]
    if not jobs:
        raise ValueError(f"{source} holds no files ending in {', '.join(READABLE)}{_asked(choice)}")
    return Jobs(store, target, jobs, False, [name for name in others if choice.takes(name)])


def _asked(choice: Choice) -> str:
    return " that --include and --exclude leave" if choice.include or choice.exclude else ""


def _named(job: Job, recipe: Recipe) -> Job:
    """The job with the name of its thumbnail by the recipe."""
    path = PurePosixPath(job.name)
    if format_of(Path(job.name), READABLE) is None:
        reason = f"its ending is none of {', '.join(READABLE)}"
        return replace(job, problem=reason)
    name = path.stem + recipe.suffix + (recipe.ending or suffix_for(path.suffix))
    return replace(job, output=str(path.with_name(name)))


def _resolved(jobs: list[Job], on_collision: OnCollision) -> list[Job]:
    """The jobs; of thumbnails with one name, all are renamed or have a problem."""
    by_output: dict[str, list[Job]] = {}
    for job in jobs:
        by_output.setdefault(job.output, []).append(job)
    if len(by_output) == len(jobs) or on_collision == "ignore":
        return jobs
    out = []
    for job in jobs:
        alike = by_output[job.output]
        if len(alike) > 1 and on_collision == "rename":
            path = PurePosixPath(job.output)
            inner = PurePosixPath(job.name).suffix.lstrip(".")
            job = replace(job, output=str(path.with_name(f"{path.stem}_{inner}{path.suffix}")))
            alike = by_output.setdefault(job.output, [job])
            alike = alike if job in alike else [*alike, job]
        if len(alike) > 1:
            names = ", ".join(other.name for other in alike if other.name != job.name)
            reason = f"{names} would become {job.output}, too; rename one, or --on-collision rename"
            job = replace(job, problem=reason)
        out.append(job)
    return out


def _check_originals(found: Jobs) -> None:
    if not (isinstance(found.source, LocalStore) and isinstance(found.out, LocalStore)):
        return
    real: dict[str, str] = {}  # of folders: files are many

    def place(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        return os.path.join(real[folder], name)

    sources = [os.path.join(found.source.root, job.name) for job in found.jobs]
    originals = {place(path) for path in sources}
    originals |= {os.path.realpath(path) for path in sources if os.path.islink(path)}
    for job in found.jobs:
        target = os.path.join(found.out.root, job.output)
        if place(target) in originals:
            raise ValueError(f"{target} is an original and would be overwritten; change out")


def endings(jobs: Sequence[Job]) -> list[str]:
    """The endings of the thumbnails of all jobs that have no problem."""
    return [PurePosixPath(job.output).suffix for job in jobs if job.problem is None]
