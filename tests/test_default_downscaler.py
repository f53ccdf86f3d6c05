"""How the default downscaler is trained: a shared residual with tied kernels, enlargers, drawn
pictures, and frozen networks without labels."""

# ruff: noqa: F811 (fixtures that are imported)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from thumbnet_helpers import folder, photos, teacher  # noqa: F401 (fixtures)

from learned_downscale import Downscaler, pretrained, resize
from learned_downscale.core.filters import FILTERS
from learned_downscale.core.symmetry import tie, untied
from learned_downscale.engine import torch_backend
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.drawn import gratings, pages
from learned_downscale.thumbnet.networks import load_reader
from learned_downscale.thumbnet.recipe import from_config
from learned_downscale.thumbnet.train import load_run, train_recipe


def tied(factor: int = 4) -> Downscaler:
    torch.manual_seed(0)
    E = Downscaler(factor, shared=True)
    torch.nn.init.normal_(E.out.weight, std=0.03)
    return tie(E)


def test_tied_kernels_commute_with_mirroring_and_turning() -> None:
    E, x = tied(), torch.rand(1, 3, 64, 64).mul(255).round()
    with torch.no_grad():
        residual = E.residual(x)
        assert residual.abs().max() > 1
        for change in (
            lambda t: t.flip(-1),
            lambda t: t.flip(-2),
            lambda t: torch.rot90(t, 1, (-2, -1)),
            lambda t: t.transpose(-2, -1),
        ):
            assert torch.equal(E.residual(change(x)), change(residual))
        # an ordinary one does not
        plain = Downscaler(4, shared=True)
        torch.nn.init.normal_(plain.out.weight, std=0.03)
        assert not torch.equal(plain.residual(x.flip(-1)), plain.residual(x).flip(-1))


def test_a_saved_one_is_an_ordinary_network(tmp_path: Path) -> None:
    E, photo = tied(), drawn_photo(120, 88)
    plain = untied(E)
    assert isinstance(plain, Downscaler) and untied(plain) is plain
    x = torch.rand(1, 3, 32, 48)
    assert torch.equal(plain(x), E(x))
    pretrained.save(tmp_path, [plain], "a card")
    assert np.array_equal(resize(photo, 4, weights=tmp_path), resize(photo, 4, weights=plain))
    for wrong in (Downscaler(4, shared=True, channels=12), Downscaler(4)):
        with pytest.raises(ValueError, match="orbits of 8"):
            tie(wrong)
    with pytest.raises(ValueError, match="residual for each channel"):
        Downscaler(4, qim=8, shared=True)


def test_a_shared_residual_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    E, photo = untied(tied()), drawn_photo(240, 180)
    assert isinstance(E, Downscaler)
    fast = np.asarray(resize(photo, 4, weights=E)).astype(int)
    skip = np.asarray(resize(photo, 4, weights=Downscaler(4, shared=True))).astype(int)
    inside = (fast > 0).all(2) & (fast < 255).all(2)  # elsewhere it is clipped
    added = (fast - skip)[inside]
    assert added.std() > 1 and (added.max(1) - added.min(1)).max() <= 1  # halves go to even levels
    monkeypatch.setattr(torch_backend, "int8_is_exact", lambda: False)
    assert np.array_equal(resize(photo, 4, weights=E), fast)


def test_onnx_is_the_whole_of_it(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from learned_downscale.engine.export import export_onnx

    E, photo = untied(tied()), drawn_photo(96, 64)
    assert isinstance(E, Downscaler)
    pretrained.save(tmp_path, [E], "a card")
    session = onnxruntime.InferenceSession(export_onnx(tmp_path).read_bytes())
    (residual,) = session.run(["residual"], {"image": np.asarray(photo)[None]})
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float()
    assert torch.equal(torch.from_numpy(residual), E.residual(x).permute(0, 2, 3, 1))
    a, b = (
        np.asarray(resize(photo, 4, weights=tmp_path, backend=k), int) for k in ("torch", "onnx")
    )
    assert np.abs(a - b).max() <= 1


@pytest.mark.parametrize("kind", ["bicubic", "bilinear", "box", "hamming", "lanczos"])
def test_enlarging_is_pillows(kind: str) -> None:
    small = drawn_photo(20, 15)
    x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255
    large = (FILTERS[kind].enlarge(x, 4) * 255).round()[0].permute(1, 2, 0).numpy()
    theirs = np.asarray(small.resize((80, 60), FILTERS[kind].resampling)).astype(float)
    assert np.abs(large - theirs).max() <= 1


def test_nearest_does_not_enlarge() -> None:
    with pytest.raises(ValueError, match="no kernel"):
        FILTERS["nearest"].enlarge(torch.zeros(1, 3, 4, 4), 2)


def test_gratings_are_above_the_nyquist_frequency() -> None:
    waves = gratings(16, 96, 4, torch.Generator().manual_seed(0))
    assert waves.shape == (16, 3, 96, 96) and waves.min() >= 0 and waves.max() <= 1
    assert waves.std((1, 2, 3)).min() > 0.02
    again = gratings(16, 96, 4, torch.Generator().manual_seed(0))
    assert torch.equal(waves, again)
    assert pages(2, 64, torch.Generator().manual_seed(0)).unique().numel() > 2
    small = torch.nn.functional.avg_pool2d(waves, 4)
    assert small.std((2, 3)).mean() < 0.4 * waves.std((2, 3)).mean()


TABLES: dict[str, Any] = {
    "name": "default",
    "run": {"size": 32, "batch_size": 6, "precision": "float32"},
    "downscaler": {"factor": 2, "shared": True},
    "task": [
        {
            "type": "recognise",
            "epochs": 2,
            "readers": ["teacher"],
            "enlargers": ["bicubic", "box"],
            "lossy": 0.5,
            "mm": 1.0,
            "dr": 1e-3,
            "downscaler_rate": 3e-3,
        }
    ],
}


def test_it_is_trained_without_labels(photos: Photos, teacher: Path, tmp_path: Path) -> None:
    T = load_reader(teacher, None)
    recipe = from_config(TABLES)
    assert not recipe.settings.labelled
    E, _ = train_recipe(recipe, photos, T, tmp_path / "run")
    assert isinstance(E, Downscaler) and E.shared
    assert E.out.weight.abs().max() > 0  # it begins at 0
    _, again, _ = load_run(tmp_path / "run", T, None)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(x), E(x))
    with pytest.raises(ValueError, match="trained without labels"):
        load_run(tmp_path / "run", T, photos.classes)
    assert from_config({**TABLES, "task": []}).settings.labelled


def test_a_resumed_run_ends_in_the_same_state(
    photos: Photos, teacher: Path, tmp_path: Path
) -> None:
    T = load_reader(teacher, None)
    recipe = from_config(TABLES)
    whole, _ = train_recipe(recipe, photos, T, tmp_path / "whole")
    train_recipe(recipe, photos, T, tmp_path / "parts", stop_after=3)
    parts, _ = train_recipe(recipe, photos, T, tmp_path / "parts")
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_unknown_enlargers_are_refused() -> None:
    for value, says in ((["nearest"], "choose from"), ([], "is empty")):
        tables = {**TABLES, "task": [{**TABLES["task"][0], "enlargers": value}]}
        with pytest.raises(ValueError, match=says):
            from_config(tables)
