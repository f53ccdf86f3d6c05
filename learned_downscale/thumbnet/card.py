"""The model card of trained weights, written from their config.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.readers.architectures import architecture_of, load_network
from learned_downscale.readers.bundled import Sizes
from learned_downscale.thumbnet import costs, evaluate, evaluate_classifier, recipe
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader
from learned_downscale.thumbnet.recipe import Recipe
from learned_downscale.thumbnet.tables import as_changes, markdown
from learned_downscale.thumbnet.train import DOWNSCALER, STUDENT, load_recipe

_CARD = """\
---
library_name: learned_downscale
license: other
license_name: {license}
pipeline_tag: {pipeline}
tags: [{tags}]
---

# {name}: {title}

{what}

```python
{code}
```

{use}

## Licence and data

Licence of these weights: {license}.{note}

Trained on {photos:,} photos of {classes} classes:

{data}

## Figures

{figures}

## Recipe

`learned-downscale train --recipe {recipe}{changes}`; the teacher is {teacher}. Formulas of the losses: `learned_downscale/thumbnet/losses.py`.

```toml
{tables}
```
"""

_PAPER = '"ThumbNet: One Thumbnail Image Contains All You Need for Recognition" (ACM MM 2020)'

_DOWNSCALER = f"""\
A network of {{parameters:,}} parameters that makes images {{factor}} times smaller in width and
height and keeps detail that classifiers need. It is the downscaler of Zhao and
Ghanem, {_PAPER}.
The paper does not give its layers; these are ours."""

_PLAIN = """\
**Use**: thumbnails of photos that people or pretrained networks look at later. **Not for**:
enlarging, masks or label maps, and images whose values are measurements. On images other than
photos it has not been measured."""

_DECODER = """\
**Use**: thumbnails for networks with the decoder in front. It reconstructs an RGB tensor at
{times} times the thumbnail's width and height, which any pretrained network accepts:

```python
decoder = learned_downscale.Decoder.from_pretrained("{name}")
network = torch.nn.Sequential(decoder, network)
```

The detail is of no use without the decoder. **Not for**: enlarging, masks or label maps, and images
whose values are measurements. On images other than photos it has not been measured."""

_QIM = """

The detail is embedded in the {bits} low bits of each channel by quantisation index modulation
(QIM). No channel is more than {half} levels off the bicubic thumbnail, except at black and white.
Store thumbnails as PNG or lossless WebP, and decode them before they are turned, mirrored or
scaled. Grey images have no room for the payload and are refused."""

_JPEG = """

Downscaler and decoder were trained through JPEG of quality 70 to 95 without chroma subsampling, as
`learned-downscale convert` saves thumbnails. In Pillow: `save(path, quality=95, subsampling=0)`."""

_CLASSIFIER = f"""\
A network of {{parameters:,}} parameters that classifies thumbnails. It is the student of Zhao
and Ghanem, {_PAPER}.
Its architecture is {{architecture}}."""

_CLASSES = """\
**Classes** ({count}): {labels}.

