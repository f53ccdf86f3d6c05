"""Images -> the content of image files."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from learned_downscale.files import chunks
from learned_downscale.files.formats import FORMATS
from learned_downscale.files.metadata import (
    EXIF_IFD,
    FIRST,
    GPS_IFD,
    Metadata,
    exif_of,
    has_exif,
    iptc_segment,
    tags_of,
)

Array = NDArray[Any]

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
# Mode -> photometric interpretation, extra samples, of the modes that `_tiff` writes
_TIFF_MODES: dict[str, tuple[int, tuple[int, ...]]] = {
    "L": (1, ()),
    "LA": (1, (2,)),
    "RGB": (2, ()),
    "RGBA": (2, (2,)),
    "CMYK": (5, ()),
    "I;16": (1, ()),
    "F": (1, ()),
}
_STRIP = 2**18  # bytes of samples that are compressed together


def encode(
    image: Any,
    suffix: str,
    quality: int = 95,
    lossless: bool = False,
    *,
    metadata: Metadata | None = None,
    subsampling: str = "4:4:4",
) -> bytes:
    """The content of an image file.

    How the colours look is written, too: the profile of the image's `info`, and in a PNG gamma,
    chromaticities and cICP. EXIF's size of the image becomes that of this one.

    Args:
        image: a PIL image, or an array (H, W, channels): uint16 for PNG, uint16 or float32 for
            TIFF. `fitted` makes them fit the format.
        suffix: says the format, such as ".png"; one of FORMATS.
        quality: of JPEG, WebP and AVIF, from 1 to 100.
        lossless: write lossless WebP; refuse formats that lose something.
        metadata: what to write. What the format does not hold is left out; `Metadata.for_format`
            says what that is.
        subsampling: of the colours of JPEG and AVIF; one of SUBSAMPLINGS.

    Raises:
        ValueError: the format cannot store images of this mode, or not losslessly; an option is
            out of its range.
    """
    kind = FORMATS[suffix.lower()]
    if subsampling not in SUBSAMPLINGS:
        raise ValueError(f"subsampling is {subsampling!r}; choose from {', '.join(SUBSAMPLINGS)}")
    if lossless and kind == "AVIF":
        raise ValueError("AVIF is not written losslessly here; choose PNG or WebP")
    size = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    given, _ = (metadata or Metadata()).for_format(kind, size)
    if isinstance(image, np.ndarray):
        return _encode_array(image, kind, given)
    if kind in ("WEBP", "AVIF") and image.mode not in ("L", "LA", "RGB", "RGBA"):
        # Pillow would convert it, and turn 16 bits into white
        name = "WebP" if kind == "WEBP" else kind
        raise ValueError(f"{name} stores no images of mode {image.mode}; choose PNG or TIFF")
    if kind == "TIFF" and image.mode in _TIFF_MODES:
        return _tiff(np.asarray(image), *_TIFF_MODES[image.mode], given, image.info)
    file = io.BytesIO()
    image.save(file, kind, **_options(image, kind, quality, lossless, given, subsampling))
    return file.getvalue()


def _options(
    image: Image.Image, kind: str, quality: int, lossless: bool, given: Metadata, subsampling: str
) -> dict[str, Any]:
    """Pillow's options."""
    # None is an answer, too: else Pillow takes what it finds in the image's info
    options: dict[str, Any] = {"icc_profile": image.info.get("icc_profile")}
    if kind in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if kind == "WEBP" and lossless:
        options["lossless"] = options["exact"] = True  # also the colours of transparent pixels
    if kind in ("JPEG", "AVIF"):
        options["subsampling"] = subsampling if image.mode != "L" or kind == "JPEG" else "4:0:0"
    if has_exif(given.exif):
        options["exif"] = given.exif
    if kind == "PNG":
        options["pnginfo"] = _png_info(image, given)
    elif given.xmp is not None and kind != "TIFF":
        options["xmp"] = given.xmp
    if kind == "JPEG":
        options["comment"] = given.comment or b""
        if given.iptc is not None:
            options["extra"] = iptc_segment(given.iptc)
    if given.dpi is not None and kind in ("JPEG", "PNG", "TIFF"):
        options["dpi"] = given.dpi
    if kind == "TIFF":
        options["compression"] = "tiff_adobe_deflate"
        # libtiff, which compresses, writes no directories inside
        options["exif"] = exif_of({FIRST: tags_of(given.exif)[FIRST]})
    return options


