"""Photos, their labels, and the thumbnails of them that a user has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from learned_downscale.files import FORMATS, image_files

if TYPE_CHECKING:
    from learned_downscale.readers.protocol import Reader

Labels = Literal["auto", "folders", "none"]


def find_photos(folder: Path, exclude: Path | None = None) -> list[Path]:
    """The image files in a folder, at any depth, sorted; those inside `exclude` are left out.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no image files.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    if exclude is not None and exclude.resolve() == folder.resolve():
        raise ValueError(f"originals and thumbnails are both {folder}; name two folders")
    paths = image_files(folder, exclude)
    if not paths:
        raise ValueError(f"{folder} holds no photos ending in {', '.join(FORMATS)}")
    return paths


def evenly(paths: list[Path], limit: int | None) -> list[Path]:
    """At most `limit` paths, spread evenly over all."""
    if limit is None or limit >= len(paths):
        return paths
    if limit < 1:
        raise ValueError(f"limit is {limit}; give 1 or more")
    return [paths[i * len(paths) // limit] for i in range(limit)]


class Stored:
    """The user's thumbnails, found by the names of their originals.

    Suffixes may differ where one original and one thumbnail have the name.

    alone: thumbnails without an original.
    """

    def __init__(self, folder: Path, originals: Path, paths: Sequence[Path]) -> None:
        self.folder = folder
        files = {path.relative_to(folder) for path in find_photos(folder, originals)}
        names = {path.relative_to(originals) for path in paths}
        by_stem = [Counter(name.with_suffix("") for name in some) for some in (files, names)]
        of_stem = {name.with_suffix(""): name for name in names}
        self._of_name: dict[Path, Path] = {name: folder / name for name in names & files}
        for file in files - names:
            stem = file.with_suffix("")
            if all(count[stem] == 1 for count in by_stem):
                self._of_name[of_stem[stem]] = folder / file
        taken = set(self._of_name.values())
        self.alone = sorted(str(folder / file) for file in files if folder / file not in taken)

    def of(self, name: Path) -> Path:
        """The thumbnail of an original, by the original's path inside its folder."""
        if name not in self._of_name:
            raise ValueError(f"it has no thumbnail of the same name in {self.folder}")
        return self._of_name[name]


def true_classes(
    folder: Path, paths: Sequence[Path], reader: Reader, labels: Labels
) -> tuple[list[int | None], list[str]]:
    """The class of each photo, by the name of its folder.

    Returns:
        (classes, strange): the reader's output for each photo, all None without labels; and the
        folders whose names are no classes, where labels are "auto" and no folder's is.

    Raises:
        ValueError: some folders are classes and some are not, or labels are "folders" and one is
            not; or `labels` is unknown.
    """
    if labels not in ("auto", "folders", "none"):
        raise ValueError(f"labels is {labels!r}; choose one of auto, folders, none")
    if labels == "none":
        return [None] * len(paths), []
    parents = {path.parent for path in paths}
    classes = {p: reader.output_of(p.resolve().name) for p in parents}
    unknown = sorted(p for p, output in classes.items() if output is None)
    named = [p.relative_to(folder).as_posix() for p in unknown if p != folder]
    if labels == "auto" and len(unknown) == len(parents):
        return [None] * len(paths), named
    if unknown:
        found = named + [f"photos lie in {folder} itself"] * (folder in unknown)
        raise ValueError(
            f"{len(unknown)} of {len(parents)} folders are no classes of {reader.name} "
            f"({', '.join(found[:5])}); name them by its labels (such as {reader.labels[0]!r}) or "
            "WordNet ids, or compare without labels (labels='none')"
        )
    return [classes[path.parent] for path in paths], []
