"""The thumbnail classifier: kinds of images, sizes, predictions, training, measurement."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image

from learned_downscale import Prediction, ThumbnailClassifier, pretrained, resize
from learned_downscale.cli import main
from learned_downscale.core.decoder import Decoder
from learned_downscale.readers.bundled import Sizes
from learned_downscale.readers.efficientnet_lite import (
    EfficientNetLite,
    _Convolution,
    load_published,
)
from learned_downscale.readers.network import resized, with_short_side
from learned_downscale.thumbnet.data import Photos, read_photos
from learned_downscale.thumbnet.recipe import Recipe, from_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def classifier() -> ThumbnailClassifier:
    return ThumbnailClassifier.from_pretrained()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def close(a: Prediction, b: Prediction) -> bool:
    return max(abs(a.probabilities[k] - p) for k, p in b.probabilities.items()) < 1e-4


def test_kinds_of_images_agree(classifier: ThumbnailClassifier, tmp_path: Path) -> None:
    image = drawn_photo(64, 56)
    array = np.array(image)
    image.save(tmp_path / "a.png")
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    want = classifier(image)
    assert isinstance(want, Prediction)
    assert sum(want.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert list(want.probabilities.values()) == sorted(want.probabilities.values(), reverse=True)
    for same in (
        array,
        array.astype(np.float32) / 255,
        array.astype(np.uint16) * 257,
        tensor,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        tmp_path / "turned.png",
        image.convert("RGBA"),
    ):
        assert close(classifier(same), want)
    assert close(classifier(array[..., ::-1], channel_order="bgr"), want)
    assert not close(classifier(array[..., ::-1]), want)
    batch = classifier(torch.stack([tensor, tensor.flip(2)]))
    assert len(batch) == 2 and close(batch[0], want) and not close(batch[1], want)
    mixed = classifier([image, drawn_photo(80, 60, 1), array])
    assert len(mixed) == 3 and close(mixed[0], want) and close(mixed[2], want)
    assert not close(mixed[1], want)
    assert classifier([]) == []


def test_grey_and_transparent(classifier: ThumbnailClassifier) -> None:
    grey = drawn_photo(60, 60).convert("L")
    assert close(classifier(grey), classifier(grey.convert("RGB")))
    cut = drawn_photo(60, 60).convert("RGBA")
    cut.putalpha(Image.new("L", (60, 60), 0))
    assert close(classifier(cut), classifier(Image.new("RGB", (60, 60), "white")))
    with pytest.raises(ValueError, match="LAB"):
        classifier(Image.new("LAB", (60, 60)))


def test_large_images_are_made_smaller_by_e(classifier: ThumbnailClassifier) -> None:
    photo = drawn_photo(800, 512)
    assert close(classifier(photo), classifier(resize(photo, (250, 160))))


def test_sizes_that_it_cannot_read(classifier: ThumbnailClassifier) -> None:
    with pytest.raises(ValueError, match="32 px"):
        classifier(drawn_photo(100, 31))
    with pytest.raises(ValueError, match="4 times"):
        classifier(drawn_photo(330, 80))
    with pytest.raises(ValueError, match="rgb, bgr"):
        classifier(np.zeros((56, 56, 3), np.uint8), channel_order="RGB")
    with pytest.raises(TypeError, match="NoneType"):
        classifier([drawn_photo(56, 56), None])
    own = ThumbnailClassifier(
        classifier.network, classifier.labels, classifier.wordnet_ids, 0.5, classifier.temperature,
        classifier.decoder, sizes=Sizes(48, 60, shrinks=False),
    )  # fmt: skip
    assert close(own(drawn_photo(56, 56)), classifier(drawn_photo(56, 56)))
    with pytest.raises(ValueError, match="48 px or more"):
        own(drawn_photo(40, 56))
    with pytest.raises(ValueError, match="up to 60 px: make the thumbnail first"):
        own(drawn_photo(64, 64))


def test_none_of_these(classifier: ThumbnailClassifier) -> None:
    sure = ThumbnailClassifier(
        classifier.network, classifier.labels, classifier.wordnet_ids, threshold=0
    )
    image = drawn_photo(56, 56)
    assert sure(image).label == next(iter(sure(image).probabilities))
    sure.threshold = 1.1
    assert sure(image).label is None and "none of these" in str(sure(image))


def test_classes_have_two_names(classifier: ThumbnailClassifier) -> None:
    assert len(classifier.labels) == 1000
    place = classifier.output_of("golden_Retriever")
    assert place is not None and classifier.labels[place] == "golden retriever"
    assert classifier.output_of("n02099601") == place
    assert classifier.output_of("unicorn") is None


def test_bundled_weights_are_light_and_need_no_transformers(tmp_path: Path) -> None:
    folder = ROOT / "weights" / "thumbnail1000"
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 13e6
    assert pretrained.bundled("classifier") == ["thumbnail1000"]
    drawn_photo(56, 56).save(tmp_path / "a.png")
    code = (
        "import sys, socket, torch; sys.modules['transformers'] = None; socket.socket = None\n"
        "from learned_downscale import ThumbnailClassifier\n"
        "print(ThumbnailClassifier.from_pretrained()('a.png'))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "%" in out.stdout


def test_weights_of_another_kind() -> None:
    with pytest.raises(FileNotFoundError, match="bundled are thumbnail1000"):
        ThumbnailClassifier.from_pretrained("x4")
    with pytest.raises(ValueError, match="does not describe a classifier"):
        ThumbnailClassifier.from_pretrained(ROOT / "weights" / "x4")


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"threshold": None},
        {"classes": []},
        {"classes": [{}] * 1000},
        {"sizes": {"widest": 3}},
    ],
)
def test_config_that_does_not_fit(wrong: dict[str, object], tmp_path: Path) -> None:
    source = ROOT / "weights" / "thumbnail1000"
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | wrong))
    for file in ("model.safetensors", "decoder.safetensors"):
        (tmp_path / file).symlink_to(source / file)
    with pytest.raises(ValueError, match="does not fit"):
        ThumbnailClassifier.from_pretrained(tmp_path)


def test_classify_command(tmp_path: Path) -> None:
    drawn_photo(56, 56).save(tmp_path / "a.png")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no more")
    result = run("classify", tmp_path / "a.png", "--top", 2)
    assert result.exit_code == 0 and result.stdout.count("%") == 2
    result = run("classify", "--json", tmp_path / "bad.jpg", tmp_path / "a.png", tmp_path / "none")
    assert result.exit_code == 1
    assert "bad.jpg" in result.stderr and "No such file" in result.stderr
    (entry,) = json.loads(result.stdout)
    assert len(entry["probabilities"]) == 1000 and entry["file"].endswith("a.png")
    result = run("classify", "--classifier", "x4", tmp_path / "a.png")
    assert result.exit_code == 2 and "bundled are thumbnail1000" in result.stderr


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_tensorflows_turned(side: int, kernel: int) -> None:
    """With stride 2, TensorFlow pads what is missing evenly, the odd pixel at the end."""
    layer = _Convolution(3, 4, kernel, stride=2)
    x = torch.rand(1, 3, side, side)
    missing = (-(-side // 2) - 1) * 2 + kernel - side
    before, after = missing // 2, missing - missing // 2
    padded = F.pad(x, (before, after, before, after))
    want = F.relu6(F.conv2d(padded, layer.weight.flip(2, 3), layer.bias, stride=2))
    assert torch.allclose(layer(x.flip(2, 3)).flip(2, 3), want, atol=1e-6)


def test_a_published_checkpoint_is_folded(tmp_path: Path) -> None:
    """load_published computes what convolution, batch norm and ReLU6 do."""
    torch.manual_seed(0)
    names = {"expand": ("_expand_conv", "_bn0"), "filter": ("_depthwise_conv", "_bn1"),
             "project": ("_project_conv", "_bn2"), "stem": ("_conv_stem", "_bn0"),
             "head": ("_conv_head", "_bn1")}  # fmt: skip
    state = {}
    for name, weight in EfficientNetLite(1.0, 1.0, 2, 1000).state_dict().items():
        *path, layer, kind = name.split(".")
        if layer == "classify":
            state[f"_fc.{kind}"] = torch.randn_like(weight)
        elif kind == "weight":
            convolution, norm = names[layer]
            prefix = "".join(f"{p}." for p in (["_blocks", path[1]] if path else []))
            state[f"{prefix}{convolution}.weight"] = torch.randn_like(weight)
            for part in ("weight", "bias", "running_mean", "running_var"):
                state[f"{prefix}{norm}.{part}"] = torch.rand(len(weight)) + 0.5
            state[f"{prefix}{norm}.num_batches_tracked"] = torch.tensor(1)
    path = tmp_path / "efficientnet-lite0-x.pth"
    torch.save(state, path)
    network = load_published(path)
    x = torch.rand(2, 3, 8, 8)
    plain = F.conv2d(F.pad(x, (0, 1, 0, 1)), state["_conv_stem.weight"], stride=2)
    norm = [state[f"_bn0.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
    want = F.relu6(F.batch_norm(plain, *norm, eps=1e-3))
    assert torch.allclose(network.stem(x.flip(2, 3)).flip(2, 3), want, atol=1e-4)
    network.choose([0, 701])
    assert torch.equal(network.classify.weight, state["_fc.weight"][[0, 701]])
    with pytest.raises(ValueError, match="efficientnet-lite0, efficientnet-lite1"):
        load_published(tmp_path / "other.pth")
    (tmp_path / "lite1.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no efficientnet-lite1"):
        load_published(tmp_path / "lite1.pth")


CLASSES = ("n01440764", "n02099601")


def make_recipe(student: dict[str, object] | None = None, **keys: object) -> Recipe:
    """The recipe of a small thumbnail classifier."""
    return from_config(
        {
            "name": "test",
            "run": {"size": 64, "batch_size": 4},
            "student": student or {"stem_stride": 1},
            "task": [{"type": "classify_thumbnails", "epochs": 2, "rate": 1e-3, **keys}],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(6):
            pixels = np.asarray(drawn_photo(64, 64, seed=100 * label + i)).copy()
            pixels[..., label] = 255 - pixels[..., label] // 4
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return read_photos([folder], 64)


@pytest.fixture(scope="module")
def teacher() -> Any:
    networks = pytest.importorskip("learned_downscale.thumbnet.networks")
    torch.manual_seed(0)
    network = EfficientNetLite(0.25, 0.25, 2, len(CLASSES))
    return networks.Reader(network).eval().requires_grad_(False)


def thumbnails(photos: Photos, recipe: Recipe) -> Any:
    library = pytest.importorskip("learned_downscale.thumbnet.classifier")
    return library.Thumbnails(photos, recipe.settings.tasks[0], recipe.settings.run)


def test_batches_of_thumbnails(photos: Photos) -> None:
    batches = thumbnails(photos, make_recipe())
    first = [batches.take(i) for i in range(3)]
    assert sorted(torch.cat([batch.index for batch in first]).tolist()) == list(range(12))
    shapes = set()
    for i in range(30):
        batch, again = batches.take(i), batches.take(i)
        assert torch.equal(batch.x, again.x) and batch.x.min() >= 0 and batch.x.max() <= 1
        assert len(batch.index) == len(batch.x) == 4
        assert torch.equal(batch.labels, photos.labels[batch.index])
        part = batches.take(i, slice(1, None, 2))  # one of two processes
        assert torch.equal(part.x, batch.x[1::2]) and torch.equal(part.index, batch.index[1::2])
        shapes.add(tuple(batch.x.shape[2:]))
    assert len(shapes) > 5 and any(h != w for h, w in shapes)


def test_thumbnails_are_what_resize_makes(photos: Photos) -> None:
    clean = make_recipe(lossy=0, min_crop=1)
    batches = thumbnails(photos, clean)
    batch = next(b for b in map(batches.take, range(99)) if b.x.shape[-1] == 16)
    images = photos.images[batch.index]
    for i in range(4):
        both = [resize(image, 4).float() / 255 for image in (images[i], images[i].flip(2))]
        assert any(torch.allclose(batch.x[i], one, atol=1e-6) for one in both)
    from learned_downscale.thumbnet.classifier import make_thumbnails

    photo = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    want = np.asarray(photo.resize((16, 12), Image.Resampling.HAMMING))
    got = make_thumbnails(images[:1], (16, 12), "hamming")[0].permute(1, 2, 0).numpy()
    assert np.array_equal(got, want)


@pytest.mark.slow
def test_resume_ends_in_the_same_state(photos: Photos, teacher: Any, tmp_path: Path) -> None:
    from learned_downscale.thumbnet.train import train_recipe

    history: list[dict[str, float]] = []
    recipe = make_recipe()
    _, whole = train_recipe(
        recipe, photos, teacher, tmp_path / "whole", lambda _, __, t: history.append(t)
    )
    assert len(history) == 6
    for terms in history:
        want = 0.3 * terms["CL"] + 0.7 * terms["KD"] + terms["FM"]
        assert terms["loss"] == pytest.approx(want, rel=1e-5)
    for stop in (2, None):
        _, parts = train_recipe(recipe, photos, teacher, tmp_path / "parts", stop_after=stop)
    before, after = teacher.state_dict(), whole.state_dict()
    assert all(torch.equal(v, parts.state_dict()[k]) for k, v in after.items())
    assert not torch.equal(before["network.stem.weight"], after["network.stem.weight"])
    assert whole.network.config["stem_stride"] == 1


def foreign() -> Any:
    """A network without features that could be compared with T's."""
    network: Any = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, len(CLASSES))
    )
    network.labels = list(CLASSES)
    return network


