"""Recipes: what they may hold, the published ones, and the cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from thumbnet_helpers import make_recipe, reconstruct, run, supervised

pytest.importorskip("transformers", reason="needs the extra [train]")
from learned_downscale.thumbnet import recipe as recipes
from learned_downscale.thumbnet.card import render
from learned_downscale.thumbnet.tables import column, markdown

ROOT = Path(__file__).parents[1]
WEIGHTS = sorted(path.parent.name for path in (ROOT / "weights").glob("*/config.json"))


def config_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "weights" / name / "config.json").read_text())
    return found


def test_published_recipes() -> None:
    assert recipes.published() == sorted([*WEIGHTS, "paper"])
    shown = run("train", "--help").stdout
    assert all(name in shown for name in recipes.published())
    assert sum(line.startswith("  -") for line in shown.splitlines()) <= 15
    tasks = recipes.load("paper").settings.tasks
    assert [task.type for task in tasks] == ["feature_mapping", "supervised"]
    assert all(getattr(task, "downscaler_rate") > 0 for task in tasks)  # noqa: B009
    assert tasks[1].fm > 0 and tasks[1].student_rate > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", WEIGHTS)
def test_recipes_are_those_of_the_weights(name: str) -> None:
    """Their heads say what they need, how long they take and what to expect."""
    training = config_of(name)["training"]
    recipe = recipes.load(name)
    assert recipe.config() == training["recipe"]
    text = (ROOT / "learned_downscale" / "thumbnet" / "recipes" / f"{name}.toml").read_text()
    for word in ("# Hardware:", "ime", "# To expect:", "# Needs:"):
        assert word in text
    table = config_of(name).get("downscaler")
    if table:
        made = recipe.settings.downscaler
        shared = {"shared": True} if made and made.shared else {}
        assert made is not None and table == {
            "factor": made.factor, "channels": made.channels, "qim": made.qim, **shared
        }  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_cards_are_their_configs(name: str) -> None:
    config = config_of(name)
    card = (ROOT / "weights" / name / "README.md").read_text()
    assert card == render(name, config)
    open_pictures = name != "x4-jpeg"
    terms = "CC BY 4.0" if open_pictures else "non-commercial research only"
    assert terms in card and "ImageNet" in card
    assert ("quantisation index modulation" in card) == (
        config.get("downscaler", {}).get("qim", 1) > 1
    )
    rows = config["figures"].get("rows", [])
    if rows and "downscaler" in config:
        assert {row["system"] for row in rows} == {"original", "bicubic", "learned"}
    assert recipes.as_toml(recipes.load(name).tables) in card


def test_tables_as_toml(tmp_path: Path) -> None:
    recipe = recipes.load("x4-machine")
    (tmp_path / "mine.toml").write_text(recipes.as_toml(recipe.tables))
    again = recipes.load(tmp_path / "mine.toml")
    assert again.name == "mine.toml" and again.tables == recipe.tables


def test_changes() -> None:
    recipe = recipes.load("x4", ["run.seed=1", "run.size=160", "task.0.mm=10"])
    assert recipe.changes == {"run.seed": 1, "task.0.mm": 10}  # the size was 160
    assert recipe.settings.run.seed == 1
    assert recipes.from_config(json.loads(json.dumps(recipe.config()))) == recipe
    filtered = recipes.load("x4", ["downscaler.kind=box", "task=[]"])
    assert filtered.settings.downscaler is not None
    assert filtered.settings.downscaler.kind == "box" and not filtered.settings.tasks
    # neither goes alone
    both = recipes.load("paper", ["downscaler.qim=8", "student.decoder_factor=4"])
    assert both.changes == {"downscaler.qim": 8, "student.decoder_factor": 4}
    for change, message in (
        ("downscaler.qim=8", "a residual for each channel"),
        ("run.seed", "KEY=VALUE"),
        ("task.2.epochs=2", "tasks 0 to 1"),
        ("task.0=2", "no key of a table, such as"),
        ("run.seed.more=2", "no key of a table"),
        ("run.sead=2", "run has no sead; valid are size, batch_size, seed"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.load("x4", [change])
    with pytest.raises(FileNotFoundError, match="x4-machine"):
        recipes.load("x5")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"downscaler": {"factor": 1}}, "downscaler: factor is 1; it must be 2"),
        ({"downscaler": {"kind": "best"}}, "choose learned, area"),
        ({"downscaler": {"qim": 6}}, "must be one of 1, 2, 4"),
        ({"downscaler": {"qim": 8}}, "no decoder that reads the payload"),
        ({"student": {"input_scale": 0.0}}, "input_scale is 0"),
        ({"student": {"decoder_factor": 4}}, "is above the factor, 2"),
        ({"run": {"size": 33}}, "multiple of twice the factor"),
        ({"run": {"size": "32"}}, "run: size is '32'; it must be of type int"),
        ({"run": {"seed": -1}}, "seed is -1"),
        ({"run": {"precision": "float16"}}, "choose float32, bfloat16"),
        ({"tasks": [{"type": "autoencoder"}]}, "task.0.type is 'autoencoder'; choose"),
        ({"tasks": [{}]}, "task.0.type is None"),
        ({"tasks": [supervised(epochs=0)]}, "epochs is 0"),
        ({"tasks": [supervised(student_rate=-1.0)]}, "student_rate is -1"),
        ({"tasks": [supervised(warmup=1.0)]}, "warmup is 1"),
        ({"tasks": [supervised(min_crop=0.0)]}, "min_crop is 0"),
        ({"tasks": [supervised(min_crop=1.5)]}, "min_crop is 1.5"),
        ({"tasks": [supervised(lossy=1.5)]}, "lossy is 1.5"),
        ({"tasks": [supervised(ae=1.0)]}, "task.0 has no ae; valid are epochs"),
        ({"tasks": [supervised(cl=0, kd=0)]}, "nothing is learned"),
        ({"tasks": [supervised(formats=["png"])]}, "formats has png; choose from jpeg, jpeg-420"),
        ({"tasks": [supervised(formats=[])]}, "formats is empty"),
        ({"tasks": [reconstruct(thumbnails=["cubic"])]}, "thumbnails has cubic; choose from down"),
        (
            {
                "tasks": [reconstruct(thumbnails=["downscaler", "box"])],
                "downscaler": {"qim": 8},
                "student": {"decoder_factor": 2},
            },
            "a filter's thumbnails have no payload",
        ),
        ({"tasks": [supervised(fm=1, extra_readers=["teacher"])]}, "L_FM is for S alone"),
        ({"tasks": [supervised(extra_readers="teacher")]}, "list of strings"),
        ({"tasks": [reconstruct(max_crop=1.5)]}, "max_crop is 1.5"),
        ({"tasks": [supervised(max_crop=0.5)]}, "min_crop is 0.85, above max_crop, 0.5"),
        ({"tasks": [reconstruct(ae=0)]}, "nothing is learned"),
        ({"tasks": [{"type": "classify_thumbnails"}]}, "classify_thumbnails needs"),
        (
            {"tasks": [{"type": "classify_thumbnails", "thumbnails": ["area"]}]},
            "choose from default",
        ),
        (
            {
                "tasks": [reconstruct(lossy=0.5)],
                "downscaler": {"qim": 8},
                "student": {"decoder_factor": 2},
            },
            "lossy files destroy the payload",
        ),
    ],
)
def test_tables_that_are_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe(**tables)


def test_other_tables_that_are_refused() -> None:
    for tables, message in (
        ({"trainer": {}}, "the recipe has no trainer"),
        ({"run": 3}, "run must be a table"),
        ({"task": [supervised()]}, r"needs \[downscaler\]"),
        ({"downscaler": {}, "task": {}}, r"written \[\[task\]\]"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.from_config({"name": "test", **tables})  # type: ignore[dict-item]


def test_a_table_leaves_empty_columns_out() -> None:
    from dataclasses import dataclass

    @dataclass
    class Row:
        name: str = column("name")
        share: float | None = column("%", ".1f", 100)
        empty: tuple[str, ...] = column("nothing", default=())

    want = "| name | % |\n| --- | --- |\n| a | 12.5 |\n| b |  |"
    assert markdown([Row("a", 0.125), Row("b", None)]) == want
