"""The tasks that a training run is made of. Each gives its loss terms by name, and says which
parameters it trains at which rate; `trainer` does the rest and knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from learned_downscale.core.decoder import Decoder
from learned_downscale.core.filters import FILTERS
from learned_downscale.readers.network import rescaled, resized
from learned_downscale.thumbnet import losses, settings
from learned_downscale.thumbnet.data import Batch, Batches, Crops, Photos, generator
from learned_downscale.thumbnet.drawn import gratings, pages, stripes
from learned_downscale.thumbnet.lossy import stored
from learned_downscale.thumbnet.networks import FeatureDecoder, Reader

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
    """The networks of a run: E or a filter (`nn.Identity`: neither), S, T, and D where a task
    needs it. find: loads another network by its name."""

    E: nn.Module
    S: Reader
    T: Reader
    D: FeatureDecoder | None
    made: settings.Settings
    find: Callable[[str], Reader]

    def readers(self, names: Iterable[str]) -> list[Reader]:
        """Frozen networks by their names in a recipe."""
        return [self.T if n == "teacher" else self.find(n).to(self.T.device) for n in names]


class Task(nn.Module):
    """One [[task]] of a recipe, made of its settings. The networks that it trains are its
    sub-modules; frozen ones, which no checkpoint needs, are in lists: T in `frozen`, and those that
    read the thumbnails, alternated batch by batch, in `readers`."""

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__()
        self.settings, self.run = made_of, models.made.run
        self.frozen, self.readers = [models.T], [models.S]

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


class _Downscaling(Task):
    """A task in which E makes the thumbnails of crops."""

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__(made_of, models)
        assert models.made.downscaler is not None  # the settings see to it
        self.E, self.factor = models.E, models.made.downscaler.factor

    def batches(self, photos: Photos, device: torch.device) -> Crops:
        made, run, grid = self.settings, self.run, 2 * self.factor
        cells = run.size / grid
        least, most = (max(1, round(share * cells)) for share in (made.min_crop, made.max_crop))
        sizes = range(least * grid, most * grid + 1, grid)
        return Crops(photos, run, sizes, made, device)

    def thumbnails(
        self, batch: Batch, kind: str = "downscaler"
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The crops, S's inputs, and L_MM if it has a weight. Outside of autocast: bfloat16 cannot
        tell the levels of 8 bits apart. kind: "downscaler", or a filter in E's place."""
        x = batch.x.float() / 255
        x_s = self.E(x) if kind == "downscaler" else FILTERS[kind](x, self.factor)
        terms = {}
        if self.settings.mm:
            terms["MM"] = losses.moment_matching(x_s, x, self.factor)
        return x, x_s if batch.file is None else stored(x_s, *batch.file), terms

    def trainable(self) -> list[Trainable]:
        E = list(self.E.parameters())
        return [Trainable("downscaler_rate", E, self.settings.downscaler_rate, False)]


