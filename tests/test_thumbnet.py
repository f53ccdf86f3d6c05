"""Training: losses against their formulas, data, classes, the loop, resuming, the commands."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image
from safetensors.torch import load_file

from learned_downscale import Decoder, Downscaler, pretrained, resize
from learned_downscale.cli import main
from learned_downscale.readers.labels import match_classes
from learned_downscale.readers.efficientnet_lite import rescaled
from learned_downscale.thumbnet import baselines, card, evaluate, losses, narrow, suite
from learned_downscale.thumbnet.data import Augmented, Batch, Photos, read_photos
from learned_downscale.thumbnet.jpeg import jpeg
from learned_downscale.thumbnet.log import TIMES, network_share, read_log
from learned_downscale.thumbnet.settings import PRESETS, Settings

transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
from learned_downscale.thumbnet.networks import Classifier, load_teacher  # noqa: E402
from learned_downscale.thumbnet.train import (  # noqa: E402
    Together,
    decoder_of,
    load_run,
    make_downscaler,
    make_student,
    new_downscaler,
    predict,
    train,
)

CLASSES = ("cat", "dog", "owl")
SETTINGS = Settings(
    factor=2, size=32, epochs=8, batch_size=6, student_lr=1e-2, precision="float32", channels=8
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/CLASS/N.png: 8 drawn photos a class, each class with a tint of its own."""
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(8):
            pixels = np.asarray(drawn_photo(32, 32, seed=100 * label + i)).copy()
            pixels[..., label] = 255 - pixels[..., label] // 4
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network, saved the way a Hugging Face model is."""
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(("owl, Strix", "fish", "cat", "dog"))),
    )
    path = tmp_path_factory.mktemp("teacher")
    transformers.ResNetForImageClassification(config).save_pretrained(path)
    processor = {
        "image_processor_type": "ConvNextImageProcessor",
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
    }
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return read_photos([folder], 32)


def test_moment_matching_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    x, x_s = rng.random((2, 3, 24, 32)), rng.random((2, 3, 12, 16))
    cells = x.reshape(2, 3, 12, 2, 16, 2)
    first = ((x_s - cells.mean((3, 5))) ** 2).mean()
    second = []
    for i in range(0, 12 - 3, 2):
        for j in range(0, 16 - 3, 2):
            small = x_s[..., i : i + 4, j : j + 4]
            large = x[..., 2 * i : 2 * i + 8, 2 * j : 2 * j + 8]
            second.append((small.std((2, 3)) - large.std((2, 3))) ** 2)
    got = losses.moment_matching(torch.tensor(x_s), torch.tensor(x), 2).item()
    assert got == pytest.approx(first + np.mean(second), rel=1e-3)


def test_moment_matching_wants_the_contrast_back(photo: Image.Image) -> None:
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None, ..., :116, :160].float() / 255
    flat = torch.nn.functional.avg_pool2d(x, 4)
    crisp = flat + 0.05 * (flat - torch.nn.functional.avg_pool2d(flat, 3, 1, 1))
    assert losses.moment_matching(crisp, x, 4) < losses.moment_matching(flat, x, 4)
    assert losses.moment_matching(flat + 0.1, x, 4) > losses.moment_matching(flat, x, 4)


def test_distillation_is_its_formula() -> None:
    z_s, z_t = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    p, q = (z_t / 3).softmax(1), (z_s / 3).softmax(1)
    want = 9 * (p * (p / q).log()).sum(1).mean()
    assert losses.distillation(z_s, z_t, 3).item() == pytest.approx(want.item())
    assert losses.distillation(z_t, z_t, 3).item() == pytest.approx(0, abs=1e-12)


def test_shards_and_folders_are_the_same(folder: Path, photos: Photos, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(folder, "train")
    shard = read_photos([tmp_path / "shard.tar"], 32)
    assert shard.names == photos.names and shard.classes == CLASSES
    assert torch.equal(shard.images, photos.images)
    assert shard.fingerprint() == photos.fingerprint() != photos.sample(3).fingerprint()
    with pytest.raises(ValueError, match="name the ones to read"):
        read_photos([tmp_path])
    with pytest.raises(ValueError, match="once"):
        read_photos([folder, tmp_path / "shard.tar"], 32)


def test_a_bad_photo_is_told(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    buffer = io.BytesIO()
    drawn_photo(90, 60).save(buffer, "JPEG")
    (tmp_path / "cat" / "good.jpg").write_bytes(buffer.getvalue())
    (tmp_path / "cat" / "cut.jpg").write_bytes(buffer.getvalue()[:600])
    told: list[str] = []
    assert read_photos([tmp_path], 32, told.append).names == ("cat/good.jpg",)
    assert len(told) == 1 and "cut.jpg" in told[0]
    with pytest.raises(ValueError, match="no photos"):
        read_photos([])
    with pytest.raises(FileNotFoundError, match="neither"):
        read_photos([tmp_path / "nowhere"])


def test_batches(photos: Photos) -> None:
    batches = Augmented(photos, batch_size=6, min_crop=0.7, grid=4, seed=1)
    epoch = [batches[i] for i in range(batches.steps_per_epoch)]
    assert sorted(torch.cat([b.index for b in epoch]).tolist()) == list(range(24))
    assert {b.x.shape[-1] for b in epoch} <= {24, 28, 32}
    for batch in epoch:
        assert torch.equal(batch.labels, photos.labels[batch.index])
        side = batch.x.shape[-1]
        for image, i in zip(batch.x, batch.index, strict=True):  # a true part of the photo
            parts = photos.images[i].unfold(1, side, 1).unfold(2, side, 1)
            parts = torch.cat([parts, parts.flip(4)]).unflatten(0, (2, 3)).permute(0, 2, 3, 1, 4, 5)
            assert (parts == image).flatten(3).all(3).any()
    assert torch.equal(batches[3].x, epoch[3].x)
    assert not torch.equal(batches[batches.steps_per_epoch].index, epoch[0].index)


def test_enlarged_crops_are_pillows(photos: Photos) -> None:
    batches = Augmented(photos, 24, 0.5, 4, seed=1, enlarge=True)
    draw = batches.draw(0)
    batch = batches.take(draw)
    areas = draw.sides.prod(1) / 32**2
    assert batch.x.shape == (24, 3, 32, 32)
    assert 0.2 < areas.min() < 0.5 and 0.7 < areas.max() <= 1
    assert len(draw.sides.unique(dim=0)) > 12 and len(draw.corners.unique(dim=0)) > 12
    boxes = zip(draw.corners.tolist(), draw.sides.tolist(), strict=True)
    for image, i, flip, ((top, left), (height, width)) in zip(
        batch.x, draw.index, draw.flips, boxes, strict=True
    ):
        photo = Image.fromarray(photos.images[i].permute(1, 2, 0).numpy())
        box = (left, top, left + width, top + height)
        want = np.asarray(photo.resize((32, 32), Image.Resampling.BILINEAR, box=box), np.int16)
        got = image.permute(1, 2, 0).numpy()[:, ::-1] if flip else image.permute(1, 2, 0).numpy()
        # Pillow takes pixels beyond the box where there are none in it
        assert np.abs(got - want)[2:-2, 2:-2].max() <= 2
    assert batches.draw(0, crop=0.5).sides.tolist() == [[16, 16]] * 24  # stage 1: as they are
    assert not batches.draw(0, crop=0).enlarge and len(batches.draw(0, crop=0).sides.unique()) == 1


def test_blended_photos(photos: Photos) -> None:
    plain, blended = (Augmented(photos, 6, 0.7, 4, seed=1, mixup=m) for m in (0.0, 1.0))
    draw = blended.draw(2)
    a, b = plain[2], blended.take(draw)
    assert 0.5 <= draw.own < 1 and plain.draw(2).own == 1
    want = draw.own * a.x.float() + (1 - draw.own) * a.x.roll(1, 0).float()
    assert torch.equal(b.x, want.round().byte())
    assert torch.allclose(b.labels.sum(1), torch.ones(6))
    assert (b.labels.gather(1, a.labels[:, None]) >= draw.own - 1e-6).all()
    part = blended.take(draw, slice(1, None, 2))  # one of two processes
    assert torch.equal(part.x, b.x[1::2]) and torch.equal(part.labels, b.labels[1::2])
    some = Augmented(photos, 6, 0.7, 4, seed=1, mixup=0.5)
    assert 10 < sum(some.draw(i).own < 1 for i in range(40)) < 30


def test_classes() -> None:
    labels = ["owl, Strix", "fish", "Golden_Retriever", "crane", "crane"]
    assert match_classes(["strix", "golden retriever"], labels) == [0, 2]
    with pytest.raises(ValueError, match=r"does not know 2 of 3.*horse"):
        match_classes(["owl", "horse", "crane"], labels)  # two cranes: which is meant?
    thousand = [f"label {i}" for i in range(1000)]
    assert match_classes(["n01440764", "n02086240", "n03888257"], thousand) == [0, 155, 701]


def test_training_lowers_the_loss(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    before = {k: v.clone() for k, v in T.state_dict().items()}
    history: list[dict[str, float]] = []
    E, S = train(SETTINGS, photos, T, tmp_path / "run", lambda _, __, terms: history.append(terms))
    assert len(history) == 8 * 4
    first, last = (np.mean([t["loss"] for t in part]) for part in (history[:4], history[-4:]))
    assert last < 0.8 * first
    for terms in history:
        want = 2.0 * terms["MM"] + 0.3 * terms["CL"] + 0.7 * terms["KD"]
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    assert E.out.weight.abs().max() > 0
    assert all(torch.equal(v, before[k]) for k, v in T.state_dict().items())
    statistics = [k for k in before if "running" in k]
    assert statistics and all(torch.equal(S.state_dict()[k], before[k]) for k in statistics)


@pytest.mark.parametrize(
    ("stage1", "width"), [("none", 1.0), ("fm", 1.0), ("autoencoder", 1.0), ("autoencoder", 0.5)]
)
def test_resume_ends_in_the_same_state(
    stage1: str, width: float, photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, epochs=3, stage1=stage1, stage1_epochs=2, width=width)
    total = 12 if stage1 == "none" else 20
    whole = train(settings, photos, T, tmp_path / "whole")
    seen: list[int] = []
    for stop in (3, 8, 9, None):  # within an epoch, between the stages, within another, to the end
        parts = train(
            settings, photos, T, tmp_path / "parts", lambda done, *_: seen.append(done), stop
        )
    assert seen == list(range(1, total + 1))
    logs = [read_log(tmp_path / name) for name in ("whole", "parts")]
    for row in logs[0] + logs[1]:
        for name in TIMES:
            assert float(row.pop(name)) > 0
    assert logs[0] == logs[1]
    assert 0.1 < network_share(tmp_path / "whole") < 1
    assert (tmp_path / "parts" / "curves.png").read_bytes().startswith(b"\x89PNG")
    for a, b in zip(whole, parts, strict=True):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    with pytest.raises(ValueError, match="another seed"):
        train(replace(settings, seed=1), photos, T, tmp_path / "whole")
    with pytest.raises(ValueError, match="another photos"):
        train(settings, photos.sample(4), T, tmp_path / "whole")


def test_stage_1_rebuilds_what_t_sees(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """FM without labels: E, S and D learn; S's head does not. Then all is trained together."""
    T = load_teacher(teacher, CLASSES)
    history: list[dict[str, float]] = []
    settings = replace(SETTINGS, epochs=1, stage1="fm", stage1_epochs=6, fm=0.5)
    E, S = train(
        settings, photos, T, tmp_path, lambda _, __, terms: history.append(terms), stop_after=24
    )
    assert all(terms.keys() == {"loss", "MM", "FM"} for terms in history)
    first, last = (np.mean([t["FM"] for t in part]) for part in (history[:4], history[-4:]))
    assert last < 0.7 * first
    assert E.out.weight.abs().max() > 0
    before, after = T.state_dict(), S.state_dict()
    head = [k for k in before if "classifier" in k]
    assert head and all(torch.equal(before[k], after[k]) for k in head)
    assert any(not torch.equal(v, after[k]) for k, v in before.items())
    train(settings, photos, T, tmp_path, lambda _, __, terms: history.append(terms))
    for terms in history[24:]:
        want = 2 * terms["MM"] + 0.3 * terms["CL"] + 0.7 * terms["KD"] + 0.5 * terms["FM"]
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    assert len(history) == 28


