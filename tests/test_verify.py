"""verify: methods, readers, labels, failures and the gate; and the report in a browser."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image

import learned_downscale
from learned_downscale import resize, verify
from learned_downscale.cli import main
from learned_downscale.core.filters import FILTERS
from learned_downscale.core.similarity import psnr, ssim
from learned_downscale.readers.bundled import rgb
from learned_downscale.readers.huggingface import HuggingFaceReader, load
from learned_downscale.verification import compare, methods
from learned_downscale.verification.methods import METHODS, maker
from learned_downscale.verification.readers import PayloadCheck, choose_readers, reconstructed
from learned_downscale.verification.report import as_json, remarks, write_page


class Colours:
    """A reader of colours: the probability of a colour is its share of the image's mean."""

    name, labels, threshold = "the colour network", ("red", "green", "blue"), 0.99
    has_decoder = False

    def prepare(self, image: Image.Image) -> Any:
        return rgb(image).astype(float).mean((0, 1))

    def probabilities(self, prepared: Sequence[Any]) -> Any:
        means = np.stack(prepared) + 1
        return (means / means.sum(1, keepdims=True)).astype(np.float32)

    def output_of(self, name: str) -> int | None:
        return self.labels.index(name) if name in self.labels else None


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "choose_readers", lambda *_: (Colours(), Colours()))


