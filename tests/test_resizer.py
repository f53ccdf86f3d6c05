"""Resizer: what is bound once, what it says of its weights, and that it travels."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Decoder, Downscaler, Plan, Resizer, pretrained, resize
from learned_downscale.engine import loading


def test_it_gives_what_resize_gives(photo: Image.Image) -> None:
    array, tensor = np.asarray(photo), torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    for options in ({}, {"weights": "x4"}, {"weights": "x4-machine"}, {"rounding": "down"}):
        resizer = Resizer(4, **options)  # type: ignore[arg-type]
        assert np.array_equal(resizer(photo), resize(photo, 4, **options))  # type: ignore[arg-type]
        assert np.array_equal(resizer(array), resize(array, 4, **options))  # type: ignore[arg-type]
        assert torch.equal(resizer(tensor), resize(tensor, 4, **options))  # type: ignore[arg-type]
    both = Resizer((31, 22))([photo, array])
    assert isinstance(both[0], Image.Image) and isinstance(both[1], np.ndarray)
    assert np.array_equal(both[0], both[1])
    blocks = Resizer(4).rows([array[:50], array[50:]], photo.size)
    assert np.array_equal(np.concatenate(list(blocks)), resize(array, 4))


def test_it_plans_without_an_image() -> None:
    plan = Resizer(4).plan((400, 300))
    assert plan == Plan((400, 300), (100, 75), 4, "x4", (400, 300), "learned x4 (x4)")
    done = Resizer(3, weights="x2-machine").planned([Image.new("RGB", (400, 300))])[0][1]
    assert (done.learned, done.weights, done.prepared) == (2, "x2-machine", (268, 200))
    assert done.backend is not None
    with pytest.raises(ValueError, match=r"x4-machine divide by 4.* is less"):
        Resizer(2, weights="x4-machine").plan((400, 300))


def test_it_says_what_its_weights_need(tmp_path: Path) -> None:
    plain, machine, jpeg = (
        Resizer(4),
        Resizer(4, weights="x4-machine"),
        Resizer(4, weights="x4-jpeg"),
    )
    assert (plain.weights, machine.weights) == ({2: "x2", 4: "x4"}, {4: "x4-machine"})
    assert not (plain.needs_rgb or plain.needs_lossless or plain.has_decoder)
    assert machine.needs_rgb and machine.needs_lossless and machine.has_decoder
    assert jpeg.has_decoder and not (jpeg.needs_rgb or jpeg.needs_lossless)
    assert plain.decoder() is None and isinstance(machine.decoder(), Decoder)
    own = Resizer(4, weights=Downscaler(4, qim=8))
    assert own.needs_rgb and own.needs_lossless and not own.has_decoder
    pretrained.save(tmp_path, [Downscaler(3)], "a card")
    assert Resizer(4, weights=tmp_path).weights == {3: str(tmp_path)}


@pytest.mark.parametrize("weights", [None, "x4", "x4-machine", "own"])
def test_it_is_pickled(weights: str | None, photo: Image.Image) -> None:
    own = Downscaler(4)
    torch.nn.init.normal_(own.out.weight, std=0.01)
    resizer = Resizer(4, weights=own if weights == "own" else weights, num_threads=1)
    again = pickle.loads(pickle.dumps(resizer))
    assert np.array_equal(again(photo), resizer(photo))
    assert repr(again).startswith("Resizer(4, ")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_works_in_other_processes(method: str, photo: Image.Image) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    resizer = Resizer(4, num_threads=2)
    want = np.asarray(resizer(photo))  # the parent has used its threads, too
    with multiprocessing.get_context(method).Pool(2) as pool:
        for small in pool.map(resizer, [np.asarray(photo)] * 3):
            assert np.array_equal(small, want)


def test_threads_share_it(photo: Image.Image) -> None:
    resizer = Resizer(4, weights=Downscaler.from_pretrained("x4-machine"))
    want = np.asarray(resizer(photo))
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(small, want) for small in pool.map(resizer, [photo] * 16))


def test_named_weights_are_read_once(photo: Image.Image) -> None:
    resize(photo, 4, weights="x4")
    before = loading.load_backend.cache_info()
    resize(photo, 4, weights="x4")
    Resizer(2.5, weights="x2", num_threads=1)
    resize(photo, 4)  # the default's are the same
    after = loading.load_backend.cache_info()
    assert after.misses - before.misses <= 1 and after.hits - before.hits >= 3


def test_weights_that_were_trained_again_are_read_again(tmp_path: Path, photo: Image.Image) -> None:
    pretrained.save(tmp_path, [Downscaler(4)], "a card")
    before = np.asarray(resize(photo, 4, weights=tmp_path))
    pretrained.save(tmp_path, [Downscaler.from_pretrained("x4")], "a longer card", photos=3)
    after = np.asarray(resize(photo, 4, weights=tmp_path))
    assert not np.array_equal(before, after)
    assert np.array_equal(after, resize(photo, 4))


def test_what_is_wrong_is_said_when_it_is_bound(tmp_path: Path) -> None:
    for size in (0, "4", (5,), 0.5):
        with pytest.raises((ValueError, TypeError)):
            Resizer(size)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="bundled are x2"):
        Resizer(4, weights="x3")
    with pytest.raises(ValueError, match="on the CPU, not on cuda"):
        Resizer(4, device="cuda").rows([], (8, 8))
    pretrained.save(tmp_path, [Downscaler(4)], "a card")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="SHA-256 differs"):
        Resizer(4, weights=tmp_path)


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys; from learned_downscale import Resizer; Resizer(4).plan((400, 300)); "
        "print(sorted({'torch', 'cv2', 'click', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_as_before_the_import(collects: bool) -> None:
    code = (
        "import gc; from PIL import Image; from learned_downscale import resize; "
        f"{'' if collects else 'gc.disable(); '}"
        "resize(Image.new('RGB', (40, 40)), 4); print(gc.isenabled())"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == str(collects)


def test_same_image_twice_is_the_same_for_any_kind_of_door() -> None:
    photo = drawn_photo(224, 224)
    small = Resizer(4)(photo)
    assert np.array_equal(small, Resizer((56, 56))(photo))
    assert np.array_equal(small, Resizer(4, backend="torch")(np.asarray(photo)))


@pytest.mark.parametrize("option", ["exact", "linear_light", "return_plan"])
def test_switches_are_true_or_false(option: str) -> None:
    """A word like "no" would count as true."""
    with pytest.raises(ValueError, match=f"{option} is 'no'; it must be true or false"):
        resize(drawn_photo(64, 64), 4, **{option: "no"})
