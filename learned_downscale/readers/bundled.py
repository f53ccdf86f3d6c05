"""Classifiers of thumbnails: the bundled one, and students that training saved."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from learned_downscale import hub, pretrained, saving
from learned_downscale.api import resize
from learned_downscale.core.arguments import check_flag, check_number, check_whole
from learned_downscale.core.decoder import Decoder
from learned_downscale.core.qim import lacks_payload
from learned_downscale.engine.backend import check_choices
from learned_downscale.files import decode
from learned_downscale.pixels import ChannelOrder, size_of, unpack
from learned_downscale.readers.architectures import load_network
from learned_downscale.readers.labels import plain
from learned_downscale.readers.network import ClassifierNetwork

if TYPE_CHECKING:
    from learned_downscale.core.resampling import Array

DEFAULT = "thumbnail1000"

# The bundled classifier was measured from 48 to 160 px; the lower bound leaves room for the other
# side of a thumbnail that is not square.
SMALLEST, LARGEST = 32, 160
WIDEST = 4  # longest side over shortest
BATCH = 16  # more are slower on CPUs: their maps leave the cache


@dataclass(frozen=True)
class Sizes:
    """Short sides of the images that a classifier takes, px.

    shrinks: larger images are made smaller by `resize` first; else they are refused.
    """

    smallest: int = SMALLEST
    largest: int = LARGEST
    shrinks: bool = True


@dataclass(frozen=True)
class Prediction:
    """What a thumbnail shows.

    label: the most probable class; None for "none of these", when its probability is below the
        classifier's threshold.
    probability: of the most probable class, in [0, 1].
    probabilities: of every class by its label, the most probable first; their sum is 1.
    """

    label: str | None
    probability: float
    probabilities: dict[str, float]

    def __str__(self) -> str:
        best = next(iter(self.probabilities))
        said = self.label or f"none of these (most like {best})"
        return f"{said} {self.probability:.0%}"


class ThumbnailClassifier:
    """A small network that classifies thumbnails.

        classifier = ThumbnailClassifier.from_pretrained()
        print(classifier("thumbnail.jpg"))

    labels: its classes; wordnet_ids: the names of their folders in training, of ImageNet's classes
        their WordNet ids.
    threshold: below this probability it says "none of these"; it can be changed.
    temperature: its logits are divided by this, which calibrates its probabilities (see the card).
    decoder: reconstructs the network's input from the thumbnail; None: the network reads the
        thumbnail.
    sizes: of the images that it takes.

    Source: the student of ThumbNet (Zhao and Ghanem, ACM MM 2020).
    """

    def __init__(
        self,
        network: ClassifierNetwork,
        labels: Sequence[str],
        wordnet_ids: Sequence[str],
        threshold: float,
        temperature: float = 1.0,
        decoder: Decoder | None = None,
        sizes: Sizes = Sizes(),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.labels, self.wordnet_ids = tuple(labels), tuple(wordnet_ids)
        self.threshold, self.temperature = threshold, temperature
        self.decoder, self.sizes = decoder, sizes

    @classmethod
    def from_pretrained(
        cls, name: str | Path = DEFAULT, *, revision: str | None = None, device: Any = "cpu"
    ) -> Self:
        """The classifier with trained weights.

        Args:
            name: the bundled name (which never touches the network), a folder that training wrote
                (config.json, model.safetensors and perhaps decoder.safetensors), or a model id
                "owner/name" or "owner/name@revision" of the Hugging Face Hub.
            revision: branch, tag or commit of a Hub model; pin a commit in production.
            device: where to compute, as torch names it.

        Raises:
            ValueError: the files are damaged, do not belong together, or are no classifier's.
            FileNotFoundError, PermissionError, ConnectionError: as `pretrained.load`.
        """
        name, revision = pretrained.pinned(name, revision)
        config = pretrained.read_config(name, "classifier", revision=revision)
        network = load_network(name, revision=revision).to(device)
        decoder = None
        if "decoder" in config:
            decoder = pretrained.load(Decoder, name, revision=revision).to(device)
        try:
            labels = [str(entry["label"]) for entry in config["classes"]]
            ids = [str(entry["wordnet_id"]) for entry in config["classes"]]
            if len(set(labels)) != len(ids) or len(ids) != network.config["classes"]:
                raise ValueError(
                    f"{len(set(labels))} labels of {network.config['classes']} classes"
                )
            threshold, temperature = config["threshold"], config["temperature"]
            check_number("threshold", threshold, 0, 1)
            check_number("temperature", temperature, 1e-6, 1e6)
            sizes = Sizes(**config.get("sizes", {}))
            check_whole("smallest", sizes.smallest, 1, 2**16)
            check_whole("largest", sizes.largest, sizes.smallest, 2**16)
            check_flag("shrinks", sizes.shrinks)
            return cls(network, labels, ids, threshold, temperature, decoder, sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the config.json of {name} does not fit: {type(error).__name__}: {error}"
            ) from error

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write the classifier into a weights folder, for `from_pretrained`: config.json,
        safetensors (float16), a plain card.

        Args:
            folder: a new one, or one that holds a classifier, which is replaced.
            license: of the weights, as the Hub names it ("apache-2.0").

        Raises:
            FileExistsError: the folder holds something else.
            ValueError: the folder's config.json is damaged.
        """
        self._save(Path(folder), license)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = False,
        token: str | None = None,
        license: str | None = None,
        message: str | None = None,
    ) -> str:
        """Send the classifier to a model "owner/name" of the Hugging Face Hub; arguments, result
        and errors are those of `Downscaler.push_to_hub`."""

        def save(folder: Path) -> None:
            self._save(folder, license)

        return hub.push_saved(repo, save, private=private, token=token, message=message)

    def _save(self, folder: Path, license: str | None) -> None:
        pairs = zip(self.wordnet_ids, self.labels, strict=True)
        about = {
            "classes": [{"wordnet_id": wordnet, "label": label} for wordnet, label in pairs],
            "threshold": self.threshold,
            "temperature": self.temperature,
            "sizes": asdict(self.sizes),
        }
        decoder = [] if self.decoder is None else [self.decoder]
        saving.save_networks(folder, [self.network, *decoder], license, **about)

    def __call__(self, images: Any, *, channel_order: ChannelOrder = "rgb") -> Any:
        """Classify thumbnails.

        Args:
            images: a PIL image; a numpy array (H, W) or (H, W, C); a torch tensor (C, H, W) or
                (N, C, H, W); a path; or a list of any of these, in any sizes. Dtypes and ranges
                are those of `resize`. Greys become RGB, transparency is laid over white, files
                are turned upright. Short sides within `sizes` are taken as they are (32 to 160 px;
                measured from 48). Larger images are made smaller by `resize` first, so that the
                short side has 160 px; a student with sizes of its own refuses them, as only its
                own downscaler makes the thumbnails that it was trained on.
            channel_order: "rgb", or "bgr" for arrays and tensors as OpenCV has them.

        Returns:
            A `Prediction`; for lists and batches, a list of them.

        Raises:
            FileNotFoundError: there is no such file.
            TypeError: not an image, or of an unknown dtype.
            ValueError: outside of `sizes`, longer than 4 times its width, or what `resize`
                refuses.

        Warns:
            UserWarning: the decoder reads a payload, and a thumbnail carries none.
        """
        probabilities = self.probabilities(images, channel_order=channel_order)
        predictions = [self._prediction(row) for row in probabilities.tolist()]
        many = isinstance(images, list) or getattr(images, "ndim", 0) == 4
        return predictions if many else predictions[0]

    def probabilities(self, images: Any, *, channel_order: ChannelOrder = "rgb") -> Array:
        """(N, classes) float32, in the order of `labels`; everything else as `__call__`."""
        pixels: list[Array] = []
        for i, image in enumerate(images if isinstance(images, list) else [images]):
            try:
                pixels.extend(prepare(image, channel_order, self.sizes))
            except Exception as error:
                if isinstance(images, list):
                    error.add_note(f"at place {i} of the list of {len(images)} images")
                raise
        out = np.empty((len(pixels), len(self.labels)), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, one in enumerate(pixels):
            by_shape.setdefault(one.shape, []).append(i)
        device = self.network.classify.weight.device
        with torch.inference_mode():
            for places in by_shape.values():
                for start in range(0, len(places), BATCH):
                    part = places[start : start + BATCH]
                    stacked = np.stack([pixels[i] for i in part])
                    self._check_payload(stacked)
                    x = torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).float() / 255
                    logits = self.network(x if self.decoder is None else self.decoder(x))
                    out[part] = (logits / self.temperature).softmax(1).cpu().numpy()
        return out

    def _check_payload(self, levels: Array) -> None:
        if self.decoder is not None and lacks_payload(levels, self.decoder.qim):
            warnings.warn(
                "the thumbnails carry no payload for the classifier's decoder, so its predictions "
                "mean little: give it thumbnails of its own downscaler, stored as PNG or lossless "
                "WebP",
                stacklevel=4,
            )

    def _prediction(self, row: list[float]) -> Prediction:
        ranked = sorted(zip(self.labels, row, strict=True), key=lambda pair: -pair[1])
        label, probability = ranked[0]
        return Prediction(
            label if probability >= self.threshold else None, probability, dict(ranked)
        )

    def output_of(self, name: str) -> int | None:
        """The place of a class among `labels`, by its label or WordNet id; None if unknown."""
        for names in (self.labels, self.wordnet_ids):
            known = [plain(n) for n in names]
            if plain(name) in known:
                return known.index(plain(name))
        return None


