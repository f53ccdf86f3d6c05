"""verify(): is what matters still in the thumbnails?"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from PIL import Image

from learned_downscale import pretrained
from learned_downscale.readers.bundled import LARGEST, ThumbnailClassifier, prepare, rgb
from learned_downscale.files import (
    decode,
    FORMATS,
    coloured,
    encode,
    image_files,
    open_upright,
    quiet,
)
from learned_downscale.readers.labels import outputs_by_name, plain
from learned_downscale.api import resize
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.plan import target_size
from learned_downscale.verification.similarity import psnr, ssim

if TYPE_CHECKING:
    from learned_downscale.core.decoder import Decoder
    from learned_downscale.core.bicubic import Array

# Photos in work at a time: enough for the classifier's batches, few enough for the memory.
AT_ONCE = 32
# Longest side of the previews of originals in a report, px.
PREVIEW = 160
SHOWN = 320  # and of thumbnails

GIVEN = "given"  # the method's name where the thumbnails are the user's
CLASSICAL = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
METHODS = ("learned", "area", *CLASSICAL)

Judge = Literal["classifier", "teacher"]
Labels = Literal["auto", "folders", "none"]


@dataclass(frozen=True)
class Downscale:
    """Where the thumbnails of a method come from, and what reads them.

    make: (an upright image, (width, height)) -> its thumbnail; None: they are there, in files.
    coded: it writes a code that JPEG loses; where the original is JPEG, its thumbnail is PNG.
    decoder: D of the weights.
    """

    make: Callable[[Image.Image, tuple[int, int]], Image.Image] | None
    coded: bool = False
    decoder: Decoder | None = None

    def encoded(
        self, image: Image.Image, size: tuple[int, int], suffix: str, quality: int, exif: Image.Exif
    ) -> bytes:
        """The file of a thumbnail that is made."""
        assert self.make is not None
        if self.coded and FORMATS[suffix.lower()] == "JPEG":
            suffix = ".png"
        return encode(self.make(image, size), suffix, quality, exif, self.coded)


def decoded(decoder: Decoder | None, thumbnail: Image.Image) -> Image.Image:
    """What networks are given of a thumbnail.

    Raises:
        ValueError: there is a decoder, and the thumbnail is neither RGB nor RGBA without any
            transparent pixel, nor grey where the decoder looks for no code.
    """
    if decoder is None:
        return thumbnail
    if thumbnail.mode == "L" and decoder.qim == 1:
        thumbnail = thumbnail.convert("RGB")
    if thumbnail.mode == "RGBA" and thumbnail.getchannel("A").getextrema() == (255, 255):
        thumbnail = thumbnail.convert("RGB")
    if thumbnail.mode == "RGBA":
        raise ValueError("it has transparent pixels, where the decoder reads nothing; remove them")
    if thumbnail.mode != "RGB":
        raise ValueError(
            f"the decoder reads RGB, not {thumbnail.mode}; convert it to RGB before the thumbnail "
            "is made (`convert` does): a grey one holds no code"
        )
    import torch

    x = torch.from_numpy(np.array(thumbnail)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        levels = (255 * decoder(x)[0].clamp(0, 1)).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


@dataclass(frozen=True)
class Reading:
    """What a network sees in one image: a class by its label, and how sure it is of `truth`.

    predicted: the most probable class. probability: of that class.
    truth: probability of the photo's own class: its label, or what the reference sees in the
        original. rank: of that class, 1 for the most probable.
    """

    predicted: str
    probability: float
    truth: float
    rank: int


@dataclass(frozen=True)
class Photo:
    """One photo: `name` is its path inside the folder, `truth` the class it counts as.

    original: what the reference network reads in the original; thumbnails: what the network for
    thumbnails reads, by method. preview, images: a small picture of the original, and the
    thumbnails' files by method, where they were asked for.
    """

    name: str
    truth: str
    original: Reading
    thumbnails: dict[str, Reading]
    original_bytes: int
    preview: bytes = field(repr=False, default=b"")
    images: dict[str, bytes] = field(repr=False, default_factory=dict)

    def flipped(self, method: str) -> bool:
        """Whether the thumbnail is read as another class than the original."""
        return self.thumbnails[method].predicted != self.original.predicted

    def confidence_change(self, method: str | None = None) -> float:
        """Probability of the photo's class, thumbnail (of the first method) less original."""
        return self.thumbnails[method or next(iter(self.thumbnails))].truth - self.original.truth


