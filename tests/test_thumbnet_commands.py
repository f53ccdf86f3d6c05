# ruff: noqa: F811 (fixtures that are imported)
"""The commands `train` and `evaluate`, and what they measure."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from conftest import drawn_photo
from safetensors.torch import load_file
from thumbnet_helpers import (  # noqa: F401 (fixtures)
    CLASSES,
    folder,
    make_recipe,
    photos,
    reconstruct,
    run,
    supervised,
    teacher,
)

from learned_downscale import Decoder, Downscaler, resize
from learned_downscale.cli import main
from learned_downscale.core.filters import FILTERS
from learned_downscale.thumbnet.data import Photos, read_photos
from learned_downscale.thumbnet.recipe import as_toml

pytest.importorskip("transformers", reason="needs the extra [train]")
from learned_downscale.thumbnet import costs, evaluate
from learned_downscale.thumbnet.log import read_log
from learned_downscale.thumbnet.networks import FixedFilter, load_reader
from learned_downscale.thumbnet.train import train_recipe

ROOT = Path(__file__).parents[1]


def test_help_explains_each_option() -> None:
    for name in ("train", "evaluate"):
        context = click.Context(main)
        command = main.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help and not option.help.startswith("["), option.name


def test_train_and_evaluate(folder: Path, teacher: Path, tmp_path: Path) -> None:
    """From photos to weights that resize() takes, with a card that gets their figures."""
    mine = make_recipe(
        [reconstruct(epochs=1, readers=["teacher"]), supervised()], student={"decoder_factor": 2}
    )
    (tmp_path / "mine.toml").write_text(as_toml(mine.tables))
    common = ["--data", folder, "--teacher", teacher]
    recipe = ["train", *common, "--recipe", tmp_path / "mine.toml"]
    learned, bicubic, out = tmp_path / "run", tmp_path / "bicubic", tmp_path / "mine"
    result = run(*recipe, "--run", learned, "--out", out, "--license", "ours", "--note", "A note.")
    assert result.exit_code == 0 and str(out) in result.stdout, result.output
    assert "step 8 of 8: loss" in result.stderr
    assert re.search(r"Networks took \d+\.\d% of the training time", result.stderr)
    run(*recipe, "--run", bicubic, "--set", "downscaler.kind=bicubic", "--set", "run.seed=3")

    photo = drawn_photo(64, 48)
    trained = Downscaler.from_pretrained(out)
    assert np.array_equal(resize(photo, 2, weights=out), resize(photo, 2, weights=trained))
    assert Decoder.from_pretrained(out).factor == 2 and (out / "model.onnx").is_file()
    card = (out / "README.md").read_text()
    assert "Not measured" in card and "ours. A note." in card and "decoder_rate" not in card
    assert "student_rate = 0.01" in card and "--recipe mine.toml" in card

    evaluation = ["evaluate", bicubic, learned, *common, "--size", 32]
    result = run(*evaluation, "--card", out)
    assert result.exit_code == 0, result.output
    cells = [line.split(" | ") for line in result.stdout.splitlines()]
    assert [row[0].strip("| ") for row in cells[2:]] == ["original", "bicubic", "learned"]
    assert cells[0][1] == "recipe" and cells[2][1] == "" and cells[3][1] == "mine.toml"
    assert cells[3][cells[0].index("seed")] == "3" and "changes" not in cells[0]
    card = (out / "README.md").read_text()
    assert "Not measured" not in card and all(line in card for line in result.stdout.splitlines())
    run(*evaluation, "--card", out, "--jpeg", 50)
    saved = (out / "README.md").read_text()
    assert saved != card and "thumbnails saved as JPEG of quality 50" in saved
    assert "--size 32 --jpeg 50\n" in saved
    rows = json.loads(run(*evaluation, "--json").stdout)
    assert rows[2]["recipe"] == "mine.toml" and rows[2]["photos"] == 24
    assert 20 < rows[2]["psnr"] < 80 and rows[1]["psnr"] is None
    assert rows[0]["multiply_adds"] > 0 and rows[2]["downscaler_multiply_adds"] > 0

    other = tmp_path / "other"  # another S is another comparison
    run(*recipe, "--run", other, "--set", "student.input_scale=0.5", "--set", "task.0.epochs=2")
    result = run("evaluate", other, learned, *common, "--size", 32)
    assert "student.input_scale=0.5, task.0.epochs=2" in result.stdout
    result = run("evaluate", other, learned, *common, "--size", 32, "--card", out)
    assert result.exit_code == 1 and "different students" in result.stderr
    result = run("evaluate", other, *common, "--size", 32, "--card", out)
    assert result.exit_code == 1 and "not the weights" in result.stderr
    result = run("evaluate", learned, *common, "--size", 64)
    assert result.exit_code == 1 and "give --size 32" in result.stderr


def test_a_students_card_gets_the_figures_of_its_run(
    folder: Path, teacher: Path, tmp_path: Path
) -> None:
    common = ["--data", folder, "--teacher", teacher]
    changes = ["run.size=32", "downscaler.factor=2", "task.0.epochs=1", "task.1.epochs=1"]
    result = run(
        "train", *common, "--recipe", "paper", "--run", tmp_path / "run", "--out-student",
        tmp_path / "S", *(part for change in changes for part in ("--set", change)),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    evaluation = ["evaluate", *common, "--size", 32, "--card", tmp_path / "S"]
    result = run(*evaluation, tmp_path / "run")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "S" / "README.md").read_text()
    assert all(line in card for line in result.stdout.splitlines())
    result = run("evaluate", tmp_path / "S", "--data", folder)
    assert result.exit_code == 1 and "measure the run that trained both" in result.stderr


def test_out_replaces_nothing_but_weights(folder: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    for option in ("--out", "--out-student"):
        result = run(
            "train", "--recipe", "paper", "--data", folder, "--teacher", teacher,
            "--run", tmp_path / "run", option, tmp_path,
        )  # fmt: skip
        assert result.exit_code == 2 and "not replaced" in result.stderr
    assert (tmp_path / "README.md").read_text() == "mine" and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "nowhere"}, "does not exist"),
        ({"--data": "other"}, "does not know"),
        ({"--teacher": "nowhere"}, "nowhere"),
        ({"--recipe": "nowhere"}, "choose paper, thumbnail1000"),
        ({"--set": "run.size=30"}, "multiple of"),
        ({"--set": "run.size"}, "KEY=VALUE"),
        ({"--set": "downscaler.kind=bicubic"}, "trains no downscaler for --out"),
        ({"--recipe": "thumbnail1000"}, "trains no downscaler for --out"),
        ({"--out-student": "w"}, "a folder each"),
        ({"--labels": "labels.json"}, "names lion"),
    ],
)
def test_wrong_usage(
    changes: dict[str, str],
    message: str,
    folder: Path,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "other" / "unicorn").mkdir(parents=True)
    drawn_photo(32, 32).save(tmp_path / "other" / "unicorn" / "1.png")
    (tmp_path / "labels.json").write_text(json.dumps({"lion": "a lion"}))
    monkeypatch.chdir(tmp_path)
    options = {"--recipe": "paper", "--set": "run.size=32", "--data": folder, "--teacher": teacher,
               "--run": "run", "--out": "w"}  # fmt: skip
    result = run("train", *(a for pair in (options | changes).items() for a in pair))
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not Path("w").exists() and not Path("run").exists()


def test_wrong_usage_of_evaluate(folder: Path, teacher: Path, tmp_path: Path) -> None:
    bundled, common = ROOT / "weights" / "thumbnail1000", ["evaluate", "--data", folder]
    (tmp_path / "run").mkdir()
    for arguments, message in (
        ([tmp_path / "run"], "need --teacher"),
        ([tmp_path / "run", "--teacher", tmp_path / "none"], "network"),
        ([tmp_path / "run", bundled], "runs, or weights folders"),
        ([bundled, "--teacher", teacher], "without --teacher"),
        ([bundled, "--size", 100], "172 or more"),
        ([bundled, "--card", tmp_path], "the first classifier"),
        ([tmp_path, "--teacher", teacher, "--reader", "x", "--card", bundled], "leave --card or"),
    ):
        result = run(*common, *arguments)
        assert result.exit_code == 2 and message in result.stderr, result.stderr


def test_evaluate_refuses_before_anything_is_read(
    folder: Path, photos: Photos, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    T = load_reader(teacher, CLASSES)
    unfinished, finished = tmp_path / "unfinished", tmp_path / "finished"
    train_recipe(make_recipe(), photos, T, unfinished, stop_after=1)
    train_recipe(make_recipe([supervised()]), photos, T, finished)
    asked = []
    monkeypatch.setattr(evaluate, "predict", lambda *args, **rest: asked.append(args))
    with pytest.raises(FileNotFoundError, match="no finished run"):
        evaluate.measure_runs(photos, T, [finished, unfinished])
    common = ["--data", folder, "--teacher", teacher, "--size", 32]
    weights = ROOT / "weights" / "x4"
    for one, message in ((finished, "not the weights"), (unfinished, "no finished run")):
        result = run("evaluate", one, *common, "--card", weights)
        assert result.exit_code == 1 and message in result.stderr
    assert not asked


def test_evaluate_through_jpeg(
    photos: Photos, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S reads the saved thumbnails, T the photos."""
    T = load_reader(teacher, CLASSES)
    train_recipe(make_recipe([supervised()]), photos, T, tmp_path)
    qualities: list[int] = []

    def black(x: torch.Tensor, quality: int) -> torch.Tensor:
        qualities.append(quality)
        return torch.zeros_like(x)

    plain = evaluate.measure_runs(photos, T, [tmp_path])
    monkeypatch.setattr(evaluate, "stored", black)
    saved = evaluate.measure_runs(photos, T, [tmp_path], quality=80)
    assert set(qualities) == {80}
    assert saved[0] == plain[0]
    assert saved[1].top1 == pytest.approx(100 / 3)  # one answer for every photo


