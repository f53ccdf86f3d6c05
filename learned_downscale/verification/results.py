"""What `verify` returns."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """The prediction of a network for one image.

    predicted: label of the most probable class.
    probability: of that class, in [0, 1].
    truth: probability of the photo's true class: its label, or without labels what the reference
        predicts for the original.
    rank: of the true class, 1 for the most probable.
    """

    predicted: str
    probability: float
    truth: float
    rank: int


@dataclass(frozen=True)
class Photo:
    """One photo and its thumbnails.

    name: path inside the folder.
    truth: label of the true class.
    original: the reference's prediction for the original.
    thumbnails: the reader's prediction for the thumbnail of each method.
    original_bytes: size of the photo's file.
    preview, images: a small JPEG of the original, and the file of each method's thumbnail; empty
        but for the photos that `keep_images` asks for.
    """

    name: str
    truth: str
    original: Reading
    thumbnails: dict[str, Reading]
    original_bytes: int
    preview: bytes = field(repr=False, default=b"")
    images: dict[str, bytes] = field(repr=False, default_factory=dict)

    def flipped(self, method: str) -> bool:
        """Whether the thumbnail's top-1 prediction differs from the original's."""
        return self.thumbnails[method].predicted != self.original.predicted

    def confidence_change(self, method: str | None = None) -> float:
        """Probability of the true class, thumbnail minus original; default: the first method."""
        return self.thumbnails[method or next(iter(self.thumbnails))].truth - self.original.truth


@dataclass(frozen=True)
class Method:
    """The figures of one method; shares and probabilities lie in [0, 1].

    top1, top5: share of thumbnails whose label is the top-1 prediction, or among the top 5; None
        without labels.
    agreement: share of thumbnails whose top-1 prediction equals the original's.
    confidence_change: probability of the true class, thumbnail minus original, mean over photos.
    psnr (dB, at most 100), ssim (at most 1): of the thumbnails against the area average of the
        original at their size, means over photos.
    bytes: of all thumbnail files, in the formats of the originals.
    saved: 1 - bytes / bytes of the originals; negative where the thumbnails are larger.
    flipped: names of the photos that are not in agreement.
    decoded: whether a decoder in front of the reader reconstructs the photos.
    lossless: whether the thumbnails carry a payload that JPEG destroys; those of JPEG files are
        PNG files.
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
    lossless: bool = False


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    images: number of photos that were compared.
    failed: reason for each file that could not be compared, by name.
    labelled: whether the photos have labels.
    reference, reader: names of the networks that read the originals and the thumbnails.
    classes: labels of the reader.
    original_bytes: sum over the photos' files.
    original_top1: share of originals whose label is the reference's top-1 prediction; None without
        labels.
    strange_folders: folders whose names are no classes of the reader, where no folder's is.
    unsure: number of originals for which the reference predicts none of its classes (its
        threshold); the figures say little about them.
    reshaped: number of the user's thumbnails whose aspect ratio differs from the photo's.
    without_payload: number of the user's thumbnails that lack the payload that the decoder needs.
    methods: figures by method. photos: in the order of their names.
    """

    images: int
    failed: dict[str, str]
    labelled: bool
    reference: str
    reader: str
    classes: tuple[str, ...]
    original_bytes: int
    original_top1: float | None
    strange_folders: list[str]
    unsure: int
    reshaped: int
    without_payload: int
    methods: dict[str, Method]
    photos: list[Photo] = field(repr=False)

    def score(self, method: str) -> float:
        """Top-1 accuracy, or without labels the agreement with the reference."""
        result = self.methods[method]
        return result.agreement if result.top1 is None else result.top1
