"""Train E and S together, as the paper does, in two stages.

1. Without labels: "fm" trains E, the first part of S and a decoder D to rebuild T's feature maps
   of the original: L = fm L_FM + mm L_MM. "perceptual" leaves S as it is, and needs no D: E, and
   S's first layers if they rebuild the photo, learn to give S the feature maps that it has of the
   photo itself: L = fm L_FM + mm L_MM (+ ae L_AE if they rebuild it). "autoencoder" trains E and
   S's first layers to rebuild the photo: L = ae L_AE + mm L_MM.
2. Supervised: E and S, L = mm L_MM + cl L_CL + kd L_KD + fm L_FM.

`accelerate launch` runs it on several GPUs or in several processes: each computes its part of
every batch, so the result is the same but for the order of sums.
"""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from learned_downscale.core.decoder import Decoder
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.pretrained import bundled, decoder_beside
from learned_downscale.readers.efficientnet_lite import rescaled, resized
from learned_downscale.thumbnet import baselines, losses, narrow
from learned_downscale.thumbnet.data import Augmented, Batch, Photos
from learned_downscale.thumbnet.jpeg import jpeg
from learned_downscale.thumbnet.log import Log, Stopwatch
from learned_downscale.thumbnet.networks import (
    Classifier,
    FeatureDecoder,
    fingerprint,
    load_teacher,
)
from learned_downscale.thumbnet.settings import ClassifierSettings, Settings

CHECKPOINT, SETTINGS, STUDENT = "checkpoint.pt", "settings.json", "student.safetensors"
DOWNSCALER, TEACHER_LOGITS = "downscaler.safetensors", "teacher_logits.safetensors"

# Called after every step with (steps done, steps in all, the loss terms by name).
Report = Callable[[int, int, dict[str, float]], None]


class Together(nn.Module):
    """E, S and D, the networks that take turns with S, and the loss terms that they give."""

    def __init__(
        self,
        settings: Settings,
        E: nn.Module,
        S: Classifier,
        D: nn.Module | None,
        others: list[Classifier],
    ) -> None:
        super().__init__()
        self.settings = settings
        self.E, self.S, self.D = E, S, D
        self.others = nn.ModuleList(others)

    def _turn(self, step: int) -> Classifier:
        """S, or the one of the others whose turn it is."""
        network = [self.S, *self.others][step % (1 + len(self.others))]
        assert isinstance(network, Classifier)  # as all others are
        return network

    def forward(
        self,
        batch: Batch,
        teacher_logits: Tensor | None,
        teacher_maps: Tensor | None,
        stage: int,
        step: int,
    ) -> dict[str, Tensor]:
        """The loss terms of a stage by name; T's logits or maps are None where it has no part."""
        settings, weights = self.settings, _weights(self.settings, stage)
        x = batch.x.float() / 255
        x_s = self.E(x)
        terms = {}
        if "MM" in weights:
            terms["MM"] = losses.moment_matching(x_s, x, settings.factor)
        # before autocast: bfloat16 cannot tell the levels apart that JPEG rounds to
        seen = x_s if batch.quality is None else jpeg(x_s, batch.quality)
        with autocast(x.device, settings.precision):
            network = self._turn(step)
            if stage == 1 and settings.stage1 != "fm":
                own = settings.stage1 == "autoencoder" and settings.rebuild == 1
                decoder = self.D if own else self.S.front
                assert decoder is not None  # D, where S does not rebuild the photo itself
                rebuilt = decoder(seen)
                if "AE" in weights:
                    terms["AE"] = losses.autoencoding(rebuilt, x)
                if "FM" in weights:
                    given = rescaled(rebuilt, network.rescale)
                    with torch.no_grad():  # the photo, at the sides at which S reads thumbnails
                        wanted = network.maps(resized(x, (given.shape[-2], given.shape[-1])))
                    terms["FM"] = losses.perceptual(network.maps(given), wanted)
                return terms
            if "FM" not in weights:
                logits = network(seen)
            else:
                logits, maps = network.read(seen)
                assert self.D is not None and teacher_maps is not None  # made wherever FM is
                rebuilt = self.D(maps, (teacher_maps.shape[-2], teacher_maps.shape[-1])).float()
                terms["FM"] = losses.feature_mapping(rebuilt, teacher_maps.float())
        if "CL" in weights:
            terms["CL"] = losses.classification(logits, batch.labels)
        if "KD" in weights and teacher_logits is not None:
            terms["KD"] = losses.distillation(logits, teacher_logits, settings.temperature)
        return terms


