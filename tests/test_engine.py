"""The engine: tiles, threads, backends and streams give the same thumbnail as one plain call."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import drawn_photo
from PIL import Image

from learned_downscale import (
    Downscaler,
    Resizer,
    bench,
    pretrained,
    resize,
)
from learned_downscale.core.downscaler import MAX_WEIGHT, integer_weight
from learned_downscale.core.resampling import Axis, quarters, resample, span
from learned_downscale.core.tensors import along_by_matrix, patches
from learned_downscale.engine import backend as backends
from learned_downscale.engine import loading, tiles, torch_backend
from learned_downscale.engine.device import DeviceBackend
from learned_downscale.engine.patches import gather, runs
from learned_downscale.engine.reduction import reduce_rows, strips
from learned_downscale.engine.thumbnail import Tiling
from learned_downscale.engine.torch_backend import FloatLayers, Int8Layers
from learned_downscale.pixels import unpack

SMALL_TILES = Tiling(tile=3000, smallest=1000)


def backend(kind: str, factor: int) -> Any:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    return loading.load_backend(f"x{factor}", None, kind, "", None)


def cut(resizer: Resizer, tiling: Tiling = SMALL_TILES) -> Resizer:
    """The same, in many tiles."""
    resizer.tiling = tiling
    return resizer


def images(width: int = 240, height: int = 180) -> dict[str, Any]:
    rgb = drawn_photo(width, height)
    array = np.asarray(rgb)
    alpha = np.linspace(-1, 2, width).clip(0, 1)[None].repeat(height, 0)
    return {
        "rgb": rgb,
        "grey": rgb.convert("L"),
        "rgba": Image.fromarray(np.dstack([array, np.uint8(255 * alpha)])),
        "16 bits": array.astype(np.uint16) * 257,
        "float": array.astype(np.float32) / 255,
        "bicubic only": rgb,
    }


def levels_apart(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


# -- bicubic ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"), [(110, 28), (120, 30), (301, 75), (118, 120), (37, 36), (64, 1), (5, 3)]
)
def test_own_bicubic_is_torchs_bit_for_bit(source: int, target: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (1, source, 20, 3), np.uint8)
    tensor = torch.from_numpy(x).permute(0, 3, 1, 2)
    theirs = F.interpolate(tensor, (target, 20), mode="bicubic", antialias=True)
    ours = resample(x, Axis(source, target, 0, target, 0, True, False), 1)
    assert np.array_equal(ours, theirs.permute(0, 2, 3, 1))
    start, stop = target // 3, target // 3 + max(1, target // 4)
    first, last = span(source, target, start, stop)
    axis = Axis(source, target, start, stop, first, False, False)
    assert np.array_equal(resample(x[:, first:last], axis, 1), ours[:, start:stop])
    rows = torch_backend._resample_rows(tensor[:, :, first:last], axis)
    assert np.array_equal(rows.permute(0, 2, 3, 1), ours[:, start:stop])


def test_matrices_do_what_interpolate_does() -> None:
    x = torch.rand(2, 3, 37, 50)
    for dimension, target in ((0, 9), (0, 40), (1, 25), (1, 60)):
        size = [37, 50]
        length, size[dimension] = size[dimension], target
        theirs = F.interpolate(x, size, mode="bicubic", antialias=True)
        mine = along_by_matrix(x, Axis(length, target, 0, target, 0, True, False), dimension)
        assert (mine - theirs).abs().max() < 1e-5


# -- whole numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("zero_sum", [False, True])
def test_weights_are_whole_numbers_of_seven_bits(zero_sum: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 3, 4, 4) * torch.logspace(-3, 0, 16)[:, None, None, None]
    q, shift = integer_weight(weight, zero_sum)
    assert torch.equal(q, q.round()) and MAX_WEIGHT / 2 - 1 < q.abs().max() <= MAX_WEIGHT
    if zero_sum:
        assert (q.sum((2, 3)) == 0).all()
        weight = weight - weight.mean((2, 3), keepdim=True)
    assert (q * 2.0**-shift - weight).abs().max() <= (1.5 if zero_sum else 0.5) * 2.0**-shift
    again, same = integer_weight(q * 2.0**-shift, zero_sum)
    assert torch.equal(again * 2.0**-same, q * 2.0**-shift)  # what is rounded stays


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("channels", [3, 4])
def test_int8_and_float32_agree_bit_for_bit(factor: int, channels: int) -> None:
    if not torch_backend.int8_is_exact():
        pytest.skip("this torch on this processor has no exact 8-bit convolutions")
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, 8 * factor, 9 * factor)
    x = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    skip = x[:, :3, :8, :9].contiguous(memory_format=torch.channels_last)
    model = Downscaler.from_pretrained(f"x{factor}")
    fast, exact = (kind(model.integers(), factor) for kind in (Int8Layers, FloatLayers))
    assert torch.equal(fast(x, None), exact(x, None))
    assert torch.equal(exact(x, None), model.residual(x[:, :3].float()))
    assert torch.equal(fast(x, skip.clone()), exact(x, skip))


@pytest.mark.parametrize("channels", [4, 8, 16, 24])
@pytest.mark.parametrize("side", [3, 5])
def test_pixels_abreast_are_computed_as_one_by_one(channels: int, side: int) -> None:
    if not torch_backend.int8_is_exact():
        pytest.skip("this torch on this processor has no exact 8-bit convolutions")
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-3, 4, shape, generator=generator).float()

    stem = draw(channels, 3, 2, 2)
    stem[..., 0, 0] -= stem.sum((2, 3))  # of black and of constants it makes 0, as E's
    integers = [(stem, 2), (draw(channels, channels, 3, 3), 4), (draw(3, channels, side, side), 5)]
    fast, exact = Int8Layers(integers, 2), FloatLayers(integers, 2)
    for width in (1, 2, 3, 4, 5, 8, 13):
        for samples in (3, 4):
            x, skip = (
                torch.randint(0, 256, (2, h, w, samples), generator=generator)
                .to(torch.uint8)
                .permute(0, 3, 1, 2)
                for h, w in ((14, 2 * width), (7, width))
            )
            assert torch.equal(fast(x, None), exact(x, None))
            assert torch.equal(fast(x, skip.clone()), exact(x, skip))


def test_without_int8_the_thumbnail_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, model = drawn_photo(240, 180), Downscaler.from_pretrained("x4")
    with_it = resize(photo, 4, weights=model)
    monkeypatch.setattr(torch_backend, "int8_is_exact", lambda: False)
    slow, plan = resize(photo, 4, weights=model, return_plan=True)
    assert "float32" in str(plan.backend)
    assert np.array_equal(slow, with_it)


# -- tiles and threads ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(images()))
@pytest.mark.parametrize("size", [(60, 45), (120, 90), (59, 44), (90, 45), (21, 16)])
@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_tiles_equal_the_whole(kind: str, size: tuple[int, int], name: str) -> None:
    source, _ = unpack(images()[kind])
    runs = backend(name, 4 if size[0] <= 60 else 2)
    if kind == "bicubic only":
        runs = loading.load_backend(None, None, name, "", None)
    whole = tiles.downscale(source, size[::-1], runs, 1)
    for widest in (10_000, 100):
        tiling = Tiling(tile=3000, smallest=1000, widest=widest)
        assert size[0] < 60 or len(list(tiles.cut_tiles(source, size[::-1], 2, tiling))) > 5
        parts = tiles.downscale(source, size[::-1], runs, 2, tiling)
        if whole.dtype == np.uint8:
            assert np.array_equal(parts, whole)
        else:
            assert np.allclose(parts, whole, rtol=1e-6, atol=1e-6)


def test_tiles_need_their_halo() -> None:
    source, _ = unpack(images()["rgb"])
    runs = backend("torch", 4)
    whole = tiles.downscale(source, (45, 60), runs, 1)
    too_narrow = Tiling(tile=3000, halo=1)
    assert not np.array_equal(tiles.downscale(source, (45, 60), runs, 1, too_narrow), whole)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba"])
@pytest.mark.parametrize(
    "size", [(12, 9), (13, 17), (30, 1), (301, 226), (280, 215), (240, 129), (500, 400)]
)
@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_what_is_kept_whole_changes_nothing(
    size: tuple[int, int], kind: str, name: str, exact: bool
) -> None:
    photo = images(1201, 903)[kind]
    want = resize(photo, size, backend=name, exact=exact)
    for threads, tile in ((1, 10**6), (3, 10**4)):
        for whole in (0, 7_000_000, Tiling.whole):  # the second one holds some without padding
            tiling = Tiling(tile=tile, whole=whole, smallest=1000)
            resizer = Resizer(size, num_threads=threads, backend=name, exact=exact)
            assert np.array_equal(cut(resizer, tiling)(photo), want)


@pytest.mark.parametrize("weights", ["x4", "x2"])
@pytest.mark.parametrize("ratio", [1.001, 1.02, 1.05, 2.3, 3.6])
def test_the_fast_way_is_close_to_the_exact_one(weights: str, ratio: float) -> None:
    photo = drawn_photo(1201, 903)
    sides = (int(s / ratio / int(weights[1])) for s in photo.size)
    width, height = sides
    fast, plan = resize(photo, (width, height), weights=weights, return_plan=True)
    assert plan.patches if ratio < 2 else plan.reduced or weights == "x2"
    exact, other = resize(photo, (width, height), weights=weights, exact=True, return_plan=True)
    assert not other.patches and not other.reduced
    error = np.asarray(fast, float) - np.asarray(exact, float)
    assert np.mean(error**2) < 255**2 / 10 ** (45 / 10)  # 45 dB


@pytest.mark.parametrize(
    ("source", "target", "factor"), [(2999, 750, 4), (481, 241, 2), (33, 8, 4)]
)
def test_a_mirrored_axis_has_mirrored_patches(source: int, target: int, factor: int) -> None:
    begin, quarter = quarters(source, target, 0, target, factor)
    place = 4 * begin + quarter
    assert np.array_equal(4 * (source - factor) - place[::-1], place)
    assert place.min() >= 0 and place.max() <= 4 * (source - factor)
    # around the middle of the thumbnail's pixel, to an eighth of a sample; the ends stay inside
    middle = (np.arange(target) + 0.5) * source / target - factor / 2
    assert np.abs(place / 4 - middle.clip(0, source - factor)).max() <= 1 / 8


def test_patches_put_together() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 33, 47, 3), np.uint8)
    places = [quarters(s, t, 0, t, 4) for s, t in ((33, 8), (47, 12))]
    want = x.astype(np.float64)
    for dimension, (begin, quarter) in enumerate(places, 1):
        index = (begin[:, None] + np.arange(4)).ravel()
        near, far = (
            want.take((index + k).clip(0, want.shape[dimension] - 1), dimension) for k in (0, 1)
        )
        share = np.repeat(quarter / 4, 4).reshape([-1 if d == dimension else 1 for d in range(4)])
        want = np.rint(near + share * (far - near))
    got = x
    for dimension, (begin, quarter) in enumerate(places, 1):
        got = gather(got, runs(begin, quarter, 4), dimension)
    assert np.array_equal(got, want)
    tensor = torch.from_numpy(x).permute(0, 3, 1, 2) / 255
    found = patches(tensor, (8, 12), 4).permute(0, 2, 3, 1) * 255
    assert np.array_equal(found.round().numpy(), want)


def test_means_of_blocks_are_pillows() -> None:
    for kind in ("rgb", "grey", "rgba"):
        image = images(241, 183)[kind]
        want = np.atleast_3d(np.asarray(image.reduce(5)))
        for form in (image, np.asarray(image)):
            source, _ = unpack(form)
            parts = [reduce_rows(source, 0, rows, 5) for rows in strips(source, 5, 3000)]
            assert len(parts) > 3
            assert np.array_equal(np.concatenate(parts)[..., : want.shape[-1]], want)


def test_batches_of_small_images_share_a_tile() -> None:
    batch = torch.stack([torch.from_numpy(np.array(drawn_photo(64, 64, s))) for s in range(9)])
    batch = batch.permute(0, 3, 1, 2)
    source, _ = unpack(batch)
    assert len(list(tiles.cut_tiles(source, (16, 16), 1))) == 1
    together = resize(batch, 4)
    for one, small in zip(batch, together, strict=True):
        assert torch.equal(resize(one, 4), small)


def test_threads_change_nothing() -> None:
    photo = images()["rgb"]
    before = torch.get_num_threads()
    want = resize(photo, 2, num_threads=1)
    for threads in (2, 3, 7):
        assert np.array_equal(cut(Resizer(2, num_threads=threads))(photo), want)
    resizer = cut(Resizer(2))
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: resizer(photo), range(16)):
            assert np.array_equal(result, want)
        assert set(pool.map(lambda _: torch.get_num_threads(), range(4))) == {before}
    assert torch.get_num_threads() == before


def test_threads_that_work_start_no_others() -> None:
    runs = backend("torch", 4)
    seen = []
    tiles.run([1, 2, 3], lambda _: seen.append(torch.get_num_threads()), runs, 2)
    assert seen == [1, 1, 1]


def test_the_first_error_is_raised() -> None:
    def fail(item: int) -> None:
        raise OSError(f"item {item}")

    for threads in (1, 2):
        with pytest.raises(OSError, match="item 1"):
            tiles.run([1, 2, 3], fail, backend("torch", 4), threads)


class Thumbnails(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(np.array(resize(drawn_photo(640, 480, i), 4)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_data_loaders_workers(method: str) -> None:
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    want = [Thumbnails()[i] for i in range(4)]  # the parent has used its threads, too
    loader = torch.utils.data.DataLoader(
        Thumbnails(), batch_size=None, num_workers=2, multiprocessing_context=method, timeout=120
    )
    assert all(torch.equal(a, b) for a, b in zip(loader, want, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_with_threads() -> None:
    photo = drawn_photo(640, 480)
    want = np.asarray(resize(photo, 4, num_threads=2))
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(resize(photo, 4, num_threads=2), want) else 1)
    assert os.waitpid(child, 0)[1] == 0


FIRST_IN_A_CHILD = """
import os, signal
import numpy, torch, learned_downscale
torch.rand(2000, 2000) @ torch.rand(2000, 2000)  # the parent's threads, which no child has
child = os.fork()
if child == 0:
    learned_downscale.resize(numpy.zeros((600, 800, 3), numpy.uint8), 4)
    os._exit(0)