def tinted(colour: int, seed: int, amount: int = 120) -> Image.Image:
    pixels = np.asarray(drawn_photo(96, 64, seed)).astype(int) // 2
    pixels[..., colour] += amount
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/COLOUR/N.jpg, three of each; one blue photo lies among the red ones."""
    root = tmp_path / "photos"
    for i, colour in enumerate(Colours.labels):
        (root / colour).mkdir(parents=True)
        for n in range(3):
            shown = 2 if (colour, n) == ("red", 2) else i
            tinted(shown, 10 * i + n).save(root / colour / f"{n}.jpg", quality=95)
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_labelled_photos(colours: None, photos: Path) -> None:
    found = verify(photos, methods=("learned", "bicubic", "area", "lanczos"))
    assert (found.images, found.failed, found.labelled) == (9, {}, True)
    assert list(found.methods) == ["learned", "bicubic", "area", "lanczos"]
    assert found.original_top1 == pytest.approx(8 / 9)
    assert found.original_bytes == sum(p.stat().st_size for p in photos.rglob("*.jpg"))
    for method in found.methods.values():
        assert method.top1 == pytest.approx(8 / 9) and method.top5 == 1
        assert method.agreement == 1 and method.flipped == []
        assert abs(method.confidence_change) < 0.02
        assert 0 < method.bytes < found.original_bytes and 0 < method.saved < 1
        assert method.saved == pytest.approx(1 - method.bytes / found.original_bytes)
    assert found.methods["area"].psnr > found.methods["bicubic"].psnr > 15
    assert found.methods["area"].ssim > found.methods["bicubic"].ssim
    assert found.score("learned") == found.methods["learned"].top1
    wrong = next(p for p in found.photos if p.name == "red/2.jpg")
    assert (wrong.truth, wrong.original.predicted, wrong.original.rank) == ("red", "blue", 2)


def test_thumbnails_are_those_that_convert_saves(
    colours: None, photos: Path, tmp_path: Path
) -> None:
    run("convert", photos, tmp_path / "small", "--factor", 4)
    found = verify(photos, tmp_path / "small", methods=("learned",))
    assert list(found.methods) == ["given", "learned"]
    given, learned = found.methods.values()
    assert given == learned
    assert given.bytes == sum(p.stat().st_size for p in (tmp_path / "small").rglob("*.jpg"))
    kept = verify(photos, methods=("learned",), keep_images=9).photos[0]
    with Image.open(photos / kept.name) as image:
        want = resize(image, 4)
    saved = (tmp_path / "small" / kept.name).read_bytes()
    assert kept.images["learned"] == saved and want.size == (24, 16)


def test_a_decoder_of_the_weights_is_in_front_of_the_reader(colours: None, photos: Path) -> None:
    """Thumbnails with a payload are PNG files where the photos are JPEG files."""
    found = verify(photos, methods=("x4-machine", "learned", "bicubic"), keep_images=9)
    assert [m.decoded for m in found.methods.values()] == [True, False, False]
    assert [m.lossless for m in found.methods.values()] == [True, False, False]
    (remark,) = remarks(found)
    assert remark.startswith("x4-machine: the weights' decoder") and "are PNG files" in remark
    photo = found.photos[0]
    with Image.open(photos / photo.name) as image:
        original = image.convert("RGB")
    with Image.open(io.BytesIO(photo.images["x4-machine"])) as thumbnail:
        assert thumbnail.format == "PNG" and thumbnail.size == (24, 16)
        made = learned_downscale.resize(original, 4, weights="x4-machine")
        assert np.array_equal(np.asarray(made), np.asarray(thumbnail))
        decoder = maker("x4-machine").decoder
        large = reconstructed(decoder, made)
    assert large.size == original.size
    bicubic = original.resize((24, 16), 3).resize(original.size, 3)
    assert psnr(*map(np.asarray, (large, original))) > psnr(*map(np.asarray, (bicubic, original)))
    assert maker("learned").decoder is None
    [found] = verify(photos, methods=("x4-jpeg",)).methods.values()
    assert (found.decoded, found.lossless) == (True, False)  # read from JPEG files
    opaque = made.convert("RGBA")
    assert np.array_equal(np.asarray(reconstructed(decoder, opaque)), np.asarray(large))


def test_a_decoder_in_front_of_given_thumbnails(
    colours: None, photos: Path, tmp_path: Path
) -> None:
    with Image.open(
        photos / "red" / "0.jpg"
    ) as image:  # convert makes it RGB, which holds a payload
        image.convert("L").save(photos / "red" / "0.jpg")
    small = tmp_path / "small"
    options = ("--factor", 4, "--weights", "x4-machine", "--format", "png")
    assert run("convert", photos, small, *options).exit_code == 0
    with Image.open(small / "red" / "0.png") as thumbnail:
        assert thumbnail.mode == "RGB"
    found = verify(photos, small, methods=("x4-machine",), decoder="x4-machine")
    assert found.images == 9 and not found.failed and found.without_payload == 0
    given, made = found.methods["given"], found.methods["x4-machine"]
    assert given.decoded and (given.confidence_change, given.psnr) == (
        made.confidence_change,
        made.psnr,
    )
    plain = verify(photos, small, methods=("bicubic",)).methods["given"]
    assert not plain.decoded and plain.confidence_change != given.confidence_change


def test_thumbnails_without_a_payload_are_counted(
    colours: None, photos: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    assert run("convert", photos, small, "--factor", 2).exit_code == 0
    options = ("--thumbnails", small, "--method", "bicubic", "--decoder")
    result = run("verify", photos, *options, "x4-machine")
    assert result.exit_code == 0 and "9 of 9 thumbnails carry no payload" in result.stderr
    assert "payload" not in run("verify", photos, *options, "x4-jpeg").stderr  # needs none


def test_payloads_are_looked_for_in_groups_of_small_thumbnails() -> None:
    photo = drawn_photo(512, 256)
    plain, payload = (
        np.asarray(some) for some in (resize(photo, 4), resize(photo, 4, weights="x4-machine"))
    )
    check = PayloadCheck(8)
    check.add(plain)
    check.add(payload)
    assert check.lacking == 1
    for y in range(0, 64, 16):  # 16 of 16 x 32 pixels are enough together, 6 are
        for x in range(0, 128, 32):
            check.add(plain[y : y + 16, x : x + 32])
    assert check.lacking == 1 + 14
    for y in range(0, 64, 16):
        check.add(payload[y : y + 16])
    assert check.lacking == 1 + 14


@pytest.mark.parametrize(
    ("mode", "said"), [("L", "not L, which holds no payload"), ("RGBA", "transparent pixels")]
)
def test_what_a_decoder_cannot_read_is_a_failure(
    colours: None, photos: Path, tmp_path: Path, mode: str, said: str
) -> None:
    small = tmp_path / "small"
    options = ("--factor", 4, "--weights", "x4-machine", "--format", "png")
    assert run("convert", photos, small, *options).exit_code == 0
    bad = small / "red" / "0.png"
    with Image.open(bad) as image:
        other = image.convert(mode)
    if mode == "RGBA":
        other.putpixel((3, 4), (0, 0, 0, 254))
    other.save(bad)
    found = verify(photos, small, methods=("bicubic",), decoder="x4-machine")
    assert list(found.failed) == ["red/0.jpg"] and said in found.failed["red/0.jpg"]
    assert found.images == 8
    assert not verify(photos, small, methods=("bicubic",)).failed


def test_a_decoder_without_a_payload_reads_grey(
    colours: None, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "grey").mkdir()
    with Image.open(photos / "red" / "0.jpg") as image:
        image.convert("L").save(tmp_path / "grey" / "0.jpg")
        decoder = maker("x4-jpeg").decoder
        grey = resize(image.convert("L"), 4, weights="x4-jpeg")
        again = reconstructed(decoder, grey)
        assert again.mode == "RGB" and again.size == image.size
        same = reconstructed(decoder, grey.convert("RGB"))
        assert np.array_equal(np.asarray(again), np.asarray(same))
    found = verify(tmp_path / "grey", methods=("x4-jpeg",))
    assert (found.images, found.failed) == (1, {})


def test_flips_are_found(colours: None, photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    for path in photos.rglob("*.jpg"):
        out = (small / path.relative_to(photos)).with_suffix(".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            resize(image, 4).save(out)
    tinted(0, 5, 255).resize((24, 16)).save(small / "green" / "1.png")
    found = verify(photos, small, methods=("bicubic",))
    assert found.methods["given"].flipped == ["green/1.jpg"]
    assert found.methods["given"].agreement == pytest.approx(8 / 9)
    assert found.methods["bicubic"].flipped == []
    worst = min(found.photos, key=lambda p: p.confidence_change("given"))
    assert worst.name == "green/1.jpg" and worst.flipped("given") and not worst.flipped("bicubic")
    two = verify(photos, small, keep_images=2).photos
    assert sum(bool(p.images) for p in two) == sum(bool(p.preview) for p in two) == 2
    kept = next(p for p in two if p.name == worst.name)
    assert kept.images.keys() == {"given", "learned", "bicubic"}


def test_cropped_thumbnails_are_reported(colours: None, photos: Path, tmp_path: Path) -> None:
    names = [path.relative_to(photos) for path in sorted(photos.rglob("*.jpg"))]
    for i, name in enumerate(names):
        target = tmp_path / "small" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(photos / name) as photo:
            width, height = photo.size
            # rounded either way it is the whole photo; two are a square of its middle
            size = ((width + i % 4) // 4, (height + 3 - i % 4) // 4) if i > 1 else (12, 12)
            photo.resize(size).save(target)
            assert i > 1 or abs(width - height) > 8
    assert verify(photos, tmp_path / "small").reshaped == 2
    result = run("verify", photos, "--thumbnails", tmp_path / "small")
    assert f"2 of {len(names)} thumbnails have another aspect ratio" in result.stderr
    assert verify(photos).reshaped == 0


def test_without_labels(colours: None, photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(photos.rglob("*.jpg"))):
        shutil.copy(path, flat / f"{i}.jpg")
    found = verify(flat)
    assert not found.labelled and found.original_top1 is None
    learned = found.methods["learned"]
    assert learned.top1 is learned.top5 is None and learned.agreement == 1
    assert found.score("learned") == 1
    assert [p.truth for p in found.photos] == [p.original.predicted for p in found.photos]
    assert found.unsure == 9  # the threshold is high
    assert verify(photos, labels="none").methods["learned"] == learned
    result = run("verify", flat)
    assert "top-1" not in result.stdout and "show none of the classes" in result.stderr


def test_bad_photos_are_counted(colours: None, photos: Path) -> None:
    (photos / "red" / "cut.jpg").write_bytes((photos / "red" / "0.jpg").read_bytes()[:700])
    (photos / "red" / "empty.png").write_bytes(b"")
    result = run("verify", photos, "--json")
    assert result.exit_code == 1 and "failed: red/cut.jpg" in result.stderr
    said = json.loads(result.stdout)
    assert (said["images"], said["failed"]) == (9, 2)
    assert sorted(said["failures"]) == ["red/cut.jpg", "red/empty.png"]
    assert set(said["methods"]["learned"]) >= {"top1", "top5", "agreement", "psnr", "ssim", "bytes"}


def test_thumbnails_that_do_not_fit(colours: None, photos: Path, tmp_path: Path) -> None:
    run("convert", photos, tmp_path / "small", "--factor", 4)
    small = tmp_path / "small"
    (small / "red" / "0.jpg").unlink()
    tinted(0, 1).resize((200, 200)).save(small / "red" / "1.jpg")
    shutil.copy(small / "green" / "0.jpg", small / "extra.jpg")
    tinted(1, 1).resize((24, 16)).save(small / "green" / "1.png")
    tinted(1, 1).resize((24, 16)).save(small / "green" / "1.webp")
    told: list[tuple[int, int]] = []
    failed = verify(photos, small, progress=lambda *done: told.append(done)).failed
    extra = [str(small / name) for name in ("extra.jpg", "green/1.png", "green/1.webp")]
    assert sorted(failed) == sorted(["red/0.jpg", "red/1.jpg", *extra])
    assert "no thumbnail" in failed["red/0.jpg"] and "larger" in failed["red/1.jpg"]
    assert failed[extra[0]] == "its original is missing" and told[-1] == (9, 9)
    (small / "green" / "1.jpg").unlink()
    assert "no thumbnail" in verify(photos, small).failed["green/1.jpg"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name the photos once"),
        (["photos", "--originals", "photos"], "name the photos once"),
        (["empty"], "holds no photos"),
        (["nowhere"], "does not exist"),
        (["photos", "--thumbnails", "photos"], "name two folders"),
        (["photos", "--method", "bicubik"], "choose from learned, area, bicubic"),
        (["photos", "--factor", "0.5"], "would enlarge"),
        (["photos", "--decoder", "x4-machine"], "name their folder with --thumbnails"),
        (["photos", "--factor", "4", "--size", "24x16"], "not both"),
        (["photos", "--judge", "teacher"], "needs a teacher"),
        (["photos", "--judge", "teacher", "--teacher", "x", "--classifier", "y"], "leave one out"),
        (["photos", "--classifier", "nowhere"], "nowhere"),
        (["photos", "--labels", "folders"], "(--labels none)"),
        (["mixed"], "1 of 2 folders are no classes"),
        (["photos", "--thumbnails", "mixed", "--factor", "2"], "get the size of those"),
        (["photos", "--method", "given"], "rename the weights"),
        (["photos", "--report", "photos/red/0.jpg"], "does not end in .html"),
        (["photos", "--fail-below", "nan"], "a share from 0 to 1"),
        (["photos", "--report", "nowhere/a.html"], "no folder nowhere"),
        (["photos", "--fail-below", "88"], "88"),
    ],
)
def test_wrong_usage(
    arguments: list[str], says: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bundled classifier, whose classes no colours are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("beagle", "unicorn"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        drawn_photo(64, 64).save(tmp_path / "mixed" / name / "1.png")
    result = run("verify", *arguments)
    assert result.exit_code == 2 and says in result.stderr.replace("\n", " "), result.output


def test_bundled_classifier(tmp_path: Path) -> None:
    (tmp_path / "n02088364").mkdir()
    (tmp_path / "Golden Retriever").mkdir()
    drawn_photo(256, 192).save(tmp_path / "n02088364" / "1.png")
    drawn_photo(256, 192, 1).save(tmp_path / "Golden Retriever" / "1.png")
    found = learned_downscale.verify(tmp_path)
    assert {p.truth for p in found.photos} == {"beagle", "golden retriever"}
    assert found.labelled and found.reader == found.reference == "the bundled classifier"


def test_nothing_to_compare(colours: None, photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"no photo")
    result = run("verify", photos, "--json", "--report", tmp_path / "a.html")
    assert result.exit_code == 1 and result.stderr.count("failed: ") == 9
    said = json.loads(result.stdout)
    assert (said["images"], said["failed"], said["methods"]) == (0, 9, {})
    for wrong in ({"methods": ()}, {"methods": "learned"}, {"quality": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            verify(photos, **wrong)


def test_folders_that_are_no_classes_are_reported(colours: None, photos: Path) -> None:
    for name in Colours.labels:
        (photos / name).rename(photos / f"my {name}")
    result = run("verify", photos)
    assert result.exit_code == 0 and "(my blue, my green, my red, ...) are no" in result.stderr
    assert "are no" not in run("verify", photos, "--labels", "none").stderr


def test_a_failure_without_words_is_one(
    colours: None, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(methods, "encode", out_of_memory)
    assert set(verify(photos).failed.values()) == {"MemoryError"}


def test_thumbnails_are_told_apart_by_their_suffixes(
    colours: None, photos: Path, tmp_path: Path
) -> None:
    """a.jpg and a.png are two photos: neither may take the other's thumbnail."""
    tinted(0, 7).save(photos / "red" / "0.png")
    run("convert", photos, tmp_path / "small", "--factor", 4)
    found = verify(photos, tmp_path / "small", methods=("learned",))
    assert found.failed == {} and found.methods["given"] == found.methods["learned"]
    (tmp_path / "small" / "red" / "0.png").unlink()
    assert list(verify(photos, tmp_path / "small").failed) == ["red/0.png"]


