"""`Recipe`: all that decides what a thumbnail's file holds, bound once, hashed, sent to workers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from learned_downscale.files import FORMATS
from learned_downscale.plan import check_size, target_size

Small = Literal["copy", "skip", "fail"]
MAX_PIXELS = 178_956_970  # where Pillow takes an image for a decompression bomb


@dataclass(frozen=True)
class Recipe:
    """How thumbnails are made. Exactly one of factor, size, max_side and fit is given.

    factor: divides width and height; 1 or more.
    size: (width, height) of every thumbnail.
    max_side: of the longer side, pixels; the shape is kept.
    fit: (width, height) of a box that the thumbnail fits in, for portraits turned by 90 degrees;
        the shape is kept.
    weights: a bundled name, a folder or a Hugging Face model id. None: x4 or x2, by the factor.
    ending: of all thumbnails, such as ".png". None: that of each image.
    quality: of JPEG and WebP, from 1 to 100.
    background: a colour, by Pillow's names, under transparency where the format has none.
    small: what becomes of images that are not larger than asked. None: "copy" with max_side and
        fit, "fail" with size.
    suffix: added to the names of thumbnails, before the ending.
    exact: decode JPEGs whole and resample by antialiased bicubic.
    max_pixels: images of more pixels fail before they are decoded.
    metadata: EXIF, XMP, IPTC, comments: all, none, or all without the position.
    to_srgb: convert colours to sRGB, by the embedded profile (of a PNG without one by gamma,
        chromaticities or cICP), which is left out then. Images without any count as sRGB.
    subsampling: of the colours of JPEG and AVIF.
    frames: what becomes of animations and of TIFFs with several pages: they fail; the first one
        counts; or all of them are converted (WebP, PNG and AVIF animations, TIFF pages).
    raw: give RGB pixels (height, width, 3), uint8, in place of files (`--to array`).
    backend, device: as for `resize`. They do not change the thumbnails, and are not hashed.
    """

    factor: float | None = None
    size: tuple[int, int] | None = None
    max_side: int | None = None
    fit: tuple[int, int] | None = None
    weights: str | None = None
    ending: str | None = None
    quality: int = 95
    background: str = "white"
    small: Small | None = None
    suffix: str = ""
    exact: bool = False
    max_pixels: int = MAX_PIXELS
    metadata: Literal["keep", "strip", "strip-gps"] = "keep"
    to_srgb: bool = False
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    frames: Literal["fail", "first", "all"] = "fail"
    raw: bool = False
    backend: Literal["auto", "torch", "onnx"] = "auto"
    device: str | None = None

    def __post_init__(self) -> None:
        given = [x for x in (self.factor, self.size, self.max_side, self.fit) if x is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of --factor (such as 4), --size (320x240), --max-side (512) and "
                f"--fit (1920x1080); {len(given)} were given"
            )
        if self.raw and self.size is None:
            raise ValueError("an array holds thumbnails of one size: give --size (such as 64x64)")
        if self.raw and self.small not in (None, "fail"):
            raise ValueError("an array holds thumbnails of one size: images that are smaller fail")
        if self.raw and self.frames == "all":
            raise ValueError("an array holds one thumbnail of each image: --frames first takes one")
        if self.ending is not None and self.ending.lower() not in FORMATS:
            raise ValueError(
                f"thumbnails are not written as {self.ending} here; choose {', '.join(FORMATS)}"
            )
        check_size(self.asked)

    @property
    def asked(self) -> float | tuple[int, int]:
        """A factor, or the largest (width, height) of a thumbnail."""
        if self.factor is not None:
            return self.factor
        side = self.max_side
        box = self.size or self.fit or (None if side is None else (side, side))
        assert box is not None
        return box

    def target(self, source: tuple[int, int]) -> tuple[int, int] | None:
        """(width, height) of the thumbnail of an upright image; None for one that is to be copied
        or skipped, since it is not larger than asked.

        Raises:
            ValueError: the thumbnail would be larger than the image.
        """
        if self.factor is not None:
            return target_size(source, self.factor)
        box = self.asked
        assert isinstance(box, tuple)
        if self.size is not None:
            smaller = source != box and all(s <= b for s, b in zip(source, box, strict=True))
            if smaller and self.small in ("copy", "skip"):
                return None
            return target_size(source, box)
        if (source[0] < source[1]) != (box[0] < box[1]) and source[0] != source[1]:
            box = box[1], box[0]
        if source[0] <= box[0] and source[1] <= box[1]:
            if self.small == "fail":
                raise ValueError(
                    f"{source[0]} x {source[1]} is not larger than {box[0]} x {box[1]}; "
                    "--small copy or skip takes such images"
                )
            return None
        scale = min(b / s for b, s in zip(box, source, strict=True))
        width, height = (max(1, min(b, round(s * scale))) for b, s in zip(box, source, strict=True))
        return width, height

    def identity(self, version: str, weights: dict[str, str]) -> dict[str, object]:
        """What thumbnails depend on; `weights` are SHA-256 by native factor."""
        options = {k: v for k, v in asdict(self).items() if k not in ("backend", "device")}
        # a folder may be moved: its hash counts
        options["weights"] = "default" if self.weights is None else "given"
        return {"version": version, "weights_sha256": weights, **options}


def recipe_hash(identity: dict[str, object]) -> str:
    """SHA-256 of what a recipe's thumbnails depend on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