def make_downscaler(settings: Settings) -> tuple[nn.Module, Decoder | None]:
    """E as the settings ask for it, before training, or the filter in its place, and the decoder
    that comes with it, if it does not start untrained; the same seed gives the same E.

    Raises:
        ValueError: `start` holds another kind of E, or no decoder that fits where one is needed.
    """
    if not settings.start:
        return new_downscaler(settings), None
    run = Path(settings.start)
    if settings.start not in bundled() and (run / SETTINGS).is_file():
        theirs = load_settings(run)
        _check_agrees(run, theirs, settings, "downscaler", "factor")
        E, decoder = new_downscaler(theirs), decoder_of(run)
        E.load_state_dict(load_file(run / DOWNSCALER))
    elif settings.downscaler != "learned":
        raise ValueError(
            f"{settings.start} is no run; the decoder of {settings.downscaler} thumbnails that "
            "start asks for comes from the folder of a finished run"
        )
    else:
        E, decoder = Downscaler.from_pretrained(settings.start), decoder_beside(settings.start)
    if isinstance(E, Downscaler):
        _check_agrees(settings.start, E, settings, "factor", "channels", "qim")
    if decoder is not None:
        fits = settings.rebuild > 1 and decoder.config == new_decoder(settings).config
        decoder = decoder if fits else None
    needed = settings.downscaler != "learned" or settings.stage1 == "none"
    if decoder is None and needed and settings.rebuild > 1:
        other = "train another in stage 1" if settings.stage1 == "none" else "leave start out"
        raise ValueError(
            f"{settings.start} has no decoder that fits; give its own rebuild, decoder_width and "
            f"qim, or {other}"
        )
    return E.requires_grad_(True), decoder


def _check_agrees(start: str | Path, has: object, settings: Settings, *names: str) -> None:
    for name in names:
        theirs, mine = getattr(has, name), getattr(settings, name)
        if theirs != mine:
            raise ValueError(f"{start} has {name} {theirs}, the settings {mine}; they must agree")


def new_downscaler(settings: Settings) -> nn.Module:
    """An untrained E, whatever it is to start from, or the filter in its place."""
    if settings.downscaler != "learned":
        return baselines.make(settings.downscaler, settings.factor)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return Downscaler(settings.factor, settings.channels, settings.qim)


def make_student(settings: Settings, teacher: Classifier, classes: tuple[str, ...]) -> Classifier:
    """S as the settings ask for it, untrained."""
    network = _network(settings.student, teacher, classes, settings.layer)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed + 2)
        front = new_decoder(settings) if settings.rebuild > 1 else None
    return network.student(settings.first_stride, front, settings.rescale, settings.crop_odd)


def make_others(
    settings: Settings, teacher: Classifier, S: Classifier, classes: tuple[str, ...]
) -> list[Classifier]:
    """The networks that take turns with S, frozen, behind S's decoder if it has one."""
    found = [_network(name, teacher, classes) for name in settings.others.split(",") if name]
    made = [
        o.student(settings.first_stride, S.front, settings.rescale, settings.crop_odd)
        for o in found
    ]
    return [other.requires_grad_(False) for other in made]


def _network(
    name: str, teacher: Classifier, classes: tuple[str, ...], layer: str = ""
) -> Classifier:
    if name == "teacher":
        return teacher
    return load_teacher(name, classes, layer).to(teacher.mean.device)


def new_decoder(settings: Settings) -> Decoder:
    """S's first layers."""
    return Decoder(settings.rebuild, settings.decoder_width, settings.qim)


def make_decoder(settings: Settings, teacher: Classifier, S: Classifier) -> nn.Module | None:
    """D, if a loss needs one that is no part of S; the same seed gives the same D."""
    autoencoder = settings.stage1 == "autoencoder"
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed + 1)
        if autoencoder and settings.rebuild == 1:
            return Decoder(settings.factor)
        if settings.stage1 != "fm" and not (settings.fm and settings.epochs):
            return None
        x = torch.zeros(1, 3, settings.size, settings.size, device=teacher.mean.device)
        if settings.width < 1:  # D reads what will be left of it
            S = copy.deepcopy(S)
            narrow.cut(S, settings.width)
        with torch.no_grad():
            channels = [network.read(x)[1].shape[1] for network in (S, teacher)]
        return FeatureDecoder(*channels)