def test_evaluate_with_another_reader(folder: Path, teacher: Path, tmp_path: Path) -> None:
    """T reads the decoded thumbnails at the size of the photos; S's network has no part in it."""
    photos = read_photos([folder], 32)
    T = load_reader(teacher, CLASSES)
    recipe = make_recipe(
        [reconstruct(epochs=1), supervised()],
        downscaler={"factor": 4},
        student={"decoder_factor": 2},
    )
    E, S = train_recipe(recipe, photos, T, tmp_path)
    row = evaluate.measure_runs(photos, T, [tmp_path], reader=T)[1]
    x = photos.images.float() / 255
    with torch.no_grad():
        decoded = S.decoder(E(x))
        assert decoded.shape[-2:] == (16, 16)
        inputs = torch.nn.functional.interpolate(decoded, scale_factor=2, mode="bicubic")
        right = T(inputs.clamp(0, 1)).argmax(1) == photos.labels
    assert row.top1 == pytest.approx(100 * right.float().mean().item())
    common = ["evaluate", tmp_path, "--data", folder, "--teacher", teacher, "--size", 32]
    result = run(*common, "--reader", teacher, "--json")
    assert json.loads(result.stdout)[1]["top1"] == pytest.approx(row.top1)
    other = load_reader("thumbnet_helpers:small_network", CLASSES)
    original = evaluate.measure_runs(photos, T, [], reader=other)[0]
    right = other(x).argmax(1) == photos.labels
    assert original.top1 == pytest.approx(100 * right.float().mean().item())
    assert run(*common, "--reader", tmp_path / "none").exit_code == 2