def _png_info(image: Image.Image, given: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name, content in (
        *chunks.colour_chunks(image.info),
        *chunks.text_chunks(given.text, given.xmp),
    ):
        info.add(name, content)
    return info


def _encode_array(array: Array, kind: str, given: Metadata) -> bytes:
    if array.ndim == 2:
        array = array[..., None]
    if kind == "PNG" and array.dtype == np.uint16:
        parts = [(name, content) for name, content in chunks.colour_chunks(given.colour)]
        if profile := given.colour.get("icc_profile"):
            parts.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
        if given.dpi is not None:
            parts.append(chunks.density_chunk(given.dpi))
        if has_exif(given.exif):
            parts.append((b"eXIf", given.exif.tobytes()[6:]))
        parts += chunks.text_chunks(given.text, given.xmp)
        return chunks.write_png(array, parts)
    if kind == "TIFF" and array.dtype in (np.uint16, np.float32):
        grey = array.shape[2] <= 2
        alpha = (2,) if array.shape[2] in (2, 4) else ()
        return _tiff(array, 1 if grey else 2, alpha, given, given.colour)
    raise ValueError(
        f"{kind} stores no arrays of {array.dtype}; make it fit with `fitted`, or choose TIFF"
    )


def _tiff(
    array: Array, photometric: int, extra: tuple[int, ...], given: Metadata, info: Any
) -> bytes:
    """A TIFF, compressed by deflate, with EXIF data, which Pillow writes uncompressed only."""
    array = np.atleast_3d(array)
    height, width, channels = array.shape
    whole = array.dtype.kind == "u"
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    rows = max(1, _STRIP // max(1, array[:1].nbytes))
    strips = []
    for start in range(0, height, rows):
        strip = array[start : start + rows]
        if whole:  # what it differs by from the pixel on its left
            strip = np.concatenate((strip[:, :1], strip[:, 1:] - strip[:, :-1]), axis=1)
        strips.append(zlib.compress(strip.tobytes(), 6))
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    ifd[256], ifd[257] = width, height
    ifd[258] = (8 * array.dtype.itemsize,) * channels
    ifd[259], ifd[262], ifd[277], ifd[284] = 8, photometric, channels, 1
    ifd[317] = 2 if whole else 1
    if extra:
        ifd[338] = extra
    ifd[339] = (1 if whole else 3,) * channels
    tags = tags_of(given.exif)
    for tag, value in tags[FIRST].items():
        ifd[tag] = value
    for part in (EXIF_IFD, GPS_IFD):
        if tags[part]:
            ifd[part] = tags[part]
    _describe(ifd, given, info.get("icc_profile"))
    lengths = [len(strip) for strip in strips]
    ifd[278], ifd[279] = rows, tuple(lengths)
    ifd[273] = tuple(int(x) for x in np.cumsum([0, *lengths[:-1]]))  # from where the tags end
    ifd.tagtype[273] = ifd.tagtype[279] = 4
    file = io.BytesIO()
    ifd.save(file)
    return file.getvalue() + b"".join(strips)


def _describe(ifd: Any, given: Metadata, profile: bytes | None) -> None:
    if profile:
        ifd[34675] = profile
    if given.dpi is not None:
        ifd[282], ifd[283], ifd[296] = *given.dpi, 2
    for tag, content in ((700, given.xmp), (33723, given.iptc)):
        if content is not None:
            ifd[tag] = content
            ifd.tagtype[tag] = 1 if tag == 700 else 7


def encode_frames(
    images: Sequence[Image.Image],
    suffix: str,
    durations: Iterable[float] | None = None,
    loop: int | None = None,
    quality: int = 95,
    lossless: bool = False,
    *,
    metadata: Metadata | None = None,
) -> bytes:
    """The content of a file of several images: an animation (WebP, PNG, AVIF), or a TIFF of
    several pages.

    Args:
        images: PIL images, all of one size but for TIFF. `fitted` makes them fit the format.
        suffix: says the format; one of FORMATS whose format is one of these.
        durations: of each frame, in milliseconds. A TIFF has none.
        loop: how often it is played; 0 for ever; None once.
        quality, lossless, metadata: as for `encode`.

    Raises:
        ValueError: there are no images; the format holds one only, or not losslessly.
    """
    kind = FORMATS[suffix.lower()]
    if not images:
        raise ValueError("there are no images to write")
    if kind == "JPEG" or (lossless and kind == "AVIF"):
        what = "holds one image only" if kind == "JPEG" else "is not written losslessly here"
        raise ValueError(f"{kind} {what}; choose PNG or WebP")
    given, _ = (metadata or Metadata()).for_format(kind, images[0].size)
    options = _options(images[0], kind, quality, lossless, given, "4:4:4")
    alpha = any(image.has_transparency_data for image in images)
    if kind != "TIFF":
        images = [image.convert("RGBA" if alpha else "RGB") for image in images]
        options["duration"] = [round(duration) for duration in durations or [100] * len(images)]
        options["loop"] = 1 if loop is None else loop
    if kind == "WEBP" and lossless:
        del options["exact"]  # Pillow has it for single images only
    file = io.BytesIO()
    images[0].save(file, kind, save_all=True, append_images=images[1:], **options)
    content = bytearray(file.getvalue())
    if kind == "WEBP" and alpha and content[12:16] == b"VP8X":
        # where each frame is cut to an opaque rectangle, libwebp says that there is no alpha
        content[20] |= 0x10
    return bytes(content)