def test_folders_in_one_another(colours: None, photos: Path, tmp_path: Path) -> None:
    run("convert", photos, photos / "small", "--factor", 4)
    assert verify(photos, photos / "small").images == 9
    nest = tmp_path / "nest"
    run("convert", photos, nest, "--factor", 4)
    shutil.move(photos, nest / "full")
    shutil.rmtree(nest / "full" / "small")
    found = verify(nest / "full", nest)
    assert found.images == 9


def test_report_that_cannot_be_written(colours: None, photos: Path) -> None:
    result = run("verify", photos, "--json", "--report", photos / ("a" * 300 + ".html"))
    assert result.exit_code == 1 and "cannot be written" in result.stderr
    assert json.loads(result.stdout)["images"] == 9


def test_gate(colours: None, photos: Path) -> None:
    assert run("verify", photos, "--fail-below", "0.88").exit_code == 0
    result = run("verify", photos, "--fail-below", "0.9")
    assert result.exit_code == 1 and "top-1 0.8889 is below 0.9" in result.stderr
    assert run("verify", photos, "--labels", "none", "--fail-below", "1").exit_code == 0


def test_every_format(colours: None, tmp_path: Path) -> None:
    photo = tinted(1, 0)
    for name in ("a.jpg", "b.png", "c.webp", "d.tif"):
        photo.save(tmp_path / name)
    photo.convert("L").save(tmp_path / "grey.png")
    photo.convert("P").save(tmp_path / "palette.png")
    photo.convert("CMYK").save(tmp_path / "print.jpg")
    photo.convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(
        tmp_path / "16.png"
    )
    found = verify(tmp_path, methods=METHODS, size=(24, 16), keep_images=9)
    assert found.failed == {} and found.images == 9
    assert [p.name for p in verify(tmp_path, limit=2).photos] == ["16.png", "c.webp"]
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/") == 9 * (1 + len(METHODS)) + page.count("image/tiff")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_colour_that_means_transparency(mode: str, colours: None, tmp_path: Path) -> None:
    """What a PNG file says by a colour is what it says by alpha."""
    photo = tinted(0, 0).convert(mode)
    pixels = np.asarray(photo).copy()
    pixels[:, ::2] = 255
    keyed = Image.fromarray(pixels)
    key = (255, 255, 255) if mode == "RGB" else 255
    for name in ("keyed", "alpha"):
        (tmp_path / name).mkdir()
    keyed.save(tmp_path / "keyed" / "a.png", transparency=key)
    with Image.open(tmp_path / "keyed" / "a.png") as image:
        image.convert("RGBA" if mode == "RGB" else "LA").save(tmp_path / "alpha" / "a.png")
    both = ("learned", "area")
    found = [verify(tmp_path / name, methods=both).methods for name in ("keyed", "alpha")]
    for method in both:
        assert found[0][method].psnr == pytest.approx(found[1][method].psnr, abs=0.5)