class FeatureMapping(_Downscaling):
    """L = fm L_FM + mm L_MM. Source: the paper's stage 1."""

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__(made_of, models)
        self.S, self.D = models.S, models.D if made_of.fm else None

    def trainable(self) -> list[Trainable]:
        made = self.settings
        D = list(self.D.parameters()) if self.D else []
        return [
            Trainable("student_rate", list(self.S.parameters()), made.student_rate),
            *super().trainable(),
            Trainable("feature_decoder_rate", D, made.feature_decoder_rate),
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.read(batch)[1]

    def read(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, L_MM and L_FM."""
        x, inputs, terms = self.thumbnails(batch)
        reader = self.readers[batch.step % len(self.readers)]
        with autocast(x.device, self.run.precision):
            if self.D is None:
                return reader(inputs), terms
            logits, features = reader.forward_with_features(inputs)
            with torch.no_grad():
                _, wanted = self.frozen[0].forward_with_features(x)
            reconstructed = self.D(features, (wanted.shape[-2], wanted.shape[-1])).float()
        terms["FM"] = losses.feature_mapping(reconstructed, wanted.float())
        return logits, terms


class Supervised(FeatureMapping):
    """L = mm L_MM + cl L_CL + kd L_KD + fm L_FM. Source: the paper's stage 2."""

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__(made_of, models)
        for reader in models.readers(made_of.extra_readers):
            extra = reader.copied(input_scale=self.S.network.input_scale).requires_grad_(False)
            extra.decoder = self.S.decoder
            self.readers.append(extra)
        self.known: Tensor | None = None

    def prepare(self, photos: Photos, run: Path) -> None:
        if self.settings.kd:
            T, precision = self.frozen[0], self.run.precision
            known = cached(
                run / TEACHER_LOGITS, lambda: predict(T, photos.images, precision=precision)
            )
            self.known = known.to(T.device)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits, terms = self.read(batch)
        if self.settings.cl:
            terms["CL"] = losses.classification(logits, batch.labels)
        if self.known is not None:
            teacher = self.known[batch.index]
            terms["KD"] = losses.distillation(logits, teacher, self.settings.temperature)
        return terms


class Reconstruct(_Downscaling):
    """L = ae L_AE + fm L_FM + mm L_MM. Where S has no decoder, one is trained that is thrown away.

    Source: the paper compares with an auto-encoder; the feature maps of frozen networks are ours.
    """

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__(made_of, models)
        self.decoder = models.S.decoder
        if not isinstance(self.decoder, Decoder):
            with torch.random.fork_rng():
                torch.manual_seed(self.run.seed + 1)
                self.decoder = Decoder(self.factor)
        self.input_scale = models.S.network.input_scale
        self.readers = models.readers(made_of.readers) if made_of.fm else []

    def trainable(self) -> list[Trainable]:
        decoder = list(self.decoder.parameters())
        rate = self.settings.decoder_rate
        return [Trainable("decoder_rate", decoder, rate), *super().trainable()]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        chance, kinds = generator(self.run.seed, 2, batch.step), self.settings.thumbnails
        kind = kinds[int(torch.randint(len(kinds), (), generator=chance))]
        x, inputs, terms = self.thumbnails(batch, kind)
        with autocast(x.device, self.run.precision):
            reconstructed = self.decoder(inputs)
            if self.settings.ae:
                terms["AE"] = losses.autoencoding(reconstructed, x)
            if self.readers:
                reader = self.readers[batch.step % len(self.readers)]
                given = rescaled(reconstructed, self.input_scale)
                with torch.no_grad():  # of the photo in the size in which the thumbnail is read
                    wanted = reader.feature_maps(resized(x, (given.shape[-2], given.shape[-1])))
                terms["FM"] = losses.perceptual(reader.feature_maps(given), wanted)
        return terms


class Recognise(_Downscaling):
    """L = kd L_KD + mm L_MM + dr L_DR; each network is its own teacher. Source: distillation is the
    paper's; frozen networks as teachers without labels, and drawn pictures, are ours."""

    def __init__(self, made_of: Any, models: Models) -> None:
        super().__init__(made_of, models)
        self.readers = models.readers(made_of.readers)
        self.known: list[Tensor] = []

    def prepare(self, photos: Photos, run: Path) -> None:
        for i, reader in enumerate(self.readers):
            compute = partial(predict, reader, photos.images, precision=self.run.precision)
            self.known.append(cached(run / f"logits_{i}.safetensors", compute).to(reader.device))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        made, which = self.settings, batch.step % len(self.readers)
        x, inputs, terms = self.thumbnails(batch)
        chance = generator(self.run.seed, 2, batch.step)
        kind = made.enlargers[int(torch.randint(len(made.enlargers), (), generator=chance))]
        large = FILTERS[kind].enlarge(inputs, self.factor)
        with autocast(x.device, self.run.precision):
            logits = self.readers[which](large).float()
        known = self.known[which][batch.index] if self.known else logits.detach()
        terms["KD"] = losses.distillation(logits, known, made.temperature)
        if made.dr:
            terms["DR"] = self.drawn(chance, x.device)
        return terms

    def drawn(self, chance: torch.Generator, device: torch.device) -> Tensor:
        """L_DR."""
        size = 24 * self.factor
        waves = gratings(6, size, self.factor, chance).to(device)
        wide = 2 * size
        clipped = torch.cat([pages(3, wide, chance), stripes(5, wide, chance)]).to(device)
        residual: Tensor = self.E.residual((waves * 255).round())  # type: ignore[operator]
        change = 255 * (self.E(clipped) - FILTERS["bicubic"](clipped, self.factor)).mean((2, 3))
        return residual.square().mean() + 100 * F.relu(change.abs() - 0.2).square().mean()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def predict(
    network: nn.Module,
    images: Tensor,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    precision: str = "float32",
    method: str = "__call__",
) -> Tensor:
    """What a method of a network gives, (M, ...), for uint8 images (M, 3, H, W), each batch passed
    through `before`."""
    device, outputs = next(network.parameters()).device, []
    for batch in images.split(64):
        x = before(batch.to(device).float() / 255)
        with autocast(device, precision):
            outputs.append(getattr(network, method)(x).float().cpu())
    return torch.cat(outputs)


def accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 and top-5, percent; with fewer than five classes, top-5 is of all there are."""
    right = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    top1, top5 = (100 * r.float().mean().item() for r in (right[:, 0], right.any(1)))
    return top1, top5


def cached(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """What T gives for the whole photos, (M, ...), from `path` if it is there.

    T reads each whole photo once: asking it about every crop costs more than training S, and the
    crops keep most of the photo.
    """
    if not path.is_file():
        partial_file = path.with_suffix(".partial")
        save_file({"outputs": compute()}, partial_file)
        partial_file.replace(path)  # never a half-written one
    return load_file(path)["outputs"]