def test_a_run_without_tasks_is_measured(folder: Path, teacher: Path, tmp_path: Path) -> None:
    """S is then T on enlarged bicubic thumbnails."""
    common = ["--data", folder, "--teacher", teacher]
    changes = ["run.size=32", "downscaler.factor=2", "downscaler.kind=bicubic", "task=[]",
               "student.network=teacher", "student.input_scale=2",
               "student.decoder_factor=0"]  # fmt: skip
    result = run(
        "train", *common, "--recipe", "x4", "--run", tmp_path / "run",
        *(part for change in changes for part in ("--set", change)),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(run("evaluate", tmp_path / "run", *common, "--size", 32, "--json").stdout)
    T = load_reader(teacher, CLASSES)
    photos = read_photos([folder], 32)
    x = photos.images.float() / 255
    enlarged = torch.nn.functional.interpolate(
        FILTERS["bicubic"](x, 2), scale_factor=2, mode="bicubic"
    ).clamp(0, 1)
    right = T(enlarged).argmax(1) == photos.labels
    assert rows[1]["top1"] == pytest.approx(100 * right.float().mean().item())
    assert rows[1]["system"] == "bicubic" and "task=[]" in rows[1]["changes"]


def test_costs_are_counted() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, bias=False), torch.nn.ReLU())
    x = torch.rand(1, 3, 10, 8)
    assert costs.multiply_adds(network, x) == 5 * 8 * 6 * 3 * 9
    assert costs.activation_bytes(network, x) == 4 * max(3 * 10 * 8 + 5 * 8 * 6, 2 * 5 * 8 * 6)
    assert costs.parameters(network) == 5 * 3 * 9
    photo = torch.rand(1, 3, 32, 16)
    box = costs.downscaler_multiply_adds(FixedFilter("box", 4), photo)
    assert box == 3 * 4 * (4 * 32 + 4 * 8)  # along the rows, then along the columns
    bicubic = costs.downscaler_multiply_adds(FixedFilter("bicubic", 4), photo)
    layers = 4 * 8 * (3 * 16 * 16 + 16 * 16 * 9 + 16 * 3 * 9)
    assert bicubic == 4 * box
    assert costs.downscaler_multiply_adds(Downscaler(4), photo) == bicubic + layers


