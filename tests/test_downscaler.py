"""E itself: the bicubic skip, the residual, rounding, gradients, the module's contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Downscaler
from learned_downscale.core.tensors import bicubic, quantise


def trained_like(factor: int, seed: int = 0) -> Downscaler:
    """A Downscaler whose residual is not zero."""
    torch.manual_seed(seed)
    model = Downscaler(factor)
    torch.nn.init.normal_(model.out.weight, std=0.03)
    return model.eval()


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def levels_off(a: torch.Tensor, b: Image.Image) -> int:
    return int((255 * (a - as_tensor(b))).abs().max().round())


@pytest.mark.parametrize("size", [(40, 30), (41, 29), (97, 50), (5, 4), (160, 30)])
@pytest.mark.parametrize("kind", ["photo", "noise"])
def test_bicubic_is_pillows(size: tuple[int, int], kind: str) -> None:
    image = drawn_photo(160, 118)
    if kind == "noise":  # black and white: overshoot is clipped between the passes, as in Pillow
        noise = np.random.default_rng(1).integers(0, 2, (118, 160, 3), dtype=np.uint8) * 255
        image = Image.fromarray(noise)
    ours = bicubic(as_tensor(image), (size[1], size[0]))
    assert levels_off(ours, image.resize(size, Image.Resampling.BICUBIC)) <= 1
    assert levels_off(ours, image.resize(size, Image.Resampling.HAMMING)) > 1  # it can fail


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_untrained_is_bicubic(factor: int, photo: Image.Image) -> None:
    out = Downscaler(factor)(as_tensor(photo))
    size = -(-photo.width // factor), -(-photo.height // factor)
    assert levels_off(out, photo.resize(size, Image.Resampling.BICUBIC)) <= 1
    assert levels_off(trained_like(factor)(as_tensor(photo)), photo.resize(size, 3)) > 1


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("level", [0, 1, 77, 128, 255])
def test_constant_stays_constant(factor: int, level: int) -> None:
    x = torch.full((1, 3, 37, 50), level / 255)
    x[:, 1] = (255 - level) / 255
    out = (trained_like(factor)(x) * 255).round()
    assert (out[:, (0, 2)] == level).all() and (out[:, 1] == 255 - level).all()


def test_flat_areas_stay_flat_beside_an_edge() -> None:
    """Away from an edge, further than E sees, nothing rings."""
    x = torch.zeros(1, 3, 64, 128)
    x[..., 66:] = 0.5
    out = trained_like(4)(x)
    assert (out[..., :12] == 0).all()
    assert ((out[..., -12:] * 255).round() == 128).all()
    assert (out[..., 12:20] != bicubic(x, (16, 32))[..., 12:20]).any()


def test_result_is_what_will_be_saved(photo: Image.Image) -> None:
    out = trained_like(4)(as_tensor(photo))
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal((out * 255).round() / 255, out)
    free = trained_like(4)(as_tensor(photo), levels=None)
    assert not torch.equal((free * 255).round() / 255, free)
    assert (free - out).abs().max() < 2 / 255


def test_rounding_passes_the_gradient() -> None:
    x = torch.rand(8, requires_grad=True)
    quantise(x, 255).sum().backward()
    assert torch.equal(x.grad, torch.ones(8))


def test_residual_learns_from_the_first_step(photo: Image.Image) -> None:
    model = Downscaler(4)
    (model(as_tensor(photo)) - 0.5).square().mean().backward()
    assert model.out.weight.grad.abs().max() > 0


def test_other_sizes_than_the_native(photo: Image.Image) -> None:
    out = trained_like(2)(as_tensor(photo), (33, 47))
    assert out.shape == (1, 3, 33, 47)
    assert levels_off(out, photo.resize((47, 33), Image.Resampling.BICUBIC)) > 1
    assert levels_off(out, photo.resize((47, 33), Image.Resampling.BICUBIC)) < 64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_same_dtype(dtype: torch.dtype, photo: Image.Image) -> None:
    x, model = as_tensor(photo), trained_like(4)
    out = model(x.to(dtype))
    assert out.dtype == dtype
    assert (out.float() - model(x)).abs().max() < 8 / 255  # 8 bits of bfloat16 are not enough
    with pytest.raises(TypeError, match="keep it float32"):
        model.to(dtype)(x.to(dtype))


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, "divide by 255"),
        (np.zeros((8, 8, 3)), TypeError, "ndarray"),
        (torch.zeros(3, 8, 8), ValueError, "N, 3, H, W"),
        (torch.zeros(1, 4, 8, 8), ValueError, "N, 3, H, W"),
        (torch.zeros(1, 3, 0, 8), ValueError, "none of them 0"),
        (torch.full((1, 3, 8, 8), 255.0), ValueError, "divide 8-bit levels by 255"),
    ],
)
def test_bad_input(x: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Downscaler(4)(x)


def test_bad_factor() -> None:
    with pytest.raises(ValueError, match="whole number from 2 to 64"):
        Downscaler(1)
