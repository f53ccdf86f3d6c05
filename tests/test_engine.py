"""The engine: tiles, threads, backends and streams give the same thumbnail as one plain call."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Decoder, Downscaler, bench, downscale_rows, pretrained, resize
from learned_downscale.core.downscaler import MAX_WEIGHT, integer_weight, interpolate_by_matrices
from learned_downscale.engine import device as other_device
from learned_downscale.engine import tiles, torch_backend
from learned_downscale.core.bicubic import Axis, resample, span
from learned_downscale.engine.onnx_backend import OnnxBackend
from learned_downscale.engine.torch_backend import FloatLayers, Int8Layers, TorchBackend
from learned_downscale.pixels import unpack


def backend(kind: str, factor: int) -> Any:
    name = f"x{factor}"
    if kind == "torch":
        return TorchBackend(pretrained.load(name))
    pytest.importorskip("onnxruntime")
    return OnnxBackend(*pretrained.load_onnx(name))


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
    for size in ((9, 12), (37, 25), (40, 60)):
        theirs = F.interpolate(x, size, mode="bicubic", antialias=True)
        assert (interpolate_by_matrices(x, size) - theirs).abs().max() < 1e-5


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
    model = pretrained.load(f"x{factor}")
    fast, exact = (kind(model.integers(), factor) for kind in (Int8Layers, FloatLayers))
    assert torch.equal(fast(x, None), exact(x, None))
    assert torch.equal(exact(x, None), model.residual(x[:, :3].float()))
    assert torch.equal(fast(x, skip.clone()), exact(x, skip))


def test_without_int8_the_thumbnail_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = drawn_photo(240, 180)
    with_it = resize(photo, 4, weights="x4")
    monkeypatch.setattr(torch_backend, "int8_is_exact", lambda: False)
    slow, plan = resize(photo, 4, weights="x4", return_plan=True)
    assert "float32" in plan.backend
    assert np.array_equal(slow, with_it)


# -- tiles and threads ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(images()))
@pytest.mark.parametrize("size", [(60, 45), (120, 90), (59, 44), (90, 45)])
@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_tiles_equal_the_whole(
    monkeypatch: pytest.MonkeyPatch, kind: str, size: tuple[int, int], name: str
) -> None:
    source, _ = unpack(images()[kind])
    runs = backend(name, 4 if size[0] <= 60 else 2)
    if kind == "bicubic only":
        runs.factor = None
    whole = tiles.downscale(source, size[::-1], runs, 1)
    monkeypatch.setattr(tiles, "TILE", 3000)
    monkeypatch.setattr(tiles, "SMALLEST", 1000)
    for widest in (10_000, 100):
        monkeypatch.setattr(tiles, "WIDEST", widest)
        assert len(list(tiles.tiles(source, size[::-1], 2))) > 5
        parts = tiles.downscale(source, size[::-1], runs, 2)
        if whole.dtype == np.uint8:
            assert np.array_equal(parts, whole)
        else:
            assert np.allclose(parts, whole, rtol=1e-6, atol=1e-6)


def test_tiles_need_their_halo(monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = unpack(images()["rgb"])
    runs = backend("torch", 4)
    whole = tiles.downscale(source, (45, 60), runs, 1)
    monkeypatch.setattr(tiles, "TILE", 3000)
    monkeypatch.setattr(tiles, "HALO", 1)
    assert not np.array_equal(tiles.downscale(source, (45, 60), runs, 1), whole)


@pytest.mark.parametrize("size", [(12, 9), (13, 17), (30, 1)])
def test_the_detour_changes_nothing(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    photo = images(1201, 903)["rgb"]
    through_it = resize(photo, size)
    monkeypatch.setattr(tiles, "PREPARED", 0)
    for threads, tile in ((1, 10**6), (3, 10**4)):
        monkeypatch.setattr(tiles, "TILE", tile)
        assert np.array_equal(resize(photo, size, num_threads=threads), through_it)
        monkeypatch.setattr(tiles, "PREPARED", 2_000_000)
        assert np.array_equal(resize(photo, size, num_threads=threads), through_it)


def test_batches_of_small_images_share_a_tile() -> None:
    batch = torch.stack([torch.from_numpy(np.array(drawn_photo(64, 64, s))) for s in range(9)])
    batch = batch.permute(0, 3, 1, 2)
    source, _ = unpack(batch)
    assert len(list(tiles.tiles(source, (16, 16), 1))) == 1
    together = resize(batch, 4)
    for one, small in zip(batch, together, strict=True):
        assert torch.equal(resize(one, 4), small)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "SMALLEST", 1000)
    photo = images()["rgb"]
    before = torch.get_num_threads()
    want = resize(photo, 2, num_threads=1)
    for threads in (2, 3, 7):
        assert np.array_equal(resize(photo, 2, num_threads=threads), want)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: resize(photo, 2), range(16)):
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
learned_downscale.resize.__globals__["_own"].cache_clear()
plain, its_plan = learned_downscale.resize(photo, 3, return_plan=True)
assert numpy.array_equal(odd, plain) and plan == its_plan, (plan, its_plan)
"""


