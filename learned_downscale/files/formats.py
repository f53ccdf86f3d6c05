"""Which files are images: formats by suffix, and the image files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import features

# What is read and written
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
if features.check("avif"):  # not every build of Pillow
    FORMATS[".avif"] = "AVIF"
# What is read
READABLE = {
    **FORMATS,
    ".apng": "PNG",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".gif": "GIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".j2c": "JPEG2000",
    ".j2k": "JPEG2000",
    ".jp2": "JPEG2000",
    ".jpc": "JPEG2000",
    ".jpf": "JPEG2000",
    ".jpx": "JPEG2000",
}


def format_of(path: Path, formats: dict[str, str] = FORMATS) -> str | None:
    """Pillow's name for the format of a file, by its suffix; None for suffixes not in `formats`."""
    return formats.get(path.suffix.lower())


def suffix_for(suffix: str) -> str:
    """The suffix of the thumbnail of a file, by the file's own suffix: the same where the format
    is written; else ".jpg" for HEIF, which holds photos, and ".png", which loses nothing, for the
    others.

    Raises:
        ValueError: the suffix is not in READABLE.
    """
    kind = READABLE.get(suffix.lower())
    if kind is None:
        raise ValueError(f"unknown suffix {suffix!r}; choose from {', '.join(READABLE)}")
    if suffix.lower() in FORMATS:
        return suffix
    return ".jpg" if kind == "HEIF" else ".png"


def image_files(
    folder: Path,
    exclude: Path | None = None,
    others: list[Path] | None = None,
    formats: dict[str, str] = FORMATS,
) -> list[Path]:
    """The image files in a folder, at any depth, sorted; those in a folder `exclude` inside it are
    left out, and what macOS writes beside files (`._NAME`). Broken links, and folders inside that
    cannot be read, are included, so that opening them reports the reason. The other files are
    added to `others`.

    Args:
        formats: what counts as an image, by suffix; READABLE for all that `open_image` reads.

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
        for path in (Path(root, name) for name in names):
            if path.suffix.lower() in formats and not path.name.startswith("._"):
                found.append(path)
            elif others is not None:
                others.append(path)
    return sorted(found)