**Use**: thumbnails with a short side of {smallest} to {largest} px{of}. **Not for**: decisions
about people or safety, and images of anything else: it knows these classes only. Below a
probability of {threshold:g} it says "none of these"; how many other images that catches has not
been measured."""

_NOT_MEASURED = "Not measured: `learned-downscale evaluate --card` writes them here."


def describe(made: Recipe, photos: Photos, **about: Any) -> dict[str, Any]:
    """The entry "training" of config.json. about: data (list of names), teacher, license, note."""
    counts = {"photos": len(photos), "classes": len(photos.classes)}
    return {"recipe": made.config(), **counts, **about}


def save_downscaler(folder: Path, E: Any, S: Reader, training: dict[str, Any]) -> None:
    """Write a trained E, and the decoder of its S, into a weights folder with its card."""
    networks = [E, S.decoder] if isinstance(S.decoder, Decoder) else [E]
    config = {network.kind: network.config for network in networks}
    text = render(folder.name, {**config, "training": training})
    pretrained.save(folder, networks, text, training=training)


def render(name: str, config: Mapping[str, Any]) -> str:
    """The text of the card of weights called `name`: a downscaler's, or a classifier's."""
    training = config["training"]
    made = recipe.from_config(training["recipe"])
    own = _classifier(name, config, made) if "classifier" in config else _downscaler(name, config)
    return _CARD.format(
        name=name,
        recipe=made.name,
        changes="".join(f" --set {c}" for c in as_changes(made.changes)),
        tables=recipe.as_toml(made.tables),
        data="\n".join(f"- {item}" for item in training["data"]),
        figures=_figures(config.get("figures")),
        **own,
        note=f" {training['note']}" if training["note"] else "",
        classes=training.get("classes") or len(config["classes"]),
        **{k: training[k] for k in ("photos", "teacher", "license")},
    )


def _downscaler(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    E = Downscaler(**config["downscaler"])
    use = _PLAIN
    if "decoder" in config:
        use = _DECODER.format(name=name, times=config["decoder"]["factor"])
        more = _QIM.format(bits=E.qim.bit_length() - 1, half=E.qim // 2)
        use += more if E.qim > 1 else ""
        tasks = recipe.from_config(config["training"]["recipe"]).settings.tasks
        use += _JPEG if any(getattr(task, "jpeg", 0) for task in tasks) else ""
    weights = "" if name in ("x2", "x4") else f', weights="{name}"'
    return {
        "title": f"a learned downscaler, x{E.factor}",
        "pipeline": "image-to-image",
        "tags": "downscaling, thumbnails, thumbnet",
        "what": _DOWNSCALER.format(parameters=costs.parameters(E), factor=E.factor),
        "code": "import learned_downscale\n\n"
        f"thumbnail = learned_downscale.resize(image, {E.factor}{weights})",
        "use": use,
    }


def _classifier(name: str, config: Mapping[str, Any], made: Recipe) -> dict[str, str]:
    table = config["classifier"]
    network = architecture_of(table)(**table)
    sizes = Sizes(**config.get("sizes", {}))
    of = ""
    if made.settings.downscaler is not None:
        of = f", made by the downscaler ({made.settings.downscaler.kind}) that it was trained with"
    return {
        "title": "a thumbnail classifier",
        "pipeline": "image-classification",
        "tags": "thumbnails, thumbnet",
        "what": _CLASSIFIER.format(
            parameters=costs.parameters(network), architecture=type(network).__name__
        ),
        "code": "from learned_downscale import ThumbnailClassifier\n\n"
        f'classifier = ThumbnailClassifier.from_pretrained("{name}")\n'
        'print(classifier("thumbnail.png"))',
        "use": _CLASSES.format(
            count=len(config["classes"]),
            labels=", ".join(entry["label"] for entry in config["classes"]),
            threshold=config["threshold"],
            smallest=sizes.smallest,
            largest=sizes.largest,
            of=of,
        ),
    }


def _figures(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return _NOT_MEASURED
    of_runs = "system" in figures["rows"][0]
    rows: list[Any] = [
        evaluate.Row(**row) if of_runs else evaluate_classifier.Row(**row)
        for row in figures["rows"]
    ]
    more = _RUNS if of_runs else facts(figures)
    return (
        f"On {figures['data']}.\n\n{markdown(rows)}\n\n{more}\n\n"
        f"Printed by\n\n```\n{figures['command']}\n```"
    )


_RUNS = """\
`original`: the teacher on the photos themselves. The other rows: the student of the recipe on the
thumbnails of the downscaler or filter. PSNR: 8-bit thumbnails against Pillow's bicubic, mean over
the photos. With one seed a row, differences below about 1 point of top-1 are noise."""


def facts(figures: Mapping[str, Any]) -> str:
    """The figures of a classifier that are not in the table."""
    right = figures["right_of_named"]
    share = "none of those labels" if right is None else f"{right:.1f} % of those labels"
    return (
        f"Speed: {figures['per_second']:.0f} thumbnails of 56 px a second, on all cores. At factor "
        f"4, {figures['named']:.1f} % of the thumbnails get a label (probability "
        f"{figures['threshold']} or more), and {share} are right. The temperature, "
        f"{figures['temperature']:.3f}, was chosen on every other photo; on the rest it lowers the "
        f"expected calibration error (ECE, 15 bins) from {figures['ece_before']:.1f} to "
        f"{figures['ece_after']:.1f} %. One seed: differences below about 1 point are noise."
    )


def check_card(folder: Path, runs: Sequence[Path]) -> int:
    """The factor of a weights folder whose card can have the figures of `runs`.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: none of the runs trained these weights, those of its factor differ in S, or
            config.json does not say how they were trained.
    """
    config = json.loads((folder / pretrained.CONFIG).read_text(encoding="utf-8"))
    if "training" not in config:
        raise ValueError(f"{folder} does not say how the weights were trained; it has no card")
    mine = recipe.from_config(config["training"]["recipe"]).settings.downscaler
    if mine is None:
        raise ValueError(f"{folder} is a classifier without a downscaler; measure it alone")
    if "classifier" in config:
        network: Any = load_network(folder)
        file, prefix = STUDENT, "network."
    else:
        network, file, prefix = pretrained.load(Downscaler, folder), DOWNSCALER, ""
    made = {run: load_recipe(run).settings for run in runs}
    if not any(_same(network, run / file, prefix) for run in runs):
        raise ValueError(
            f"{folder} holds not the weights of {', '.join(map(str, runs)) or 'a run'}"
        )
    students = {
        m.student for m in made.values() if m.downscaler and m.downscaler.factor == mine.factor
    }
    if len(students) > 1:
        raise ValueError(
            "a card compares thumbnails, all else equal, but the runs have different students; "
            "leave the others out"
        )
    return mine.factor


def _same(network: Any, file: Path, prefix: str) -> bool:
    """Whether a run's file holds these weights, which may have been rounded to float16."""
    mine, theirs = network.state_dict(), load_file(file)
    if network.float16:
        theirs = {k: v.half().float() for k, v in theirs.items()}
    return all(
        prefix + k in theirs and theirs[prefix + k].shape == v.shape and theirs[prefix + k].equal(v)
        for k, v in mine.items()
    )


def add_figures(folder: Path, figures: Mapping[str, Any], rows: Sequence[Any]) -> None:
    """Write what was measured into config.json and the card of a weights folder.

    figures: "data", "command" and, of a classifier, what `evaluate_classifier` gave; its
    temperature becomes the folder's.
    """
    config = json.loads((folder / pretrained.CONFIG).read_text(encoding="utf-8"))
    if "temperature" in figures:
        config["temperature"] = figures["temperature"]
    config["figures"] = {**figures, "rows": [asdict(row) for row in rows]}
    pretrained.write_config(folder, config)
    card = render(folder.resolve().name, config)
    (folder / "README.md").write_text(card, encoding="utf-8")
