"""The model card of trained weights, written from their config.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from learned_downscale import pretrained
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.thumbnet.evaluate import Row, markdown, students
from learned_downscale.thumbnet.settings import Settings, called, student_is_trained, student_side
from learned_downscale.thumbnet.train import DOWNSCALER, load_settings

_CARD = """\
---
library_name: learned_downscale
license: other
license_name: {license}
pipeline_tag: image-to-image
tags: [downscaling, thumbnails, thumbnet]
---

# learned_downscale {name}: a learned downscaler, {factor} per side

E of ThumbNet (Zhao and Ghanem, "ThumbNet: One Thumbnail Image Contains All You Need for
Recognition", ACM MM 2020): a {parameters:,}-parameter network that makes an image {factor} times
smaller per side and keeps what a classifier needs. E's layers are ours; the paper does not give
them.

```python
import learned_downscale

thumbnail = learned_downscale.resize(image, {factor}{weights})
```
{decoder}
**Use**: making thumbnails of photos that networks, and people, look at later. **Not for**:
enlarging, masks or label maps, and images whose pixel values are measurements. It was trained on
{photos:,} photos of {classes} classes; on other kinds of images it has not been measured.

## Figures

{figures}

## Data and licence

{data}

Licence: {license}. {note}

## Recipe

{recipe}

Formulas: `learned_downscale/thumbnet/losses.py`. AdamW, a warm-up, then a cosine to 0, in each
stage; flips, and crops at the photo's own resolution. T: {teacher}.

| setting | value |
| --- | --- |
{settings}
"""

_DECODER = """
{looks}; the detail that E hides in it is for networks whose
first layers can find it. The decoder D beside these weights can, before a network of your own,
which then sees the photo at {times} times the thumbnail's sides:

```python
decoder = learned_downscale.Decoder.from_pretrained("{name}")
network = torch.nn.Sequential(decoder, network)
```
{files}"""

_CODE = """
What E writes is what the thumbnail's levels leave modulo {qim} (quantisation index modulation):
no colour is more than {half} levels off, but at black and white. The decoder needs the thumbnail as
it left E: store it as PNG or lossless WebP, decode it before you turn, mirror or scale it. Grey
images have no room for the code and are refused.
"""

_JPEG = """
E and the decoder were trained through JPEG of quality 70 to 95 without chroma subsampling, as
`learned-downscale convert` saves thumbnails. In Pillow: `save(path, quality=95, subsampling=0)`.
"""

_NOT_MEASURED = "Not measured: `learned-downscale evaluate --card` writes them here."


def describe(
    settings: Settings,
    *,
    data: Sequence[str],
    photos: int,
    classes: int,
    teacher: str,
    license: str,
    note: str,
) -> dict[str, Any]:
    """What config.json says of the training."""
    return {
        "settings": asdict(settings),
        "data": list(data),
        "photos": photos,
        "classes": classes,
        "teacher": teacher,
        "license": license,
        "note": note,
    }


def render(
    name: str, parameters: int, training: Mapping[str, Any], figures: Mapping[str, Any] | None
) -> str:
    """The text of the card."""
    settings = Settings(**training["settings"])
    table = _NOT_MEASURED
    if figures:
        table = (
            f"Top-1 and top-5 on {figures['data']}. T sees the originals, S the thumbnails.\n\n"
            + markdown([Row(**row) for row in figures["rows"]])
            + f"\n\n{_EXPLAINED}\n\nPrinted by\n\n```\n{figures['command']}\n```"
        )
    return _CARD.format(
        name=name,
        factor=settings.factor,
        parameters=parameters,
        weights="" if name in ("x2", "x4") else f', weights="{name}"',
        figures=table,
        data="\n".join(f"- {item}" for item in training["data"]),
        settings="\n".join(f"| {f.name} | {getattr(settings, f.name)} |" for f in fields(settings)),
        recipe=_recipe(settings),
        decoder=_decoder(name, settings),
        **{k: training[k] for k in ("photos", "classes", "teacher", "license", "note")},
    )


def _decoder(name: str, settings: Settings) -> str:
    if settings.rebuild == 1:
        return ""
    m = settings.qim
    looks, files = "The thumbnail looks crisper than a bicubic one", ""
    if m > 1:
        looks, files = "To a person the thumbnail looks like any other", _CODE
    elif settings.jpeg:
        files = _JPEG
    files = files.format(qim=m, half=m // 2)
    return _DECODER.format(name=name, times=settings.rebuild, looks=looks, files=files)


def _recipe(settings: Settings) -> str:
    """The stages, in words."""
    if settings.student == "teacher":
        S, begins = "T's architecture", "from T"
    else:
        S, begins = called(settings.student), "as published"
    S = f"S is {S}, initialised {begins}."
    if settings.rebuild > 1 and settings.rescale != 1:
        S += f" It reads at {student_side(settings)} px what is rebuilt of {settings.size} px."
    elif settings.rescale != 1:
        S += f" It reads thumbnails enlarged (bicubic) to {student_side(settings)} px."
    if settings.width < 1:
        S += (
            f" Of the channels inside its blocks {settings.width:g} were left before it was "
            "trained, fitted without labels to what all of them see in the photos."
        )
    if settings.others:
        S += f" It took turns with {called(settings.others)}, batch by batch."
    if settings.start:
        S += " E began with the weights of another run, and S's decoder, if it has one of its kind."
    together = "E and S" if settings.freeze == "no" else "S, E as it was,"
    if not settings.student_lr:
        together = "E alone, through S as it is,"
    seen = "whole photos" if settings.kd_on == "photo" else "same crops"
    loss = _loss(MM=settings.mm, CL=settings.cl, KD=settings.kd, FM=settings.fm)
    sources = {
        "the labels": settings.cl,
        f"T's logits of the {seen}": settings.kd,
        "T's feature maps": settings.fm,
    }
    told = " and ".join(source for source, weight in sources.items() if weight)
    supervised = (
        f"{together} learned from {told}: {loss}, batch norm "
        + ("kept at T's" if settings.batch_norm == "teacher" else "at the batches'")
        + " statistics."
    )
    if settings.enlarge:
        supervised += " Its crops were enlarged to the photo's sides."
    if settings.mixup:
        supervised += f" {settings.mixup:.0%} of its batches were blends of photos (mixup)."
    if settings.stage1 == "none" and not settings.epochs:
        return f"{S} Nothing was trained."
    if settings.stage1 == "none":
        return f"{supervised} {S}"
    if settings.stage1 == "fm":
        who = "S" if settings.freeze == "always" else "E, S"
        loss = _loss(MM=settings.mm, FM=settings.fm or 1.0)
        first = f"{who} and a decoder D learned to rebuild T's maps of the originals: {loss}."
    else:
        perceptual = settings.stage1 == "perceptual"
        times = settings.rebuild if settings.rebuild > 1 else settings.factor
        learners, aims = ["E"] * (settings.freeze != "always"), []
        rebuilds = settings.rebuild > 1 or not perceptual
        if rebuilds:
            learners.append("the first layers of S" if settings.rebuild > 1 else "a decoder")
            aims.append(f"rebuild the photo at {times} times the thumbnail's sides")
        if perceptual:
            S_proper = "the rest of S" if settings.rebuild > 1 else "S"
            which = settings.layer or "the last one at each stride from 4 on"
            aims.append(
                f"give {S_proper}, which stayed as it was, the feature maps that it has of the "
                f"photo, {which}"
            )
        fm = (settings.fm or 1.0) * perceptual
        loss = _loss(AE=settings.ae * rebuilds, FM=fm, MM=settings.mm)
        first = f"{' and '.join(learners)} learned to {', and to '.join(aims)}: {loss}."
    if not settings.epochs:
        untrained = "" if student_is_trained(settings) else " It was not trained on thumbnails."
        return f"Without labels: {first} {S}{untrained}"
    return f"Stage 1, without labels: {first} Stage 2: {supervised} {S}"


def _loss(**weights: float) -> str:
    terms = (f"{weight:g} L_{name}" for name, weight in weights.items() if weight)
    return f"L = {' + '.join(terms)}"


_EXPLAINED = (
    "`original` is T on the photos themselves; `thumbnet` is S on E's thumbnails; "
    "`bicubic-retrained` is S on Pillow's bicubic thumbnails, trained with the same settings; "
    "where S was not trained, but for its decoder if it has one, `bicubic`. "
    "PSNR: E's 8-bit thumbnails against Pillow's bicubic, mean over the photos. "
    "With one seed a system, differences below about 1 point of top-1 are noise."
)


def check_card(folder: Path, runs: Sequence[Path]) -> Downscaler:
    """The E of a weights folder whose card can have the figures of `runs`.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: none of the runs trained these weights, those of its factor differ in S, or
            config.json does not say how they were trained.
    """
    model = pretrained.load(folder)
    if not any(_same(model, run) for run in runs):
        raise ValueError(
            f"{folder} holds not the weights of {', '.join(map(str, runs)) or 'a run'}"
        )
    read_by = students(runs, model.factor)
    if len(read_by) > 1:
        raise ValueError(
            f"a card compares thumbnails, all else equal, but the runs have another S each: "
            f"{'; '.join(sorted(read_by))}; leave the others out"
        )
    path = folder / pretrained.CONFIG
    if "training" not in json.loads(path.read_text(encoding="utf-8")):
        raise ValueError(f"{path} does not say how the weights were trained; it can have no card")
    return model


def add_figures(
    folder: Path, runs: Sequence[Path], rows: Sequence[Row], data: str, command: str
) -> None:
    """Write measured rows of `runs` into config.json and the card of a weights folder.

    Raises what `check_card` does.
    """
    model = check_card(folder, runs)
    path = folder / pretrained.CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["figures"] = {"data": data, "command": command, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    parameters = sum(p.numel() for p in model.parameters())
    card = render(folder.resolve().name, parameters, config["training"], config["figures"])
    (folder / "README.md").write_text(card, encoding="utf-8")


def _same(model: Downscaler, run: Path) -> bool:
    load_settings(run)  # it says so if the run is not finished
    theirs, mine = load_file(run / DOWNSCALER), model.state_dict()
    return theirs.keys() == mine.keys() and all(theirs[k].equal(v) for k, v in mine.items())
