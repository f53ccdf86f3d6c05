"""The tasks that a training run is made of. Each gives its loss terms by name, and says which
parameters it trains at which rate; `trainer` does the rest and knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from learned_downscale.core.decoder import Decoder
from learned_downscale.readers.network import rescaled, resized
from learned_downscale.thumbnet import losses, settings
from learned_downscale.thumbnet.data import Batch, Batches, Crops, Photos
from learned_downscale.thumbnet.jpeg import jpeg
from learned_downscale.thumbnet.networks import FeatureDecoder, Reader, fingerprint

TEACHER_LOGITS = "teacher_logits.safetensors"


@dataclass(frozen=True)
class Trainable:
    """Parameters that a task trains. setting: the key of the recipe that holds their learning
    rate. decays: whether AdamW decays them."""

    setting: str
    parameters: list[nn.Parameter]
    rate: float
    decays: bool = True


@dataclass
class Models:
    """What a run trains and reads: E or a filter, S, T, and D where a task needs it. extra_readers:
    loads other networks by name."""

    E: nn.Module
    S: Reader
    T: Reader
    D: FeatureDecoder | None
    run: settings.Run
    find: Callable[[str], Reader] = field(repr=False)

    def readers(self, names: Iterable[str]) -> list[Reader]:
        """Frozen networks by their names in a recipe."""
        return [self.T if n == "teacher" else self.find(n).to(self.T.device) for n in names]


T_ = TypeVar("T_", bound=settings.Task)


class Task(nn.Module, Generic[T_]):
    """One [[task]] of a recipe. The networks that it trains are its sub-modules; frozen ones, which
    no checkpoint needs, are not."""

    def __init__(self, made_of: T_, models: Models) -> None:
        super().__init__()
        self.settings = made_of
        self.run = models.run
        self._frozen: tuple[Reader, ...] = (models.T,)
        self.turns = 1  # networks that are alternated batch by batch

    @property
    def teacher(self) -> Reader:
        return self._frozen[0]

    def weights(self) -> dict[str, float]:
        """The weight of each loss term in the sum; terms of weight 0 are left out."""
        raise NotImplementedError

    def trainable(self) -> list[Trainable]:
        """What the task trains; a rate of 0 freezes it."""
        raise NotImplementedError

    def batches(self, photos: Photos, device: torch.device) -> Batches:
        raise NotImplementedError

    def prepare(self, photos: Photos, run: Path) -> None:
        """What is computed once before the training, and kept in the folder of the run."""

    def begin(self) -> None:
        """Before the first step; not where a run resumes."""

    def after_step(self, step: int) -> None:
        """step: of the task, from 0."""


D_ = TypeVar("D_", bound=settings.Downscaling)


class _Downscaling(Task[D_]):
    """A task in which E makes the thumbnails of crops."""

    def __init__(self, made_of: D_, models: Models, factor: int) -> None:
        super().__init__(made_of, models)
        self.E, self.factor = models.E, factor

    def crop_sizes(self, size: int) -> list[int]:
        raise NotImplementedError

    def batches(self, photos: Photos, device: torch.device) -> Crops:
        sizes = self.crop_sizes(photos.images.shape[-1])
        run = self.run
        return Crops(photos, sizes, run.batch_size, run.seed, self.settings.jpeg, device)

    def from_share(self, size: int, share: float) -> list[int]:
        """Crops of this share of the photo or more."""
        grid = 2 * self.factor
        return [s for s in range(grid, size + 1, grid) if s >= share * size]

    def thumbnails(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The crops, what S is given of their thumbnails, and the terms so far. Outside of
        autocast: bfloat16 cannot tell the levels apart that JPEG rounds to."""
        x = batch.x.float() / 255
        x_s = self.E(x)
        terms = {}
        if self.settings.mm:
            terms["MM"] = losses.moment_matching(x_s, x, self.factor)
        return x, x_s if batch.quality is None else jpeg(x_s, batch.quality), terms

    def trained_downscaler(self) -> Trainable:
        return Trainable(
            "downscaler_rate", list(self.E.parameters()), self.settings.downscaler_rate, False
        )

    def autocast(self, x: Tensor) -> torch.autocast:
        return autocast(x.device, self.run.precision)


