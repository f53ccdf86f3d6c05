"""The trained student as weights: without the teacher, without transformers; ResNet; ONNX."""
# ruff: noqa: F811 (fixtures that are imported)

from __future__ import annotations

import json
import subprocess
import sys
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
    run,
    supervised,
    teacher,
)

from learned_downscale import Decoder, Prediction, ThumbnailClassifier, hub, pretrained, resize
from learned_downscale.readers.bundled import Sizes
from learned_downscale.readers.efficientnet_lite import EfficientNetLite
from learned_downscale.readers.resnet import ResNet

transformers = pytest.importorskip("transformers", reason="needs the extra [train]")


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("v1", [True, False])
def test_resnet_is_the_one_of_transformers(kind: str, v1: bool) -> None:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32],
        depths=[1, 2],
        layer_type=kind,
        downsample_in_bottleneck=v1,
        downsample_in_first_stage=not v1,
        num_labels=5,
    )
    theirs = transformers.ResNetForImageClassification(config).eval()
    for name, value in theirs.state_dict().items():
        if "normalization" in name and value.ndim:
            value.uniform_(0.5, 1.5)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.1]
    ours = ResNet.from_transformers(theirs, mean, std)
    assert ours is not None
    x = torch.rand(2, 3, 64, 48)
    normalised = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        want = theirs(normalised).logits
        assert torch.allclose(ours(x), want, atol=1e-4) and want.std() > 0.01
        ours.choose([3, 1])
        assert torch.allclose(ours(x), want[:, [3, 1]], atol=1e-4)
    again = ResNet(**ours.config)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again(x), ours(x)) and again.config == ours.config
    assert ours.changed(stem_stride=1).config["stem_stride"] == 1


def test_other_architectures_are_not_converted() -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", hidden_act="gelu"
    )
    model = transformers.ResNetForImageClassification(config)
    assert ResNet.from_transformers(model, [0.5] * 3, [0.5] * 3) is None


def resnet() -> ResNet:
    """In float16 levels, with logits that differ from thumbnail to thumbnail."""
    torch.manual_seed(0)
    arguments = ([8, 16], [1, 2], False, False, False, 20, [0.5] * 3, [0.25] * 3)
    network = ResNet(8, *arguments)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    x = torch.rand(16, 3, 40, 40)
    with torch.no_grad():
        network.classify.weight *= 2.0 ** (1 / network(x).std(0).mean()).log2().round()
    return network.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:the thumbnails carry no payload")
@pytest.mark.parametrize(
    ("decoder", "inputs"),
    [
        (None, {"input_scale": 1.0}),
        (None, {"input_scale": 1.25}),
        (Decoder(2, 8, 8), {"input_scale": 0.7}),
        (Decoder(3, 8), {"input_scale": 1.0}),
        (None, {"input_side": 55}),
        (Decoder(4, 8), {"input_side": 45}),
    ],
)
@pytest.mark.parametrize("architecture", ["resnet", "efficientnet_lite"])
def test_onnx_is_the_classifier(
    architecture: str, decoder: Decoder | None, inputs: dict[str, Any]
) -> None:
    ort = pytest.importorskip("onnxruntime")
    from learned_downscale.readers.onnx_graph import make

    bundled = ThumbnailClassifier.from_pretrained()
    network = resnet() if architecture == "resnet" else bundled.network
    network = network.changed(**{"input_side": 0, **inputs})
    network.choose(range(20))
    classifier = ThumbnailClassifier(
        network, bundled.labels[:20], bundled.wordnet_ids[:20], 0.5, 1.3, decoder
    )
    session = ort.InferenceSession(make(classifier))
    for width, height in ((40, 40), (44, 33)):
        x = np.stack([np.array(drawn_photo(width, height, seed)) for seed in range(4)])
        (got,) = session.run(None, {"thumbnail": x})
        want = classifier.probabilities(list(x))
        assert np.abs(got - want).max() < 1e-4
        assert want.std(0).max() > 1e-3  # else a wrong graph would pass, too