signal.alarm(60)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_first_used_after_a_fork() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST_IN_A_CHILD], check=True)


IN_ODD_SURROUNDINGS = """
import numpy, torch, learned_downscale
photo = numpy.random.default_rng(0).integers(0, 256, (700, 900, 3), numpy.uint8)
torch.set_default_device("meta")
torch.set_default_dtype(torch.bfloat16)
with torch.autocast("cpu", torch.bfloat16):
    odd, plan = learned_downscale.resize(photo, 3, return_plan=True)
torch.set_default_device(None)
torch.set_default_dtype(torch.float32)
learned_downscale.engine.loading.load_backend.cache_clear()
plain, its_plan = learned_downscale.resize(photo, 3, return_plan=True)
assert numpy.array_equal(odd, plain) and plan == its_plan, (plan, its_plan)
"""


AT_THE_END = """
import atexit, sys, threading, time
from PIL import Image
import learned_downscale

photo = Image.new("RGB", (1600, 1200))

def late():
    print(learned_downscale.resize(photo, 4, num_threads=2).size, flush=True)

def after_the_main_thread():
    threading.main_thread().join()
    late()

if "used before" in sys.argv:
    learned_downscale.resize(photo, 4, num_threads=2)
if "atexit" in sys.argv:
    atexit.register(late)
else:
    threading.Thread(target=after_the_main_thread).start()
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["atexit", "thread"])
@pytest.mark.parametrize("used", ["used before", "first call"])
def test_while_python_shuts_down(when: str, used: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, when, used], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(400, 300)\n", done.stderr


def test_what_the_caller_set_changes_nothing() -> None:
    subprocess.run([sys.executable, "-c", IN_ODD_SURROUNDINGS], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "size",
    [
        (1000, 750),
        (2000, 1500),
        (999, 749),  # patches
        (800, 600),  # cut where the grids meet
        (1700, 1275),  # resampled in tiles: too large to be kept whole
        (640, 479),  # resampled whole
        (256, 192),
        (4, 3),
        (1, 1),
    ],
)
def test_little_memory_is_used(size: tuple[int, int]) -> None:
    photo = Image.effect_noise((4000, 3000), 60).convert("RGB")
    peak = bench._peak(lambda: resize(photo, size))
    assert peak is not None and peak < 64 + 2 * size[0] * size[1] * 4 / 2**20


# -- ONNX Runtime -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(images()))
@pytest.mark.parametrize("size", [4, 2, 3, 1.5, (59, 44), (21, 16)])
def test_backends_differ_by_at_most_one_level(kind: str, size: Any) -> None:
    pytest.importorskip("onnxruntime")
    image = images()[kind]
    a, b = (resize(image, size, backend=name) for name in ("torch", "onnx"))
    level = {"16 bits": 257, "float": 1 / 255}.get(kind, 1)
    assert levels_apart(a, b) <= level * 1.001


@pytest.mark.parametrize("name", pretrained.bundled())
def test_model_onnx_is_the_whole_downscaler(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    content, config = pretrained.load_onnx(name)
    factor, qim = config["downscaler"]["factor"], config["downscaler"]["qim"]
    session = onnxruntime.InferenceSession(content)
    for height, width in ((48, 64), (40, 24)):
        photos = np.stack([np.asarray(drawn_photo(width, height, s)) for s in (0, 1)])
        thumbnail, residual = session.run(["thumbnail", "residual"], {"image": photos})
        x = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
        want = Downscaler.from_pretrained(name).residual(x).permute(0, 2, 3, 1)
        assert torch.equal(torch.from_numpy(residual), want)
        for photo, small in zip(photos, thumbnail, strict=True):
            assert levels_apart(small, resize(photo, factor, weights=name)) <= qim


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from PIL import Image
import learned_downscale
photo = np.random.default_rng(0).integers(0, 256, (48, 65, 4), np.uint8)
for image in (photo, photo[..., :3], photo[..., 0], photo / np.float32(255), photo * np.uint16(257),
              Image.fromarray(photo), Image.fromarray(photo).convert("P")):
    for size in (4, 2, 1.5, 1):
        learned_downscale.resize(image, size, backend="onnx")
learned_downscale.resize([photo, photo], 4, backend="onnx", weights="x4")
rows = [photo[:20], photo[20:]]
for block in learned_downscale.downscale_rows(rows, (65, 48), 4, backend="onnx"):
    assert block.shape[1:] == (17, 4)
plan = learned_downscale.resize(photo, 4, return_plan=True, backend="onnx")[1]
assert plan.backend.startswith("onnx")
"""