def prepare(
    image: Any,
    channel_order: ChannelOrder = "rgb",
    sizes: Sizes = Sizes(),
) -> list[Array]:
    """The network's inputs: (H, W, 3) uint8 of each image; raises as `ThumbnailClassifier`."""
    if isinstance(image, (str, Path)):
        image = decode(image)
    check_choices("up", channel_order, "auto", None)
    width, height = size_of(image)
    short, long = sorted((width, height))
    if short < sizes.smallest:
        raise ValueError(
            f"the image is {width} x {height} px; thumbnails have a short side of "
            f"{sizes.smallest} px or more: give a larger thumbnail, or the original"
        )
    if long > WIDEST * short:
        raise ValueError(
            f"the image is {width} x {height} px; it may be at most {WIDEST} times as long as "
            "it is wide: crop it first"
        )
    if short > sizes.largest:
        if not sizes.shrinks:
            raise ValueError(
                f"the image is {width} x {height} px; this classifier takes short sides up to "
                f"{sizes.largest} px: make the thumbnail first, with the downscaler that the "
                "classifier was trained with"
            )
        scale = sizes.largest / short
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = resize(image, size, channel_order=channel_order)
    pixels = rgb(image, channel_order)
    return list(pixels) if pixels.ndim == 4 else [pixels]


def rgb(image: Any, channel_order: ChannelOrder = "rgb") -> Array:
    """(H, W, 3) uint8 of an image of any kind that `resize` takes, (N, H, W, 3) of a batch.
    Greys become RGB, transparency is laid over white. Raises ValueError for LAB, whose first
    channel would pass for grey."""
    if getattr(image, "mode", None) == "LAB":
        raise ValueError("a LAB image; make it RGB first (PIL.ImageCms.profileToProfile)")
    if getattr(image, "mode", None) == "CMYK":
        image = image.convert("RGB")
    samples, _ = unpack(image, channel_order)
    everything = slice(0, samples.count), slice(0, samples.height), slice(0, samples.width)
    x = samples.read(*everything)
    if samples.levels != 255:
        x = (x * np.float32(255 / (samples.levels or 1))).round().astype(np.uint8)
    colours = x[..., : samples.colours]
    if samples.alpha:
        alpha = x[..., samples.colours, None].astype(np.float32) / 255
        colours = (colours * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    colours = np.broadcast_to(colours, (*x.shape[:3], 3))
    return colours if getattr(image, "ndim", 0) == 4 else colours[0]
