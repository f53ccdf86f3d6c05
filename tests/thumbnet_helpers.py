"""Photos, networks and recipes for the tests of training."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image

from learned_downscale.cli import main
from learned_downscale.thumbnet.data import Photos, read_photos
from learned_downscale.thumbnet.recipe import Recipe, from_config

CLASSES = ("cat", "dog", "owl")

TABLES: dict[str, Any] = {
    "run": {"size": 32, "batch_size": 6, "precision": "float32"},
    "downscaler": {"factor": 2, "channels": 8},
    "student": {},
    "task": [{"type": "supervised", "epochs": 2, "student_rate": 1e-2}],
}


def make_recipe(tasks: list[dict[str, Any]] | None = None, **tables: dict[str, Any]) -> Recipe:
    """`TABLES` with other tasks, and with keys of tables changed."""
    made = copy.deepcopy(TABLES)
    for name, table in tables.items():
        made[name] |= table
    if tasks is not None:
        made["task"] = tasks
    return from_config({"name": "test", **made})


def supervised(**keys: Any) -> dict[str, Any]:
    return {"type": "supervised", "epochs": 1, "student_rate": 1e-2, **keys}


def reconstruct(**keys: Any) -> dict[str, Any]:
    return {"type": "reconstruct", "epochs": 2, "min_crop": 0.5, "max_crop": 0.5, **keys}


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def photos(folder: Path) -> Photos:
    return read_photos([folder], 32)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network, saved the way a Hugging Face model is."""
    transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
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


def small_network() -> torch.nn.Module:
    """As a user's own: logits of normalised photos, and names for them."""
    torch.manual_seed(0)
    network: Any = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 4),
    )
    network.labels, network.mean = ["owl", "cat", "dog", "fish"], [0.5, 0.5, 0.5]
    return network  # type: ignore[no-any-return]


def one_size() -> torch.nn.Module:
    """A network that takes images of 32 px alone, as vision transformers do of another size."""
    network: Any = small_network()
    network[2] = torch.nn.AvgPool2d(15)
    return network  # type: ignore[no-any-return]


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


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