def test_networks_whose_features_differ(photos: Photos, teacher: Any, tmp_path: Path) -> None:
    from learned_downscale.thumbnet.train import train_recipe

    recipe = make_recipe(student={"network": "test_classifier:foreign"})
    with pytest.raises(ValueError, match="compares the features of S and T"):
        train_recipe(recipe, photos, teacher, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_calibration() -> None:
    pytest.importorskip("transformers", reason="needs the extra [train]")
    from learned_downscale.thumbnet.classifier import best_temperature, calibration_error

    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=p) for p in honest])
    assert calibration_error(honest, labels) < 0.03
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(1, keepdims=True)
    assert calibration_error(sharp, labels) > 0.15
    assert best_temperature(sharp.astype(np.float32), labels) == pytest.approx(3, rel=0.1)
    # 10 photos of confidence 0.9 of which 6 are right, in one bin
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert calibration_error(probabilities, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.3)


def test_train_and_evaluate_commands(
    folder: Path, teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From photos to a weights folder that classifies, with a card that describes it."""
    networks = pytest.importorskip("learned_downscale.thumbnet.networks")
    from learned_downscale.thumbnet import card
    from learned_downscale.thumbnet import classifier as library

    monkeypatch.setattr(networks, "load_reader", lambda name, classes: teacher)
    (tmp_path / "labels.json").write_text(json.dumps({"n01440764": "my tench"}))
    out, other = tmp_path / "mine", tmp_path / "other"
    for where, kind in ((out, "default"), (other, "bicubic")):
        changes = ["run.size=64", "student.input_side=64", "task.0.epochs=1", "task.0.cl=0.3",
                   f'task.0.thumbnails=["{kind}"]']  # fmt: skip
        result = run(
            "train", "--recipe", "thumbnail1000", "--data", folder, "--teacher", "any", "--run",
            tmp_path / kind, "--out-student", where, "--labels", tmp_path / "labels.json",
            *(part for change in changes for part in ("--set", change)),
        )  # fmt: skip
        assert result.exit_code == 0 and str(where) in result.stdout, result.output
    trained = ThumbnailClassifier.from_pretrained(out)
    assert trained.labels == ("my tench", "golden retriever") and trained.sizes == Sizes()
    assert "Not measured" in (out / "README.md").read_text()
    monkeypatch.setattr(library, "ROUNDS", 1)
    with monkeypatch.context() as patched:  # refused before anything is measured
        patched.setattr(library, "_probabilities", None)
        result = run("evaluate", out, ROOT / "weights" / "x4", "--data", folder)
        assert result.exit_code == 1 and "describe a classifier" in result.stderr
    result = run("evaluate", out, other, "--data", folder, "--size", 256, "--card", out)
    assert result.exit_code == 0, result.output
    text = (out / "README.md").read_text()
    table = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 * 16 and all(line in text for line in table)
    assert "task.0.thumbnails=['bicubic']" in table[-1]
    config = json.loads((out / "config.json").read_text())
    assert ThumbnailClassifier.from_pretrained(out).temperature == config["temperature"] != 1
    assert "none of those labels are right" in card.facts(
        config["figures"] | {"named": 0, "right_of_named": None}
    )
    one = Photos(torch.zeros(1, 3, 256, 256), torch.zeros(1), CLASSES, ("a",))
    with pytest.raises(ValueError, match="one photo"):
        library.measure_classifiers(one, [out])


def test_without_labels(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student keeps all of T's classes; T sees the very crop that the thumbnail shows; the
    decoder is that of other weights, and stays as it is."""
    networks = pytest.importorskip("learned_downscale.thumbnet.networks")
    from learned_downscale.cli.train import _all_classes
    from learned_downscale.thumbnet.train import train_recipe

    torch.manual_seed(0)
    T = networks.Reader(EfficientNetLite(0.25, 0.25, 2, 1000)).eval().requires_grad_(False)
    recipe = make_recipe(
        {"decoder_factor": 4, "decoder_width": 40, "decoder_from": "x4", "input_side": 64},
        thumbnails=["bicubic", "box"], cl=0, epochs=1,
    )  # fmt: skip
    assert not recipe.settings.labelled
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        type(T.network), "features", lambda self, x, kept=EfficientNetLite.features: (
            seen.append(x) or kept(self, x)
        )
    )  # fmt: skip
    terms: list[dict[str, float]] = []
    _, S = train_recipe(recipe, photos, T, tmp_path / "run", lambda _, __, t: terms.append(t))
    assert terms and all(set(t) == {"loss", "KD", "FM"} for t in terms)
    assert min(seen[1].shape[2:]) == 64  # T's input: the crop, enlarged
    decoder = pretrained.load(Decoder, "x4")
    assert all(torch.equal(v, S.decoder.state_dict()[k]) for k, v in decoder.state_dict().items())
    assert not torch.equal(S.network.stem.weight, T.network.stem.weight)
    names = _all_classes(T)
    assert names[:2] == ("n01440764", "n01443537") and len(names) == 1000
    T.network.choose([0, 1])
    with pytest.raises(ValueError, match="all 2 classes of the teacher, whose names are unknown"):
        _all_classes(T)