def train(
    settings: Settings,
    photos: Photos,
    teacher: Classifier,
    run: Path,
    report: Report = lambda done, total, terms: None,
    stop_after: int | None = None,
) -> tuple[nn.Module, Classifier]:
    """Train E and S; both are returned and, when all steps are done, kept in the folder `run`,
    with the loss terms of every step (log.csv) and their curves (curves.png).

    A run that was stopped goes on from its last checkpoint (one an epoch) and ends in the state
    that it would have reached uninterrupted. `stop_after`: stop, with a checkpoint, after so
    many steps.

    Raises:
        ValueError: `run` holds a run of other settings, photos or another teacher, or a damaged
            checkpoint; batches too small for the processes, or processes that do not share them;
            networks that cannot take what the settings give them; or the loss is no longer finite.
    """
    accelerator = _accelerator()
    device = accelerator.device
    teacher = teacher.to(device)
    batches = _batches(settings, photos, accelerator)
    together = _together(settings, teacher, photos.classes).to(device)
    E, S = together.E, together.S
    per_epoch = batches.steps_per_epoch
    first = per_epoch * (settings.stage1_epochs if settings.stage1 != "none" else 0)
    total = first + per_epoch * settings.epochs
    if not (run / CHECKPOINT).exists():
        for stage, steps in ((1, first), (2, total - first)):
            if steps:
                _rehearse(settings, together, teacher, batches, stage)
    with accelerator.main_process_first():  # one writes what the others read
        run.mkdir(parents=True, exist_ok=True)
        start = {"start": fingerprint(nn.ModuleList([E, S.front]))} if settings.start else {}
        claim(run, settings, photos, teacher, **start)
        teacher_logits = None
        if settings.epochs and settings.kd and settings.kd_on == "photo":
            teacher_logits = cached(
                run / TEACHER_LOGITS,
                teacher,
                photos,
                lambda: predict(teacher, photos.images, precision=settings.precision),
            ).to(device)

    saved = read_checkpoint(run / CHECKPOINT)
    narrow_from_here = settings.width < 1 and not (saved and saved["stage"] == 2)
    if saved:
        if settings.width < 1 and not narrow_from_here:
            narrow.cut(S, settings.width)
        together.load_state_dict(saved["together"])
    done: int = saved["step"] if saved else 0
    log = Log(run, done) if accelerator.is_main_process else None
    networks = Stopwatch()
    rates = {1: "stage1_lr or decoder_lr", 2: "student_lr or downscaler_lr"}

    for stage, begin, end in ((1, 0, first), (2, first, total)):
        if stage == 2 and narrow_from_here:
            _narrow(settings, E, S, batches)
        if not begin <= done < end:
            continue
        optimiser = _optimiser(settings, together, stage)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, partial(learning_rate, total=end - begin, warmup=settings.warmup)
        )
        if saved and saved["stage"] == stage:
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
        if stage == 2 and settings.batch_norm == "batches":
            for module in _batch_norms(S):
                module.train()
        model = accelerator.prepare_model(together)
        weights = _weights(settings, stage)
        for step in range(done, min(end, stop_after or total)):
            terms: dict[str, float] = dict.fromkeys(("loss", *weights), 0.0)
            draw = batches.draw(step, settings.stage1_crop if stage == 1 else None)
            for part in _parts(accelerator, settings.accumulate):
                last = part.start >= part.step - accelerator.num_processes
                batch = batches.take(draw, part)
                share = len(batch.index) / len(draw.index)
                with networks, nullcontext() if last else accelerator.no_sync(model):
                    taught = _taught(settings, stage, batch, teacher, teacher_logits)
                    some = model(batch, *taught, stage, step)
                    loss = torch.stack([weights[name] * some[name] for name in weights]).sum()
                    # several processes: the mean of their gradients is taken
                    accelerator.backward(loss * (share * accelerator.num_processes))
                    values = torch.stack([loss, *(some[name] for name in weights)]).tolist()
                    for name, value in zip(terms, values, strict=True):  # waits for a GPU, too
                        terms[name] += share * value
            terms = _sum(accelerator, terms)
            if not math.isfinite(terms["loss"]):
                raise ValueError(
                    f"the loss is {terms['loss']} at step {step}: training diverged; "
                    f"lower {rates[stage]}"
                )
            with networks:
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            rate = float(schedule.get_last_lr()[0])
            schedule.step()

            done = step + 1
            if log is not None:
                log.add(done, stage, rate, terms, networks.take())
                report(done, total, terms)
                if done % per_epoch == 0 or done in (total, stop_after):
                    state = {"together": together, "optimiser": optimiser, "schedule": schedule}
                    checkpoint(run / CHECKPOINT, done, state, stage=stage)
        if done == stop_after and done < total:
            break

    S.eval()
    if done == total and log is not None:
        keep(E, run / DOWNSCALER)
        keep(S, run / STUDENT)
        if total:
            log.draw()
    accelerator.wait_for_everyone()
    return E, S