def test_onnx_needs_no_torch() -> None:
    pytest.importorskip("onnxruntime")
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_TORCH], check=True)


def test_auto_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = drawn_photo(64, 48)
    plan = resize(photo, 4, return_plan=True)[1]
    assert plan.backend.startswith("torch, ") and "because torch is installed" in plan.backend
    monkeypatch.setattr(backends, "_installed", lambda package: package == "onnxruntime")
    assert backends.choose("auto") == ("onnx", "chosen because torch is not installed")
    monkeypatch.setattr(backends, "_installed", lambda package: False)
    for name in backends.BACKENDS:
        with pytest.raises(ImportError, match="pip install"):
            backends.choose(name)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"backend": "tensorrt"}, ValueError, "auto, torch, onnx"),
        ({"num_threads": 0}, ValueError, "1 or more"),
        ({"num_threads": True}, TypeError, "whole number"),
        ({"num_threads": 1.5}, TypeError, "whole number"),
        ({"device": "gpu"}, RuntimeError, "gpu"),
        ({"device": "meta"}, RuntimeError, "meta"),
        ({"weights": ""}, ValueError, "empty name"),
        ({"device": "cuda:99"}, RuntimeError, "cuda:99"),
        ({"device": "cuda", "backend": "onnx"}, ValueError, "on the CPU"),
        ({"weights": Downscaler(4), "backend": "onnx"}, TypeError, "by name or folder"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        resize(drawn_photo(64, 48), 4, **options)


def test_weights_without_an_export(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from click.testing import CliRunner

    from learned_downscale.cli import main

    pretrained.save(tmp_path, [Downscaler.from_pretrained("x4")], "a card")
    with pytest.raises(FileNotFoundError, match="learned-downscale export"):
        resize(drawn_photo(64, 48), 4, weights=tmp_path, backend="onnx")
    result = CliRunner().invoke(main, ["export", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    small = resize(drawn_photo(64, 48), 4, weights=tmp_path, backend="onnx")
    assert np.array_equal(small, resize(drawn_photo(64, 48), 4, backend="onnx"))
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    loading.load_backend.cache_clear()  # what was read stays in memory
    with pytest.raises(ValueError, match="SHA-256 differs"):
        resize(drawn_photo(64, 48), 4, weights=tmp_path, backend="onnx")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(main, ["export", str(tmp_path)])
    assert result.exit_code == 1 and "SHA-256 differs" in result.stderr


# -- lists and other devices ------------------------------------------------------------------


def test_lists_of_any_images() -> None:
    mixed = [*images().values(), *images(100, 75).values(), torch.rand(2, 3, 20, 20)]
    mixed += [np.asarray(images()["rgb"]), torch.zeros(3, 180, 240, dtype=torch.uint8)]
    results, plans = resize(mixed, 4, return_plan=True)
    assert len(results) == len(plans) == len(mixed)
    for image, result, plan in zip(mixed, results, plans, strict=True):
        alone, its_plan = resize(image, 4, return_plan=True)
        assert type(result) is type(alone) and plan == its_plan
        assert levels_apart(result, alone) < 1e-6
    assert resize([], 4) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_long_lists_of_many_sizes(threads: int) -> None:
    photos = [drawn_photo(60 + 7 * i, 50 + 3 * i, seed=i) for i in range(9)]
    resizer = Resizer(2, num_threads=threads)
    for photo, small in zip(photos, resizer(photos), strict=True):
        assert np.array_equal(small, resize(photo, 2))
    with pytest.raises(ValueError, match="enlarge"):
        Resizer((66, 50), num_threads=threads)(photos)


def test_a_downscaler_of_half_precision_is_refused_everywhere() -> None:
    model, photo = Downscaler(4).half(), drawn_photo(40, 32)
    with pytest.raises(TypeError, match="float32"):
        model(torch.rand(1, 3, 32, 40))
    with pytest.raises(TypeError, match="float32"):
        resize(photo, 4, weights=model)


def test_a_bad_image_in_a_list_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        resize([drawn_photo(8, 8), "photo.jpg"], 4)
    assert "at place 1 of the list of 2" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba", "16 bits", "float"])
@pytest.mark.parametrize("size", [4, 2, 3, 1.5, (59, 44), (21, 16)])
def test_the_way_of_other_devices(kind: str, size: Any) -> None:
    """Run on the CPU, since not every machine has another device."""
    array = np.asarray(images()[kind])
    array = array[..., None] if array.ndim == 2 else array
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    level = {"16 bits": 257, "float": 1 / 255}.get(kind, 1)
    for image, order in ((tensor, "rgb"), (tensor[None], "bgr"), (array, "bgr")):
        want, plan = resize(image, size, channel_order=order, return_plan=True)  # type: ignore[arg-type]
        samples, pack = unpack(image, order)  # type: ignore[arg-type]
        model = Downscaler.from_pretrained(plan.weights) if plan.weights else None
        got = DeviceBackend(model, "cpu").downscale(
            image,
            samples,
            pack,
            order,
            plan.target[::-1],
            None,  # type: ignore[arg-type]
        )
        assert type(got) is type(want) and got.dtype == want.dtype and got.shape == want.shape
        apart = np.abs(np.asarray(got, dtype=float) - np.asarray(want, dtype=float))
        assert np.mean(apart > level) < 0.01 and apart.max() <= 3 * level


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    photo = drawn_photo(640, 480)
    for image in (photo, torch.from_numpy(np.array(photo)).permute(2, 0, 1).cuda()):
        got = resize(image, 4, device="cuda")
        got = got.permute(1, 2, 0).cpu() if isinstance(got, torch.Tensor) else got
        assert levels_apart(got, resize(photo, 4)) <= 2