TRAINED = """
import sys, json
sys.modules["transformers"] = sys.modules["accelerate"] = None
from learned_downscale import ThumbnailClassifier
classifier = ThumbnailClassifier.from_pretrained(sys.argv[1])
assert not [name for name in sys.modules if "thumbnet" in name]
print(json.dumps([classifier(path).probabilities for path in sys.argv[2:]]))
"""


def test_a_student_of_the_paper_is_a_product(tmp_path: Path) -> None:
    """Trained by recipe `paper` on generated pictures, it loads in a fresh process without the
    teacher and without transformers, and classifies; from Python, `classify` and ONNX alike."""
    drawn = fine_textures(6, 0)
    for name, image, label in zip(drawn.names, drawn.images, drawn.labels, strict=True):
        path = tmp_path / "photos" / drawn.classes[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate("abcd")),
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "teacher")
    processor = {"image_processor_type": "ConvNextImageProcessor", "image_mean": [0.5] * 3,
                 "image_std": [0.2] * 3}  # fmt: skip
    (tmp_path / "teacher" / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "labels.json").write_text(json.dumps({"a": "flat", "b": "rising"}))
    result = run(
        "train", "--recipe", "paper", "--data", tmp_path / "photos", "--run", tmp_path / "run",
        "--teacher", tmp_path / "teacher", "--out", tmp_path / "E", "--out-student",
        tmp_path / "S", "--labels", tmp_path / "labels.json", "--license", "ours",
        "--set", "run.size=64", "--set", "task.0.epochs=1", "--set", "task.1.epochs=1",
        "--set", "run.batch_size=8",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    card = (tmp_path / "S" / "README.md").read_text()
    assert "Classes** (4): flat, rising, c, d" in card and "ours" in card
    assert "--recipe paper --set run.size=64 --set task.0.epochs=1" in card

    originals = [drawn.images[i].permute(1, 2, 0).numpy() for i in (0, 9, 20)]
    files = []
    for i, pixels in enumerate(originals):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(resize(pixels, 4, weights=tmp_path / "E")).save(files[-1])
    (tmp_path / "teacher").rename(tmp_path / "gone")
    out = subprocess.run(
        [sys.executable, "-c", TRAINED, tmp_path / "S", *files],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(out.stdout)
    classifier = ThumbnailClassifier.from_pretrained(tmp_path / "S")
    assert classifier.labels == ("flat", "rising", "c", "d")
    want = classifier.probabilities(files)
    for one, row in zip(found, want, strict=True):
        assert set(one) == set(classifier.labels) and sum(one.values()) == pytest.approx(1)
        assert [one[label] for label in classifier.labels] == pytest.approx(row.tolist(), abs=1e-5)
    # the student of the run, whose weights are not rounded to float16
    from safetensors.torch import load_file

    S = classifier.network.changed()
    kept = load_file(tmp_path / "run" / "student.safetensors")
    S.load_state_dict({k.removeprefix("network."): v for k, v in kept.items()})
    thumbnails = np.stack([np.asarray(Image.open(file)) for file in files])
    logits = S(torch.from_numpy(thumbnails).permute(0, 3, 1, 2) / 255)
    assert np.abs(logits.softmax(1).detach().numpy() - want).max() < 5e-3

    shown = run("classify", "--classifier", tmp_path / "S", "--json", *files)
    assert shown.exit_code == 0
    for entry, one in zip(json.loads(shown.stdout), found, strict=True):
        assert entry["probabilities"] == pytest.approx(one)
    ort = pytest.importorskip("onnxruntime")
    content, config = pretrained.load_onnx(tmp_path / "S", "classifier")
    assert [entry["wordnet_id"] for entry in config["classes"]] == list("abcd")
    (got,) = ort.InferenceSession(content).run(None, {"thumbnail": thumbnails})
    assert np.abs(got - want).max() < 1e-4
    with pytest.raises(ValueError, match="takes short sides up to 32 px: make the thumbnail first"):
        classifier(originals[0])


def test_a_student_with_a_decoder(
    folder: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decoder is stored beside it; and thumbnails without a payload are warned of."""
    (tmp_path / "mine.toml").write_text(
        "[run]\nsize = 32\nbatch_size = 8\n[downscaler]\nfactor = 2\nqim = 8\n"
        "[student]\ndecoder_factor = 2\ndecoder_width = 8\n"
        '[[task]]\ntype = "reconstruct"\n[[task]]\ntype = "supervised"\n'
    )
    result = run(
        "train", "--recipe", tmp_path / "mine.toml", "--data", folder, "--teacher", teacher,
        "--run", tmp_path / "run", "--out-student", tmp_path / "S",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    classifier = ThumbnailClassifier.from_pretrained(tmp_path / "S")
    assert classifier.decoder is not None and classifier.decoder.config["qim"] == 8
    assert classifier.sizes == Sizes(8, 32, False)
    thumbnail = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert isinstance(classifier(thumbnail), Prediction)  # too small to tell
    with pytest.warns(UserWarning, match="carry no payload"):
        classifier([thumbnail + np.uint8(i) for i in range(16)])


def test_a_student_that_needs_its_own_library(folder: Path, teacher: Path, tmp_path: Path) -> None:
    """is refused as weights before the training; as a part of a run it is trained."""
    common = ["train", "--recipe", "paper", "--data", folder, "--teacher", teacher,
              "--set", "run.size=32", "--run", tmp_path / "run"]  # fmt: skip
    foreign = ["--set", "student.network=thumbnet_helpers:small_network"]
    result = run(*common, *foreign, "--out-student", tmp_path / "S")
    assert result.exit_code == 2 and "Sequential would need its own library" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "vit"}, "none of efficientnet_lite, resnet"),
        ({"architecture": "resnet"}, "does not fit"),
        ({"depth": 9.0}, "does not fit"),
    ],
)
def test_a_config_of_another_network(
    config: dict[str, object], message: str, tmp_path: Path
) -> None:
    network = EfficientNetLite(0.25, 0.25, 1, 2)
    pretrained.save(tmp_path, [network], "")
    found = json.loads((tmp_path / "config.json").read_text())
    assert found["classifier"]["architecture"] == "efficientnet_lite"
    found["classifier"] |= config
    (tmp_path / "config.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=message):
        ThumbnailClassifier.from_pretrained(tmp_path)


def test_export_command_takes_classifiers(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra [onnx]")
    import shutil

    from click.testing import CliRunner

    from learned_downscale.cli import main

    bundled = pretrained.folder_of("thumbnail1000", "classifier")
    assert bundled is not None
    shutil.copytree(bundled, tmp_path / "mine")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "mine" / "model.onnx").is_file()
    (tmp_path / "none").mkdir()
    result = CliRunner().invoke(main, ["export", str(tmp_path / "none")])
    assert result.exit_code == 1 and "config.json is missing" in result.stderr


def test_export_command_takes_decoders(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    pytest.importorskip("onnx", reason="needs the extra [onnx]")
    import hashlib
    import shutil

    from click.testing import CliRunner

    from learned_downscale.cli import main

    bundled = pretrained.folder_of("x2-machine")
    assert bundled is not None
    shutil.copytree(bundled, tmp_path / "mine")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.stderr
    assert "model.onnx" in result.stdout and "decoder.onnx" in result.stdout
    content = (tmp_path / "mine" / "decoder.onnx").read_bytes()
    config = pretrained.read_config(tmp_path / "mine")
    assert config["decoder_onnx_sha256"] == hashlib.sha256(content).hexdigest()
    sent = {file.name: file.sha256 for file in hub.uploads(tmp_path / "mine", "acme/mine")}
    assert sent["decoder.onnx"] == config["decoder_onnx_sha256"]  # it can be pushed

    small = np.array(resize(drawn_photo(90, 60), 2, weights="x2-machine"))
    (large,) = onnxruntime.InferenceSession(content).run(None, {"thumbnail": small[None]})
    x = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
    decoder = Decoder.from_pretrained("x2-machine")
    want = (255 * decoder(x)[0].clamp(0, 1)).round().permute(1, 2, 0).numpy()
    assert np.abs(large[0] - want).max() <= 1
    small[:] //= 2  # another payload
    (other,) = onnxruntime.InferenceSession(content).run(None, {"thumbnail": small[None]})
    assert np.abs(other[0] - want).max() > 1