@dataclass(frozen=True)
class Method:
    """How one downscaler did; shares and probabilities lie in [0, 1].

    top1, top5: share of the thumbnails whose label is the network's first (one of its first five);
        None without labels.
    agreement: share of the thumbnails read as the reference reads the original.
    confidence_change: mean of the probability of the photo's class, thumbnail less original.
    psnr (dB, at most 100), ssim (at most 1): thumbnails against the area average of the original
        at their size, means over the photos.
    bytes: of all thumbnails, saved in the originals' formats. saved: part of the originals' bytes
        that is saved; below 0 where the thumbnails are larger.
    flipped: names of the photos that are not in agreement.
    decoded: whether the network read what a decoder rebuilds from the thumbnails.
    coded: whether they were made with a code that JPEG would lose: of JPEG files they are PNG files
        then.
    """

    top1: float | None
    top5: float | None
    agreement: float
    confidence_change: float
    psnr: float
    ssim: float
    bytes: int
    saved: float
    flipped: list[str]
    decoded: bool = False
    coded: bool = False


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    images: how many photos were compared. failed: those that were not, with the reason.
    labelled: whether the photos have labels. reference, judge: names of the networks that read
        the originals and the thumbnails. classes: their labels. original_bytes: of the photos.
    original_top1: share of the originals that the reference reads as their label; None without.
    strange_folders: folders that would be labels, were they classes of the judge.
    unsure: how many originals show none of the reference's classes (its threshold): what is said
        of their thumbnails means little.
    reshaped: how many of the thumbnails that were given have another shape than their photo.
    methods: by name. photos: one by one, in the order of their names.
    """

    images: int
    failed: dict[str, str]
    labelled: bool
    reference: str
    judge: str
    classes: tuple[str, ...]
    original_bytes: int
    original_top1: float | None
    strange_folders: list[str]
    unsure: int
    reshaped: int
    methods: dict[str, Method]
    photos: list[Photo] = field(repr=False)

    def score(self, method: str) -> float:
        """What counts: top-1 of labelled photos, else the agreement with the reference."""
        result = self.methods[method]
        return result.agreement if result.top1 is None else result.top1


class Network(Protocol):
    """What reads originals or thumbnails."""

    name: str
    labels: tuple[str, ...]
    threshold: float  # below it, what is read counts as none of the classes

    def prepare(self, image: Image.Image) -> Any:
        """A little of an image, which is all that `probabilities` needs; called from threads."""

    def probabilities(self, prepared: Sequence[Any]) -> Array:
        """(N, classes) float32."""

    def output_of(self, name: str) -> int | None:
        """The place of a class by any of its names; None if it is unknown."""


def verify(
    originals: str | Path,
    thumbnails: str | Path | None = None,
    *,
    size: float | tuple[int, int] = 4,
    methods: Sequence[str] = ("learned", "bicubic"),
    decoder: str | Path | None = None,
    teacher: str | Path | None = None,
    judge: Judge = "classifier",
    labels: Labels = "auto",
    quality: int = 95,
    limit: int | None = None,
    keep_images: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Compare what networks see in photos and in their thumbnails.

    Args:
        originals: a folder of JPEG, PNG, WebP or TIFF photos, at any depth.
        thumbnails: a folder with the thumbnails of these photos, under the same names (endings
            may differ); without it they are made by `methods`.
        size: of the thumbnails that are made: a factor or (width, height), as for `resize`.
        methods: "learned"; "area" (OpenCV's); "bicubic", "bilinear", "box", "hamming", "lanczos",
            "nearest" (Pillow's); or weights: a bundled name, a folder or Hugging Face model id.
            Of weights that have a decoder ("x4-machine") networks read what it rebuilds; of those
            that write a code the thumbnails of JPEG files are PNG files. With `thumbnails`
            they are compared with those, which are called "given".
        decoder: weights whose decoder the networks read `thumbnails` behind, which must be RGB
            then, or grey where it reads no code: a bundled name such as "x4-machine", a folder or
            Hugging Face model id.
        teacher: the reference that reads the originals: a Hugging Face image classifier, model id
            or folder (extra `train`). Default: the bundled classifier, on the area average of the
            originals with a short side of 128 px (so that no method is favoured).
        judge: what reads the thumbnails: "classifier", the bundled one; or "teacher", for classes
            that it does not know: T on thumbnails enlarged to its input size.
        labels: "auto": the names of the folders that hold the photos, if they are classes;
            "folders": they must be; "none": the reference's reading of the original counts.
        quality: of thumbnails in JPEG and WebP.
        limit: look at no more than so many photos, spread evenly over all.
        keep_images: keep the pictures of so many photos for a report: those that lose most of the
            confidence in their class as thumbnails of the first method.
        report: is told of (photos done, photos in all).

    Returns:
        A `Verification`. Photos that cannot be compared are in its `failed`; where none can, it
        has no methods.

    Raises:
        FileNotFoundError: a folder is not there, or weights have no decoder.
        TypeError: a size that is none.
        ValueError: no photos; unknown methods, sizes or class folders; a decoder without
            thumbnails; or a teacher whose classes are not the classifier's.
        ImportError: a teacher without the extra `train`.
        OSError: the teacher cannot be loaded.

    Source: ours.
    """
    folder = Path(originals)
    given = None if thumbnails is None else Path(thumbnails)
    target_size((2**31, 2**31), size)  # raises for sizes that no image could have
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; it lies from 1 to 100")
    if isinstance(methods, str) or not methods:
        raise ValueError(f"methods is {methods!r}; give a list of names")
    everything = find_photos(folder, given)
    paths = _evenly(everything, limit)
    makers = {str(name): downscaler(str(name)) for name in methods}
    if given is not None:
        makers = {GIVEN: Downscale(None, decoder=_decoder(decoder)), **makers}
    elif decoder is not None:
        raise ValueError(
            f"decoder is {str(decoder)!r}, but it is for thumbnails that you have; name their "
            "folder (--thumbnails)"
        )
    reference, judging = networks(teacher, judge)
    truths, strange = _truths(folder, paths, judging, labels)
    stored = None if given is None else _Stored(given, folder, everything)
    compare = _Comparison(
        folder, stored, makers, size, quality, reference, judging, keep_images > 0
    )

    failed = {} if stored is None else dict.fromkeys(stored.alone, "its original is missing")
    found: list[Photo] = []
    measured: dict[str, list[_Measured]] = {}
    original_bytes = reshaped = 0
    with quiet(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            results = list(pool.map(compare, paths[part]))
            good = [(r, t) for r, t in zip(results, truths[part], strict=True) if not r.failure]
            failed |= {r.name: r.failure for r in results if r.failure}
            found += _read([r for r, _ in good], [t for _, t in good], reference, judging)
            _forget(found, keep_images)
            original_bytes += sum(r.original_bytes for r, _ in good)
            reshaped += sum(r.reshaped for r, _ in good)
            for result, _ in good:
                for name, thumbnail in result.thumbnails.items():
                    measured.setdefault(name, []).append(thumbnail.measured)
            report(min(start + AT_ONCE, len(paths)), len(paths))
    labelled = truths[0] is not None
    return Verification(
        images=len(found),
        failed=dict(sorted(failed.items())),
        labelled=labelled,
        reference=reference.name,
        judge=judging.name,
        classes=judging.labels,
        original_bytes=original_bytes,
        original_top1=_mean(p.original.rank == 1 for p in found) if labelled and found else None,
        strange_folders=strange,
        unsure=sum(photo.original.probability < reference.threshold for photo in found),
        reshaped=reshaped,
        methods={
            name: _method(name, makers[name], found, values, labelled, original_bytes)
            for name, values in measured.items()
        },
        photos=found,
    )


def find_photos(folder: Path, exclude: Path | None = None) -> list[Path]:
    """The image files in a folder, at any depth, sorted; none that lie in `exclude`.

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


def _evenly(paths: list[Path], limit: int | None) -> list[Path]:
    if limit is None or limit >= len(paths):
        return paths
    if limit < 1:
        raise ValueError(f"limit is {limit}; give 1 or more")
    return [paths[i * len(paths) // limit] for i in range(limit)]


def downscaler(method: str) -> Downscale:
    """What makes the thumbnails of a method.

    Raises:
        ValueError: an unknown name, or weights that cannot be used.
    """
    if method == GIVEN:
        raise ValueError(f"{GIVEN!r} is what thumbnails of yours are called; name other weights")
    if method == "learned":
        return Downscale(lambda image, size: resize(image, size, num_threads=1))
    if method == "area":
        return Downscale(_area)
    if method in CLASSICAL:
        return Downscale(lambda image, size: _plain_mode(image).resize(size, CLASSICAL[method]))
    try:
        weights, decoder = pretrained.load(Downscaler, method), decoder_beside(method)
    except FileNotFoundError as error:
        raise ValueError(
            f"no method {method!r}: choose from {', '.join(METHODS)}, or name weights ({error})"
        ) from error
    coded = weights.qim > 1
    return Downscale(
        lambda image, size: resize(
            coloured(image) if coded else image, size, weights=weights, num_threads=1
        ),
        coded,
        decoder,
    )


def decoder_beside(name: str) -> Decoder | None:
    from learned_downscale.core.decoder import Decoder

    if "decoder" not in pretrained.read_config(name):
        return None
    return pretrained.load(Decoder, name)


def _decoder(weights: str | Path | None) -> Decoder | None:
    """D of weights; it warns of thumbnails without a code."""
    if weights is None:
        return None
    from learned_downscale.core.decoder import Decoder

    return Decoder.from_pretrained(weights)


def _plain_mode(image: Image.Image) -> Image.Image:
    """Palettes, bits and a colour that means transparency as what they mean: Pillow would pick
    the nearest pixel, or blend that colour with others."""
    keyed = image.mode in ("L", "RGB") and "transparency" in image.info
    if keyed:
        return image.convert("LA" if image.mode == "L" else "RGBA")
    return coloured(image) if image.mode in ("1", "P", "PA") else image


def _area(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """OpenCV's area average, of a grey image or RGB, with transparency; of others as RGB."""
    import cv2

    image = _plain_mode(image)
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image, info = Image.fromarray(rgb(image)), image.info
        image.info = info
    weighted = image.convert(f"{image.mode[:-1]}a") if image.mode in ("LA", "RGBA") else image
    small = cv2.resize(np.asarray(weighted), size, interpolation=cv2.INTER_AREA)
    out = Image.frombytes(weighted.mode, size, small.tobytes()).convert(image.mode)
    out.info = dict(image.info)
    return out


def _reduced(image: Image.Image, short: int) -> Image.Image:
    """The area average with a short side of so many pixels, if the image is larger."""
    scale = short / min(image.size)
    if scale >= 1:
        return image
    return _area(image, (round(image.width * scale), round(image.height * scale)))


class _Stored:
    """A user's thumbnails, found by the originals' names; where an ending differs, there must be
    but one original and one thumbnail of that name. alone: thumbnails of no original."""

    def __init__(self, folder: Path, originals: Path, paths: Sequence[Path]) -> None:
        self.folder = folder
        files = {path.relative_to(folder) for path in find_photos(folder, originals)}
        names = {path.relative_to(originals) for path in paths}
        by_stem = [Counter(name.with_suffix("") for name in some) for some in (files, names)]
        of_stem = {name.with_suffix(""): name for name in names}
        self.of_name: dict[Path, Path] = {name: folder / name for name in names & files}
        for file in files - names:
            stem = file.with_suffix("")
            if all(count[stem] == 1 for count in by_stem):
                self.of_name[of_stem[stem]] = folder / file
        taken = set(self.of_name.values())
        self.alone = sorted(str(folder / file) for file in files if folder / file not in taken)

    def of(self, name: Path) -> Path:
        """The thumbnail of an original, by its path inside the folder."""
        if name not in self.of_name:
            raise ValueError(f"it has no thumbnail of its own name in {self.folder}")
        return self.of_name[name]


@dataclass(frozen=True)
class _Measured:
    psnr: float
    ssim: float
    bytes: int


@dataclass(frozen=True)
class _Thumbnail:
    measured: _Measured
    prepared: Any
    content: bytes  # for a report, else empty


@dataclass
class _Compared:
    """What is kept of one photo when its pixels are gone."""

    name: str
    failure: str = ""
    original_bytes: int = 0
    reshaped: bool = False
    prepared: Any = None
    preview: bytes = b""
    thumbnails: dict[str, _Thumbnail] = field(default_factory=dict)


@dataclass(frozen=True)
class _Comparison:
    """Photo -> thumbnails, as they come back from their files, and how alike they are."""

    folder: Path
    stored: _Stored | None
    makers: dict[str, Downscale]
    size: float | tuple[int, int]
    quality: int
    reference: Network
    judge: Network
    keep_images: bool

    def __call__(self, path: Path) -> _Compared:
        name = path.relative_to(self.folder)
        try:
            return self._compare(path, name)
        except Exception as error:  # one bad photo must not stop the rest
            return _Compared(name.as_posix(), str(error) or type(error).__name__)

    def _compare(self, path: Path, name: Path) -> _Compared:
        original, exif = open_upright(path)
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
        for method, maker in self.makers.items():
            if method not in files:
                files[method] = maker.encoded(original, size, path.suffix, self.quality, exif)
        truth = rgb(_area(original, size))
        for method, content in files.items():
            thumbnail = decode(content)
            pixels = rgb(thumbnail)
            try:
                prepared = self.judge.prepare(decoded(self.makers[method].decoder, thumbnail))
            except ValueError as error:
                raise ValueError(f"its thumbnail ({method}) cannot be read: {error}") from error
            out.thumbnails[method] = _Thumbnail(
                _Measured(psnr(pixels, truth), ssim(pixels, truth), len(content)),
                prepared,
                _shown(content, pixels) if self.keep_images else b"",
            )
        out.prepared = self.reference.prepare(original)
        if self.keep_images:
            out.preview = _preview(original)
        return out


def _reshaped(size: tuple[int, int], small: tuple[int, int]) -> bool:
    """Whether no rounding of its sides makes the thumbnail the whole photo."""
    (w, h), (tw, th) = size, small
    return abs(tw - th * w / h) > 1 and abs(th - tw * h / w) > 1


def _shown(content: bytes, pixels: Array) -> bytes:
    """A thumbnail's file, or what a page can show of it."""
    if max(pixels.shape[:2]) > SHOWN:
        return _preview(Image.fromarray(pixels), SHOWN)
    if content.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")):
        return content
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _preview(image: Image.Image, side: int = PREVIEW) -> bytes:
    scale = min(1, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    Image.fromarray(rgb(_area(image, size))).save(file, "JPEG", quality=85)
    return file.getvalue()


def _read(
    compared: list[_Compared], truths: list[int | None], reference: Network, judge: Network
) -> list[Photo]:
    """What the networks see in photos and their thumbnails."""
    if not compared:
        return []
    originals = reference.probabilities([c.prepared for c in compared])
    places = [int(o.argmax()) if t is None else t for o, t in zip(originals, truths, strict=True)]
    readings: dict[str, list[Reading]] = {}
    for method in compared[0].thumbnails:
        seen = judge.probabilities([c.thumbnails[method].prepared for c in compared])
        readings[method] = [_reading(p, t, judge) for p, t in zip(seen, places, strict=True)]
    return [
        Photo(
            name=c.name,
            truth=judge.labels[place],
            original=_reading(original, place, reference),
            thumbnails={method: some[i] for method, some in readings.items()},
            original_bytes=c.original_bytes,
            preview=c.preview,
            images={m: t.content for m, t in c.thumbnails.items() if c.preview},
        )
        for i, (c, original, place) in enumerate(zip(compared, originals, places, strict=True))
    ]


def _forget(photos: list[Photo], keep: int) -> None:
    """Drop the pictures of all but the worst photos."""
    with_images = [i for i, photo in enumerate(photos) if photo.preview]
    for i in sorted(with_images, key=lambda i: photos[i].confidence_change())[keep:]:
        photos[i] = replace(photos[i], preview=b"", images={})


def _reading(probabilities: Array, truth: int, network: Network) -> Reading:
    order = np.argsort(-probabilities, kind="stable")
    return Reading(
        predicted=network.labels[order[0]],
        probability=float(probabilities[order[0]]),
        truth=float(probabilities[truth]),
        rank=int(np.flatnonzero(order == truth)[0]) + 1,
    )


def _method(
    name: str,
    maker: Downscale,
    photos: list[Photo],
    values: list[_Measured],
    labelled: bool,
    original_bytes: int,
) -> Method:
    seen = [photo.thumbnails[name] for photo in photos]
    flipped = [photo.name for photo in photos if photo.flipped(name)]
    size = sum(v.bytes for v in values)
    return Method(
        top1=_mean(s.rank == 1 for s in seen) if labelled else None,
        top5=_mean(s.rank <= 5 for s in seen) if labelled else None,
        agreement=(len(photos) - len(flipped)) / len(photos),
        confidence_change=_mean(p.confidence_change(name) for p in photos),
        psnr=_mean(v.psnr for v in values),
        ssim=_mean(v.ssim for v in values),
        bytes=size,
        saved=1 - size / original_bytes,
        flipped=flipped,
        decoded=maker.decoder is not None,
        coded=maker.coded,
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _truths(
    folder: Path, paths: Sequence[Path], judge: Network, labels: Labels
) -> tuple[list[int | None], list[str]]:
    """The class of each photo among the judge's, by the name of its folder; None for all of them
    where the folders are no classes, and then the names of these folders."""
    if labels not in ("auto", "folders", "none"):
        raise ValueError(f"labels is {labels!r}; choose one of auto, folders, none")
    if labels == "none":
        return [None] * len(paths), []
    parents = {path.parent for path in paths}
    classes = {p: judge.output_of(p.resolve().name) for p in parents}
    unknown = sorted(p for p, place in classes.items() if place is None)
    named = [p.relative_to(folder).as_posix() for p in unknown if p != folder]
    if labels == "auto" and len(unknown) == len(parents):
        return [None] * len(paths), named
    if unknown:
        said = named + [f"photos lie in {folder} itself"] * (folder in unknown)
        raise ValueError(
            f"{len(unknown)} of {len(parents)} folders are no classes of {judge.name} "
            f"({', '.join(said[:5])}); name them by its labels (such as {judge.labels[0]!r}) or "
            "WordNet ids, or leave the labels aside (--labels none)"
        )
    return [classes[path.parent] for path in paths], []


class Bundled:
    """The bundled thumbnail classifier."""

    def __init__(self) -> None:
        self._classifier = ThumbnailClassifier.from_pretrained()
        self.name = "the bundled classifier"
        self.labels = self._classifier.labels
        self.threshold = self._classifier.threshold
        self.names = list(zip(self.labels, self._classifier.wordnet_ids, strict=True))

    def prepare(self, image: Image.Image) -> Any:
        # not by `resize`, which would favour it
        return Image.fromarray(prepare(_reduced(image, LARGEST))[0])

    def probabilities(self, prepared: Sequence[Any]) -> Array:
        return self._classifier.probabilities(list(prepared))

    def output_of(self, name: str) -> int | None:
        return self._classifier.output_of(name)


class Teacher:
    """A Hugging Face image classifier with its own preprocessing; the extra `train`.

    classes: other names for all the classes that count, several names each; default: its own.

    Raises:
        ImportError: transformers is not installed.
        OSError: there is no such model, or it cannot be downloaded.
        ValueError: it does not know all of `classes`.
    """

    def __init__(self, name: str | Path, classes: Sequence[tuple[str, ...]] | None = None) -> None:
        try:
            from transformers import AutoImageProcessor, AutoModelForImageClassification
        except ImportError as error:
            raise ImportError(
                f"a teacher needs transformers ({error}): pip install 'learned-downscale[train]'"
            ) from error
        self.name, self.threshold = str(name), 0.0
        try:
            self._model, loaded = AutoModelForImageClassification.from_pretrained(
                name, output_loading_info=True
            )
            self._processor = AutoImageProcessor.from_pretrained(name)
        except Exception as error:  # whatever its libraries raise for damaged files
            raise OSError(f"the teacher {str(name)!r} cannot be loaded: {error}") from error
        if missing := sorted(loaded["missing_keys"]):
            raise OSError(
                f"the teacher {str(name)!r} lacks weights ({', '.join(missing[:3])}): it was never "
                "trained to classify"
            )
        self._model.float().eval()  # it may have been saved in half precision
        own = [str(self._model.config.id2label[i]) for i in range(self._model.config.num_labels)]
        self._by_name = outputs_by_name(own)
        self._outputs = list(range(len(own)))
        short = [label.split(",")[0] for label in own]
        # ImageNet has two cranes
        self.labels = tuple(
            one if short.count(one) == 1 else f"{label} ({i})"
            for i, (one, label) in enumerate(zip(short, own, strict=True))
        )
        if classes is not None:
            found = [[n for n in names if plain(n) in self._by_name] for names in classes]
            missing = [names[0] for names, known in zip(classes, found, strict=True) if not known]
            if missing:
                raise ValueError(
                    f"the teacher {name} knows {len(found) - len(missing)} of the classifier's "
                    f"{len(found)} classes (not {', '.join(missing[:3])}); to compare by its own "
                    "classes let it read the thumbnails, too (--judge teacher)"
                )
            self._outputs = [self._by_name[plain(known[0])] for known in found]
            self.labels = tuple(names[0] for names in classes)

    def prepare(self, image: Image.Image) -> Any:
        pixels = self._processor(
            images=rgb(image), return_tensors="np", input_data_format="channels_last"
        )
        return pixels["pixel_values"][0]

    def probabilities(self, prepared: Sequence[Any]) -> Array:
        import torch

        out = np.empty((len(prepared), len(self._outputs)), np.float32)
        for shape in {one.shape for one in prepared}:
            places = [i for i, one in enumerate(prepared) if one.shape == shape]
            x = torch.from_numpy(np.stack([prepared[i] for i in places]))
            try:
                with torch.inference_mode():
                    logits = self._model(x).logits.float()
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"the teacher {self.name} cannot read what its own preprocessing makes of the "
                    f"photos, {shape}: {error}"
                ) from error
            out[places] = logits[:, self._outputs].softmax(1).numpy()
        return out

    def output_of(self, name: str) -> int | None:
        output = self._by_name.get(plain(name))
        return self._outputs.index(output) if output in self._outputs else None


def networks(teacher: str | Path | None, judge: Judge) -> tuple[Network, Network]:
    """What reads the originals, and what reads the thumbnails."""
    if judge not in ("classifier", "teacher"):
        raise ValueError(f"judge is {judge!r}; choose classifier or teacher")
    if judge == "teacher":
        if teacher is None:
            raise ValueError("judge teacher needs a teacher: name one")
        both = Teacher(teacher)
        return both, both
    bundled = Bundled()
    return (bundled if teacher is None else Teacher(teacher, bundled.names)), bundled