def test_similarity_is_scikit_images() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="needs the extra [demo]")
    a, b = (np.asarray(drawn_photo(40, 30, seed)) for seed in (0, 1))
    b = ((2 * a.astype(int) + b) // 3).astype(np.uint8)
    want = metrics.structural_similarity(a, b, channel_axis=2)
    assert ssim(a, b) == pytest.approx(want, abs=1e-9) and want < 0.99
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(a, b))
    assert ssim(a, a) == 1 and psnr(a, a) == 100
    assert ssim(a[:3, :1], b[:3, :1]) < 1


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A small network of other classes, saved the way a Hugging Face model is."""
    transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8],
        depths=[1],
        layer_type="basic",
        id2label=dict(enumerate(("red, rouge", "green", "blue"))),
    )
    path = tmp_path / "teacher"
    transformers.ResNetForImageClassification(config).save_pretrained(path)
    processor = {
        "image_processor_type": "ConvNextImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.2, 0.2, 0.2],
        "size": {"shortest_edge": 64},
        "crop_pct": 1.0,
    }
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def test_one_network_for_originals_and_thumbnails(photos: Path, teacher: Path) -> None:
    import transformers

    result = run("verify", photos, "--teacher", teacher)
    assert result.exit_code == 2 and "knows 0 of the 1000 classes" in result.stderr
    assert "--judge teacher" in result.stderr
    both: dict[str, Any] = {"reference": teacher, "reader": "reference"}
    found = verify(photos, **both)
    assert found.classes == ("red", "green", "blue") and found.labelled
    assert found.reference == found.reader == str(teacher)
    same = run("verify", photos, "--teacher", teacher, "--judge", "teacher", "--json")
    assert json.loads(same.stdout) == json.loads(json.dumps(as_json(found)))
    (photos / "red").rename(photos / "Rouge")
    assert verify(photos, **both).photos[0].truth == "red"
    alone = verify(photos / "Rouge", **both)  # a class folder itself
    assert alone.labelled and {photo.truth for photo in alone.photos} == {"red"}
    half = transformers.ResNetForImageClassification.from_pretrained(teacher).half()
    half.save_pretrained(teacher)
    assert verify(photos, **both).failed == {}
    result = run("verify", photos, "--teacher", photos / "nowhere", "--judge", "teacher")
    assert result.exit_code == 2 and "nowhere" in result.stderr
    with pytest.raises(ValueError, match="needs a reference"):
        verify(photos, reader="reference")


def test_a_reference_of_the_same_classes(photos: Path, teacher: Path, tmp_path: Path) -> None:
    """It reads the originals, restricted to the reader's classes, in their order."""
    config = json.loads((teacher / "config.json").read_text())
    labels = ("unicorn", *reversed(learned_downscale.ThumbnailClassifier.from_pretrained().labels))
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(**(config | {"id2label": dict(enumerate(labels))}))
    transformers.ResNetForImageClassification(config).save_pretrained(teacher)
    (tmp_path / "some").mkdir()
    drawn_photo(256, 256).save(tmp_path / "some" / "1.png")
    found = verify(tmp_path / "some", reference=teacher)
    assert found.reference == str(teacher) and found.reader == "the bundled classifier"
    assert found.classes == tuple(reversed(labels[1:]))
    (photo,) = found.photos
    reference, _ = choose_readers(teacher, "bundled")
    with Image.open(tmp_path / "some" / "1.png") as image:
        (probabilities,) = reference.probabilities([reference.prepare(image)])
    assert probabilities.shape == (1000,) and probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert photo.original.predicted == found.classes[int(probabilities.argmax())]