def _accelerator() -> Accelerator:
    """It says what device to use; several processes share each batch."""
    accelerator = Accelerator(
        mixed_precision="no",  # E, JPEG and filters need float32; `Together` has its own autocast
        # S's head has no part in stage 1
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, but do not share the work; start one, or on CPUs "
            "set ACCELERATE_USE_CPU=true"
        )
    return accelerator


def _batches(settings: Settings, photos: Photos, accelerator: Accelerator) -> Augmented:
    """The batches, if the processes can share them."""
    batches = Augmented(
        photos,
        settings.batch_size,
        settings.min_crop,
        2 * settings.factor,
        settings.seed,
        accelerator.device,
        settings.jpeg,
        settings.enlarge,
        settings.mixup,
    )
    parts = accelerator.num_processes * settings.accumulate
    if batches.batch_size < parts:
        raise ValueError(
            f"batches of {batches.batch_size} cannot be computed in {parts} parts; "
            "lower accumulate or start fewer processes"
        )
    if parts > 1 and settings.batch_norm == "batches":
        raise ValueError(
            f"batch norm needs whole batches, but each would be computed in {parts} parts; "
            "set batch_norm to teacher, or accumulate to 1 in one process"
        )
    return batches


def _together(settings: Settings, teacher: Classifier, classes: tuple[str, ...]) -> Together:
    """All that is trained, as it begins."""
    E, decoder = make_downscaler(settings)
    S = make_student(settings, teacher, classes)
    if settings.width < 1:
        narrow.check(S)
    if settings.batch_norm == "batches" and not _batch_norms(S):
        raise ValueError(f"{settings.student} has no batch norm; leave batch_norm at teacher")
    if decoder is not None:
        S.front.load_state_dict(decoder.state_dict())
    D = make_decoder(settings, teacher, S)
    return Together(settings, E, S, D, make_others(settings, teacher, S, classes))


@torch.no_grad()
def _narrow(settings: Settings, E: nn.Module, S: Classifier, batches: Augmented) -> None:
    """Leave S the `width` of its settings, fitted on some of the photos, whole."""
    count = len(batches.images)
    index = torch.linspace(0, count - 1, min(narrow.PHOTOS, count)).long()
    seen, whole = [], []
    for step, images in enumerate(batches.images[index].split(settings.batch_size)):
        x = images.float() / 255
        quality = batches.draw(step).quality  # as often as in training
        x_s = E(x) if quality is None else jpeg(E(x), quality)
        seen.append(rescaled(S.front(x_s), S.rescale))
        whole.append(resized(x, (seen[-1].shape[-2], seen[-1].shape[-1])))
    narrow.fit(S, settings.width, torch.cat(seen), torch.cat(whole))


def _batch_norms(S: Classifier) -> list[nn.Module]:
    return [m for m in S.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def keep(module: nn.Module, path: Path) -> None:
    """The weights as a file; safetensors takes no channels_last."""
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)


