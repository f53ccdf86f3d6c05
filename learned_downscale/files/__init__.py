"""Image files <-> images: opened upright, with EXIF, colour profile and what else describes them.

opened = open_image("photo.tif")             # of a path, bytes or an open file
small = resize(opened.image, 4)
small, changes = fitted(small, ".jpg", colour=opened.metadata.colour)
metadata, lost = opened.metadata.only("strip-gps").for_format("JPEG", small.size)
content = encode(small, ".jpg", 95, metadata=metadata)
"""

from learned_downscale.files.colours import coloured, fitted, in_srgb, is_srgb
from learned_downscale.files.formats import (
    FORMATS,
    READABLE,
    format_of,
    image_files,
    suffix_for,
)
from learned_downscale.files.loading import Opened
from learned_downscale.files.metadata import CHOICES, Metadata
from learned_downscale.files.opening import decode, open_image, quiet
from learned_downscale.files.sequences import frames
from learned_downscale.files.strips import Strips
from learned_downscale.files.writing import encode, encode_frames

__all__ = [
    "CHOICES",
    "FORMATS",
    "READABLE",
    "Metadata",
    "Opened",
    "Strips",
    "coloured",
    "decode",
    "encode",
    "encode_frames",
    "fitted",
    "format_of",
    "frames",
    "image_files",
    "in_srgb",
    "is_srgb",
    "open_image",
    "quiet",
    "suffix_for",
]