@pytest.mark.parametrize(("side", "rescale", "read_at"), [(64, 1.5, 48), (52, 1.4, 36)])
def test_perceptual_is_its_formula(side: int, rescale: float, read_at: int, teacher: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    x48 = torch.rand(1, 3, 48, 48)
    assert [maps.shape[1:] for maps in T.maps(torch.rand(1, 3, 64, 64))] == [
        (8, 16, 16),
        (16, 8, 8),
    ]
    assert [maps.shape[1] for maps in load_teacher(teacher, CLASSES, T.layers[-1]).maps(x48)] == [
        16
    ]
    # S reads the thumbnail and the photo at the same sides, of crops (52 px), too
    settings = replace(
        SETTINGS, size=64, rescale=rescale, student_lr=0, epochs=0, stage1="perceptual"
    )
    E, S = new_downscaler(settings), make_student(settings, T, CLASSES)
    levels = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    x = levels.float() / 255
    x_s = E(x)
    seen, photo = (
        [m.detach().numpy() for m in T.maps(rescaled(image, scale))]
        for image, scale in ((x_s, rescale), (x, read_at / side))
    )
    each = [
        ((a - b) ** 2).mean((1, 2, 3)) / (b**2).mean((1, 2, 3))
        for a, b in zip(seen, photo, strict=True)
    ]
    batch = Batch(levels, torch.zeros(2), torch.arange(2))
    terms = Together(settings, E, S, None, [])(batch, None, None, stage=1, step=0)
    assert terms["FM"].item() == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.parametrize(("rebuild", "fm"), [(1, 4.0), (2, 0.0)])
def test_perceptual_trains_nothing_but_what_s_is_given(
    rebuild: int, fm: float, photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    """E, and S's first layers if it has some; without labels, and without T."""
    T = load_teacher(teacher, CLASSES)
    history: list[dict[str, float]] = []
    settings = replace(
        SETTINGS,
        epochs=0,
        stage1="perceptual",
        stage1_epochs=12,
        stage1_lr=1e-2,
        rebuild=rebuild,
        rescale=2 / rebuild,
        others="test_thumbnet:small_network,teacher",
        fm=fm,
    )
    E, S = train(settings, photos, T, tmp_path, lambda _, __, terms: history.append(terms))
    weights = {"MM": 2.0, "FM": fm or 1.0} | ({"AE": 40.0} if rebuild > 1 else {})
    for terms in history:
        want = sum(weights[name] * terms[name] for name in terms.keys() - {"loss"})
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    assert history[0].keys() == weights.keys() | {"loss"}
    alone = [terms["FM"] for terms in history[::3]]  # S; small_network and T have their turns
    assert np.mean(alone[-4:]) < 0.95 * np.mean(alone[:4])
    assert E.out.weight.abs().max() > 0
    after = S.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in T.state_dict().items())
    assert not list(tmp_path.glob("teacher_*"))
    weight = ", FM 4" if fm else ""
    name = evaluate.name(settings)
    assert name.endswith(f"perceptual{weight}, learned for small_network and T, too")
    assert "8 channels, 12 epochs of stage 1" in name


def test_autoencoder_stays_as_it_is_in_stage_2(
    photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, epochs=1, stage1="autoencoder", stage1_epochs=5, freeze="stage2")
    E, _ = train(settings, photos, T, tmp_path, stop_after=20)
    frozen = {k: v.clone() for k, v in E.state_dict().items()}
    E, _ = train(settings, photos, T, tmp_path)
    assert all(torch.equal(v, frozen[k]) for k, v in E.state_dict().items())
    assert frozen["out.weight"].abs().max() > 0
    errors = [float(row["AE"]) for row in read_log(tmp_path)[:20]]
    assert np.mean(errors[-4:]) < np.mean(errors[:4])


@pytest.mark.parametrize("downscaler", ["learned", "bicubic"])
def test_s_rebuilds_the_photo_first(
    downscaler: str, photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    """Stage 1 trains E and S's first layers, nothing else; stage 2 all of S."""
    T = load_teacher(teacher, CLASSES)
    settings = replace(
        SETTINGS, downscaler=downscaler, epochs=1, stage1="autoencoder", stage1_epochs=5, rebuild=2
    )
    _, S = train(settings, photos, T, tmp_path, stop_after=20)
    before = {k: v.clone() for k, v in S.state_dict().items()}
    assert all(torch.equal(v, before[k]) for k, v in T.state_dict().items())
    errors = [float(row["AE"]) for row in read_log(tmp_path)[:20]]
    assert np.mean(errors[-4:]) < np.mean(errors[:4])
    thumbnail = torch.rand(1, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    assert S.front(thumbnail).shape == (1, 3, 12, 8)
    train(settings, photos, T, tmp_path)
    _, _, S = load_run(tmp_path, T, CLASSES)
    assert all(not torch.equal(v, before[k]) for k, v in S.state_dict().items() if "front" in k)
    assert evaluate.student(replace(settings, student_lr=5e-5)) == "T, rebuilds 2x"


def test_fm_joins_after_an_autoencoder(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """Stage 1 needs S's decoder, stage 2 the D of feature maps: two networks."""
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, epochs=3, stage1="autoencoder", stage1_epochs=1, rebuild=2, fm=0.5)
    train(settings, photos, T, tmp_path)
    rows = read_log(tmp_path)
    assert [bool(row["AE"]) for row in rows] == [True] * 4 + [False] * 12
    maps = [float(row["FM"]) for row in rows[4:]]
    assert np.mean(maps[-4:]) < 0.9 * np.mean(maps[:4])


def test_e_learns_for_a_network_as_it_is(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """With S's rate 0, E alone is trained, through S; a filter would leave nothing to train."""
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, epochs=2, student_lr=0, downscaler_lr=1e-2, rescale=2.0)
    E, S = train(settings, photos, T, tmp_path)
    assert all(torch.equal(v, S.state_dict()[k]) for k, v in T.state_dict().items())
    assert E.out.weight.abs().max() > 0
    assert evaluate.student(settings) == "T, at 32 px, not retrained"


def test_a_network_as_it_is_reads_a_filters_thumbnails(
    folder: Path, teacher: Path, tmp_path: Path
) -> None:
    """Nothing is trained, and S is T on enlarged bicubic thumbnails."""
    common = ["--data", folder, "--teacher", teacher, "--size", 32]
    recipe = ["--preset", "supervised", "--factor", 2, "--rescale", 2, "--epochs", 0]
    result = run("train", *common, *recipe, "--downscaler", "bicubic", "--run", tmp_path / "run")
    assert result.exit_code == 0, result.output
    rows = json.loads(
        run("evaluate", tmp_path / "run", *common, "--suite", "paper", "--json").stdout
    )
    found = {
        (row["system"], row["student"]): row["top1"] for row in rows if row["top1"] is not None
    }
    assert found["bicubic", "T, at 32 px, not retrained"] == found["upsampled", "T"]


def test_e_learns_for_several_networks(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """They take turns: E's first step is the one for S alone, its second is not."""
    T = load_teacher(teacher, CLASSES)
    alone = replace(SETTINGS, epochs=1, student_lr=0, downscaler_lr=1e-2)
    several = replace(alone, others="test_thumbnet:small_network,teacher")
    logs = []
    for n, settings in enumerate((alone, several)):
        _, S = train(settings, photos, T, tmp_path / str(n))
        logs.append([float(row["CL"]) for row in read_log(tmp_path / str(n))])
        assert all(torch.equal(v, S.state_dict()[k]) for k, v in T.state_dict().items())
    assert logs[0][0] == logs[1][0] and logs[0][1] != logs[1][1]
    assert evaluate.name(several) == "thumbnet, 8 channels, learned for small_network and T, too"


def test_s_may_stay_as_t_is(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """Thumbnails rebuilt for a network that was never trained on any."""
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, epochs=0, stage1="autoencoder", stage1_epochs=2, rebuild=2)
    E, S = train(settings, photos, T, tmp_path)
    assert not list(tmp_path.glob("teacher_*"))  # T was not asked
    assert all(torch.equal(v, S.state_dict()[k]) for k, v in T.state_dict().items())
    assert E.out.weight.abs().max() > 0
    D = decoder_of(tmp_path)
    assert D is not None
    assert all(torch.equal(v, S.front.state_dict()[k]) for k, v in D.state_dict().items())
    assert (evaluate.name(settings), evaluate.student(settings)) == (
        "thumbnet, no code, 8 channels, 2 epochs of stage 1",
        "T, rebuilds 2x, not retrained",
    )
    settings = replace(settings, mm=0, decoder_width=48, stage1_epochs=4, epochs=1)
    assert (evaluate.name(settings), evaluate.student(settings)) == (
        "thumbnet, no code, 8 channels, no MM",
        "T, rebuilds 2x by 48 channels, learning rate 0.01",
    )
    settings = replace(settings, stage1="perceptual", mm=10, fm=4, epochs=2)
    assert (evaluate.name(settings), evaluate.student(settings)) == (
        "thumbnet, no code, MM 10, AE 40, 8 channels, perceptual, FM 4, FM 4",
        "T, rebuilds 2x by 48 channels, learning rate 0.01, 2 epochs",
    )


def test_e_from_other_weights_stays_frozen(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """E frozen, another S: what carrying over is measured with."""
    T = load_teacher(teacher, CLASSES)
    start = tmp_path / "weights"
    first = Downscaler(2, 8)
    with torch.no_grad():
        first.out.weight.fill_(0.1)
    pretrained.save(start, first, "")
    settings = replace(SETTINGS, epochs=1, start=str(start), freeze="always")
    E, _ = train(settings, photos, T, tmp_path / "run")
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in E.state_dict().items())
    with pytest.raises(ValueError, match="has factor 2"):
        train(replace(settings, factor=4), photos, T, tmp_path / "other")
    with pytest.raises(ValueError, match="has channels 8, the settings 16"):
        train(replace(settings, channels=16), photos, T, tmp_path / "other")
    shutil.rmtree(start)  # the run has its E
    pretrained.save(start, Downscaler(2, 8), "")
    with pytest.raises(ValueError, match="run with another start;"):
        train(settings, photos, T, tmp_path / "run")
    shutil.rmtree(start)
    _, again, _ = load_run(tmp_path / "run", T, CLASSES)
    assert torch.equal(again.state_dict()["out.weight"], first.out.weight)


def test_s_begins_with_the_decoder_beside_e(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    start, D = tmp_path / "weights", Decoder(2, 8)
    pretrained.save(start, Downscaler(2, 8), "", decoder=D)
    settings = replace(
        SETTINGS, epochs=0, rebuild=2, decoder_width=8, start=str(start), freeze="always"
    )
    _, S = train(settings, photos, T, tmp_path / "run")
    assert all(torch.equal(v, D.state_dict()[k]) for k, v in S.front.state_dict().items())
    # another kind of decoder: from scratch
    settings = replace(settings, decoder_width=16)
    with pytest.raises(ValueError, match=r"no decoder that fits.* or train another in stage 1"):
        train(settings, photos, T, tmp_path / "untrained")
    _, S = train(replace(settings, stage1="autoencoder"), photos, T, tmp_path / "wider")
    assert S.front.config["width"] == 16


def test_s_begins_with_the_decoder_of_a_run(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """So that stage 1 of a filter, too, need be trained once only."""
    T = load_teacher(teacher, CLASSES)
    stage1 = replace(SETTINGS, epochs=0, rebuild=2, decoder_width=8, stage1="autoencoder")
    for downscaler in ("bicubic", "learned"):
        first = tmp_path / downscaler
        before, _ = train(replace(stage1, downscaler=downscaler), photos, T, first)
        settings = replace(
            stage1, stage1="none", downscaler=downscaler, start=str(first), freeze="always"
        )
        E, S = train(settings, photos, T, tmp_path / f"{downscaler}-2")
        known = decoder_of(first)
        assert known is not None
        assert all(torch.equal(v, known.state_dict()[k]) for k, v in S.front.state_dict().items())
        assert all(torch.equal(v, E.state_dict()[k]) for k, v in before.state_dict().items())
    names = evaluate.name(replace(settings, downscaler="bicubic")), evaluate.name(settings)
    assert names == (
        "bicubic, decoder of another run",
        "thumbnet, no code, 8 channels, E of another run",
    )
    for changes, message in (
        ({"downscaler": "box"}, "downscaler learned, the settings box"),
        ({"downscaler": "box", "start": "x2"}, "x2 is no run"),
        (
            {"downscaler": "bicubic", "start": str(tmp_path / "bicubic"), "decoder_width": 16},
            "fits",
        ),
        ({"factor": 4}, "has factor 2"),
        ({"downscaler": "bicubic", "start": str(tmp_path / "bicubic"), "factor": 4}, "factor 2"),
    ):
        with pytest.raises(ValueError, match=message):
            train(replace(settings, **changes), photos, T, tmp_path / "other")


@pytest.mark.parametrize("places", [1, 9])
def test_the_surgeon_leaves_the_least_squares_weights(places: int) -> None:
    """Those of the channels that stay; and the ones that nothing reads go first."""
    torch.manual_seed(0)
    x = torch.randn(4000, 20 * places) @ torch.randn(20 * places, 20 * places)
    weight = torch.randn(6, 20, places)
    unread = torch.tensor([1, 4, 7, 12, 19])
    weight[:, unread] = 0
    weight = weight.flatten(1)
    H = x.T @ x / len(x)
    stay, _ = narrow.surgeon(weight, H, places, 15)
    assert not set(stay.tolist()) & set(unread.tolist())
    stay, kept = narrow.surgeon(weight, H, places, 8)
    assert len(stay) == 8 and stay.tolist() == sorted(stay.tolist())
    columns = (places * stay[:, None] + torch.arange(places)).flatten()
    want = torch.linalg.lstsq(x[:, columns].double(), (x @ weight.T).double()).solution.T
    assert torch.allclose(kept.double(), want, atol=1e-2 * want.abs().max().item())


def test_a_narrow_s_makes_up_for_what_is_taken_out(photos: Photos, teacher: Path) -> None:
    """Nothing is lost where half of the channels say what the others do; and where the photos are
    seen darker, S gives nearly what it gave for the photos."""
    T = load_teacher(teacher, CLASSES)
    before, after = T.model.resnet.encoder.stages[1].layers[0].layer
    with torch.no_grad():
        before.convolution.weight[8:] = 0.5 * before.convolution.weight[:8]
    x = photos.images.float() / 255
    maps, S = T.read(x)[1], T.student()
    narrow.fit(S, 0.5, x, x)
    before, after = S.model.resnet.encoder.stages[1].layers[0].layer
    assert before.convolution.weight.shape[0] == after.convolution.weight.shape[1] == 8
    assert suite.multiply_adds(S, x[:1]) < suite.multiply_adds(T, x[:1])
    scale = maps.var().item()
    assert ((S.read(x)[1] - maps) ** 2).mean() < 1e-3 * scale

    dark = 0.7 * x
    torch.manual_seed(1)
    for parameter in T.model.resnet.encoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    maps, cut, S = T.read(x)[1], T.student(crop_odd=True), T.student(crop_odd=True)
    narrow.cut(cut, 0.5)
    narrow.fit(S, 0.5, dark, x)
    lost, fitted = (((s.read(dark)[1] - maps) ** 2).mean() for s in (cut, S))
    assert fitted < 0.3 * lost


def test_width(photos: Photos, folder: Path, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    settings = replace(
        SETTINGS, epochs=0, stage1="autoencoder", stage1_epochs=1, rebuild=2, width=0.5
    )
    _, S = train(settings, photos, T, tmp_path)
    assert evaluate.student(settings) == "T, width 0.5, rebuilds 2x, not retrained"
    training = card.describe(
        settings, data=[], photos=24, classes=3, teacher="", license="", note=""
    )
    assert "0.5 were left before it was trained" in card.render("mine", 1, training, None)
    again = load_run(tmp_path, T, CLASSES)[2]
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(S(x), again(x))
    _, twice = train(settings, photos, T, tmp_path)  # a finished run gives what it gave
    assert torch.equal(S(x), twice(x))
    with pytest.raises(ValueError, match="ResNet of transformers"):
        train(replace(settings, student="test_thumbnet:small_network"), photos, T, tmp_path / "o")
    layer = "resnet.encoder.stages.1.layers.0.layer.0"  # FM on what is cut
    looks = load_teacher(teacher, CLASSES, layer)
    inside = replace(settings, epochs=1, fm=1.0, layer=layer)
    _, inner = train(inside, photos, looks, tmp_path / "inside")
    assert [network.read(x)[1].shape[1] for network in (inner, looks)] == [8, 16]
    # fitted to what S will see: through JPEG, where it is trained so
    settings = replace(settings, stage1="none", start=str(tmp_path), freeze="always", mm=0)
    files, pixels = (
        train(replace(settings, jpeg=part), photos, T, tmp_path / str(part))[1] for part in (1, 0)
    )
    assert torch.equal(S(x), pixels(x)) and not torch.equal(S(x), files(x))


def test_e_writes_a_code_that_s_reads(tmp_path: Path) -> None:
    """With a modulus, S's decoder rebuilds stripes that bicubic thumbnails have lost."""
    photos = fine_textures(16, 0)
    settings = Settings(
        factor=2, modulus=8, rebuild=2, rescale=0.5, size=64, stage1="autoencoder",
        stage1_epochs=40, stage1_crop=0.5, decoder_lr=1e-2, epochs=0, batch_size=16,
        precision="float32",
    )  # fmt: skip
    T = Classifier(small_network(), [0.5] * 3, [1.0] * 3, range(4))
    last = {}
    for downscaler in ("learned", "bicubic"):
        run = tmp_path / downscaler
        train(replace(settings, downscaler=downscaler), photos, T, run)
        last[downscaler] = sum(float(row["AE"]) for row in read_log(run)[-8:])
    assert last["learned"] < 0.7 * last["bicubic"]
    assert evaluate.student(settings) == "T, rebuilds 2x, at 32 px, not retrained"
    settings = replace(settings, stage1_epochs=4)
    names = {m: evaluate.name(replace(settings, modulus=m)) for m in (8, 16, 1)}
    assert names == {8: "thumbnet", 16: "thumbnet, modulus 16", 1: "thumbnet, no code"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rebuild": 8}, "nothing to rebuild"),
        ({"modulus": 8}, "no decoder that reads the code"),
        ({"modulus": 6, "rebuild": 2}, "must be one of 1, 2, 4"),
        ({"stage1_crop": 1.5}, "stage1_crop"),
        ({"downscaler": "box", "stage1": "autoencoder"}, "nothing to train"),
        ({"downscaler": "box", "stage1": "perceptual"}, "nothing to train"),
        ({"start": "x2", "freeze": "always", "stage1": "perceptual"}, "a frozen E has nothing"),
        ({"stage1": "autoencoder", "fm": 1.0}, "begins with rebuild"),
        ({"downscaler": "box", "start": "x4"}, "box has neither"),
        ({"width": 0.5, "stage1": "fm"}, "channels that width takes out"),
        ({"width": 1.5}, "above 0, up to 1"),
        ({"freeze": "always"}, "stay untrained"),
        ({"freeze": "stage2"}, "stay untrained"),
        ({"others": "teacher", "fm": 1.0}, "FM is for one S"),
        ({"others": "teacher", "stage1": "autoencoder", "epochs": 0}, "have no turn"),
        ({"others": "teacher", "downscaler": "bicubic"}, "train nothing in stage 2"),
        ({"fm": 1.0, "epochs": 0, "freeze": "always", "start": "x2"}, "neither has FM"),
        ({"student_lr": 0.0, "downscaler": "box"}, "stage 2 would train nothing"),
        ({"epochs": 0}, "E would not be trained"),
        ({"mixup": 0.5}, "must see the blended photos"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)


def test_accumulated_batches_are_the_same(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, epochs=1, student_lr=1e-3)
    (_, whole), (_, parts) = (
        train(replace(settings, accumulate=n), photos, T, tmp_path / str(n)) for n in (1, 3)
    )
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, parts.state_dict()[name], atol=2e-4), name
    with pytest.raises(ValueError, match="7 parts"):
        train(replace(settings, accumulate=7), photos, T, tmp_path / "7")


def test_accelerate_launch(
    folder: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes share each batch and end where one does, but for the order of sums; and
    accelerate's own mixed precision, which would round JPEG's levels, has no part in it."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    arguments = ["train", "--data", folder, "--teacher", teacher, "--size", 32, "--factor", 2,
                 "--rebuild", 2, "--epochs", 1, "--batch-size", 6, "--precision", "float32",
                 "--stage1", "fm", "--stage1-epochs", 1, "--modulus", 1, "--jpeg", 1,
                 "--run"]  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines",
              "1", "--num_processes", "2", "--mixed_precision", "bf16", "--dynamo_backend", "no",
              "-m", "learned_downscale.cli"]  # fmt: skip
    two, one = tmp_path / "two", tmp_path / "one"
    said = subprocess.run(
        [*launch, *map(str, (*arguments, two))], capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count(str(two)) == 1 and "classes, in 2 processes" in said.stderr
    run(*arguments, one)
    for name in ("downscaler.safetensors", "student.safetensors"):
        a, b = load_file(one / name), load_file(two / name)
        assert all(torch.allclose(v, b[k], atol=2e-3) for k, v in a.items())
    for mine, theirs in zip(read_log(one), read_log(two), strict=True):
        assert float(mine["loss"]) == pytest.approx(float(theirs["loss"]), rel=2e-2)
    first = [float(read_log(r)[0]["loss"]) for r in (one, two)]  # before sums drift
    assert first[0] == pytest.approx(first[1], rel=1e-5)


def test_processes_that_share_nothing_are_refused(
    photos: Photos, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two of `accelerate launch --multi_gpu` on a CPU: each would train for itself."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, but do not share"):
        train(SETTINGS, photos, load_teacher(teacher, CLASSES), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_stage_cannot_take_is_said_before_the_training(
    photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    T = load_teacher("test_thumbnet:one_size", CLASSES)
    settings = replace(
        SETTINGS, epochs=1, student=str(teacher), stage1="autoencoder", rebuild=2, min_crop=0.5,
        kd_on="crop",
    )  # fmt: skip
    with pytest.raises(ValueError, match="stage 2 fails on its smallest crops, 16 px"):
        train(settings, photos, T, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(replace(settings, min_crop=1.0), photos, T, tmp_path / "whole")
    still = replace(settings, student="test_thumbnet:one_size", kd_on="photo")
    with pytest.raises(ValueError, match="stage 2 fails on its smallest crops"):
        train(still, photos, T, tmp_path / "student")


def test_settings_that_s_cannot_follow(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    settings = replace(SETTINGS, student="test_thumbnet:small_network", batch_norm="batches")
    with pytest.raises(ValueError, match="small_network has no batch norm"):
        train(settings, photos, T, tmp_path / "run")
    plain = Classifier(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), [0.5] * 3, [1.0] * 3, [0])
    with pytest.raises(ValueError, match="no strided convolution"):
        plain.student(first_stride=1)


def test_start_prefers_the_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a run of the same name; as `resize` and `Downscaler.from_pretrained` do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x4").mkdir()
    (tmp_path / "x4" / "settings.json").write_text("{}")
    E, _ = make_downscaler(Settings(start="x4", freeze="always"))
    want = Downscaler.from_pretrained("x4").state_dict()
    assert all(torch.equal(v, want[k]) for k, v in E.state_dict().items())


def test_students(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """Without its first stride S has larger maps; it may rescale; it may be another network."""
    T = load_teacher(teacher, CLASSES)
    x = torch.rand(1, 3, 32, 32)
    logits, maps = T.read(x)
    assert torch.equal(logits, T(x)) and maps.shape[0] == 1 and maps.ndim == 4
    wide = T.student(first_stride=1).read(x)[1]
    assert wide.shape[-1] == 2 * maps.shape[-1] and T.read(x)[1].shape == maps.shape
    larger = torch.nn.functional.interpolate(x, (40, 40), mode="bicubic").clamp(0, 1)
    assert torch.allclose(T.student(rescale=1.25)(x), T(larger), atol=1e-5)
    odd = torch.rand(1, 3, 28, 28)  # maps of 14, 7 and, rounded up, 4 px
    up, down = (T.student(crop_odd=c).read(odd)[1].shape[-1] for c in (False, True))
    assert (up, down) == (4, 3)
    assert torch.allclose(T.student(crop_odd=True)(x), T(x), atol=1e-6)  # no map is odd
    settings = replace(SETTINGS, epochs=1, student="test_thumbnet:small_network", fm=1.0)
    _, S = train(settings, photos, T, tmp_path)
    assert S.read(x)[1].shape[1] == 5
    _, _, again = load_run(tmp_path, T, CLASSES)
    assert torch.equal(S(x), again(x))
    with pytest.raises(OSError, match="no network"):
        load_teacher("test_thumbnet:nothing", CLASSES)
    with pytest.raises(ValueError, match="no layer"):
        load_teacher(teacher, CLASSES, "nothing")


def test_batch_norm_of_batches(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    means = {k: v for k, v in T.state_dict().items() if k.endswith("running_mean")}
    kept, own = (replace(SETTINGS, epochs=1, batch_norm=b) for b in ("teacher", "batches"))
    _, S = train(kept, photos, T, tmp_path / "kept")
    assert all(torch.equal(S.state_dict()[k], v) for k, v in means.items())
    _, S = train(own, photos, T, tmp_path / "own")
    assert not any(torch.equal(S.state_dict()[k], v) for k, v in means.items())
    assert not any(module.training for module in S.modules())
    _, _, again = load_run(tmp_path / "own", T, CLASSES)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(S(x), again(x))
    with pytest.raises(ValueError, match="needs whole batches"):
        train(replace(own, accumulate=2), photos, T, tmp_path / "parts")


def small_network() -> torch.nn.Module:
    """As a user's own: logits of normalised photos, and names for them."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 4),
    )
    network.labels, network.mean = ["owl", "cat", "dog", "fish"], [0.5, 0.5, 0.5]
    return network


def one_size() -> torch.nn.Module:
    network = small_network()
    network[2] = torch.nn.AvgPool2d(15)
    return network


def fine_textures(per_class: int, seed: int) -> Photos:
    """Photos of 64 px with stripes of 2.6 to 3.4 px somewhere on a smooth ground. Their direction
    is the class: a filter that averages 4 x 4 pixels leaves nothing of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    images = []
    for label in range(4):
        for _ in range(per_class):
            ground = Image.fromarray(rng.integers(60, 190, (3, 3, 3), dtype=np.uint8))
            angle = np.pi * label / 4 + rng.uniform(-0.15, 0.15)
            along = x * np.cos(angle) + y * np.sin(angle)
            wave = np.sin(2 * np.pi * along / rng.uniform(2.6, 3.4) + rng.uniform(0, 7))
            left, top = rng.uniform(16, 48, 2)
            spot = 1 / (1 + np.exp(np.hypot(x - left, y - top) - rng.uniform(14, 24)))
            pixels = np.asarray(ground.resize((64, 64), 3), dtype=float)
            pixels = pixels + rng.uniform(25, 45) * (wave * spot)[..., None]
            images.append((pixels + rng.normal(0, 6, (64, 64, 1))).clip(0, 255).astype(np.uint8))
    return Photos(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        torch.arange(4).repeat_interleave(per_class),
        ("a", "b", "c", "d"),
        tuple(f"{i:04}" for i in range(len(images))),
    )


def test_e_keeps_what_a_filter_loses(tmp_path: Path) -> None:
    """The whole of it, small: T learns to tell photos apart by detail finer than a thumbnail's
    pixels. S on bicubic thumbnails cannot; S with E can."""
    photos, val = fine_textures(150, seed=0), fine_textures(50, seed=1)
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1], layer_type="basic", num_labels=4)  # fmt: skip
    network = transformers.ResNetForImageClassification(config)
    T = Classifier(network, [0.5] * 3, [0.25] * 3, range(4)).train()
    optimiser = torch.optim.AdamW(T.parameters(), 3e-3)
    for _ in range(6):
        for index in torch.randperm(len(photos)).split(32):
            logits = T(photos.images[index].float() / 255)
            optimiser.zero_grad()
            losses.classification(logits, photos.labels[index]).backward()
            optimiser.step()
    T = T.eval().requires_grad_(False)

    def top1(network: Classifier, downscaler: torch.nn.Module) -> float:
        logits = predict(network.eval(), val.images, downscaler)
        return (logits.argmax(1) == val.labels).float().mean().item()

    reached = {"original": top1(T, torch.nn.Identity())}
    for name in ("bicubic", "learned"):
        settings = replace(PRESETS["minutes"], downscaler=name)
        E, S = train(settings, photos, T, tmp_path / name)
        reached[name] = top1(S, E)
    assert reached["original"] > 0.95
    assert reached["bicubic"] < 0.45  # chance is 0.25
    assert reached["learned"] > reached["bicubic"] + 0.2


@pytest.mark.parametrize("factor", [2, 4])
def test_baselines_are_their_libraries(factor: int) -> None:
    """To within one level: torch rounds halves up, OpenCV to even, Pillow in fixed point."""
    photo = drawn_photo(160, 120)
    size = 160 // factor, 120 // factor
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    cv2_area = cv2.resize(np.array(photo), size, interpolation=cv2.INTER_AREA)
    wanted = {
        "bicubic": photo.resize(size, Image.Resampling.BICUBIC),
        "box": photo.resize(size, Image.Resampling.BOX),
        "lanczos": photo.resize(size, Image.Resampling.LANCZOS),
        "area": cv2_area,
    }
    assert baselines.names() == sorted(wanted)
    made = {}
    for name, want in wanted.items():
        made[name] = baselines.make(name, factor)(x)[0].permute(1, 2, 0).numpy() * 255
        difference = np.abs(made[name] - np.asarray(want, dtype=float))
        assert difference.max() < 1.01 and difference.mean() < 0.05, name
    assert np.abs(made["lanczos"] - made["bicubic"]).mean() > 0.5
    with pytest.raises(ValueError, match="area, bicubic, box, lanczos"):
        replace(SETTINGS, downscaler="nearest")


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_is_pillows(quality: int) -> None:
    photo = drawn_photo(61, 42).resize((61, 42))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality, subsampling=0)
    want = np.asarray(Image.open(file), dtype=float)
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    x.requires_grad_()
    y = jpeg(x, quality)
    got = y.detach()[0].permute(1, 2, 0).numpy() * 255
    lost, mine = (np.abs(z - np.asarray(photo, dtype=float)).mean() for z in (want, got))
    assert mine == pytest.approx(lost, rel=0.02)
    # libjpeg's integer transform rounds some coefficients the other way
    assert np.abs(got - want).mean() < 0.3 * lost
    y.sum().backward()
    assert x.grad is not None and x.grad.mean() == pytest.approx(1, abs=0.1)


def test_jpeg_in_training(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    batches = Augmented(photos, 6, 0.7, 4, 0, jpeg=0.5)
    qualities = [batches[i].quality for i in range(40)]
    assert 10 < qualities.count(None) < 30
    assert all(70 <= q <= 95 for q in qualities if q is not None)
    settings = replace(SETTINGS, epochs=2)
    runs = [train(replace(settings, jpeg=j), photos, T, tmp_path / str(j)) for j in (0, 1)]
    (plain, _), (saved, _) = runs
    assert not torch.equal(plain.out.weight, saved.out.weight)


def test_jpeg_is_exact_in_bfloat16(teacher: Path) -> None:
    """A decoder, and JPEG's rounding, need levels that bfloat16 cannot tell apart."""
    T = load_teacher(teacher, CLASSES)
    seen = []
    batch = Batch(torch.randint(256, (2, 3, 32, 32)), torch.zeros(2).long(), torch.arange(2), 80)
    for precision in ("float32", "bfloat16"):
        settings = replace(SETTINGS, rebuild=2, jpeg=1.0, precision=precision)
        E, S = new_downscaler(settings), make_student(settings, T, CLASSES)
        S.front.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        terms = Together(settings, E, S, None, [])(batch, torch.zeros(2, 3), None, 2, 0)
        assert math.isfinite(terms["CL"].item())
    assert torch.equal(*seen)


def test_networks_without_feature_maps(photos: Photos, folder: Path, tmp_path: Path) -> None:
    """One that takes photos of one size alone, as vision transformers do, may be T."""
    T = load_teacher("test_thumbnet:one_size", CLASSES)
    settings = replace(SETTINGS, epochs=1, student="test_thumbnet:small_network")
    train(settings, photos, T, tmp_path / "run")
    common = ["--data", folder, "--teacher", "test_thumbnet:one_size", "--size", 32]
    assert run("evaluate", tmp_path / "run", *common).exit_code == 0
    with pytest.raises(ValueError, match=r"takes no photo of 128 px .*; name its layer"):
        train(replace(settings, fm=1), photos, T, tmp_path / "fm")


def test_a_run_knows_its_teacher_and_classes(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    train(SETTINGS, photos, load_teacher(teacher, CLASSES), tmp_path, stop_after=1)
    others = load_teacher(teacher, ("cat", "dog", "fish"))
    with pytest.raises(ValueError, match="another teacher"):
        train(SETTINGS, photos, others, tmp_path)
    for unfinished in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="no finished run"):
            load_run(unfinished, others, CLASSES)
    train(SETTINGS, photos, load_teacher(teacher, CLASSES), tmp_path)
    with pytest.raises(ValueError, match="other classes"):
        load_run(tmp_path, others, CLASSES)


def test_evaluate_refuses_before_anything_is_read(
    folder: Path, photos: Photos, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    T = load_teacher(teacher, CLASSES)
    unfinished, finished = tmp_path / "unfinished", tmp_path / "finished"
    train(SETTINGS, photos, T, unfinished, stop_after=1)
    train(SETTINGS, photos, T, finished)
    asked = []
    for module in (evaluate, suite):
        monkeypatch.setattr(module, "predict", lambda *args, **rest: asked.append(args))
    with pytest.raises(FileNotFoundError, match="no finished run"):
        evaluate.evaluate(photos, T, [finished, unfinished])
    with pytest.raises(FileNotFoundError, match="no finished run"):
        suite.suite(photos, T, [finished, unfinished], "")
    with pytest.raises(ValueError, match="leave one out"):
        suite.suite(photos, T, [finished, finished], "")
    common = ["--data", folder, "--teacher", teacher, "--size", 32]
    weights = Path(__file__).parents[1] / "weights" / "x4"
    for one, says in ((finished, "not the weights"), (unfinished, "no finished run")):
        result = run("evaluate", one, *common, "--card", weights)
        assert result.exit_code == 1 and says in result.stderr
    assert not asked


def test_a_damaged_checkpoint_is_told(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_teacher(teacher, CLASSES)
    train(SETTINGS, photos, T, tmp_path, stop_after=1)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        train(SETTINGS, photos, T, tmp_path)


def test_divergence_is_told(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    wild = replace(SETTINGS, student_lr=1e12)
    with pytest.raises(ValueError, match="lower student_lr"):
        train(wild, photos, load_teacher(teacher, CLASSES), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 1},
        {"rescale": 0.0},
        {"size": 33},
        {"epochs": -1},
        {"seed": -1},
        {"student_lr": -1.0},
        {"warmup": 1.0},
        {"min_crop": 0.0},
        {"min_crop": 1.5},
        {"mixup": 1.5},
        {"first_stride": -1},
        {"rebuild": 2, "modulus": 8, "jpeg": 0.5},
        {"batch_norm": "batches", "student_lr": 0.0},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        Settings(**wrong)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.parametrize("name", ["train", "train-classifier"])
def test_help_says_what_each_option_is(name: str) -> None:
    options = {option.name: option for option in main.commands[name].params}
    for option in options.values():
        assert isinstance(option, click.Option)
        assert option.help and not option.help.startswith("["), option.name
    if name == "train":  # what a run without options has, not what `Settings()` has
        assert "[default: 2]" in (options["epochs"].help or "")
        assert PRESETS["default"].epochs == 2 != Settings().epochs


def test_train_and_evaluate_commands(folder: Path, teacher: Path, tmp_path: Path) -> None:
    """From photos to weights that resize() takes, with a card that says what they are."""
    common = ["--data", folder, "--teacher", teacher]
    recipe = ["--size", 32, "--factor", 2, "--rebuild", 2, "--epochs", 2, "--batch-size", 8]
    learned, baseline, out = tmp_path / "run", tmp_path / "baseline", tmp_path / "mine"
    result = run("train", *common, *recipe, "--run", learned, "--out", out, "--license", "ours")
    assert result.exit_code == 0 and str(out) in result.stdout, result.output
    assert "step 18 of 18: loss" in result.stderr
    assert re.search(r"Networks took \d+\.\d% of the training time", result.stderr)
    run("train", *common, *recipe, "--run", baseline, "--downscaler", "bicubic")

    photo = drawn_photo(64, 48)
    trained = Downscaler.from_pretrained(out)
    assert np.array_equal(resize(photo, 2, weights=out), resize(photo, 2, weights=trained))
    card = (out / "README.md").read_text()
    assert "Not measured" in card and "ours" in card and "| student_lr | 5e-05 |" in card
    assert Decoder.from_pretrained(out).factor == 2

    other = tmp_path / "other"
    run("train", *common, *recipe, "--run", other, "--downscaler", "bicubic", "--rescale", 1)
    result = run("evaluate", other, learned, *common, "--size", 32)
    said = [row.partition("; S: ")[2].split(" |")[0] for row in result.stdout.splitlines()[3:]]
    assert said == ["T, rebuilds 2x, 2 epochs", "T, rebuilds 2x, at 16 px, 2 epochs"]
    quarter = tmp_path / "quarter"  # another factor is another table
    run("train", *common, "--size", 32, "--rebuild", 2, "--epochs", 0, "--run", quarter,
        "--downscaler", "bicubic")  # fmt: skip
    assert "; S: " not in run("evaluate", quarter, learned, *common, "--size", 32).stdout
    result = run("evaluate", other, learned, *common, "--size", 32, "--card", out)
    assert result.exit_code == 1 and "another S each" in result.stderr
    result = run("evaluate", baseline, learned, *common, "--size", 32, "--card", out)
    assert result.exit_code == 0, result.output
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines()[2:]]
    assert rows == ["original", "bicubic-retrained, perceptual", "thumbnet, perceptual"]
    card = (out / "README.md").read_text()
    assert "Not measured" not in card and all(line in card for line in result.stdout.splitlines())
    run("evaluate", baseline, learned, *common, "--size", 32, "--card", out, "--jpeg", 50)
    said = (out / "README.md").read_text()
    assert said != card and "24 photos of 3 classes, thumbnails saved as JPEG of quality 50" in said
    assert "--size 32 --jpeg 50\n" in said
    as_json = json.loads(run("evaluate", learned, *common, "--size", 32, "--json").stdout)
    assert as_json[1]["system"] == rows[2] and as_json[1]["photos"] == 24
    assert 20 < as_json[1]["psnr"] < 80 and as_json[0]["psnr"] is None


def test_out_replaces_nothing_but_weights(folder: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    common = ["--data", folder, "--teacher", teacher, "--size", 32]
    result = run("train", *common, "--run", tmp_path / "run", "--out", tmp_path)
    assert result.exit_code == 2 and "not replaced" in result.stderr
    assert (tmp_path / "README.md").read_text() == "mine" and not (tmp_path / "run").exists()


def test_a_card_gets_no_other_runs_figures(folder: Path, teacher: Path, tmp_path: Path) -> None:
    common = ["--data", folder, "--teacher", teacher, "--size", 32]
    recipe = ["--factor", 2, "--rebuild", 2, "--epochs", 1, "--batch-size", 8]
    for seed in (0, 1):
        run("train", *common, *recipe, "--seed", seed, "--run", tmp_path / f"run{seed}",
            "--out", tmp_path / f"mine{seed}")  # fmt: skip
    result = run("evaluate", tmp_path / "run1", *common, "--card", tmp_path / "mine0")
    assert result.exit_code == 1 and "not the weights" in result.stderr
    assert "Not measured" in (tmp_path / "mine0" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--data": "nowhere"}, "does not exist"),
        ({"--teacher": "nowhere"}, "nowhere"),
        ({"--data": "other"}, "does not know"),
        ({"--size": "30"}, "multiple of"),
        ({"--downscaler": "bicubic"}, "no weights"),
        ({"--factor": "x"}, "not a valid int"),
    ],
)
def test_wrong_usage(
    changes: dict[str, str],
    says: str,
    folder: Path,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "other" / "unicorn").mkdir(parents=True)
    drawn_photo(32, 32).save(tmp_path / "other" / "unicorn" / "1.png")
    monkeypatch.chdir(tmp_path)
    options = {"--data": folder, "--teacher": teacher, "--run": "run", "--out": "w", "--size": "32"}
    result = run("train", *(a for pair in (options | changes).items() for a in pair))
    assert result.exit_code == 2 and says in result.stderr
    assert not Path("w").exists()


@pytest.mark.shared_data
def test_real_photos(val_shard: Path) -> None:
    photos = read_photos([val_shard])
    assert len(photos) == 2000 and len(photos.classes) == 20
    assert photos.labels.bincount().tolist() == [100] * 20


def test_costs_are_counted() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, bias=False), torch.nn.ReLU())
    x = torch.rand(1, 3, 10, 8)
    assert suite.multiply_adds(network, x) == 5 * 8 * 6 * 3 * 9
    assert suite.activation_bytes(network, x) == 4 * max(3 * 10 * 8 + 5 * 8 * 6, 2 * 5 * 8 * 6)
    photo = torch.rand(1, 3, 32, 16)
    box = suite.downscaler_cost(baselines.make("box", 4), 4, photo)
    assert box == 3 * 4 * (4 * 32 + 4 * 8)  # along the rows, then along the columns
    bicubic = suite.downscaler_cost(baselines.make("bicubic", 4), 4, photo)
    layers = 4 * 8 * (3 * 16 * 16 + 16 * 16 * 9 + 16 * 3 * 9)
    assert bicubic == 4 * box
    assert suite.downscaler_cost(Downscaler(4), 4, photo) == bicubic + layers


def test_evaluate_through_jpeg(
    photos: Photos, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S sees the saved thumbnails, T the photos."""
    T = load_teacher(teacher, CLASSES)
    train(replace(SETTINGS, epochs=1), photos, T, tmp_path)
    qualities: list[int] = []

    def black(x: torch.Tensor, quality: int) -> torch.Tensor:
        qualities.append(quality)
        return torch.zeros_like(x)

    plain = evaluate.evaluate(photos, T, [tmp_path])
    monkeypatch.setattr(evaluate, "jpeg", black)
    saved = evaluate.evaluate(photos, T, [tmp_path], quality=80)
    assert qualities == [80]
    assert saved[0] == plain[0]
    assert saved[1].top1 == pytest.approx(100 / 3)  # one answer for every photo


def test_evaluate_with_another_reader(folder: Path, teacher: Path, tmp_path: Path) -> None:
    """T reads the decoded thumbnails at the size of the photos; S's network has no part in it."""
    photos = read_photos([folder], 32)
    T = load_teacher(teacher, CLASSES)
    settings = replace(
        SETTINGS, factor=4, epochs=1, stage1="autoencoder", stage1_epochs=1, rebuild=2
    )
    E, S = train(settings, photos, T, tmp_path)
    row = evaluate.evaluate(photos, T, [tmp_path], reader=T)[1]
    x = photos.images.float() / 255
    with torch.no_grad():
        decoded = S.front(E(x))
        assert decoded.shape[-2:] == (16, 16)
        seen = torch.nn.functional.interpolate(decoded, scale_factor=2, mode="bicubic")
        right = T(seen.clamp(0, 1)).argmax(1) == photos.labels
    assert row.top1 == pytest.approx(100 * right.float().mean().item())
    common = ["evaluate", tmp_path, "--data", folder, "--teacher", teacher, "--size", 32]
    result = run(*common, "--reader", teacher, "--json")
    assert json.loads(result.stdout)[1]["top1"] == pytest.approx(row.top1)
    other = load_teacher("test_thumbnet:small_network", CLASSES)
    original = evaluate.evaluate(photos, T, [], reader=other)[0]
    right = other(x).argmax(1) == photos.labels
    assert original.top1 == pytest.approx(100 * right.float().mean().item())
    assert run(*common, "--reader", tmp_path / "none").exit_code == 2
    assert run(*common, "--reader", teacher, "--suite", "paper").exit_code == 2


def test_the_trade_off_is_drawn_of_different_es(tmp_path: Path) -> None:
    rows = [
        suite.Row(f"thumbnet, {m}", 4, "T", [0], top1=90, psnr=psnr, ssim=0.9, modulus=m)
        for m, psnr in ((4, 46.4), (16, 34.7), (64, 46.1))
    ]
    assert not suite.draw(tmp_path / "a.png", rows[::2])  # 0.3 dB apart
    other = replace(rows[1], otherwise=["8 channels"])  # not what the picture is about
    assert not suite.draw(tmp_path / "a.png", [rows[0], other])
    assert suite.draw(tmp_path / "a.png", rows)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_rows_from_a_gpu_and_long_runs() -> None:
    row = suite.Row("thumbnet", 4, "T", [0], 90.0, 99.0, flops=1, params=1, activation_mb=1.0)
    with_speed = replace(row, images_per_s=66.0)
    cells, others = (suite.markdown([r]).splitlines()[-1].split("|") for r in (row, with_speed))
    assert [i for i, (a, b) in enumerate(zip(cells, others, strict=True)) if a != b] == [11]
    assert cells[11].strip() == "" and others[11].strip() == "66"
    long = card.describe(PRESETS["patient"], data=[], photos=1, classes=1, teacher="", license="",
                         note="")  # fmt: skip
    text = card.render("mine", 1, long, None)
    assert "kept at T's statistics. 50% of its batches were blends" in text
    assert "enlarged to the photo's sides" not in text


def test_suite_command(folder: Path, teacher: Path, tmp_path: Path) -> None:
    common = ["--data", folder, "--teacher", teacher, "--size", 32]
    recipe = ["--factor", 2, "--epochs", 1, "--batch-size", 8, "--preset", "minutes"]
    more: dict[str, list[object]] = {
        "bicubic": ["--downscaler", "bicubic"],
        "e0": [],
        "e1": ["--seed", 1],
        "plain": ["--kd", 0],
    }
    for name, options in more.items():
        run("train", *common, *recipe, *options, "--run", tmp_path / name)
    runs = [tmp_path / name for name in more]
    out = tmp_path / "benchmarks"
    result = run("evaluate", *runs, *common, "--suite", "paper", "--out", out)
    assert result.exit_code == 0, result.output
    rows = {row["system"]: row for row in json.loads((out / "paper.json").read_text())}
    assert set(rows) == {"original", "direct", "upsampled", *suite.WANTED, "thumbnet, no KD"}
    assert 0.5 < rows["thumbnet"]["ssim"] < 1
    assert rows["thumbnet"]["seeds"] == [0, 1] and rows["thumbnet"]["top1_std"] is not None
    assert rows["bicubic-retrained"]["seeds"] == [0] and rows["bicubic-retrained"]["psnr"] is None
    assert rows["lanczos-retrained"]["top1"] is None and rows["lanczos-retrained"]["command"] == ""
    assert "--suite paper" in rows["thumbnet"]["command"]
    assert rows["thumbnet"]["modulus"] == 1 and rows["bicubic-retrained"]["modulus"] is None
    assert rows["thumbnet, no KD"]["otherwise"] == ["no KD"] and not rows["thumbnet"]["otherwise"]
    assert rows["upsampled"]["flops"] == rows["original"]["flops"] > 3 * rows["direct"]["flops"]
    assert rows["direct"]["flops"] == rows["thumbnet"]["flops"]
    assert "| lanczos-retrained | 2 | any | not run |" in result.stdout
    assert result.stdout.strip() in (out / "paper.md").read_text()
    assert all(0.1 < rows[name]["png_kb"] < 3 for name in ("thumbnet", "bicubic-retrained"))
    small = run("evaluate", runs[3], *common, "--suite", "paper", "--out", out)  # the others stay
    assert small.exit_code == 0 and "| thumbnet, no KD | 2 |" in small.stdout
    again = {row["system"]: row for row in json.loads((out / "paper.json").read_text())}
    assert again.keys() == rows.keys() and again["thumbnet"] == rows["thumbnet"]
    assert again["thumbnet, no KD"]["command"] != rows["thumbnet, no KD"]["command"]
    assert again["original"] == rows["original"]  # not measured again
    run("train", *common, *recipe, "--cl", 0.2, "--run", tmp_path / "same-name")
    refused = run("evaluate", tmp_path / "same-name", *common, "--suite", "paper", "--out", out)
    assert refused.exit_code == 1 and "with another cl, which the table calls" in refused.output
    refused = run("evaluate", runs[0], *common[:-1], 64)
    assert refused.exit_code == 1 and "give --size 32" in refused.output
    text = (out / "paper.md").read_text()
    assert all(row["command"] in text for row in again.values())
    (out / "paper.md").write_text(text.replace("on 24 photos", "on 25 photos"))
    refused = run("evaluate", *runs, *common, "--suite", "paper", "--out", out)
    assert refused.exit_code == 1 and "of other photos" in refused.output
    (out / "paper.md").write_text(text.replace(f"T is {teacher}.", "T is another."))
    refused = run("evaluate", *runs, *common, "--suite", "paper", "--out", out)
    assert refused.exit_code == 1 and "another T" in refused.output
    run("train", *common, *recipe, "--seed", 2, "--cl", 0.2, "--run", tmp_path / "other")
    result = run("evaluate", *runs, tmp_path / "other", *common, "--suite", "paper")
    assert result.exit_code == 1 and "differ in seed, cl" in result.output
    ones = [
        json.loads(run("evaluate", tmp_path / name, *common, "--json").stdout)[1]
        for name in ("e0", "e1")
    ]
    assert ones[0]["psnr"] != ones[1]["psnr"]
    for figure in ("top1", "top5", "psnr"):
        assert rows["thumbnet"][figure] == pytest.approx(np.mean([one[figure] for one in ones]))
    assert run("evaluate", *runs, *common, "--out", out).exit_code == 2