def _optimiser(settings: Settings, together: Together, stage: int) -> torch.optim.Optimizer:
    """Of the networks that a stage trains; the others are frozen."""
    E, S, D = together.E, together.S, together.D
    front_only = stage == 1 and settings.stage1 != "fm"  # S proper stays as it is
    E.requires_grad_(settings.freeze == "no" or (settings.freeze, stage) == ("stage2", 1))
    S.requires_grad_(settings.student_lr > 0 and not front_only)
    S.front.requires_grad_(settings.student_lr > 0 or front_only)
    front = list(S.front.parameters())
    rest = [p for name, p in S.named_parameters() if not name.startswith("front.")]
    groups: list[dict[str, Any]] = [
        {"params": rest, "lr": settings.student_lr},
        {"params": front, "lr": settings.decoder_lr if front_only else settings.student_lr},
        {
            "params": list(E.parameters()),
            "lr": settings.stage1_lr if stage == 1 else settings.downscaler_lr,
            "weight_decay": 0.0,
        },
    ]
    if D is not None:
        D.requires_grad_(stage == 1 or settings.fm > 0)
        groups.append({"params": list(D.parameters()), "lr": settings.decoder_lr})
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def _weights(settings: Settings, stage: int) -> dict[str, float]:
    """The losses of a stage that are not switched off, and their weights."""
    weights = {"MM": settings.mm, "CL": settings.cl, "KD": settings.kd, "FM": settings.fm}
    if stage == 1:
        weights = {"MM": settings.mm, "FM": settings.fm or 1.0, "AE": settings.ae}
        if settings.stage1 == "autoencoder":
            del weights["FM"]
        elif settings.stage1 == "fm" or settings.rebuild == 1:
            del weights["AE"]
    return {name: weight for name, weight in weights.items() if weight}


def _parts(accelerator: Accelerator, accumulate: int) -> list[slice]:
    """The parts of a batch that this process computes, one after the other."""
    processes = accelerator.num_processes
    return [
        slice(accelerator.process_index + i * processes, None, processes * accumulate)
        for i in range(accumulate)
    ]


@torch.no_grad()
def _taught(
    settings: Settings,
    stage: int,
    batch: Batch,
    teacher: Classifier,
    known: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """T's logits and feature maps for a batch; None for what no loss needs.

    known: its logits of all photos, if it has seen the whole ones; else it sees each crop."""
    weights = _weights(settings, stage)
    mapped = "FM" in weights if stage == 2 else settings.stage1 == "fm"
    logits, maps = None if known is None else known[batch.index], None
    if mapped or ("KD" in weights and settings.kd_on == "crop"):
        x = batch.x.float() / 255
        with autocast(x.device, settings.precision):
            seen, maps = teacher.read(x) if mapped else (teacher(x), None)
        logits = seen if logits is None else logits
    return logits, maps


@torch.no_grad()
def _rehearse(
    settings: Settings, together: Together, teacher: Classifier, batches: Augmented, stage: int
) -> None:
    """One of the smallest crops through a stage: what cannot take it says so before the training,
    not in its midst."""
    if stage == 2 and settings.width < 1:  # as `_narrow` will leave it
        together = copy.deepcopy(together)
        narrow.cut(together.S, settings.width)
    crop = batches.sides[0] / settings.size
    if stage == 1:
        crop = settings.stage1_crop or crop
    elif settings.enlarge:
        crop = 1.0
    draw = batches.draw(0, crop)
    batch = batches.take(draw, slice(0, 1))
    try:
        taught = _taught(settings, stage, batch, teacher, None)
        for turn in range(1 + len(together.others)):
            together(batch, *taught, stage, turn)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"stage {stage} fails on its smallest crops, {batch.x.shape[-1]} px: {error}; give "
            "larger ones (min_crop 1: whole photos) or another network"
        ) from error


def _sum(accelerator: Accelerator, terms: dict[str, float]) -> dict[str, float]:
    """The terms of all processes."""
    if accelerator.num_processes == 1:
        return terms
    values = torch.tensor(list(terms.values()), device=accelerator.device)
    return dict(zip(terms, accelerator.reduce(values, "sum").tolist(), strict=True))


def load_settings(run: Path) -> Settings:
    """The settings of a finished run.

    Raises:
        FileNotFoundError: the run is not finished.
    """
    if not (run / STUDENT).is_file():
        raise FileNotFoundError(f"{run} holds no finished run; finish it with `train --run {run}`")
    return Settings(**json.loads((run / SETTINGS).read_text())["settings"])


def check_runs(runs: Iterable[Path], teacher: Classifier, photos: Photos) -> None:
    """Raise what `load_run` would, and ValueError for photos of another size than a run had: at
    once, before T reads photos for minutes."""
    side = photos.images.shape[-1]
    for run in runs:
        settings, *_ = load_run(run, teacher, photos.classes)
        if settings.size != side:
            raise ValueError(
                f"{run} was trained on photos of {settings.size} px, these have {side}; "
                f"give --size {settings.size}"
            )


