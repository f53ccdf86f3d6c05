"""A model card as the Hugging Face Hub reads it: its front matter, completed from config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learned_downscale import pretrained

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LIBRARY = "learned_downscale"
TAGS = ("downscaling", "thumbnails", "thumbnet")


def card(text: str, config: Mapping[str, Any], name: str, repo: str) -> str:
    """A model card as it is pushed: its front matter completed from config.json (library, tags,
    data, and figures as model-index), and its lines of use with the repository's name.

    Args:
        text: of the README.md.
        config: of the weights.
        name: of the weights folder, which the lines of use may have.
        repo: "owner/name".

    Raises:
        ValueError: the front matter is no YAML mapping.
    """
    import yaml  # huggingface_hub needs it
    from huggingface_hub import ModelCard, ModelCardData

    if not text.startswith("---"):
        text = f"---\nlibrary_name: {LIBRARY}\n---\n\n{text}"
    try:
        whole = ModelCard(text)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(
            f"the front matter of {name}/{pretrained.CARD} is none: {error}"
        ) from error
    data = whole.data
    assert isinstance(data, ModelCardData)
    kinds = [kind for kind in pretrained.KINDS if kind in config]
    data.library_name = LIBRARY
    data.tags = list(dict.fromkeys((*(data.tags or ()), *TAGS, *kinds)))
    training = config.get("training")
    if isinstance(training, Mapping) and not data.datasets:
        data.datasets = sorted({_data_set(str(path)) for path in training["data"]}) or None
    if not data.eval_results:
        data.eval_results = results(config.get("figures"), name) or None
    if data.eval_results:
        data.model_name, data.metrics = repo.rpartition("/")[2], ["accuracy"]
    for said in ('weights="', 'from_pretrained("'):
        whole.text = whole.text.replace(f'{said}{name}"', f'{said}{repo}"')
    return str(whole)


def _data_set(path: str) -> str:
    """The name of a data set by its path in the training's folders, whose first part is no owner
    on the Hub: "openly-licensed/pets" -> "pets", "imagenet20/train-000.tar" -> "imagenet20"."""
    folder, _, last = path.rpartition("/")
    name = folder.rpartition("/")[2] if folder and Path(last).suffix else last
    return re.sub(r"[^\w.-]+", "-", name)


def results(figures: Any, name: str) -> list[EvalResult]:
    """The figures of config.json as the Hub lists them: top-1 accuracy in percent, of the weights
    themselves. None for figures that do not name a row of theirs.

    Raises:
        ValueError: the figures are not as training or the scripts write them.
    """
    from huggingface_hub import EvalResult

    if figures is None:
        return []
    try:
        if "table" in figures:
            data, metrics = _of_table(figures["table"], name)
        else:
            data, metrics = str(figures["data"]), _of_rows(figures["rows"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the figures in config.json are not as `evaluate` writes: {error!r}"
        ) from (error)
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Classification of thumbnails",
            dataset_type=re.sub(r"\W+", "-", re.split("[,;]", data.lower())[0]),
            dataset_name=data,
            metric_type="accuracy",
            metric_name=f"Top-1 accuracy in %, {what}",
            metric_value=round(value, 2),
        )
        for what, value in metrics
    ]


def _of_table(lines: Sequence[str], name: str) -> tuple[str, list[tuple[str, float]]]:
    """(data, [(network, top-1)]) of a Markdown table whose first column names methods."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    if not rows:
        return "", []
    head = rows[0]
    mine = next((row for row in rows if row[0] == name), [])
    cells = zip(head[1:], mine[1:], strict=False)
    return head[0], [
        (network, float(cell))
        for network, cell in cells
        if network != "mean" and re.fullmatch(r"\d+(\.\d+)?", cell)
    ]


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """[(what, top-1)] of the rows that `evaluate` measured of the weights."""
    if "system" in rows[0]:
        mine = [row for row in rows if row["system"] == "learned"]
        return [(f"student on thumbnails x{row['factor']}", float(row["top1"])) for row in mine]
    first = (rows[0]["recipe"], rows[0]["changes"])
    mine = [row for row in rows if (row["recipe"], row["changes"]) == first]
    return [(f"{row['thumbnails']}, {row['size']} px", float(row["top1"])) for row in mine]