def test_what_the_caller_set_changes_nothing() -> None:
    subprocess.run([sys.executable, "-c", IN_ODD_SURROUNDINGS], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("size", [(1000, 750), (2000, 1500), (999, 749), (4, 3), (1, 1)])
def test_little_memory_is_used(size: tuple[int, int]) -> None:
    photo = Image.effect_noise((4000, 3000), 60).convert("RGB")
    peak = bench._peak(lambda: resize(photo, size))
    assert peak is not None and peak < 64 + 2 * size[0] * size[1] * 4 / 2**20


# -- ONNX Runtime -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(images()))
@pytest.mark.parametrize("size", [4, 2, 3, 1.5])
def test_backends_differ_by_at_most_one_level(kind: str, size: float) -> None:
    pytest.importorskip("onnxruntime")
    image = images()[kind]
    a, b = (resize(image, size, backend=name) for name in ("torch", "onnx"))
    level = {"16 bits": 257, "float": 1 / 255}.get(kind, 1)
    assert levels_apart(a, b) <= level * 1.001


@pytest.mark.parametrize("name", pretrained.bundled())
def test_model_onnx_is_the_whole_downscaler(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    content, factor, qim = pretrained.load_onnx(name)
    session = onnxruntime.InferenceSession(content)
    for height, width in ((48, 64), (40, 24)):
        photos = np.stack([np.asarray(drawn_photo(width, height, s)) for s in (0, 1)])
        thumbnail, residual = session.run(["thumbnail", "residual"], {"image": photos})
        x = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
        want = pretrained.load(name).residual(x).permute(0, 2, 3, 1)
        assert torch.equal(torch.from_numpy(residual), want)
        for photo, small in zip(photos, thumbnail, strict=True):
            assert levels_apart(small, resize(photo, factor, weights=name)) <= qim


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from PIL import Image
import learned_downscale
from learned_downscale import engine
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
    from learned_downscale import engine

    photo = drawn_photo(64, 48)
    plan = resize(photo, 4, return_plan=True)[1]
    assert plan.backend.startswith("torch, ") and "because torch is installed" in plan.backend
    monkeypatch.setattr(engine, "_installed", lambda package: package == "onnxruntime")
    assert engine.choose("auto") == ("onnx", "chosen because torch is not installed")
    monkeypatch.setattr(engine, "_installed", lambda package: False)
    for name in engine.BACKENDS:
        with pytest.raises(ImportError, match="pip install"):
            engine.choose(name)


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

    pretrained.save(tmp_path, pretrained.load("x4"), "a card")
    with pytest.raises(FileNotFoundError, match="learned-downscale export"):
        resize(drawn_photo(64, 48), 4, weights=tmp_path, backend="onnx")
    result = CliRunner().invoke(main, ["export", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    small = resize(drawn_photo(64, 48), 4, weights=tmp_path, backend="onnx")
    assert np.array_equal(small, resize(drawn_photo(64, 48), 4, backend="onnx"))
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="SHA-256 differs"):
        resize(drawn_photo(64, 48), 4, weights=tmp_path, backend="onnx")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(main, ["export", str(tmp_path)])
    assert result.exit_code == 1 and "SHA-256 differs" in result.stderr


# -- a code modulo 8 --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coded() -> Downscaler:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Downscaler(4, qim=8).requires_grad_(False)


def test_the_thumbnail_is_its_code_near_bicubic(coded: Downscaler) -> None:
    photo = images()["rgb"]
    small = np.asarray(resize(photo, 4, weights=coded)).astype(int)
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float()
    code = (coded.residual(x).round() + 4).clamp(0, 7)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(small % 8, code) and len(np.unique(code)) == 8
    bicubic = np.asarray(photo.resize((60, 45), Image.Resampling.BICUBIC)).astype(int)
    inside = (bicubic >= 4) & (bicubic <= 251)
    assert inside.mean() > 0.5
    assert np.abs(small - bicubic)[inside].max() <= 4 + 1  # torch's bicubic, a level from Pillow's
    assert np.abs(small - bicubic).max() <= 7 + 1


@pytest.mark.parametrize("kind", ["rgb", "rgba", "16 bits", "float"])
@pytest.mark.parametrize("size", [(60, 45), (59, 44), (30, 20)])
def test_tiles_of_coded_thumbnails_equal_the_whole(
    monkeypatch: pytest.MonkeyPatch, coded: Downscaler, kind: str, size: tuple[int, int]
) -> None:
    image = images()[kind]
    whole = np.asarray(resize(image, size, weights=coded, num_threads=1))
    monkeypatch.setattr(tiles, "TILE", 3000)
    monkeypatch.setattr(tiles, "SMALLEST", 1000)
    assert np.array_equal(resize(image, size, weights=coded, num_threads=2), whole)
    levels = whole * {"16 bits": 1 / 257, "float": 255.0}.get(kind, 1)
    assert np.abs(levels - levels.round()).max() < 1e-3  # 8 bits, whatever holds them
    monkeypatch.setattr(torch_backend, "int8_is_exact", lambda: False)
    assert np.array_equal(resize(image, size, weights=coded), whole)
    array = np.asarray(image)
    blocks = downscale_rows([array[:50], array[50:]], (240, 180), size, weights=coded)
    assert np.array_equal(np.concatenate(list(blocks)), whole)


def test_a_coded_thumbnail_from_onnx(coded: Downscaler, tmp_path: Path) -> None:
    """Code for code the same; where their bicubic differs by a level, by the qim, rarely."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from learned_downscale.engine.export import export

    pretrained.save(tmp_path, coded, "a card")
    session = onnxruntime.InferenceSession(export(tmp_path).read_bytes())
    for kind in ("rgb", "rgba", "16 bits", "float"):
        a, b = (
            np.asarray(resize(images()[kind], 4, weights=tmp_path, backend=name)).astype(float)
            for name in ("torch", "onnx")
        )
        unit = {"16 bits": 257, "float": 1 / 255}.get(kind, 1)
        apart = np.abs(a - b) / unit
        assert (apart < 0.01).mean() > 0.999
        assert ((apart < 0.01) | (np.abs(apart - 8) < 0.01)).all()
    photo = np.asarray(images()["rgb"])
    whole = session.run(["thumbnail"], {"image": photo[None]})[0][0].astype(int)
    want = np.asarray(resize(photo, 4, weights=coded)).astype(int)
    assert np.array_equal(whole % 8, want % 8) and (whole == want).mean() > 0.999


def test_a_code_needs_three_colours(coded: Downscaler) -> None:
    photo = images()["rgb"]
    grey = np.asarray(photo.convert("L"))
    for image in (photo.convert("L"), photo.convert("LA"), photo.convert("CMYK"), grey):
        with pytest.raises(ValueError, match=r"three colours.*RGB"):
            resize(image, 4, weights=coded)
    with pytest.raises(ValueError, match=r"three colours.*RGB"):
        list(downscale_rows([grey], photo.size, 4, weights=coded))
    assert resize(photo.convert("L"), 1, weights=coded).mode == "L"  # a copy
    for qim in (0, 3, 256):
        with pytest.raises(ValueError, match=f"qim is {qim}; it must be one of 1, 2, 4"):
            Downscaler(4, qim=qim)


def test_a_decoder_sees_the_code(coded: Downscaler) -> None:
    x = torch.from_numpy(np.array(images()["rgb"])).permute(2, 0, 1)[None].float() / 255
    x_s, decoder = coded(x), Decoder(2, qim=8)
    code = (coded.residual((x * 255).round()).round() + 4).clamp(0, 7)
    assert torch.allclose(decoder._seen(x_s)[:, 3:] * 8 + 4, code, atol=1e-3)
    assert torch.equal(decoder._seen(x_s)[:, :3], x_s - 0.5)
    with pytest.raises(TypeError, match="float16 or wider"):
        decoder(x_s.bfloat16())
    half = (decoder._seen(x_s.half().float()) - decoder._seen(x_s)).abs().max()
    assert half < 0.05  # float16 tells the levels apart
    # what the decoder misses is told to E
    E = Downscaler(4, qim=8)
    (decoder(E(x)) - 0.5).square().mean().backward()
    assert E.stem.weight.grad is not None and E.stem.weight.grad.abs().max() > 0


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


def test_a_bad_image_in_a_list_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        resize([drawn_photo(8, 8), "photo.jpg"], 4)
    assert "at place 1 of the list of 2" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba", "16 bits", "float"])
@pytest.mark.parametrize("size", [4, 2, 3, 1.5])
def test_the_way_of_other_devices(kind: str, size: float) -> None:
    """Run on the CPU, since not every machine has another device."""
    array = np.asarray(images()[kind])
    array = array[..., None] if array.ndim == 2 else array
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    level = {"16 bits": 257, "float": 1 / 255}.get(kind, 1)
    for image, order in ((tensor, "rgb"), (tensor[None], "bgr"), (array, "bgr")):
        want, plan = resize(image, size, channel_order=order, return_plan=True)  # type: ignore[arg-type]
        samples, pack = unpack(image, order)  # type: ignore[arg-type]
        model = pretrained.load(plan.weights) if plan.weights else None
        got = other_device.downscale(
            "cpu",
            image,
            samples,
            pack,
            order,
            plan.target[::-1],
            model,
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


# -- larger than memory -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba", "16 bits", "float"])
@pytest.mark.parametrize("size", [4, 2, 3, 1.5, 1, (59, 44)])
def test_rows_in_rows_out(monkeypatch: pytest.MonkeyPatch, kind: str, size: Any) -> None:
    monkeypatch.setattr(tiles, "TILE", 5000)
    monkeypatch.setattr(tiles, "WIDEST", 150)
    image = np.asarray(images()[kind])
    want = resize(image, size)
    for step, threads in ((1, 1), (37, 2), (1000, 3)):
        blocks = (image[i : i + step] for i in range(0, len(image), step))
        got = list(downscale_rows(blocks, (240, 180), size, num_threads=threads))
        assert len(got) > 1 or step == 1000 or size == 1
        whole = np.concatenate(got)
        assert whole.dtype == want.dtype and whole.shape == want.shape
        assert levels_apart(whole, want) <= (1e-6 if kind == "float" else 0)


def test_rows_are_pulled_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 5000)
    pulled = 0

    def rows() -> Iterator[np.ndarray]:
        nonlocal pulled
        for row in np.asarray(images()["rgb"]):
            pulled += 1
            yield row[None]

    first = next(downscale_rows(rows(), (240, 180), 4, num_threads=1))
    assert len(first) < 10 and pulled < 60


ROW = np.zeros((10, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("rows", "source", "size", "error", "says"),
    [
        ([ROW], (32, 40), 4, ValueError, "ended at 10 of 40"),
        ([ROW] * 5, (32, 40), 4, ValueError, "more rows"),
        ([], (32, 40), 4, ValueError, "empty"),
        ([ROW[:, :5]] * 4, (32, 40), 4, ValueError, "32 pixels across"),
        ([ROW, ROW[..., :1]], (32, 20), 4, ValueError, "channels"),
        ([ROW, ROW.astype(float)], (32, 20), 4, ValueError, "dtype"),
        ([[1, 2]], (32, 20), 4, TypeError, "numpy arrays"),
        ([ROW + np.float32(2)] * 2, (32, 20), 4, ValueError, "divide by 255"),
        ([ROW] * 2, (32, 20), 0.5, ValueError, "enlarge"),
        ([ROW] * 2, (32, 0), 4, ValueError, "at least 1"),
    ],
)
def test_bad_rows(rows: Any, source: Any, size: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        list(downscale_rows(iter(rows), source, size))


@pytest.mark.parametrize("mode", ["r", "c"])
def test_an_array_in_a_file(tmp_path: Path, mode: Any) -> None:
    image = np.asarray(images()["rgb"])
    image.tofile(tmp_path / "image")
    mapped = np.memmap(tmp_path / "image", np.uint8, mode, shape=image.shape)
    if mode == "c":
        mapped[:90] = 255 - mapped[:90]  # in memory only: must not be lost
    want = resize(np.array(mapped), 4)
    assert np.array_equal(resize(mapped, 4), want)
    assert np.array_equal(resize(mapped, 4), want)
    assert np.array_equal(np.fromfile(tmp_path / "image", np.uint8), image.ravel())


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="no private mappings here")
def test_memory_of_this_process_alone_is_not_given_back() -> None:
    image = np.asarray(images()["rgb"])
    memory = mmap.mmap(-1, image.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped = np.ndarray(image.shape, np.uint8, buffer=memory)
    mapped[:] = image
    resize(mapped, 4)
    assert np.array_equal(mapped, image)


def test_rows_in_memory_that_is_used_again() -> None:
    image = np.asarray(images()["rgb"])
    buffer = np.empty((20, 240, 3), np.uint8)

    def rows() -> Iterator[np.ndarray]:
        for top in range(0, 180, 20):
            buffer[:] = image[top : top + 20]
            yield buffer

    got = np.concatenate(list(downscale_rows(rows(), (240, 180), 4)))
    assert np.array_equal(got, resize(image, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_one_column(dtype: Any) -> None:
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    ramp = np.linspace(0, top, 48).astype(dtype)[:, None]
    small = resize(ramp, (1, 12)).astype(float)[:, 0] / top
    assert np.abs(small - (np.arange(12) + 0.5) / 12).max() < 0.05


# -- bench ------------------------------------------------------------------------------------


def test_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import json

    from click.testing import CliRunner

    from learned_downscale.cli import main

    monkeypatch.setattr(bench, "SIZES", {0.3: (64, 48)})
    monkeypatch.setattr(bench, "BATCH", 2)
    picture = tmp_path / "bench.png"
    command = ["bench", "--megapixels", "0.3", "--factor", "4", "--json"]
    if pytest.importorskip("matplotlib"):
        command += ["--plot", str(picture)]
    before = torch.get_num_threads()
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {"megapixels", "factor", "threads", "system", "ms", "peak_mib"} <= set(rows[0])
    systems = {row["system"] for row in rows}
    assert {"learned", "pillow-bicubic", "pillow-reduce", "opencv-area", "torch-bicubic"} <= systems
    assert all(row["ms"] > 0 and row["factor"] == 4 for row in rows)
    assert {row["batch"] for row in rows} == {1, 2} and torch.get_num_threads() == before
    with Image.open(picture) as drawn:
        assert drawn.width > 300
    table = bench.table([bench.Row(**row) for row in rows])
    assert table.count("\n") == len(rows) + 1


def test_bench_refuses_what_it_could_not_write(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from learned_downscale.cli import main

    for plot in (tmp_path / "a.txt", tmp_path / "none" / "a.png"):
        result = CliRunner().invoke(main, ["bench", "--plot", str(plot)])
        assert result.exit_code == 2 and "--plot" in result.stderr


def test_memory_is_measured() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc")
    call: Callable[[], Any] = lambda: np.ones(40 * 2**20, np.uint8)  # noqa: E731
    peak = bench._peak(call)
    assert peak is not None and 39 < peak < 45