def test_first_weights_are_kept(photos: Photos, teacher: Any, tmp_path: Path) -> None:
    from learned_downscale.thumbnet.train import load_run, train_recipe

    _, plain = train_recipe(make_recipe(epochs=1), photos, teacher, tmp_path / "plain")
    recipe = make_recipe({"stem_stride": 1, "kept": 0.25}, epochs=1)
    for _ in range(2):  # a finished run stays as it is
        _, mixed = train_recipe(recipe, photos, teacher, tmp_path / "mixed")
        for name, first in teacher.network.state_dict().items():
            last = plain.network.state_dict()[name]
            want = 0.25 * first + 0.75 * last
            assert torch.allclose(mixed.network.state_dict()[name], want, atol=1e-6), name
    _, _, kept = load_run(tmp_path / "mixed", teacher, photos.classes)
    assert torch.equal(kept.network.stem.weight, mixed.network.stem.weight)
    assert not torch.equal(kept.network.stem.weight, teacher.network.stem.weight)


def test_batches_hold_the_crops(photos: Photos) -> None:
    batches = thumbnails(photos, make_recipe(lossy=0, thumbnails=["box"]))
    for step in range(9):
        batch = batches.take(step, slice(1, 3))
        size = batch.x.shape[:1:-1]
        for crop, small in zip(batch.photos, batch.x, strict=True):
            image = Image.fromarray(crop.permute(1, 2, 0).numpy()).resize(size, 4)
            got = (small * 255).round().byte().permute(1, 2, 0).numpy()
            assert np.array_equal(np.asarray(image), got)


