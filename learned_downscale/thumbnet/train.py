"""Train a recipe: the networks that it names, its tasks, and the folder of a run."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.core.symmetry import tie, untied
from learned_downscale.thumbnet import networks, settings, trainer
from learned_downscale.thumbnet import recipe as recipes
from learned_downscale.thumbnet.classifier import ClassifyThumbnails
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import FeatureDecoder, FixedFilter, Reader, fingerprint
from learned_downscale.thumbnet.recipe import Recipe
from learned_downscale.thumbnet.tasks import (
    FeatureMapping,
    Models,
    Recognise,
    Reconstruct,
    Supervised,
    Task,
)

TASKS: dict[type[settings.Task], Any] = {
    settings.FeatureMapping: FeatureMapping,
    settings.Supervised: Supervised,
    settings.Reconstruct: Reconstruct,
    settings.Recognise: Recognise,
    settings.ClassifyThumbnails: ClassifyThumbnails,
}
DOWNSCALER, STUDENT = "downscaler.safetensors", "student.safetensors"


def train_recipe(
    recipe: Recipe,
    photos: Photos,
    teacher: Reader,
    run: Path,
    report: trainer.Report = lambda done, total, terms: None,
    stop_after: int | None = None,
) -> tuple[nn.Module, Reader]:
    """Train the tasks of a recipe one after the other. E (or the filter, or `nn.Identity` where
    there is neither) and S are returned and, when all steps are done, kept in the folder `run`. A
    stopped run resumes; see `trainer.fit`.

    Raises:
        ImportError, OSError: a network that the recipe names cannot be loaded.
        ValueError: the recipe's networks do not go together or would stay untrained; or as
            `trainer.fit`.
    """
    accelerator = trainer.make_accelerator()
    made, teacher = recipe.settings, teacher.to(accelerator.device)
    classes = photos.classes if made.labelled else None
    E, first = make_downscaler(made)
    if made.student.decoder_from:
        first = pretrained.load(Decoder, made.student.decoder_from)
    S = make_student(made, teacher, classes, first)
    D = make_feature_decoder(made, S, teacher)
    find = cache(partial(networks.load_reader, classes=classes))
    models = Models(E, S, teacher, D, made, find)
    nn.ModuleList([E, S, *([D] if D else [])]).to(accelerator.device)
    tasks = [TASKS[type(task)](task, models) for task in made.tasks]
    check_trained(made, models, tasks, first)
    made_of = {
        "recipe": recipe.config(),
        "photos": photos.fingerprint(),
        "teacher": fingerprint(teacher),
    }
    if (made.downscaler is not None and made.downscaler.init_from) or made.student.decoder_from:
        made_of["init_from"] = fingerprint(nn.ModuleList([E, S.decoder]))
    begun = {name: value.clone() for name, value in S.network.state_dict().items()}
    finished = trainer.fit(tasks, photos, run, made_of, accelerator, report, stop_after)
    S.eval()
    if finished and made.student.kept:
        for name, value in S.network.state_dict().items():  # the network's own memory
            value.lerp_(begun[name], made.student.kept)
    if finished and accelerator.is_main_process:
        for module, name in ((untied(E), DOWNSCALER), (S, STUDENT)):
            # safetensors takes no channels_last
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, run / name)
    accelerator.wait_for_everyone()
    return untied(E), S


def new_downscaler(made: settings.Settings) -> nn.Module:
    """An untrained E or the filter in its place; the same seed gives the same E."""
    E = made.downscaler
    if E is None:
        return nn.Identity()
    if E.kind != "learned":
        return FixedFilter(E.kind, E.factor)
    with torch.random.fork_rng():
        torch.manual_seed(made.run.seed)
        new = Downscaler(E.factor, E.channels, E.qim, E.shared)
        return tie(new) if E.shared else new


def make_downscaler(made: settings.Settings) -> tuple[nn.Module, Decoder | None]:
    """E as a run begins with it, and the decoder that belongs to its first weights. Raises OSError
    or ValueError where `init_from` names no weights, or others than the recipe describes."""
    table, decoder = made.downscaler, None
    if table is None or not table.init_from:
        return new_downscaler(made), None
    name = table.init_from
    E = pretrained.load(Downscaler, name)
    if "decoder" in pretrained.read_config(name):
        decoder = pretrained.load(Decoder, name)
    has = settings.Downscaler(E.factor, "learned", E.channels, E.qim, E.shared)
    for key in ("kind", "factor", "channels", "qim", "shared"):
        if getattr(has, key) != getattr(table, key):
            raise ValueError(
                f"downscaler.init_from is {name}, which has {key} {getattr(has, key)}, the recipe "
                f"{getattr(table, key)}; they must agree"
            )
    E.requires_grad_(True)
    return tie(E) if E.shared else E, decoder


def make_student(
    made: settings.Settings,
    teacher: Reader,
    classes: tuple[str, ...] | None,
    first: Decoder | None = None,
) -> Reader:
    """S as a run begins with it. first: weights of the decoder, used where they fit."""
    table, decoder = made.student, None
    network = (
        teacher if table.network == "teacher" else networks.load_reader(table.network, classes)
    )
    if table.decoder_factor:
        with torch.random.fork_rng():
            torch.manual_seed(made.run.seed + 2)
            qim = 1 if made.downscaler is None else made.downscaler.qim
            decoder = Decoder(table.decoder_factor, table.decoder_width, qim)
        if first is not None and first.config == decoder.config:
            decoder.load_state_dict(first.state_dict())
    inputs = {"input_side": table.input_side, "stem_stride": table.stem_stride}
    return network.copied(decoder, table.input_scale, **inputs).to(teacher.device)


def make_feature_decoder(
    made: settings.Settings, S: Reader, teacher: Reader
) -> FeatureDecoder | None:
    """D, where a task needs it; the same seed gives the same D."""
    if not any(isinstance(t, settings.FeatureMapping) and t.fm for t in made.tasks):
        return None
    x = torch.zeros(1, 3, made.run.size, made.run.size, device=teacher.device)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(made.run.seed + 1)
        return FeatureDecoder(*(r.forward_with_features(x)[1].shape[1] for r in (S, teacher)))


def check_trained(
    made: settings.Settings, models: Models, tasks: list[Task], first: Decoder | None
) -> None:
    """Raise ValueError where E or the decoder would be neither trained nor have first weights."""
    trained = {id(p) for task in tasks for t in task.trainable() if t.rate for p in t.parameters}
    decoder = models.S.decoder
    has_first = made.downscaler is not None and bool(made.downscaler.init_from)
    fits = first is not None and first.config == getattr(decoder, "config", None)
    for what, module, known in (("E", models.E, has_first), ("the decoder", decoder, fits)):
        if not known and any(id(p) not in trained for p in module.parameters()):
            raise ValueError(
                f"{what} would stay untrained: no task has a learning rate for it above 0, and "
                "downscaler.init_from (or student.decoder_from) has no first weights that fit"
            )


def load_recipe(run: Path) -> Recipe:
    """The recipe of a finished run; raises FileNotFoundError if it is not finished."""
    if not (run / STUDENT).is_file():
        raise FileNotFoundError(f"{run} holds no finished run; finish it with `train --run {run}`")
    return recipes.from_config(_made_of(run)["recipe"])


def _made_of(run: Path) -> Any:
    return json.loads((run / trainer.RUN).read_text(encoding="utf-8"))


def load_run(
    run: Path, teacher: Reader, classes: tuple[str, ...] | None
) -> tuple[Recipe, nn.Module, Reader]:
    """The recipe, E and S of a finished run, on T's device. Raises FileNotFoundError if it is not
    finished, ValueError if it had another teacher or other classes."""
    recipe = load_recipe(run)
    if classes is not None and not recipe.settings.labelled:
        raise ValueError(
            f"{run} was trained without labels: it has no student of these classes; measure its "
            "weights folder with `verify --method FOLDER`"
        )
    if _made_of(run)["teacher"] != fingerprint(teacher):
        raise ValueError(
            f"{run} was trained with another teacher or on other classes; name those it had"
        )
    E = untied(new_downscaler(recipe.settings)).to(teacher.device)
    S = make_student(recipe.settings, teacher, classes)
    E.load_state_dict(load_file(run / DOWNSCALER))
    S.load_state_dict(load_file(run / STUDENT))
    return recipe, E.eval(), S.eval()
