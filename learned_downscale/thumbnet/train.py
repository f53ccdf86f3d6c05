"""Train E and S together (the paper's supervised stage): L = cl L_CL + kd L_KD + mm L_MM."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from learned_downscale.downscaler import Downscaler, bicubic
from learned_downscale.thumbnet import losses
from learned_downscale.thumbnet.data import Augmented, Photos
from learned_downscale.thumbnet.networks import Classifier, fingerprint
from learned_downscale.thumbnet.settings import ClassifierSettings, Settings

CHECKPOINT, SETTINGS, STUDENT = "checkpoint.pt", "settings.json", "student.safetensors"
DOWNSCALER, TEACHER_LOGITS = "downscaler.safetensors", "teacher_logits.safetensors"

# Called after every step with (steps done, steps in all, the loss terms by name).
Report = Callable[[int, int, dict[str, float]], None]


class Bicubic(nn.Module):
    """The baseline in E's place: Pillow's bicubic, nothing to train."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, H/f, W/f)."""
        return bicubic(x, (-(-x.shape[-2] // self.factor), -(-x.shape[-1] // self.factor)))


def make_downscaler(settings: Settings) -> Downscaler | Bicubic:
    """E as the settings ask for it, untrained; the same seed gives the same E."""
    if settings.downscaler == "bicubic":
        return Bicubic(settings.factor)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return Downscaler(settings.factor, settings.channels)


def train(
    settings: Settings,
    photos: Photos,
    teacher: Classifier,
    run: Path,
    report: Report = lambda done, total, terms: None,
    stop_after: int | None = None,
) -> tuple[Downscaler | Bicubic, Classifier]:
    """Train E and S; both are returned and, when all steps are done, kept in the folder `run`.

    A run that was stopped goes on from its last checkpoint (one an epoch) and ends in the state
    that it would have reached uninterrupted. `stop_after`: stop, with a checkpoint, after so
    many steps.

    Raises:
        ValueError: `run` holds a run of other settings, photos or another teacher, or a damaged
            checkpoint; or the loss is no longer finite.
    """
    run.mkdir(parents=True, exist_ok=True)
    claim(run, settings, photos, teacher)
    device = teacher.mean.device
    teacher_logits = cached(
        run / TEACHER_LOGITS,
        teacher,
        photos,
        lambda: predict(teacher, photos.images, precision=settings.precision),
    ).to(device)

    E = make_downscaler(settings).to(device)
    S = teacher.student()
    batches = Augmented(
        photos, settings.batch_size, settings.min_crop, 2 * settings.factor, settings.seed
    )
    total = settings.epochs * batches.steps_per_epoch
    optimiser = torch.optim.AdamW(
        [
            {"params": list(S.parameters()), "lr": settings.student_lr},
            {"params": list(E.parameters()), "lr": settings.downscaler_lr, "weight_decay": 0.0},
        ],
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate(step, total, settings.warmup)
    )
    state = {"E": E, "S": S, "optimiser": optimiser, "schedule": schedule}
    done = restore(run / CHECKPOINT, state)

    weights = {"MM": settings.mm, "CL": settings.cl, "KD": settings.kd}
    for step in range(done, min(total, stop_after or total)):
        batch = batches[step]
        x = batch.x.to(device).float() / 255
        x_s = E(x)
        with autocast(device, settings.precision):
            logits = S(x_s)
        terms = {
            "MM": losses.moment_matching(x_s, x, settings.factor),
            "CL": losses.classification(logits, batch.labels.to(device)),
            "KD": losses.distillation(
                logits, teacher_logits[batch.index.to(device)], settings.temperature
            ),
        }
        loss = torch.stack([weights[name] * terms[name] for name in weights]).sum()
        if not loss.isfinite():
            raise ValueError(
                f"the loss is {loss.item()} at step {step}: training diverged; "
                "lower student_lr or downscaler_lr"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()

        done = step + 1
        report(done, total, {name: t.item() for name, t in {"loss": loss, **terms}.items()})
        if done % batches.steps_per_epoch == 0 or done in (total, stop_after):
            checkpoint(run / CHECKPOINT, done, state)

    if done == total:
        for module, name in ((E, DOWNSCALER), (S, STUDENT)):
            # safetensors takes no channels_last
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, run / name)
    return E, S


def load_run(run: Path, teacher: Classifier) -> tuple[Settings, Downscaler | Bicubic, Classifier]:
    """The settings, E and S of a finished run, on T's device; T gives S its architecture.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: it had another teacher, or other classes.
    """
    if not (run / STUDENT).is_file():
        raise FileNotFoundError(f"{run} holds no finished run; finish it with `train --run {run}`")
    made_of = json.loads((run / SETTINGS).read_text())
    if made_of["teacher"] != fingerprint(teacher):
        raise ValueError(
            f"{run} was trained with another teacher or on other classes; name those it had"
        )
    settings = Settings(**made_of["settings"])
    E, S = make_downscaler(settings).to(teacher.mean.device), teacher.student()
    E.load_state_dict(load_file(run / DOWNSCALER))
    S.load_state_dict(load_file(run / STUDENT))
    return settings, E.eval(), S.eval()


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
    save_file({name: tensor}, path, made_of)
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
    run: Path, settings: Settings | ClassifierSettings, photos: Photos, teacher: nn.Module
) -> None:
    """Write what the run is made of, or refuse to go on with another run's checkpoint."""
    values = asdict(settings)
    mine = {
        "settings": values,
        "photos": photos.fingerprint(),
        "teacher": fingerprint(teacher),
    }
    path = run / SETTINGS
    if path.is_file():
        theirs = json.loads(path.read_text())
        if theirs != mine:
            changed = [k for k, v in values.items() if theirs["settings"].get(k) != v]
            changed += [k for k in ("photos", "teacher") if theirs[k] != mine[k]]
            raise ValueError(
                f"{run} holds a run with another {', '.join(changed)}; "
                "name another folder, or delete this one"
            )
    else:
        path.write_text(json.dumps(mine, indent=2) + "\n")


def checkpoint(path: Path, step: int, state: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"step": step, **{k: v.state_dict() for k, v in state.items()}}, partial)
    partial.replace(path)  # never a half-written checkpoint


def restore(path: Path, state: dict[str, Any]) -> int:
    """Steps done, 0 for a new run."""
    if not path.is_file():
        return 0
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start again") from error
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])