def test_input_of_a_fixed_size() -> None:
    x = torch.rand(1, 3, 30, 40)
    assert with_short_side(x, 60).shape == (1, 3, 60, 80)
    assert with_short_side(x.transpose(2, 3), 15).shape == (1, 3, 20, 15)
    network = EfficientNetLite(0.25, 0.25, 2, 2)
    fixed = network.changed(input_side=60)
    assert torch.allclose(fixed(x), network(with_short_side(x, 60)))
    assert fixed.changed(input_side=0).config == network.config


def test_labels(tmp_path: Path) -> None:
    from learned_downscale.cli.train import _read_labels

    path = tmp_path / "labels.json"
    path.write_text(json.dumps({CLASSES[1]: "my retriever"}))
    assert _read_labels(path, CLASSES) == {CLASSES[0]: "tench", CLASSES[1]: "my retriever"}
    assert list(_read_labels(None, CLASSES).values()) == ["tench", "golden retriever"]
    assert _read_labels(None, ("photos",)) == {"photos": "photos"}
    wrong: tuple[tuple[object, str], ...] = (
        ({"n1": "tench"}, "names n1"),
        (dict.fromkeys(CLASSES, "x"), "several"),
        ({CLASSES[0]: None}, "a JSON object"),
    )
    for content, message in wrong:
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            _read_labels(path, CLASSES)


@pytest.mark.slow
@pytest.mark.shared_data
def test_accuracy_on_real_thumbnails(val_shard: Path, classifier: ThumbnailClassifier) -> None:
    """Every fifth photo of 20 classes, most of them dogs: 53.5 % right among all 1000 outputs,
    85.5 % among the 20 (whole photos: 69.5 and 94.0 %)."""
    photos = read_photos([val_shard])
    places = [classifier.output_of(name) for name in photos.classes]
    labels = photos.labels[::5].numpy()
    seen = classifier.probabilities(resize(photos.images[::5], 4))
    assert (seen.argmax(1) == np.array(places)[labels]).mean() > 0.5
    assert (seen[:, places].argmax(1) == labels).mean() > 0.8


def test_a_side_that_becomes_smaller_is_antialiased() -> None:
    stripes = (torch.arange(400) % 2).float().expand(1, 3, 60, 400)
    for size in ((61, 100), (60, 100), (30, 100)):
        assert resized(stripes, size)[..., 5:-5].std() < 0.1, size
    assert resized(stripes, (90, 400)).std() > 0.4
