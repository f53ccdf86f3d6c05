"""Loading weights: strict, checked, and never from the network by accident."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Decoder, Downscaler, ThumbnailClassifier, pretrained, resize
from learned_downscale.readers.efficientnet_lite import EfficientNetLite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Downscaler(4, channels=8)
    torch.nn.init.normal_(model.out.weight)
    pretrained.save(tmp_path / "mine", [model], "a card", training={"photos": 3})
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "factor"),
    [("x2", 2), ("x2-machine", 2), ("x4", 4), ("x4-jpeg", 4), ("x4-machine", 4)],
)
def test_bundled(name: str, factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("bundled weights must not touch the network")

    monkeypatch.setattr(socket, "socket", no_network)
    model = Downscaler.from_pretrained(name)
    assert model.factor == factor and not model.training
    assert model(torch.rand(2, 3, 16, 20)).shape == (2, 3, 16 // factor, 20 // factor)
    assert model.out.weight.abs().max() > 0
    assert name in pretrained.bundled()


def test_folder_round_trip(folder: Path) -> None:
    model = Downscaler.from_pretrained(folder)
    torch.manual_seed(0)
    again = Downscaler(4, channels=8)
    torch.nn.init.normal_(again.out.weight)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(model(x), again(x))
    assert (folder / "README.md").read_text() == "a card"


def test_decoder_beside_its_downscaler(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"decoder\.safetensors is missing"):
        Decoder.from_pretrained(folder)
    model, decoder = Downscaler.from_pretrained(folder), Decoder(2, width=8)
    decoder.half().float()  # decoders are kept in float16
    pretrained.save(folder, [model, decoder], "a card")
    again = Decoder.from_pretrained(folder)
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), decoder(x)) and again(x).shape == (2, 3, 10, 14)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(again(x), decoder(x))  # 8 bits of mantissa are too few
    assert not again.training
    path = folder / "decoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="damaged"):
        Decoder.from_pretrained(folder)
    with pytest.raises(TypeError, match="divided by 255"):
        again((255 * x).byte())
    with pytest.raises(ValueError, match="whole number from 2 to 16"):
        Decoder(1)


def test_a_decoder_reconstructs_the_photo() -> None:
    photo = drawn_photo(400, 304)
    small = resize(photo, 4, weights="x4-machine")

    def tensor(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255

    decoder = Decoder.from_pretrained("x4-machine")
    assert decoder(torch.zeros(0, 3, 8, 8)).shape == (0, 3, 32, 32)
    exact = decoder(tensor(small))
    bicubic = photo.resize(small.size, Image.Resampling.BICUBIC)
    errors = [float((decoder(tensor(x)) - tensor(photo)).square().mean()) for x in (small, bicubic)]
    assert errors[0] < errors[1]  # what is reconstructed lies in the payload
    for dtype, off in ((torch.float16, 0.01), (torch.bfloat16, 0.05), (torch.float64, 1e-5)):
        rebuilt = decoder.to(dtype)(tensor(small))  # as part of a network of that dtype
        assert rebuilt.dtype == dtype and (rebuilt - exact).abs().max() < off
        decoder = Decoder.from_pretrained("x4-machine")
    for name in ("x4-machine", "x4-jpeg"):
        for wrong, message in (
            (255 * tensor(small), "up to 255"),
            (tensor(small)[0], "a first axis"),
            (tensor(small.convert("RGBA")), "lay transparency over"),
        ):
            with pytest.raises(ValueError, match=message):
                Decoder.from_pretrained(name)(wrong)


def test_save_pretrained(folder: Path, tmp_path: Path) -> None:
    E = Downscaler.from_pretrained(folder)
    E.save_pretrained(folder)  # the same weights: what describes them stays
    assert pretrained.read_config(folder)["training"] == {"photos": 3}
    assert (folder / "README.md").read_text() == "a card"
    (folder / "model.onnx").write_bytes(b"x")
    decoder = Decoder(4, width=4)
    decoder.save_pretrained(folder, license="cc0-1.0")
    config = pretrained.check_folder(folder)
    assert "training" not in config and not (folder / "model.onnx").exists()
    assert Downscaler.from_pretrained(folder).out.weight.equal(E.out.weight)
    with torch.no_grad():
        E.out.weight.mul_(0.5)
    E.save_pretrained(str(folder))  # replaced; decoder and licence stay
    config = pretrained.check_folder(folder)
    assert config["license"] == "cc0-1.0" and "decoder" in config
    assert Downscaler.from_pretrained(folder).out.weight.equal(E.out.weight)
    card = (folder / "README.md").read_text()
    assert "license: cc0-1.0" in card and "# mine: downscaler and decoder" in card
    classifier = ThumbnailClassifier(EfficientNetLite(0.25, 0.25, 2, 2), "ab", "ab", 0.5)
    for network, place in ((classifier, folder), (E, tmp_path / "student")):
        classifier.save_pretrained(tmp_path / "student")
        with pytest.raises(FileExistsError, match="holds weights of another kind"):
            network.save_pretrained(place)
    assert Downscaler.from_pretrained(folder).factor == 4  # as before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="its files are not replaced: name a new folder"):
        E.save_pretrained(tmp_path / "photos")


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="damaged"):
        Downscaler.from_pretrained(folder)


def test_network_that_does_not_fit(folder: Path) -> None:
    change_config(folder, downscaler={"factor": 4, "channels": 16})
    with pytest.raises(ValueError, match="does not fit"):
        Downscaler.from_pretrained(folder)


def test_config_that_is_none(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not describe"):
        Downscaler.from_pretrained(folder)


def test_missing_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        Downscaler.from_pretrained(folder)


def test_unknown_name() -> None:
    with pytest.raises(
        FileNotFoundError, match="bundled are x2, x2-machine, x4, x4-jpeg, x4-machine"
    ):
        Downscaler.from_pretrained("x3")
    for name in ("C:/weights", "C:\\weights/x4", "a/b/c", "/none/x4", "./x4"):
        with pytest.raises(FileNotFoundError, match="no weights of a downscaler"):
            Downscaler.from_pretrained(name)


def test_a_missing_path_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(FileNotFoundError, match="runs/x4"):
        Downscaler.from_pretrained(Path("runs/x4"))
