"""The work on one image: the bytes of its file -> the bytes of its thumbnail's file, and what was
done."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, features

from learned_downscale.conversion.recipe import Recipe
from learned_downscale.files import (
    FORMATS,
    Opened,
    Strips,
    coloured,
    encode,
    encode_frames,
    fitted,
    frames,
    in_srgb,
    is_srgb,
    open_image,
)
from learned_downscale.plan import REDUCED, Plan, plain
from learned_downscale.resizer import Resizer

# Pillow's name of a format -> the library that decodes it, as PIL.features calls it
_LIBRARIES = {
    "JPEG": "libjpeg_turbo",
    "MPO": "libjpeg_turbo",
    "PNG": "zlib",
    "WEBP": "webp",
    "TIFF": "libtiff",
    "AVIF": "avif",
    "JPEG2000": "jpg_2000",
}

_DEEP = ("PNG", "TIFF")  # hold 16 bits


@dataclass(frozen=True)
class Made:
    """What became of one image.

    status: "done"; "copied": the file is the original's, byte by byte; "skipped": no larger than
        asked.
    content: of the thumbnail's file; None if it is skipped.
    plan: how it was made; None if it is skipped.
    decoder: what decoded the image, with versions.
    """

    status: str
    content: bytes | None
    plan: Plan | None
    decoder: str

    @property
    def how(self) -> str | None:
        """The plan in words."""
        return None if self.plan is None else str(self.plan)


def least_size(resizer: Resizer, size: tuple[int, int]) -> tuple[int, int]:
    """What must be left of an image of `size` (width, height) for its thumbnail: as many pixels as
    the network takes, and as many as where means of blocks are taken first."""
    plan = resizer.plan(size)
    if resizer.exact or plan.learned is None:
        return size
    times = max(plan.learned, REDUCED)
    return times * plan.target[0], times * plan.target[1]


class Worker:
    """Makes thumbnails by a recipe.

        worker = Worker(Recipe(factor=4))
        made = worker(path.read_bytes(), ".jpg")

    Picklable, and safe to call from several threads.

    Args:
        recipe: what is asked.
        num_threads: for one image. 1 is best where several images are worked on at once.

    Attributes:
        needs_lossless: whether the thumbnails must be stored losslessly (PNG, lossless WebP).
        weights: names of the weights by native factor.

    Raises:
        ValueError, OSError, ImportError: as `Resizer`.
    """

    def __init__(self, recipe: Recipe, num_threads: int | None = 1) -> None:
        self.recipe, self.num_threads = recipe, num_threads
        self._resizer = Resizer(
            recipe.asked,
            weights=recipe.weights,
            num_threads=num_threads,
            exact=recipe.exact,
            backend=recipe.backend,
            device=recipe.device,
        )
        self.needs_lossless = self._resizer.needs_lossless
        self.weights = self._resizer.weights

    def __reduce__(self) -> tuple[Any, ...]:
        return Worker, (self.recipe, self.num_threads)

    def __call__(self, content: bytes, ending: str) -> Made:
        """The thumbnail of an image file.

        The image is turned upright (EXIF orientation) first; a JPEG much larger than its thumbnail
        is decoded at a part of its size, unless the recipe is `exact`. Metadata are kept as the
        recipe says, the ICC profile always, unless the recipe says sRGB. 16 bits stay where the
        format holds them. For weights with a payload, 8-bit grey becomes RGB.

        Args:
            content: of the image file.
            ending: of the thumbnail's file, which says its format; without a meaning for a recipe
                of raw pixels.

        Raises:
            ValueError: the file is empty or has too many pixels or, unless the recipe says what
                to do, several frames; `resize` refuses it; its profile cannot be used, and the
                recipe says sRGB; or the weights have a payload, and the thumbnail would be JPEG or
                a copy.
            Exception: Pillow raises many kinds of errors for broken files.
        """
        recipe, lossless = self.recipe, self.needs_lossless
        if lossless and not recipe.raw:
            check_lossless([ending])
        if not content:
            raise ValueError("the file is empty (0 bytes)")
        images = self._open(content, ending)
        first = images[0]
        decoder, size = decoder_of(first.format), first.size
        target = recipe.target(size)
        if target is None and recipe.small == "skip":
            return Made("skipped", None, None, decoder)
        if target is None and self._may_copy(first) and _stays(content, first.format, ending):
            reason = "a copy of the file: it is not larger than asked"
            return Made("copied", content, plain(size, size, reason), decoder)
        if lossless:  # before the payload is embedded, which it would destroy
            images = [self._in_srgb(opened, opened.image, ending) for opened in images]
        pairs = [self._planned(opened) for opened in images]
        plan = pairs[0][1]
        sides = _size(first.image)
        if isinstance(first.image, Strips):
            decoder = f"{first.format}: {first.image.decoder}, in strips"
        elif sides != size:
            share = round(size[0] / sides[0])
            plan = replace(plan, source=size, reason=f"decoded at 1/{share}, {plan.reason}")
            decoder += f", decoded at 1/{share}"
        if lossless and plan.learned is None:
            raise ValueError(
                "it has the thumbnail's size already, and a copy would carry no payload; ask for a "
                "smaller size, or leave the file out"
            )
        thumbnails = [
            self._in_srgb(opened, thumbnail, ending) if recipe.to_srgb and not lossless
            else replace(opened, image=thumbnail)
            for (thumbnail, _), opened in zip(pairs, images, strict=True)
        ]  # fmt: skip
        if recipe.raw:
            pixels = _rgb(thumbnails[0].image, recipe.background)
            return Made("done", pixels, plan, decoder)
        small, changes = self._encode(thumbnails, ending)
        if changes:
            plan = replace(plan, reason=f"{plan.reason}, then {', '.join(changes)}")
        return Made("done", small, plan, decoder)

    def _open(self, content: bytes, ending: str) -> list[Opened]:
        """The image, or the frames that are asked for, upright."""
        recipe, file = self.recipe, io.BytesIO(content)
        most, first = recipe.max_pixels, recipe.frames != "fail"
        # an array, which only PNG and TIFF hold
        deep = not (self.needs_lossless or recipe.raw) and FORMATS[ending.lower()] in _DEEP
        # a payload may need other colours first; a device computes whole images
        strips = not self.needs_lossless and recipe.device in (None, "cpu")
        opened = open_image(
            file, self._least, max_pixels=most, first=first, deep=deep, in_strips=strips
        )
        if opened.count == 1 or recipe.frames == "first":
            return [opened]
        if FORMATS[ending.lower()] == "JPEG":
            raise ValueError(
                f"has {opened.count} frames, and JPEG holds one: choose another format "
                "(--format webp), or the first one (--frames first)"
            )
        file.seek(0)
        return list(frames(file, max_pixels=most))

    def _planned(self, opened: Opened) -> tuple[Any, Plan]:
        """The thumbnail of one image."""
        resizer = self._resizer.to(self.recipe.target(opened.size) or opened.size)
        if isinstance(opened.image, Strips):
            return _of_strips(opened, resizer), resizer.plan(opened.size)
        image = coloured(opened.image) if self._resizer.needs_rgb else opened.image
        return resizer.planned([image])[0]

    def _may_copy(self, opened: Opened) -> bool:
        """Whether the file may be its own thumbnail, where the size allows it."""
        recipe = self.recipe
        if recipe.metadata != "keep" or recipe.raw or self.needs_lossless:
            return False
        return not recipe.to_srgb or is_srgb(opened.image, opened.metadata.colour)

    def _in_srgb(self, opened: Opened, image: Any, ending: str) -> Opened:
        """An image, or its thumbnail, in sRGB, if the recipe says so, or if the format holds none
        of a PNG's other ways to say its colours."""
        colour = opened.metadata.colour
        png = not self.recipe.raw and FORMATS[ending.lower()] == "PNG"
        if not self.recipe.to_srgb and (png or is_srgb(None, colour) or "icc_profile" in colour):
            return replace(opened, image=image)
        image, changes = in_srgb(image, colour)
        metadata = opened.metadata.in_srgb() if changes else opened.metadata
        changes = (*opened.changes, *changes)
        return replace(opened, image=image, metadata=metadata, changes=changes)

    def _encode(self, thumbnails: list[Opened], ending: str) -> tuple[bytes, list[str]]:
        """The thumbnail's file, and what was changed so that the format could hold it.

        thumbnails: what was opened, with the thumbnail as the image.
        """
        recipe, first = self.recipe, thumbnails[0]
        made = [
            fitted(one.image, ending, recipe.background, colour=one.metadata.colour)
            for one in thumbnails
        ]
        small = [image for image, _ in made]
        size = _size(small[0])
        kept = first.metadata.only(recipe.metadata)
        metadata, lost = kept.for_format(FORMATS[ending.lower()], size)
        changes = [*first.changes, *made[0][1], *lost]
        options: dict[str, Any] = {"metadata": metadata, "lossless": self.needs_lossless}
        if len(small) == 1:
            options["subsampling"] = recipe.subsampling
            return encode(small[0], ending, recipe.quality, **options), changes
        times = [one.duration or 100 for one in thumbnails]
        options |= {"durations": times, "loop": first.loop, "quality": recipe.quality}
        return encode_frames(small, ending, **options), [f"{len(small)} frames", *changes]

    def _least(self, size: tuple[int, int]) -> tuple[int, int]:
        target = self.recipe.target(size)
        return size if target is None else least_size(self._resizer.to(target), size)


