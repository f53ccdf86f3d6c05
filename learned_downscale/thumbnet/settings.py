"""The tables of a recipe as frozen dataclasses, and what each key means.

A recipe is a TOML file with the tables [run], [downscaler] and [student] and a list of [[task]],
which are trained one after the other. `recipes/` has one for each published weights.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from math import inf
from typing import Any, ClassVar, Literal

from learned_downscale.core.filters import FILTERS
from learned_downscale.core.qim import check_qim
from learned_downscale.thumbnet.lossy import FORMATS


def _from(low: float, default: Any, high: float = inf, above: bool = False) -> Any:
    """A field whose values lie from `low` (or above it) to `high`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


_above_0 = partial(_from, 0, above=True)


@dataclass(frozen=True)
class Run:
    """[run]

    size: width and height of the photos, px. batch_size: photos per step. seed: of first weights,
    batches and augmentation. precision: of the classifiers; the downscaler and the decoder are
    always float32.
    """

    size: int = _above_0(224)
    batch_size: int = _above_0(32)
    seed: int = _from(0, 0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class Downscaler:
    """[downscaler]: E, or a fixed filter in its place.

    factor: the thumbnail is this many times smaller in width and height. kind: "learned" or a
    filter of `core.filters`. channels: of E's hidden layers. qim: above 1, E embeds its detail
    modulo this in the low bits, which takes a decoder and lossless files. shared: one residual is
    added to R, G and B, by kernels tied under mirroring and turning (`core.symmetry`). init_from:
    weights that E and the decoder begin with: a name, a folder or a Hub id.
    """

    factor: int = _from(2, 4)
    kind: str = "learned"
    channels: int = _above_0(16)
    qim: int = 1
    shared: bool = False
    init_from: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("learned", *FILTERS):
            raise ValueError(f"kind is {self.kind!r}; choose learned, {', '.join(FILTERS)}")
        check_qim(self.qim)
        if self.shared and self.qim > 1:
            raise ValueError(f"qim is {self.qim}, but a payload needs a residual for each channel")


@dataclass(frozen=True)
class Student:
    """[student]: S, the classifier that reads thumbnails.

    network: "teacher" (T's architecture and weights), "efficientnet-lite0" (1, 2), a Hugging Face
    id or folder, or "module:callable". decoder_factor: a decoder in front of the network
    reconstructs the image at this many times the thumbnail's width and height; 0: no decoder.
    decoder_width: channels of its layers. input_scale: the network's input is then resampled by
    this (bicubic). input_side: in place of that, so that its short side has so many px; 0: not.
    stem_stride: in place of the stride of the network's first layer; 0: unchanged. decoder_from:
    weights that the decoder begins with, where no downscaler's `init_from` names some. kept: share
    of the network's first weights in its last ones (Wortsman et al. 2022, "Robust fine-tuning"),
    which keeps what pictures of another kind would make it forget.
    """

    network: str = "teacher"
    decoder_factor: int = _from(0, 0)
    decoder_width: int = _above_0(24)
    decoder_from: str = ""
    kept: float = _from(0, 0.0, 1)
    input_scale: float = _above_0(1.0)
    input_side: int = _from(0, 0)
    stem_stride: int = _from(0, 0)


@dataclass(frozen=True)
class Task:
    """Keys of every [[task]].

    epochs: rounds through the photos. warmup: share of the steps in which the learning rates rise
    from 0; then they follow a cosine to 0. weight_decay: of AdamW, of all but E, which is too small
    to need it. min_crop, max_crop: smallest and largest share of the photo's width and height in a
    crop. lossy: share of the batches (`classify_thumbnails`: of the thumbnails) that are stored in
    files of a quality from min_quality to 95 before they are read. formats: of these files
    (`lossy.FORMATS`), drawn by chance. cl, kd, fm, mm, ae: weights of the losses L_CL, L_KD, L_FM,
    L_MM and L_AE, where a task has them; 0 leaves one out.
    """

    type: ClassVar[str]
    epochs: int = _above_0(1)
    warmup: float = _from(0, 0.05, 0.99)
    weight_decay: float = _from(0, 0.05)
    min_crop: float = _above_0(0.85, 1)
    max_crop: float = _above_0(1.0, 1)
    lossy: float = _from(0, 0.0, 1)
    min_quality: int = _from(1, 70, 95)
    formats: tuple[str, ...] = ("jpeg",)

    def __post_init__(self) -> None:
        if self.min_crop > self.max_crop:
            raise ValueError(f"min_crop is {self.min_crop}, above max_crop, {self.max_crop}")
        if not self.weights().keys() - {"MM"}:
            raise ValueError("the weights of all losses but L_MM are 0: nothing is learned")
        _check_choice("formats", self.formats, tuple(FORMATS))

    def weights(self) -> dict[str, float]:
        """The weight of each loss term in the sum."""
        terms = ("mm", "ae", "cl", "kd", "fm", "dr")
        return {t.upper(): getattr(self, t) for t in terms if getattr(self, t, 0)}


@dataclass(frozen=True)
class Downscaling(Task):
    """Keys of the tasks in which E makes the thumbnails.

    downscaler_rate: learning rate of E; 0 freezes it.
    """

    downscaler_rate: float = _from(0, 4e-3)
    mm: float = _from(0, 2.0)


@dataclass(frozen=True)
class FeatureMapping(Downscaling):
    """The paper's stage 1, without labels: E, S and D reconstruct T's feature map of the photo.

    L = fm L_FM + mm L_MM. student_rate, feature_decoder_rate: learning rates of S and D.
    """

    type = "feature_mapping"
    # 3e-4 learned more slowly (measured)
    student_rate: float = _from(0, 1e-4)
    feature_decoder_rate: float = _from(0, 1e-3)
    fm: float = _from(0, 1.0)


@dataclass(frozen=True)
class Supervised(FeatureMapping):
    """The paper's stage 2: labels, and distillation from T's logits of the whole photos.

    L = mm L_MM + cl L_CL + kd L_KD + fm L_FM. student_rate: learning rate of S and its decoder; 0
    freezes both. temperature: of L_KD. extra_readers: frozen networks that read the thumbnails in
    S's place, alternated batch by batch.
    """

    type = "supervised"
    fm: float = _from(0, 0.0)
    cl: float = _from(0, 0.3)
    kd: float = _from(0, 0.7)
    temperature: float = _above_0(2.0)
    extra_readers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra_readers and self.fm:
            raise ValueError("L_FM is for S alone, whose feature map D reads; set fm to 0")


@dataclass(frozen=True)
class Reconstruct(Downscaling):
    """Without labels: E and the decoder reconstruct the photo and, of frozen networks, the feature
    maps that these have of it.

    L = ae L_AE + fm L_FM + mm L_MM. thumbnails: who makes them, drawn batch by batch: "downscaler"
    (E) or filters; one decoder then serves all of them. decoder_rate: learning rate of the decoder.
    readers: the frozen networks, alternated batch by batch; none: pixels alone, an unsupervised
    auto-encoder.
    """

    type = "reconstruct"
    min_crop: float = _above_0(0.43, 1)
    max_crop: float = _above_0(0.43, 1)
    decoder_rate: float = _from(0, 6e-3)
    ae: float = _from(0, 40.0)
    fm: float = _from(0, 1.0)
    readers: tuple[str, ...] = ()
    thumbnails: tuple[str, ...] = ("downscaler",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("thumbnails", self.thumbnails, ("downscaler", *FILTERS))

    def weights(self) -> dict[str, float]:
        return {k: v for k, v in super().weights().items() if k != "FM" or self.readers}


@dataclass(frozen=True)
class Recognise(Downscaling):
    """Without labels: frozen networks give the enlarged thumbnail the logits that they have of the
    photo.

    L = kd L_KD + mm L_MM + dr L_DR, of drawn pictures (`drawn`): L_DR = mean residual^2 of
    gratings that no thumbnail holds + 100 max(0, |m| - 0.2)^2, m: how far the mean of text and of
    stripes, whose overshoots are clipped, is from bicubic's; in levels. temperature: of L_KD.
    readers: the frozen networks, alternated batch by batch. enlargers: filters that enlarge the
    thumbnails, drawn by chance.
    """

    type = "recognise"
    min_crop: float = _above_0(1.0, 1)
    readers: tuple[str, ...] = ("teacher",)
    enlargers: tuple[str, ...] = ("bicubic",)
    kd: float = _from(0, 1.0)
    dr: float = _from(0, 0.0)
    temperature: float = _above_0(2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        kernels = [name for name, fixed in FILTERS.items() if fixed.kernel is not None]
        _check_choice("enlargers", self.enlargers, tuple(kernels))
        if not self.readers:
            raise ValueError("readers needs one entry, at least")


@dataclass(frozen=True)
class ClassifyThumbnails(Task):
    """S alone learns to classify thumbnails that the library makes, in many sizes.

    L = cl L_CL + kd L_KD + fm L_FM. T reads the crop, enlarged to the size of the photos; L_FM
    compares the means of the last feature maps. thumbnails: "default" (the library's weights) or
    filters of Pillow, drawn batch by batch. rate: learning rate of the network; the decoder is
    frozen. average: memory of the moving average of the steps, which S is. temperature: of
    L_KD.
    """

    type = "classify_thumbnails"
    thumbnails: tuple[str, ...] = ("default",)
    rate: float = _above_0(2e-4)
    average: float = _from(0, 0.998, 1)
    min_crop: float = _above_0(0.8, 1)
    lossy: float = _from(0, 0.5, 1)
    min_quality: int = _from(1, 60, 95)
    formats: tuple[str, ...] = ("jpeg-420",)
    cl: float = _from(0, 0.3)
    kd: float = _from(0, 0.7)
    # without it S learned more slowly (measured)
    fm: float = _from(0, 1.0)
    temperature: float = _above_0(2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        filters = [name for name, fixed in FILTERS.items() if fixed.resampling is not None]
        _check_choice("thumbnails", self.thumbnails, ("default", *filters))


TASKS: dict[str, type[Task]] = {
    t.type: t for t in (FeatureMapping, Supervised, Reconstruct, Recognise, ClassifyThumbnails)
}


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
        if E is None and all(alone) and alone:
            return
        if E is None or any(alone):
            raise ValueError("every task but classify_thumbnails needs [downscaler], and it none")
        if self.run.size % (2 * E.factor):
            raise ValueError(
                f"run.size is {self.run.size}; give a multiple of twice the factor, {2 * E.factor}"
            )
        if S.decoder_factor > E.factor:
            raise ValueError(f"student.decoder_factor is above the factor, {E.factor}; lower it")
        if E.qim > 1 and not S.decoder_factor:
            raise ValueError(
                f"downscaler.qim is {E.qim}, but S has no decoder that reads the payload; set "
                "student.decoder_factor"
            )
        if E.qim > 1 and E.kind == "learned" and any(task.lossy for task in self.tasks):
            raise ValueError(
                f"downscaler.qim is {E.qim}, but lossy files destroy the payload; set "
                "qim 1 or lossy 0"
            )

        plain = [t for t in self.tasks if set(getattr(t, "thumbnails", ())) - {"downscaler"}]
        if E.qim > 1 and plain:
            raise ValueError(
                f"downscaler.qim is {E.qim}, but a filter's thumbnails have no payload; "
                "set thumbnails to downscaler alone, or qim 1"
            )

    @property
    def labelled(self) -> bool:
        """Whether a task uses the photos' classes; without, networks keep all their outputs."""

        def uses(task: Task) -> bool:
            if isinstance(task, ClassifyThumbnails):
                return task.cl > 0
            return not isinstance(task, (Recognise, Reconstruct))

        return not self.tasks or any(map(uses, self.tasks))


def parse(tables: Mapping[str, Any]) -> Settings:
    """The settings in the tables of a recipe. Raises ValueError for an unknown table, key or task,
    a value of the wrong type or out of its range, and tables that do not go together."""
    _check_keys(tables, ("run", "downscaler", "student", "task"), "the recipe")
    tasks, made, E = tables.get("task", []), [], tables.get("downscaler")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError("task must be a list of tables, written [[task]]")
    for i, table in enumerate(tasks):
        if table.get("type") not in TASKS:
            raise ValueError(f"task.{i}.type is {table.get('type')!r}; choose {', '.join(TASKS)}")
        keys = {key: value for key, value in table.items() if key != "type"}
        made.append(_table(TASKS[table["type"]], keys, f"task.{i}"))
    return Settings(
        _table(Run, tables.get("run", {}), "run"),
        None if E is None else _table(Downscaler, E, "downscaler"),
        _table(Student, tables.get("student", {}), "student"),
        tuple(made),
    )


def _check_choice(key: str, given: tuple[str, ...], valid: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in valid]
    if unknown or not given:
        what = f"has {', '.join(unknown)}" if given else "is empty"
        raise ValueError(f"{key} {what}; choose from {', '.join(valid)}")


def _check_keys(table: Any, valid: tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where} must be a table")
    if unknown := [key for key in table if key not in valid]:
        raise ValueError(f"{where} has no {', '.join(unknown)}; valid are {', '.join(valid)}")


def _table(cls: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from its table."""
    _check_keys(table, tuple(f.name for f in fields(cls)), where)
    hints = typing.get_type_hints(cls)
    known = {f.name: f.metadata for f in fields(cls)}
    try:
        return cls(**{k: _value(v, hints[k], k, **known[k]) for k, v in table.items()})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _value(
    value: Any, hint: Any, name: str, low: float = 0, high: float = 0, above: bool = False
) -> Any:
    """A value of the type and in the range of its field."""
    if hint is float and type(value) is int:
        value = float(value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"{name} is {value!r}; it must be a list of strings")
        return tuple(value)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"{name} is {value!r}; choose {', '.join(typing.get_args(hint))}")
    elif type(value) is not hint:
        raise ValueError(f"{name} is {value!r}; it must be of type {hint.__name__}")
    elif high and not (low < value <= high if above else low <= value <= high):
        least = f"above {low:g}" if above else f"{low:g} or more"
        most = "" if high == inf else f", up to {high:g}"
        raise ValueError(f"{name} is {value}; it must be {least}{most}")
    return value
