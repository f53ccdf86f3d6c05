"""`verify`: photos and their thumbnails, read by networks and compared."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.core.similarity import psnr, ssim
from learned_downscale.files import decode, open_image, quiet
from learned_downscale.plan import check_size, target_size
from learned_downscale.readers.bundled import rgb
from learned_downscale.verification.methods import GIVEN, Maker, area, maker
from learned_downscale.verification.pairs import Labels, Stored, evenly, find_photos, true_classes
from learned_downscale.verification.readers import (
    BUNDLED,
    PayloadCheck,
    choose_readers,
    reconstructed,
)
from learned_downscale.verification.results import Method, Photo, Reading, Verification

if TYPE_CHECKING:
    from learned_downscale.core.resampling import Array
    from learned_downscale.readers.protocol import Reader

# Photos in work at a time: enough for the readers' batches, few enough for the memory.
AT_ONCE = 32
# Longest side in a report, px.
PREVIEW = 160  # of originals
LARGEST_SHOWN = 320  # of thumbnails


def verify(
    originals: str | Path,
    thumbnails: str | Path | None = None,
    *,
    size: float | tuple[int, int] = 4,
    methods: Sequence[str] = ("learned", "bicubic"),
    decoder: str | Path | None = None,
    reference: str | Path | None = None,
    reader: str | Path = BUNDLED,
    labels: Labels = "auto",
    quality: int = 95,
    limit: int | None = None,
    keep_images: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Compare the predictions of networks for photos and for their thumbnails.

    Args:
        originals: a folder of JPEG, PNG, WebP or TIFF photos, at any depth.
        thumbnails: a folder with your thumbnails of these photos, under the same names (suffixes
            may differ). They are compared as the method "given". Default: thumbnails are made by
            `methods` only.
        size: of the thumbnails that are made: a factor or (width, height), as for `resize`.
            Beside `thumbnails` the others get the size of those.
        methods: "learned"; a fixed filter: "area" (OpenCV), "bicubic", "bilinear", "box",
            "hamming", "lanczos", "nearest" (Pillow); or weights: a bundled name, a folder or a
            Hugging Face model id. A decoder that belongs to the weights reconstructs the photo in
            front of a reader that has none. Weights with a payload turn JPEG thumbnails into PNG
            files.
        decoder: weights ("x4-machine") whose decoder reconstructs the photos from `thumbnails`,
            which must be RGB (grey is read by decoders that need no payload).
        reference: reads the originals: a Hugging Face image classifier, model id or folder (extra
            `train`). Default: the network of `reader`, on area averages of the originals (of the
            bundled classifier: with a short side of 160 px), which favour no method.
        reader: reads the thumbnails: "bundled", the classifier in the package (the 1000 classes of
            ImageNet); a folder or model id of a thumbnail classifier; or "reference", the same
            network as for the originals, on thumbnails enlarged to its input size.
        labels: "auto": the names of the photos' folders are their labels, if they are classes of
            the reader; "folders": they must be; "none": the reference's prediction for the
            original counts.
        quality: of JPEG and WebP thumbnails, from 1 to 100.
        limit: compare at most so many photos, spread evenly over all.
        keep_images: keep the pictures of so many photos for a report: those that lose most
            confidence as thumbnails of the first method.
        progress: called with (photos done, photos in all).

    Returns:
        A `Verification`. `failed` holds the photos that could not be compared; if none could,
        `methods` is empty.

    Raises:
        FileNotFoundError: there is no such folder, or the weights have no decoder.
        TypeError: size is not a number or a pair of whole numbers.
        ValueError: there are no photos; an argument is out of range or unknown; a decoder without
            thumbnails, or in front of a reader that has one; a reference that does not know the
            reader's classes; or none for a reader that cannot read originals.
        ImportError: a reference without the extra `train`.
        OSError: the reference cannot be loaded.

    Source: ours.
    """
    check_size(size)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; it lies from 1 to 100")
    folder, given = Path(originals), None if thumbnails is None else Path(thumbnails)
    everything = find_photos(folder, given)
    paths = evenly(everything, limit)
    reading, thumbnail_reader = choose_readers(reference, reader)
    makers = _makers(methods, given is not None, decoder, thumbnail_reader)
    truths, strange = true_classes(folder, paths, thumbnail_reader, labels)
    stored = None if given is None else Stored(given, folder, everything)
    compare = _Comparison(
        folder, stored, makers, size, quality, reading, thumbnail_reader, keep_images > 0
    )
    tally = _Tally(compare, keep_images)
    with quiet(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            tally.add(list(pool.map(compare, paths[part])), truths[part])
            progress(min(start + AT_ONCE, len(paths)), len(paths))
    return tally.result(labelled=truths[0] is not None, strange=strange)


def _makers(
    methods: Sequence[str], given: bool, decoder: str | Path | None, reader: Reader
) -> dict[str, Maker]:
    """The makers by method; the user's thumbnails first. No decoder is in front of a reader that
    has one."""
    if isinstance(methods, str) or not methods:
        raise ValueError(f"methods is {methods!r}; give a list of names")
    if decoder is not None and not given:
        raise ValueError(
            f"decoder is {str(decoder)!r}, but it is for thumbnails that you have: give their "
            "folder as thumbnails, too"
        )
    if decoder is not None and reader.has_decoder:
        raise ValueError(
            f"decoder is {str(decoder)!r}, but {reader.name} has a decoder: leave decoder out"
        )
    made = {str(name): maker(str(name)) for name in methods}
    if given:
        own = None if decoder is None else pretrained.load(Decoder, decoder)
        made = {GIVEN: Maker(None, decoder=own), **made}
    if reader.has_decoder:
        made = {name: replace(one, decoder=None) for name, one in made.items()}
    return made


# -- one photo ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    psnr: float
    ssim: float
    bytes: int


@dataclass(frozen=True)
class _Thumbnail:
    """content: the file, for a report, else empty. levels: uint8 pixels, where the payload that
    they should carry is unknown."""

    measured: _Measured
    prepared: Any
    content: bytes
    levels: Array | None


@dataclass
class _Compared:
    """The part of a photo that is kept without its pixels."""

    name: str
    failure: str = ""
    original_bytes: int = 0
    reshaped: bool = False
    prepared: Any = None
    preview: bytes = b""
    thumbnails: dict[str, _Thumbnail] = field(default_factory=dict)


@dataclass(frozen=True)
class _Comparison:
    """Photo -> thumbnails, saved and decoded again, and their similarity to the photo."""

    folder: Path
    stored: Stored | None
    makers: dict[str, Maker]
    size: float | tuple[int, int]
    quality: int
    reference: Reader
    reader: Reader
    keep_images: bool

    def __call__(self, path: Path) -> _Compared:
        name = path.relative_to(self.folder)
        try:
            return self._compare(path, name)
        except Exception as error:  # one bad photo must not stop the rest
            return _Compared(name.as_posix(), str(error) or type(error).__name__)

    def _compare(self, path: Path, name: Path) -> _Compared:
        opened = open_image(path)
        original, metadata = opened.image, opened.metadata
        out = _Compared(name.as_posix(), original_bytes=path.stat().st_size)
        files: dict[str, bytes] = {}
        if self.stored is None:
            size = target_size(original.size, self.size)
        else:
            files[GIVEN] = self.stored.of(name).read_bytes()
            size = decode(files[GIVEN]).size
            if size[0] > original.width or size[1] > original.height:
                (w, h), (tw, th) = original.size, size
                raise ValueError(f"its thumbnail is larger: {tw} x {th} px of {w} x {h}")
            out.reshaped = _reshaped(original.size, size)
        for method, made in self.makers.items():
            if method not in files:
                files[method] = made.encoded(original, size, path.suffix, self.quality, metadata)
        truth = rgb(area(original, size))
        for method, content in files.items():
            out.thumbnails[method] = self._thumbnail(method, content, truth)
        out.prepared = self.reference.prepare(original)
        if self.keep_images:
            out.preview = _preview(original)
        return out

    def _thumbnail(self, method: str, content: bytes, truth: Array) -> _Thumbnail:
        thumbnail, decoder = decode(content), self.makers[method].decoder
        pixels = rgb(thumbnail)
        try:
            prepared = self.reader.prepare(reconstructed(decoder, thumbnail))
        except ValueError as error:
            raise ValueError(f"its thumbnail ({method}) cannot be read: {error}") from error
        unknown = method == GIVEN and decoder is not None and decoder.qim > 1
        return _Thumbnail(
            _Measured(psnr(pixels, truth), ssim(pixels, truth), len(content)),
            prepared,
            _shown(content, pixels) if self.keep_images else b"",
            pixels if unknown else None,
        )


def _reshaped(size: tuple[int, int], small: tuple[int, int]) -> bool:
    """Whether the aspect ratios differ by more than the rounding of the sides explains."""
    (w, h), (tw, th) = size, small
    return abs(tw - th * w / h) > 1 and abs(th - tw * h / w) > 1


def _shown(content: bytes, pixels: Array) -> bytes:
    """A thumbnail's file, or a picture of it that a page can show."""
    if max(pixels.shape[:2]) > LARGEST_SHOWN:
        return _preview(Image.fromarray(pixels), LARGEST_SHOWN)
    if content.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")):
        return content
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _preview(image: Image.Image, side: int = PREVIEW) -> bytes:
    scale = min(1, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    Image.fromarray(rgb(area(image, size))).save(file, "JPEG", quality=85)
    return file.getvalue()


# -- all photos ---------------------------------------------------------------------------------


class _Tally:
    """The figures of all photos, added batch by batch."""

    def __init__(self, comparison: _Comparison, keep_images: int) -> None:
        self.makers, self.keep_images = comparison.makers, keep_images
        self.reference, self.reader = comparison.reference, comparison.reader
        alone = () if comparison.stored is None else comparison.stored.alone
        self.failed = dict.fromkeys(alone, "its original is missing")
        self.photos: list[Photo] = []
        self.measured: dict[str, list[_Measured]] = {}
        decoder = self.makers.get(GIVEN, Maker(None)).decoder
        self.payloads = PayloadCheck(1 if decoder is None else decoder.qim)
        self.original_bytes = self.reshaped = 0

    def add(self, results: list[_Compared], truths: list[int | None]) -> None:
        self.failed |= {r.name: r.failure for r in results if r.failure}
        good = [(r, t) for r, t in zip(results, truths, strict=True) if not r.failure]
        if not good:
            return
        self.photos += _read(
            [r for r, _ in good], [t for _, t in good], self.reference, self.reader
        )
        _forget(self.photos, self.keep_images)
        for result, _ in good:
            self.original_bytes += result.original_bytes
            self.reshaped += result.reshaped
            for name, thumbnail in result.thumbnails.items():
                self.measured.setdefault(name, []).append(thumbnail.measured)
                if thumbnail.levels is not None:
                    self.payloads.add(thumbnail.levels)

    def result(self, labelled: bool, strange: list[str]) -> Verification:
        photos = self.photos
        return Verification(
            images=len(photos),
            failed=dict(sorted(self.failed.items())),
            labelled=labelled,
            reference=self.reference.name,
            reader=self.reader.name,
            classes=self.reader.labels,
            original_bytes=self.original_bytes,
            original_top1=(
                _mean(p.original.rank == 1 for p in photos) if labelled and photos else None
            ),
            strange_folders=strange,
            unsure=sum(p.original.probability < self.reference.threshold for p in photos),
            reshaped=self.reshaped,
            without_payload=self.payloads.lacking,
            methods={name: self._method(name, labelled) for name in self.measured},
            photos=photos,
        )

    def _method(self, name: str, labelled: bool) -> Method:
        readings = [photo.thumbnails[name] for photo in self.photos]
        flipped = [photo.name for photo in self.photos if photo.flipped(name)]
        values, made = self.measured[name], self.makers[name]
        size = sum(v.bytes for v in values)
        return Method(
            top1=_mean(r.rank == 1 for r in readings) if labelled else None,
            top5=_mean(r.rank <= 5 for r in readings) if labelled else None,
            agreement=(len(readings) - len(flipped)) / len(readings),
            confidence_change=_mean(p.confidence_change(name) for p in self.photos),
            psnr=_mean(v.psnr for v in values),
            ssim=_mean(v.ssim for v in values),
            bytes=size,
            saved=1 - size / self.original_bytes,
            flipped=flipped,
            decoded=made.decoder is not None,
            lossless=made.lossless,
        )


def _read(
    compared: list[_Compared], truths: list[int | None], reference: Reader, reader: Reader
) -> list[Photo]:
    """The predictions for photos and their thumbnails."""
    originals = reference.probabilities([c.prepared for c in compared])
    places = [int(o.argmax()) if t is None else t for o, t in zip(originals, truths, strict=True)]
    readings: dict[str, list[Reading]] = {}
    for method in compared[0].thumbnails:
        probs = reader.probabilities([c.thumbnails[method].prepared for c in compared])
        readings[method] = [_reading(p, t, reader) for p, t in zip(probs, places, strict=True)]
    return [
        Photo(
            name=c.name,
            truth=reader.labels[place],
            original=_reading(original, place, reference),
            thumbnails={method: some[i] for method, some in readings.items()},
            original_bytes=c.original_bytes,
            preview=c.preview,
            images={m: t.content for m, t in c.thumbnails.items() if c.preview},
        )
        for i, (c, original, place) in enumerate(zip(compared, originals, places, strict=True))
    ]


def _reading(probabilities: Array, truth: int, reader: Reader) -> Reading:
    order = np.argsort(-probabilities, kind="stable")
    return Reading(
        predicted=reader.labels[order[0]],
        probability=float(probabilities[order[0]]),
        truth=float(probabilities[truth]),
        rank=int(np.flatnonzero(order == truth)[0]) + 1,
    )


def _forget(photos: list[Photo], keep: int) -> None:
    """Drop the pictures of all but the photos that lose most confidence."""
    with_images = [i for i, photo in enumerate(photos) if photo.preview]
    for i in sorted(with_images, key=lambda i: photos[i].confidence_change())[keep:]:
        photos[i] = replace(photos[i], preview=b"", images={})


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