class FeatureMapping(_Downscaling[settings.FeatureMapping]):
    """L = fm L_FM + mm L_MM. Source: the paper's stage 1."""

    def __init__(self, made_of: settings.FeatureMapping, models: Models, factor: int) -> None:
        super().__init__(made_of, models, factor)
        assert models.D is not None  # made wherever a task needs it
        self.S, self.D = models.S, models.D

    def weights(self) -> dict[str, float]:
        return _active(MM=self.settings.mm, FM=self.settings.fm)

    def crop_sizes(self, size: int) -> list[int]:
        return self.from_share(size, self.settings.min_crop)

    def trainable(self) -> list[Trainable]:
        s = self.settings
        return [
            Trainable("student_rate", list(self.S.parameters()), s.student_rate),
            self.trained_downscaler(),
            Trainable("feature_decoder_rate", list(self.D.parameters()), s.feature_decoder_rate),
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x, inputs, terms = self.thumbnails(batch)
        with self.autocast(x):
            _, features = self.S.forward_with_features(inputs)
            terms["FM"] = feature_mapping(self.D, features, self.teacher, x)
        return terms


class Supervised(_Downscaling[settings.Supervised]):
    """L = mm L_MM + cl L_CL + kd L_KD + fm L_FM. Source: the paper's stage 2."""

    def __init__(self, made_of: settings.Supervised, models: Models, factor: int) -> None:
        super().__init__(made_of, models, factor)
        self.S, self.D = models.S, models.D if made_of.fm else None
        decoder = self.S.decoder if isinstance(self.S.decoder, Decoder) else None
        scale = self.S.network.input_scale
        for reader in models.readers(made_of.extra_readers):
            extra = reader.copied(input_scale=scale).requires_grad_(False)
            extra.decoder = self.S.decoder if decoder else extra.decoder
            self._frozen += (extra,)
        self.turns = len(self._frozen)  # S has T's place
        self.known: Tensor | None = None

    def weights(self) -> dict[str, float]:
        s = self.settings
        return _active(MM=s.mm, CL=s.cl, KD=s.kd, FM=s.fm)

    def crop_sizes(self, size: int) -> list[int]:
        return self.from_share(size, self.settings.min_crop)

    def trainable(self) -> list[Trainable]:
        s = self.settings
        trained = [
            Trainable("student_rate", list(self.S.parameters()), s.student_rate),
            self.trained_downscaler(),
        ]
        if self.D is not None:
            parameters = list(self.D.parameters())
            trained.append(Trainable("feature_decoder_rate", parameters, s.feature_decoder_rate))
        return trained

    def prepare(self, photos: Photos, run: Path) -> None:
        if self.settings.kd:
            self.known = cached(
                run / TEACHER_LOGITS,
                self.teacher,
                photos,
                lambda: predict(self.teacher, photos.images, precision=self.run.precision),
            ).to(self.teacher.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x, inputs, terms = self.thumbnails(batch)
        readers = (self.S, *self._frozen[1:])
        reader = readers[batch.step % len(readers)]
        with self.autocast(x):
            if self.D is None:
                logits = reader(inputs)
            else:
                logits, features = reader.forward_with_features(inputs)
                terms["FM"] = feature_mapping(self.D, features, self.teacher, x)
        if self.settings.cl:
            terms["CL"] = losses.classification(logits, batch.labels)
        if self.known is not None:
            teacher = self.known[batch.index]
            terms["KD"] = losses.distillation(logits, teacher, self.settings.temperature)
        return terms


class Reconstruct(_Downscaling[settings.Reconstruct]):
    """L = ae L_AE + fm L_FM + mm L_MM. Where S has no decoder, one is trained that is thrown away.

    Source: the paper compares with an auto-encoder; the feature maps of frozen networks are ours.
    """

    def __init__(self, made_of: settings.Reconstruct, models: Models, factor: int) -> None:
        super().__init__(made_of, models, factor)
        self.decoder = models.S.decoder
        if not isinstance(self.decoder, Decoder):
            with torch.random.fork_rng():
                torch.manual_seed(models.run.seed + 1)
                self.decoder = Decoder(factor)
        self.input_scale = models.S.network.input_scale
        self._frozen += tuple(models.readers(made_of.readers))
        self.turns = max(1, len(made_of.readers))

    def weights(self) -> dict[str, float]:
        s = self.settings
        return _active(MM=s.mm, AE=s.ae, FM=s.fm if s.readers else 0)

    def crop_sizes(self, size: int) -> list[int]:
        grid = 2 * self.factor
        return [max(1, round(self.settings.crop * size / grid)) * grid]

    def trainable(self) -> list[Trainable]:
        decoder = list(self.decoder.parameters())
        return [
            Trainable("decoder_rate", decoder, self.settings.decoder_rate),
            self.trained_downscaler(),
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x, inputs, terms = self.thumbnails(batch)
        readers = self._frozen[1:]
        with self.autocast(x):
            reconstructed = self.decoder(inputs)
            if self.settings.ae:
                terms["AE"] = losses.autoencoding(reconstructed, x)
            if readers and self.settings.fm:
                reader = readers[batch.step % len(readers)]
                given = rescaled(reconstructed, self.input_scale)
                with torch.no_grad():  # of the photo in the size in which the thumbnail is read
                    wanted = reader.feature_maps(resized(x, (given.shape[-2], given.shape[-1])))
                terms["FM"] = losses.perceptual(reader.feature_maps(given), wanted)
        return terms


def feature_mapping(D: FeatureDecoder, features: Tensor, teacher: Reader, x: Tensor) -> Tensor:
    """L_FM of S's feature map, of which D reconstructs that of T for the photos x."""
    with torch.no_grad():
        _, wanted = teacher.forward_with_features(x)
    reconstructed = D(features, (wanted.shape[-2], wanted.shape[-1]))
    return losses.feature_mapping(reconstructed.float(), wanted.float())


def _active(**weights: float) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if weight}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def predict(
    reader: nn.Module,
    images: Tensor,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    precision: str = "float32",
    batch_size: int = 64,
) -> Tensor:
    """What a network gives, (M, ...), for uint8 images (M, 3, H, W), each batch passed through
    `before`."""
    device = next(reader.parameters()).device
    outputs = []
    for batch in images.split(batch_size):
        x = before(batch.to(device).float() / 255)
        with autocast(device, precision):
            outputs.append(reader(x).float().cpu())
    return torch.cat(outputs)


def cached(path: Path, teacher: nn.Module, photos: Photos, compute: Callable[[], Tensor]) -> Tensor:
    """What T gives for the whole photos, (M, ...), from `path` if it is there.

    T reads each whole photo once: asking it about every crop costs more than training S, and the
    crops keep most of the photo.

    Raises:
        ValueError: `path` holds what other photos or another teacher gave.
    """
    made_of = {"photos": photos.fingerprint(), "teacher": fingerprint(teacher)}
    if path.is_file():
        with safe_open(path, "pt") as file:
            if file.metadata() != made_of:
                raise ValueError(f"{path} is of other photos or another teacher; delete it")
            known: Tensor = file.get_tensor("outputs")
            return known
    tensor = compute()
    partial_file = path.with_suffix(".partial")
    save_file({"outputs": tensor}, partial_file, made_of)
    partial_file.replace(path)  # never a half-written one
    return tensor
