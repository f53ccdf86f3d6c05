"""The networks that read originals and thumbnails, and the decoder in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from learned_downscale.core.qim import ENOUGH, lacks_payload
from learned_downscale.readers.bundled import DEFAULT, ThumbnailClassifier, prepare
from learned_downscale.readers.huggingface import HuggingFaceReader
from learned_downscale.readers.protocol import Reader
from learned_downscale.verification.methods import area

if TYPE_CHECKING:
    from learned_downscale.core.decoder import Decoder
    from learned_downscale.core.resampling import Array

BUNDLED, REFERENCE = "bundled", "reference"


class ThumbnailReader:
    """A thumbnail classifier as a `Reader`.

    Images that are larger than the classifier takes are reduced by area averaging, which favours
    no method; a classifier that refuses larger thumbnails refuses them here, too.

    Args:
        name: "bundled", or as for `ThumbnailClassifier.from_pretrained`.
    """

    def __init__(self, name: str | Path = BUNDLED) -> None:
        bundled = name == BUNDLED
        self._classifier = ThumbnailClassifier.from_pretrained(DEFAULT if bundled else name)
        self._reduces = self._classifier.sizes.shrinks
        self.name = "the bundled classifier" if bundled else str(name)
        self.labels = self._classifier.labels
        self.threshold = self._classifier.threshold
        decoder = self._classifier.decoder
        # one for thumbnails of any kind is a part of the network, which reads larger images, too
        of_any = self._reduces and (decoder is None or decoder.qim == 1)
        self.has_decoder = decoder is not None and not of_any

    @property
    def classes(self) -> list[tuple[str, ...]]:
        """All names of each class."""
        return list(zip(self.labels, self._classifier.wordnet_ids, strict=True))

    def of_originals(self) -> ThumbnailReader:
        """This reader for originals of any size.

        Raises:
            ValueError: the classifier reads only thumbnails with a payload, which originals lack.
        """
        decoder = self._classifier.decoder
        if decoder is not None and decoder.qim > 1:
            raise ValueError(
                f"{self.name} reads only thumbnails with a payload, not the originals: name "
                "another classifier of the same classes as reference"
            )
        other = copy(self)
        other._reduces = True
        return other

    def prepare(self, image: Image.Image) -> Any:
        sizes = self._classifier.sizes
        if self._reduces:
            image = _reduced(image, sizes.largest)
        return Image.fromarray(prepare(image, sizes=sizes)[0])

    def probabilities(self, prepared: Sequence[Any]) -> Array:
        return self._classifier.probabilities(list(prepared))

    def output_of(self, name: str) -> int | None:
        return self._classifier.output_of(name)


def choose_readers(reference: str | Path | None, reader: str | Path) -> tuple[Reader, Reader]:
    """The networks that read the originals and the thumbnails; arguments as for `verify`.

    Raises:
        ValueError: the reader is to be the reference, and there is none; or the reference does not
            know the reader's classes.
        FileNotFoundError, ImportError, OSError: a network cannot be loaded.
    """
    if reader == REFERENCE:
        if reference is None:
            raise ValueError("reader='reference' needs a reference: name a classifier")
        both = HuggingFaceReader(reference)
        return both, both
    thumbnails = ThumbnailReader(reader)
    if reference is None:
        return thumbnails.of_originals(), thumbnails
    try:
        return HuggingFaceReader(reference, thumbnails.classes), thumbnails
    except ValueError as error:
        raise ValueError(
            f"the reference cannot be compared with {thumbnails.name}: {error}; to compare by the "
            "reference's own classes, let it read the thumbnails, too (reader='reference')"
        ) from error


def reconstructed(decoder: Decoder | None, thumbnail: Image.Image) -> Image.Image:
    """The image that the reader is given of a thumbnail: the decoder's, if there is one.

    Raises:
        ValueError: the decoder cannot read the thumbnail, which has transparent pixels, or is not
            RGB (grey is read by decoders that need no payload).
    """
    if decoder is None:
        return thumbnail
    if thumbnail.mode == "L" and decoder.qim == 1:
        thumbnail = thumbnail.convert("RGB")
    if thumbnail.mode == "RGBA" and thumbnail.getchannel("A").getextrema() == (255, 255):
        thumbnail = thumbnail.convert("RGB")
    if thumbnail.mode == "RGBA":
        raise ValueError("it has transparent pixels, which the decoder cannot read; remove them")
    if thumbnail.mode != "RGB":
        raise ValueError(
            f"the decoder reads RGB, not {thumbnail.mode}, which holds no payload; convert the "
            "photo to RGB before the thumbnail is made (`convert` does)"
        )
    import torch

    x = torch.from_numpy(np.array(thumbnail)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        levels = (255 * decoder(x)[0].clamp(0, 1)).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


class PayloadCheck:
    """Counts thumbnails (uint8) that lack a payload modulo `qim`.

    Thumbnails with too few samples to tell (`lacks_payload`) are judged in groups. A last group
    that is too small counts as none.
    """

    def __init__(self, qim: int) -> None:
        self.qim, self.lacking = qim, 0
        self._group: list[Array] = []

    def add(self, levels: Array) -> None:
        if levels.size >= ENOUGH:
            self.lacking += lacks_payload(levels, self.qim)
            return
        self._group.append(levels.ravel())
        if sum(part.size for part in self._group) >= ENOUGH:
            together = np.concatenate(self._group)
            self.lacking += len(self._group) * lacks_payload(together, self.qim)
            self._group = []


def _reduced(image: Image.Image, short: int) -> Image.Image:
    """The area average with a short side of `short` px, if the image is larger."""
    scale = short / min(image.size)
    if scale >= 1:
        return image
    return area(image, (round(image.width * scale), round(image.height * scale)))
