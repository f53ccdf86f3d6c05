"""Thumbnails with a payload, and the decoder that reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image
from test_engine import cut, images

from learned_downscale import Decoder, Downscaler, Resizer, downscale_rows, pretrained, resize
from learned_downscale.core.qim import ENOUGH, lacks_payload
from learned_downscale.engine import torch_backend


@pytest.fixture(scope="module")
def embedding() -> Downscaler:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Downscaler(4, qim=8).requires_grad_(False)


def test_the_thumbnail_is_its_payload_near_bicubic(embedding: Downscaler) -> None:
    photo = images()["rgb"]
    small = np.asarray(resize(photo, 4, weights=embedding)).astype(int)
    x = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float()
    payload = (embedding.residual(x).round() + 4).clamp(0, 7)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(small % 8, payload) and len(np.unique(payload)) == 8
    bicubic = np.asarray(photo.resize((60, 45), Image.Resampling.BICUBIC)).astype(int)
    inside = (bicubic >= 4) & (bicubic <= 251)
    assert inside.mean() > 0.5
    assert np.abs(small - bicubic)[inside].max() <= 4 + 1  # torch's bicubic, a level from Pillow's
    assert np.abs(small - bicubic).max() <= 7 + 1


@pytest.mark.parametrize("kind", ["rgb", "rgba", "16 bits", "float"])
@pytest.mark.parametrize("size", [(60, 45), (59, 44), (30, 20)])
def test_tiles_of_thumbnails_with_a_payload_equal_the_whole(
    monkeypatch: pytest.MonkeyPatch, embedding: Downscaler, kind: str, size: tuple[int, int]
) -> None:
    image = images()[kind]
    whole = np.asarray(resize(image, size, weights=embedding, num_threads=1))
    assert np.array_equal(cut(Resizer(size, weights=embedding, num_threads=2))(image), whole)
    levels = whole * {"16 bits": 1 / 257, "float": 255.0}.get(kind, 1)
    assert np.abs(levels - levels.round()).max() < 1e-3  # 8 bits, whatever holds them
    monkeypatch.setattr(torch_backend, "int8_is_exact", lambda: False)
    assert np.array_equal(resize(image, size, weights=embedding), whole)
    array = np.asarray(image)
    blocks = downscale_rows([array[:50], array[50:]], (240, 180), size, weights=embedding)
    assert np.array_equal(np.concatenate(list(blocks)), whole)


def test_a_payload_from_onnx(embedding: Downscaler, tmp_path: Path) -> None:
    """The same payloads; where their bicubic differs by a level, by the qim, rarely."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from learned_downscale.engine.export import export_onnx

    pretrained.save(tmp_path, [embedding], "a card")
    session = onnxruntime.InferenceSession(export_onnx(tmp_path).read_bytes())
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
    want = np.asarray(resize(photo, 4, weights=embedding)).astype(int)
    assert np.array_equal(whole % 8, want % 8) and (whole == want).mean() > 0.999


def test_a_payload_needs_three_colours(embedding: Downscaler) -> None:
    photo = images()["rgb"]
    grey = np.asarray(photo.convert("L"))
    for image in (photo.convert("L"), photo.convert("LA"), photo.convert("CMYK"), grey):
        with pytest.raises(ValueError, match=r"three colour channels.*RGB"):
            resize(image, 4, weights=embedding)
    with pytest.raises(ValueError, match=r"three colour channels.*RGB"):
        list(downscale_rows([grey], photo.size, 4, weights=embedding))
    assert resize(photo.convert("L"), 1, weights=embedding).mode == "L"  # a copy
    for qim in (0, 3, 256):
        with pytest.raises(ValueError, match=f"qim is {qim}; it must be one of 1, 2, 4"):
            Downscaler(4, qim=qim)


def test_a_decoder_gets_the_payload(embedding: Downscaler) -> None:
    x = torch.from_numpy(np.array(images()["rgb"])).permute(2, 0, 1)[None].float() / 255
    x_s, decoder = embedding(x), Decoder(2, qim=8)
    payload = (embedding.residual((x * 255).round()).round() + 4).clamp(0, 7)
    assert torch.allclose(decoder._inputs(x_s)[:, 3:] * 8 + 4, payload, atol=1e-3)
    assert torch.equal(decoder._inputs(x_s)[:, :3], x_s - 0.5)
    with pytest.raises(TypeError, match="float16 or wider"):
        decoder(x_s.bfloat16())
    half = (decoder._inputs(x_s.half().float()) - decoder._inputs(x_s)).abs().max()
    assert half < 0.05  # float16 tells the levels apart
    # the decoder's error reaches the downscaler
    E = Downscaler(4, qim=8)
    (decoder(E(x)) - 0.5).square().mean().backward()
    assert E.stem.weight.grad is not None and E.stem.weight.grad.abs().max() > 0


def test_a_missing_payload_is_noticed() -> None:
    photo = drawn_photo(320, 240)
    small = np.asarray(resize(photo, 4, weights="x4-machine"))
    assert not lacks_payload(small, 8)
    assert lacks_payload(np.asarray(photo.resize((80, 60), Image.Resampling.BICUBIC)), 8)
    assert lacks_payload(np.asarray(resize(photo, 4)), 8)
    assert lacks_payload(small + np.uint8(3), 8)
    # too few samples, or weights without a payload, say nothing
    few = np.asarray(resize(photo, 4))[:10, :10]
    assert few.size < ENOUGH and not lacks_payload(few, 8)
    assert not lacks_payload(np.asarray(resize(photo, 4)), 1)


def test_a_decoder_refuses_levels_above_1() -> None:
    decoder = Decoder.from_pretrained("x4-machine")
    with pytest.raises(ValueError, match="divide 8-bit levels by 255"):
        decoder(torch.full((1, 3, 8, 8), 200.0))
    with pytest.raises(TypeError, match="divided by 255"):
        decoder(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="RGB"):
        decoder(torch.zeros(1, 1, 8, 8))