def check_lossless(endings: list[str]) -> None:
    """Raise ValueError if a thumbnail would be JPEG, for weights whose thumbnails must be stored
    losslessly (`Worker.needs_lossless`)."""
    lossy = [ending for ending in endings if FORMATS.get(ending.lower()) == "JPEG"]
    if lossy:
        raise ValueError(
            f"{len(lossy)} of {len(endings)} thumbnails would be JPEG, which destroys the payload "
            "that these weights embed; choose PNG (--format png)"
        )


@cache
def decoder_of(kind: str | None) -> str:
    """What decodes a format, with versions: what its pixels depend on."""
    import PIL

    library = _LIBRARIES.get(kind or "")
    version = library and features.version(library)
    return f"{kind}: Pillow {PIL.__version__}" + (f", {library} {version}" if version else "")


def _stays(content: bytes, kind: str | None, ending: str) -> bool:
    """Whether the file can be copied: it has the thumbnail's format and is upright."""
    if ("JPEG" if kind == "MPO" else kind) != FORMATS[ending.lower()]:
        return False
    with Image.open(io.BytesIO(content)) as image:
        return image.getexif().get(0x0112, 1) in (0, 1)


def _size(image: Any) -> tuple[int, int]:
    """(width, height) of a PIL image, strips or an array."""
    width, height = image.shape[1::-1] if isinstance(image, np.ndarray) else image.size
    return width, height


def _of_strips(opened: Opened, resizer: Resizer) -> Image.Image:
    small = Image.new(opened.image.mode, resizer.plan(opened.size).target)
    small.info.update(opened.metadata.colour)
    top = 0
    for rows in resizer.rows(opened.image, opened.size):
        small.paste(Image.fromarray(rows), (0, top))
        top += len(rows)
    return small


def _rgb(image: Image.Image, background: str) -> bytes:
    """The pixels (height, width, 3) of a thumbnail, with transparency laid over the background."""
    levels, _ = fitted(fitted(coloured(image), ".webp")[0], ".jpg", background)
    return np.asarray(levels.convert("RGB")).tobytes()
