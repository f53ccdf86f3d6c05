"""The tables of a recipe as frozen dataclasses, and what each key means.

A recipe is a TOML file with the tables [run], [downscaler] and [student] and a list of [[task]],
which are trained one after the other. `recipes/` has one for each published weights. Unknown keys
and wrong types are refused, with the valid keys listed.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from learned_downscale.core.filters import FILTERS
from learned_downscale.core.qim import check_qim


def _number(
    default: Any, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """A field whose values lie from `low` to `high`, or above `above`."""
    bounds = {"low": low, "high": high, "above": above}
    return field(default=default, metadata={k: v for k, v in bounds.items() if v is not None})


@dataclass(frozen=True)
class Run:
    """[run]

    size: width and height of the photos, px. batch_size: photos per step. seed: of first weights,
    batches and augmentation. precision: of the classifiers; the downscaler and the decoder are
    always float32.
    """

    size: int = _number(224, above=0)
    batch_size: int = _number(32, above=0)
    seed: int = _number(0, low=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class Downscaler:
    """[downscaler]: E, or a fixed filter in its place.

    factor: the thumbnail is this many times smaller in width and height. kind: "learned" or a
    filter of `core.filters`. channels: of E's hidden layers. qim: above 1, E embeds its detail
    modulo this in the low bits, which takes a decoder and lossless files. init_from: weights that E
    and the decoder begin with: a name, a folder, a Hub id or the folder of a finished run.
    """

    factor: int = _number(4, low=2)
    kind: str = "learned"
    channels: int = _number(16, above=0)
    qim: int = 1
    init_from: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("learned", *FILTERS):
            raise ValueError(f"kind is {self.kind!r}; choose learned, {', '.join(FILTERS)}")
        check_qim(self.qim)


@dataclass(frozen=True)
class Student:
    """[student]: S, the classifier that reads thumbnails.

    network: "teacher" (T's architecture and weights), "efficientnet-lite0" (1, 2), a Hugging Face
    id or folder, or "module:callable". decoder_factor: a decoder in front of the network
    reconstructs the image at this many times the thumbnail's width and height; 0: no decoder.
    decoder_width: channels of its layers. input_scale: the network's input is then resampled by
    this (bicubic). stem_stride: in place of the stride of the network's first layer; 0: unchanged.
    """

    network: str = "teacher"
    decoder_factor: int = _number(0, low=0)
    decoder_width: int = _number(24, above=0)
    input_scale: float = _number(1.0, above=0)
    stem_stride: int = _number(0, low=0)

    def __post_init__(self) -> None:
        if self.decoder_factor == 1:
            raise ValueError("decoder_factor is 1; give 2 or more, or 0 for no decoder")


@dataclass(frozen=True)
class Task:
    """Keys of every [[task]].

    epochs: rounds through the photos. warmup: share of the steps in which the learning rates rise
    from 0; then they follow a cosine to 0. weight_decay: of AdamW, of all but E, which is too small
    to need it.
    """

    type: ClassVar[str]
    epochs: int = _number(1, above=0)
    warmup: float = _number(0.05, low=0, high=0.99)
    weight_decay: float = _number(0.05, low=0)


@dataclass(frozen=True)
class Downscaling(Task):
    """Keys of the tasks in which E makes the thumbnails.

    downscaler_rate: learning rate of E; 0 freezes it. mm: weight of moment matching, L_MM; 0
    leaves a loss out. jpeg: share of the batches whose thumbnails pass through JPEG of quality 70
    to 95 before they are read.
    """

    downscaler_rate: float = _number(4e-3, low=0)
    mm: float = _number(2.0, low=0)
    jpeg: float = _number(0.0, low=0, high=1)


@dataclass(frozen=True)
class FeatureMapping(Downscaling):
    """The paper's stage 1, without labels: E, S and D reconstruct T's feature map of the photo.

    L = fm L_FM + mm L_MM. student_rate, feature_decoder_rate: learning rates of S and D. min_crop:
    crops have between this share of the photo's width and height and all of them.
    """

    type = "feature_mapping"
    student_rate: float = _number(1e-4, low=0)
    feature_decoder_rate: float = _number(1e-3, low=0)
    fm: float = _number(1.0, above=0)
    min_crop: float = _number(0.85, above=0, high=1)


@dataclass(frozen=True)
class Supervised(Downscaling):
    """The paper's stage 2: labels, and distillation from T's logits of the whole photos.

    L = mm L_MM + cl L_CL + kd L_KD + fm L_FM. student_rate: learning rate of S and its decoder; 0
    freezes both. feature_decoder_rate: of D, where fm is above 0. temperature: of L_KD.
    extra_readers: frozen networks that read the thumbnails in S's place, alternated batch by batch.
    """

    type = "supervised"
    # 3e-4 learned more slowly (measured)
    student_rate: float = _number(1e-4, low=0)
    feature_decoder_rate: float = _number(1e-3, low=0)
    min_crop: float = _number(0.85, above=0, high=1)
    cl: float = _number(0.3, low=0)
    kd: float = _number(0.7, low=0)
    fm: float = _number(0.0, low=0)
    temperature: float = _number(2.0, above=0)
    extra_readers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_some_loss(self)
        if self.extra_readers and self.fm:
            raise ValueError("L_FM is for S alone, whose feature map D reads; set fm to 0")


@dataclass(frozen=True)
class Reconstruct(Downscaling):
    """Without labels: E and the decoder reconstruct the photo and, of frozen networks, the feature
    maps that these have of it.

    L = ae L_AE + fm L_FM + mm L_MM. decoder_rate: learning rate of the decoder. readers: the frozen
    networks, alternated batch by batch; none: pixels alone, an unsupervised auto-encoder. crop: the
    crops' share of the photo's width and height.
    """

    type = "reconstruct"
    decoder_rate: float = _number(6e-3, low=0)
    ae: float = _number(40.0, low=0)
    fm: float = _number(1.0, low=0)
    readers: tuple[str, ...] = ()
    crop: float = _number(0.43, above=0, high=1)

    def __post_init__(self) -> None:
        if not self.ae and not (self.fm and self.readers):
            raise ValueError("ae is 0 and no readers have feature maps: nothing to reconstruct")


@dataclass(frozen=True)
class ClassifyThumbnails(Task):
    """S alone learns to classify thumbnails that the library makes, in many sizes.

    L = cl L_CL + kd L_KD + fm L_FM; L_FM compares the means of the last feature maps.
    thumbnails: "default" (the library's weights) or a filter of Pillow. rate: learning rate.
    average: memory of the moving average of the steps, which S is. min_crop: smallest share of the
    photo's width and of its height in a crop. jitter: brightness and contrast change by up to this.
    jpeg: share of the thumbnails that are saved as JPEG of quality 60 to 95. temperature: of L_KD.
    """

    type = "classify_thumbnails"
    thumbnails: str = "default"
    rate: float = _number(2e-4, above=0)
    average: float = _number(0.998, low=0, high=1)
    min_crop: float = _number(0.8, above=0, high=1)
    jitter: float = _number(0.2, low=0)
    jpeg: float = _number(0.5, low=0, high=1)
    cl: float = _number(0.3, low=0)
    kd: float = _number(0.7, low=0)
    # without it S learned more slowly (measured)
    fm: float = _number(1.0, low=0)
    temperature: float = _number(2.0, above=0)

    def __post_init__(self) -> None:
        _check_some_loss(self)
        filters = [name for name, f in FILTERS.items() if f.resampling is not None]
        if self.thumbnails not in ("default", *filters):
            raise ValueError(
                f"thumbnails is {self.thumbnails!r}; choose default, {', '.join(filters)}"
            )


def _check_some_loss(task: Supervised | ClassifyThumbnails) -> None:
    if not (task.cl or task.kd or task.fm):
        raise ValueError("cl, kd and fm are all 0: nothing trains S")


TASKS: Mapping[str, type[Task]] = MappingProxyType(
    {t.type: t for t in (FeatureMapping, Supervised, Reconstruct, ClassifyThumbnails)}
)


@dataclass(frozen=True)
class Settings:
    """The tables of a recipe, checked. downscaler: None where no task uses one."""

    run: Run
    downscaler: Downscaler | None
    student: Student
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        E, S = self.downscaler, self.student
        alone = [isinstance(task, ClassifyThumbnails) for task in self.tasks]
        if E is None:
            if not all(alone) or not alone:
                raise ValueError(
                    "there is no [downscaler]; all tasks but classify_thumbnails need it"
                )
            return
        if any(alone):
            raise ValueError(
                "classify_thumbnails uses the library's thumbnails; leave [downscaler] out"
            )
        if self.run.size % (2 * E.factor):
            raise ValueError(
                f"run.size is {self.run.size}; it must be a multiple of twice the factor, "
                f"{2 * E.factor}"
            )
        if S.decoder_factor > E.factor:
            raise ValueError(
                f"student.decoder_factor is {S.decoder_factor}; the photo has no more detail than "
                f"the factor, {E.factor}: give {E.factor} or less"
            )
        if E.qim > 1 and not S.decoder_factor:
            raise ValueError(
                f"downscaler.qim is {E.qim}, but S has no decoder that reads the payload; set "
                "student.decoder_factor"
            )
        if E.qim > 1 and E.kind == "learned" and any(getattr(t, "jpeg", 0) for t in self.tasks):
            raise ValueError(
                f"downscaler.qim is {E.qim}, but JPEG destroys the payload; set qim to 1, or the "
                "tasks' jpeg to 0"
            )

    @property
    def thumbnail(self) -> int:
        """Width and height of the thumbnail of a whole photo, px."""
        return self.run.size // (4 if self.downscaler is None else self.downscaler.factor)


def parse(tables: Mapping[str, Any]) -> Settings:
    """The settings in the tables of a recipe.

    Raises:
        ValueError: an unknown table, key or task, a value of the wrong type or out of its range, or
            tables that do not go together; says which and what is valid.
    """
    _check_keys(tables, ("run", "downscaler", "student", "task"), "the recipe")
    tasks = tables.get("task", [])
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError("task must be a list of tables, written [[task]]")
    made = []
    for i, table in enumerate(tasks):
        rest = {key: value for key, value in table.items() if key != "type"}
        kind = table.get("type")
        if kind not in TASKS:
            raise ValueError(f"task.{i}.type is {kind!r}; choose {', '.join(TASKS)}")
        made.append(_table(TASKS[kind], rest, f"task.{i}"))
    return Settings(
        run=_table(Run, tables.get("run", {}), "run"),
        downscaler=_table(Downscaler, tables["downscaler"], "downscaler")
        if "downscaler" in tables
        else None,
        student=_table(Student, tables.get("student", {}), "student"),
        tasks=tuple(made),
    )


def _check_keys(table: Any, valid: tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where} must be a table")
    if unknown := [key for key in table if key not in valid]:
        raise ValueError(f"{where} has no {', '.join(unknown)}; valid are {', '.join(valid)}")


def _table(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from its table."""
    _check_keys(table, tuple(f.name for f in fields(cls)), where)
    hints = typing.get_type_hints(cls)
    values = {}
    for each in fields(cls):
        if each.name in table:
            name = f"{where}.{each.name}"
            values[each.name] = _value(table[each.name], hints[each.name], name)
            _check_range(values[each.name], each.metadata, name)
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _value(value: Any, hint: Any, name: str) -> Any:
    choices = typing.get_args(hint)
    if hint is float and type(value) is int:
        return float(value)
    if typing.get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise ValueError(f"{name} is {value!r}; it must be a list of strings")
    if typing.get_origin(hint) is Literal:
        if value in choices:
            return value
        raise ValueError(f"{name} is {value!r}; choose {', '.join(choices)}")
    if type(value) is not hint:
        raise ValueError(f"{name} is {value!r}; it must be of type {hint.__name__}")
    return value


def _check_range(value: Any, bounds: Mapping[str, float], name: str) -> None:
    if "above" in bounds and not value > bounds["above"]:
        raise ValueError(f"{name} is {value}; it must be above {bounds['above']:g}")
    if "low" in bounds and not value >= bounds["low"]:
        raise ValueError(f"{name} is {value}; it must be {bounds['low']:g} or above")
    if "high" in bounds and not value <= bounds["high"]:
        raise ValueError(f"{name} is {value}; it must be {bounds['high']:g} or below")