@pytest.mark.slow
def test_accelerate_launch(
    folder: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes share each batch and end where one does, but for the order of sums; and
    accelerate's own mixed precision, which would round JPEG's levels, has no part in it."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    changes = ["run.size=32", "run.batch_size=6", "run.precision=float32", "downscaler.factor=2",
               "student.decoder_factor=2", "task.0.epochs=1", "task.1.epochs=1",
               "task.0.lossy=1", "task.1.lossy=1", "task.1.fm=0"]  # fmt: skip
    arguments = ["train", "--recipe", "paper", "--data", folder, "--teacher", teacher,
                 *(part for change in changes for part in ("--set", change)), "--run"]  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines",
              "1", "--num_processes", "2", "--mixed_precision", "bf16", "--dynamo_backend", "no",
              "-m", "learned_downscale.cli"]  # fmt: skip
    two, one = tmp_path / "two", tmp_path / "one"
    launched = subprocess.run(
        [*launch, *map(str, (*arguments, two))], capture_output=True, text=True, timeout=300
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count(str(two)) == 1 and "classes, in 2 processes" in launched.stderr
    run(*arguments, one)
    for name in ("downscaler.safetensors", "student.safetensors"):
        a, b = load_file(one / name), load_file(two / name)
        assert all(torch.allclose(v, b[k], atol=2e-3) for k, v in a.items())
    for mine, theirs in zip(read_log(one), read_log(two), strict=True):
        assert float(mine["loss"]) == pytest.approx(float(theirs["loss"]), rel=2e-2)
    first = [float(read_log(r)[0]["loss"]) for r in (one, two)]  # before sums drift
    assert first[0] == pytest.approx(first[1], rel=1e-5)


@pytest.mark.shared_data
def test_real_photos(val_shard: Path) -> None:
    photos = read_photos([val_shard])
    assert len(photos) == 2000 and len(photos.classes) == 20
    assert photos.labels.bincount().tolist() == [100] * 20