def test_a_classifier_in_a_folder_is_the_reader(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    drawn_photo(256, 192).save(tmp_path / "photos" / "1.png")
    weights = tmp_path / "student"
    shutil.copytree(Path(__file__).parents[1] / "weights" / "thumbnail1000", weights)
    config = json.loads((weights / "config.json").read_text())
    config["classes"][0]["label"] = "another fish"
    (weights / "config.json").write_text(json.dumps(config))
    found = verify(tmp_path / "photos", reader=weights)
    assert found.reader == found.reference == str(weights) and "another fish" in found.classes
    assert found.methods["learned"] == verify(tmp_path / "photos").methods["learned"]
    result = run("verify", tmp_path / "photos", "--classifier", weights)
    assert result.exit_code == 0 and f"thumbnails by {weights}" in result.stdout


def student(folder: Path, weights: str) -> Path:
    """The bundled network with a decoder in front, for thumbnails with a short side of 16 px."""
    bundled = learned_downscale.ThumbnailClassifier.from_pretrained()
    decoder = learned_downscale.Decoder.from_pretrained(weights)
    classes = [{"label": label, "wordnet_id": label} for label in bundled.labels]
    learned_downscale.pretrained.save(
        folder,
        [bundled.network, decoder],
        "a card",
        classes=classes,
        threshold=0.5,
        temperature=1.0,
        sizes={"smallest": 16, "largest": 16, "shrinks": False},
    )
    return folder


def test_a_student_with_a_decoder_reads_the_thumbnails(photos: Path, tmp_path: Path) -> None:
    path = student(tmp_path / "student", "x4-jpeg")
    found = verify(photos, methods=("x4-jpeg",), reader=path, limit=1, keep_images=1)
    assert found.failed == {} and found.images == 1 and found.reader == str(path)
    assert not found.methods["x4-jpeg"].decoded  # not twice
    classifier = learned_downscale.ThumbnailClassifier.from_pretrained(path)
    (photo,) = found.photos
    with Image.open(io.BytesIO(photo.images["x4-jpeg"])) as thumbnail:
        probabilities = classifier.probabilities([thumbnail])[0]
    assert photo.thumbnails["x4-jpeg"].probability == pytest.approx(probabilities.max(), abs=1e-5)
    larger = verify(photos, methods=("bicubic",), size=2, reader=path, limit=1).failed
    assert "takes short sides up to 16" in next(iter(larger.values()))
    with pytest.raises(ValueError, match="leave decoder out"):
        verify(photos, photos.parent, decoder="x4-jpeg", reader=path)


def test_a_student_that_needs_a_payload_reads_no_originals(photos: Path, tmp_path: Path) -> None:
    path = student(tmp_path / "student", "x4-machine")
    with pytest.raises(ValueError, match="another classifier of the same classes as reference"):
        verify(photos, methods=("x4-machine",), reader=path)
    result = run("verify", photos, "--classifier", path)
    assert result.exit_code == 2 and "with --teacher" in result.stderr.replace("\n", " ")


def test_a_network_that_was_not_trained_is_refused(teacher: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model, processor, labels = load(teacher)
    assert labels == ["red, rouge", "green", "blue"] and not model.training
    assert processor(Image.new("RGB", (90, 70)))["pixel_values"][0].shape == (3, 64, 64)
    path = teacher / "model.safetensors"
    weights = safetensors.load_file(path)
    safetensors.save_file({k: v for k, v in weights.items() if "classifier" not in k}, path)
    with pytest.raises(ValueError, match="lacks weights"):
        load(teacher)
    path.write_bytes(b"damaged")
    with pytest.raises(OSError, match="cannot be loaded"):
        load(teacher)
    with pytest.raises(OSError, match="cannot be loaded"):
        load(tmp_path / "none")


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"learned-downscale\[train\]"):
        HuggingFaceReader("any/model")


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_fixed_filters_are_those_of_the_libraries(name: str, photo: Image.Image) -> None:
    """And those that training and `Filter.__call__` compute, to within one level."""
    import torch

    large = photo.crop((0, 0, 160, 116))  # multiples of the factor
    small = maker(name).make(large, (40, 29))
    x = torch.from_numpy(np.array(large)).permute(2, 0, 1)[None] / 255
    want = (FILTERS[name](x, 4)[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(small, dtype=int) - want).max() <= 1
    other = maker("lanczos" if name != "lanczos" else "box").make(large, (40, 29))
    assert np.abs(np.asarray(other, dtype=int) - want).max() > 1


@pytest.fixture
def page(colours: None, photos: Path, tmp_path: Path, browser: Any) -> Iterator[Any]:
    """The report of the coloured photos, one of which is flipped and one broken, in a browser."""
    run("convert", photos, tmp_path / "small", "--factor", 4)
    tinted(0, 5, 255).resize((24, 16)).save(tmp_path / "small" / "green" / "1.jpg")
    evil = "<img src=x onerror=alert(1)>.jpg"
    (photos / "blue" / evil).write_bytes(b"</script><script>alert(1)</script>")
    report = tmp_path / "report.html"
    run("verify", photos, "--thumbnails", tmp_path / "small", "--report", report)
    said: list[str] = []
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    tab = context.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append("a dialog"))
    tab.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else said.append(r.url)
    )
    tab.goto(report.as_uri())
    yield tab
    assert said == []
    context.close()


