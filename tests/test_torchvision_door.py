"""`learned_downscale.torchvision`: what works without torchvision, and, where it can be imported,
beside `torchvision.transforms.v2.Resize` itself."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import learned_downscale
from learned_downscale.torchvision import Resize, functional

needs_torchvision = pytest.mark.skipif(
    functional is None, reason="torchvision cannot be imported beside this torch"
)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return drawn_photo(203, 151)


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


SIZES = [(37, 50), (38, 51), (30, 20), (75, 101), (140, 150), (151, 203), 40, [64]]


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_the_librarys(photo: Image.Image, size: Any) -> None:
    resize = Resize(size)
    out = resize(photo)
    assert out.tobytes() == learned_downscale.resize(photo, out.size).tobytes()
    x = tensor(photo)
    assert torch.equal(resize(x), tensor(out))
    assert torch.equal(
        resize(x[None, None, :1]), learned_downscale.resize(x[:1], out.size)[None, None]
    )
    half = resize(x.half() / 255)
    assert half.dtype == torch.float16 and half.shape == tensor(out).shape


@pytest.mark.parametrize(
    ("size", "max_size", "want"),
    [(50, None, (50, 67)), (50, 60, (44, 60)), (None, 60, (44, 60)), ([50], None, (50, 67))],
)
def test_sizes_are_torchvisions(photo: Image.Image, size: Any, max_size: Any, want: Any) -> None:
    resize = Resize(size, max_size)
    assert resize(tensor(photo)).shape[-2:] == want
    assert resize(tensor(photo).mT).shape[-2:] == want[::-1]
    assert resize(photo).size == want[::-1]


def test_enlargements_are_bicubic(photo: Image.Image) -> None:
    small = photo.resize((40, 30))
    assert Resize((60, 50))(small) == small.resize((50, 60), Image.Resampling.BICUBIC)
    for dtype in (torch.uint8, torch.float32):
        x = tensor(small).to(dtype) / (1 if dtype == torch.uint8 else 255)
        out = Resize((60, 50))(x.to(dtype)).float() * (1 if dtype == torch.uint8 else 255)
        assert (out - tensor(Resize((60, 50))(small))).abs().mean() < 1


def test_kinds_stay(photo: Image.Image) -> None:
    x = tensor(photo)[None].to(memory_format=torch.channels_last)
    assert Resize(40)(x).is_contiguous(memory_format=torch.channels_last)
    assert Resize(40)(photo.convert("L")).mode == "L"
    clip = tensor(photo).expand(2, 5, 3, 151, 203)
    out = Resize((37, 50))(clip)
    assert out.shape == (2, 5, 3, 37, 50) and torch.equal(out[1, 4], Resize((37, 50))(clip[0, 0]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0,), "above 0"),
        (((1, 2, 3),), "above 0"),
        ((None,), "or max_size"),
        (((9, 9), 9), "exact"),
    ],
)
def test_arguments_that_are_refused(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Resize(*arguments)
    with pytest.raises(FileNotFoundError, match="bundled are"):
        Resize(9, weights="nothing")


def test_gradients_do_not_end_silently(photo: Image.Image) -> None:
    x = (tensor(photo).float() / 255).requires_grad_()
    with pytest.raises(ValueError, match="differentiable=True"):
        Resize((37, 50))(x)
    with torch.no_grad():
        assert Resize((37, 50))(x).shape == (3, 37, 50)


# Differentiable


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_differentiable_gives_the_same_images(photo: Image.Image, size: Any, channels: int) -> None:
    x = (tensor(photo)[:channels].float() / 255).requires_grad_()
    out = Resize(size, differentiable=True)(x)
    with torch.no_grad():
        difference = 255 * (out - Resize(size)(x)).abs()
    assert difference.max() < 1.1 and difference.mean() < 0.06
    (gradient,) = torch.autograd.grad(out.sum(), x)
    # the mean of what is made is the mean of what it is made of
    assert gradient.sum().item() == pytest.approx(out.numel(), rel=0.35)
    assert (gradient != 0).float().mean() > 0.9


def test_differentiable_refuses_what_it_cannot(photo: Image.Image) -> None:
    with pytest.raises(ValueError, match="float tensors of 1 or 3"):
        Resize(40, differentiable=True)(tensor(photo))
    resize = Resize((100, 100), weights="x4", differentiable=True)
    with pytest.raises(ValueError, match="do not fit"):
        resize(tensor(photo) / 255)
    assert Resize(40, differentiable=True)(photo).size == Resize(40)(photo).size


class Doubled(torch.nn.Module):
    def __init__(self, resize: Resize) -> None:
        super().__init__()
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.resize(2 * x / 2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(38, 51), (37, 50), (75, 101)])
def test_compile_and_export(photo: Image.Image, size: tuple[int, int]) -> None:
    x = tensor(photo)[None].float() / 255
    model = Doubled(Resize(size, differentiable=True))
    want = model(x)
    exported = torch.export.export(model, (x,)).module()
    assert torch.equal(exported(x), want)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), want)
    plain = torch.compile(Doubled(Resize(size)), backend="eager")
    assert torch.equal(plain(x), Doubled(Resize(size))(x))


# Workers


class Photos(Dataset[Any]):
    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return tensor(self.transform(drawn_photo(161 + index, 120)))


def test_picklable() -> None:
    for resize in (Resize(40), Resize((30, 40), differentiable=True)):
        again = pickle.loads(pickle.dumps(resize))
        x = tensor(drawn_photo(161, 120)).float() / 255
        assert torch.equal(again(x), resize(x)) and str(again) == str(resize)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_in_workers(method: str) -> None:
    data = Photos(Resize((30, 40)))
    want = [data[i] for i in range(4)]  # the parent's threads exist already
    loader = DataLoader(data, 1, num_workers=2, multiprocessing_context=method)
    assert all(torch.equal(got[0], one) for got, one in zip(loader, want, strict=True))


# With torchvision


def test_without_torchvision_samples_are_refused() -> None:
    if functional is not None:
        pytest.skip("torchvision is here")
    with pytest.raises(TypeError, match="install torchvision"):
        Resize(40)({"image": drawn_photo(64, 64)})


@needs_torchvision
def test_samples_of_any_structure(photo: Image.Image) -> None:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    mask = torch.randint(0, 9, (151, 203), dtype=torch.uint8)
    sample = {
        "image": tv_tensors.Image(tensor(photo)),
        "rest": [
            tv_tensors.Mask(mask),
            tv_tensors.BoundingBoxes(
                torch.tensor([[10, 20, 110, 120.0]]), format="XYXY", canvas_size=(151, 203)
            ),
            tv_tensors.KeyPoints(torch.tensor([[10.0, 20.0]]), canvas_size=(151, 203)),
            tv_tensors.Video(tensor(photo).expand(2, 3, 151, 203)),
        ],
        "label": 3,
    }
    for size, most in (((37, 50), None), (50, 60), (200, None)):
        ours = Resize(size, most)(sample)
        theirs = v2.Resize(size, v2.InterpolationMode.BICUBIC, most)(sample)
        assert ours["label"] == 3
        for a, b in zip([ours["image"], *ours["rest"]], [theirs["image"], *theirs["rest"]],
                        strict=True):  # fmt: skip
            assert type(a) is type(b) and a.shape == b.shape and a.dtype == b.dtype
            if isinstance(a, (tv_tensors.Image, tv_tensors.Video)):
                assert (a.float() - b.float()).abs().mean() < 6
            else:
                assert torch.equal(a, b)
    assert isinstance(ours["image"], tv_tensors.Image)


@needs_torchvision
def test_in_compose(photo: Image.Image) -> None:
    from torchvision.transforms import v2

    after = [v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    out = v2.Compose([Resize(40), *after])(photo)
    assert isinstance(Resize(40), v2.Transform)
    want = v2.Compose(after)(learned_downscale.resize(photo, out_size(photo, 40)))
    assert torch.equal(out, want)
    # a second tensor without a type is no image
    x, other = Resize(40)(tensor(photo), torch.zeros(5))
    assert x.shape[-2:] == (40, 53) and other.shape == (5,)


def out_size(photo: Image.Image, short: int) -> tuple[int, int]:
    return int(short * photo.width / photo.height), short


def test_differentiable_is_true_or_false() -> None:
    with pytest.raises(ValueError, match="differentiable is 1; it must be true or false"):
        Resize((16, 16), differentiable=1)