def load_run(
    run: Path, teacher: Classifier, classes: tuple[str, ...]
) -> tuple[Settings, nn.Module, Classifier]:
    """The settings, E and S of a finished run, on T's device; T gives S its architecture.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: it had another teacher, or other classes.
    """
    settings = load_settings(run)
    made_of = json.loads((run / SETTINGS).read_text())
    if made_of["teacher"] != fingerprint(teacher):
        raise ValueError(
            f"{run} was trained with another teacher or on other classes; name those it had"
        )
    E = new_downscaler(settings).to(teacher.mean.device)
    S = make_student(settings, teacher, classes)
    if settings.width < 1:
        narrow.cut(S, settings.width)
    E.load_state_dict(load_file(run / DOWNSCALER))
    S.load_state_dict(load_file(run / STUDENT))
    return settings, E.eval(), S.eval()


def decoder_of(run: Path) -> Decoder | None:
    """S's first layers, which other networks can begin with, too; None where S has none."""
    settings = load_settings(run)
    if settings.rebuild == 1:
        return None
    D, S = new_decoder(settings), load_file(run / STUDENT)
    D.load_state_dict({k: S[f"front.{k}"] for k in D.state_dict()})
    return D.eval()


def cached(path: Path, teacher: nn.Module, photos: Photos, compute: Callable[[], Tensor]) -> Tensor:
    """What T gives for the whole photos, (M, ...), from `path` if it is there.

    T sees each whole photo once: asking it about every crop costs more than training S, and the
    crops keep most of the photo.

    Raises:
        ValueError: `path` holds what other photos or another teacher gave.
    """
    made_of = {"photos": photos.fingerprint(), "teacher": fingerprint(teacher)}
    name = path.stem.removeprefix("teacher_")
    if path.is_file():
        with safe_open(path, "pt") as file:
            if file.metadata() != made_of:
                raise ValueError(f"{path} holds other photos' or another teacher's; delete it")
            known: Tensor = file.get_tensor(name)
            return known
    tensor = compute()
    partial_file = path.with_suffix(".partial")
    save_file({name: tensor}, partial_file, made_of)
    partial_file.replace(path)  # never a half-written one
    return tensor


@torch.no_grad()
def predict(
    classifier: nn.Module,
    images: Tensor,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    precision: str = "float32",
    batch_size: int = 64,
) -> Tensor:
    """Logits (M, classes) of uint8 images (M, 3, H, W), each batch passed through `before`."""
    device = next(classifier.parameters()).device
    logits = []
    for batch in images.split(batch_size):
        x = before(batch.to(device).float() / 255)
        with autocast(device, precision):
            logits.append(classifier(x).float().cpu())
    return torch.cat(logits)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def learning_rate(step: int, total: int, warmup: float) -> float:
    """Part of the full learning rate: a linear rise, then half a cosine to 0."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def claim(
    run: Path,
    settings: Settings | ClassifierSettings,
    photos: Photos,
    teacher: nn.Module,
    **more: str,
) -> None:
    """Write what the run is made of, or refuse to go on with another run's checkpoint. more:
    fingerprints of what else it is made of."""
    values = asdict(settings)
    mine = {
        "settings": values,
        "photos": photos.fingerprint(),
        "teacher": fingerprint(teacher),
        **more,
    }
    path = run / SETTINGS
    if path.is_file():
        theirs = json.loads(path.read_text())
        if theirs != mine:
            changed = [k for k, v in values.items() if theirs["settings"].get(k) != v]
            changed += [k for k in ("photos", "teacher", *more) if theirs.get(k) != mine[k]]
            raise ValueError(
                f"{run} holds a run with another {', '.join(dict.fromkeys(changed))}; "
                "name another folder, or delete this one"
            )
    else:
        path.write_text(json.dumps(mine, indent=2) + "\n")


def checkpoint(path: Path, step: int, state: dict[str, Any], stage: int = 0) -> None:
    """Keep the state of everything that training changes."""
    partial_file = path.with_suffix(".partial")
    states = {name: part.state_dict() for name, part in state.items()}
    torch.save({"step": step, "stage": stage, **states}, partial_file)
    partial_file.replace(path)  # never a half-written checkpoint


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `checkpoint` kept; None for a new run."""
    if not path.is_file():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start again") from error
    return saved