def names(page: Any) -> list[str]:
    return page.locator("#photos tbody .name").all_text_contents()


def test_page_shows_the_worst_first_and_sorts(page: Any) -> None:
    assert page.title() == "Thumbnails verified"
    assert "given: 77.8" in page.locator("#lead").text_content()
    assert page.locator("#summary tbody tr").count() == 3
    assert len(names(page)) == 9 and names(page)[0] == "green/1.jpg"
    row = page.locator("#photos tbody tr").first
    assert row.locator("img").count() == 4 and row.locator(".wrong").count() == 1
    page.evaluate("for (const image of document.images) image.loading = 'eager'")
    page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    page.get_by_role("button", name="photo").click()
    assert names(page) == sorted(names(page))
    assert page.locator("th[aria-sort=ascending]").text_content().strip() == "photo"
    page.get_by_role("button", name="photo").click()
    assert names(page) == sorted(names(page), reverse=True)
    page.get_by_label("Sort").select_option("m:given")
    assert names(page)[0] == "green/1.jpg"


def test_page_filters(page: Any) -> None:
    page.get_by_label("Show").select_option("flipped-given")
    assert names(page) == ["green/1.jpg"] and "1 of 9" in page.locator("#count").text_content()
    page.get_by_label("Show").select_option("better-learned")
    assert names(page) == ["green/1.jpg"]
    page.get_by_label("Show").select_option("worse-learned")
    assert names(page) == []
    page.get_by_label("Show").select_option("all")
    page.locator("#class").select_option("blue")
    assert sorted(names(page)) == ["blue/0.jpg", "blue/1.jpg", "blue/2.jpg"]
    page.get_by_label("Name contains").fill("2.J")
    assert names(page) == ["blue/2.jpg"]


def test_page_names_the_confused_pairs(page: Any) -> None:
    rows = page.locator("#confused tbody tr")

    def pairs() -> list[list[str]]:
        return [row.locator("td").all_text_contents() for row in rows.all()]

    assert ["green", "red", "1"] in pairs()
    page.locator("#confused-of").select_option("learned")
    assert ["green", "red", "1"] not in pairs() and ["red", "blue", "1"] in pairs()
    assert page.locator("#confused-note").text_content() == "All pairs."


def test_page_names_failures_harmlessly(page: Any) -> None:
    assert "onerror" in page.locator("#failed li").text_content()
    assert page.locator("img[src=x]").count() == 0


def test_page_on_a_phone_and_in_the_dark(page: Any) -> None:
    def background() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.emulate_media(color_scheme="light")
    light = background()
    page.emulate_media(color_scheme="dark")
    assert background() != light
    page.locator("#summary td").first.evaluate("e => e.textContent = '/a/long/path/'.repeat(9)")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 14
    first = page.locator("#photos tbody tr").first.bounding_box()
    assert first["width"] <= 360 and page.locator("#photos img").first.is_visible()


def test_json_is_the_dataclass(colours: None, photos: Path) -> None:
    found = verify(photos)
    said = as_json(found)
    assert said["methods"]["learned"]["top1"] == found.methods["learned"].top1
    assert json.loads(json.dumps(said)) == said
