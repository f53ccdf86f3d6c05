"""convert and demo, as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image, ImageCms

import learned_downscale
from learned_downscale import demo
from learned_downscale.cli import COMMANDS, main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """photos/ with every format at two depths, EXIF and a colour profile, and other files."""
    source = tmp_path / "photos"
    (source / "deep" / "er").mkdir(parents=True)
    photo = drawn_photo(161, 118)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the top is on the right
    exif[0x010F] = "a maker"
    exif.get_ifd(0x8769)[0x8827] = 400  # ISO
    photo.save(source / "a.jpg", exif=exif, icc_profile=b"a profile", quality=95)
    photo.save(source / "deep" / "b.PNG")
    photo.save(source / "deep" / "er" / "c.webp")
    photo.save(source / "deep" / "er" / "d.tif")
    photo.convert("L").save(source / "grey.jpeg")
    photo.convert("CMYK").save(source / "print.jpg")
    (source / "notes.txt").write_text("not an image")
    return source


FILES = ["a.jpg", "deep/b.PNG", "deep/er/c.webp", "deep/er/d.tif", "grey.jpeg", "print.jpg"]


def files_in(folder: Path) -> list[str]:
    """Names of the files, without what `convert` keeps for itself."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in names if not name.startswith(".learned-downscale/"))


def test_folder(folder: Path, tmp_path: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}
    out = tmp_path / "thumbnails"
    result = run("convert", folder, out, "--factor", 4)
    assert result.exit_code == 0 and "6 converted" in result.stdout, result.output
    assert files_in(out) == FILES  # and no partial files
    for name in FILES:
        with Image.open(out / name) as small, Image.open(folder / name) as large:
            assert small.format == large.format and small.mode == large.mode
            assert small.size == ((30, 41) if name == "a.jpg" else (41, 30))
        assert (folder / name).read_bytes() == before[name]
    with Image.open(out / "deep/b.PNG") as png:
        assert np.array_equal(png, learned_downscale.resize(drawn_photo(161, 118), 4))
    with Image.open(out / "a.jpg") as jpeg:
        assert jpeg.info["icc_profile"] == b"a profile"
        kept = jpeg.getexif()
        assert kept[0x010F] == "a maker" and 0x0112 not in kept
        assert kept.get_ifd(0x8769)[0x8827] == 400


def test_bad_files_are_reported_and_the_rest_is_converted(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    frames = [Image.new("L", (8, 8)), Image.new("L", (8, 8), 9)]
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    out = tmp_path / "out"
    result = run("convert", folder, out, "--factor", 2)
    assert result.exit_code == 1
    assert files_in(out) == FILES
    assert "6 converted, 3 failed" in result.stdout
    for name, reason in (
        ("cut.jpg", "truncated"),
        ("empty.png", "is empty (0 bytes)"),
        ("pages", "2 frames"),
    ):
        line = next(line for line in result.stderr.splitlines() if name in line)
        assert line.startswith("failed: ") and reason in line


def test_single_file(folder: Path, tmp_path: Path) -> None:
    assert (
        run("convert", folder / "a.jpg", tmp_path / "small.png", "--size", "20x30").exit_code == 0
    )
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (20, 30) and small.format == "PNG"
    assert run("convert", folder / "a.jpg", tmp_path / "into", "--factor", "4").exit_code == 0
    assert files_in(tmp_path / "into") == ["a.jpg"]


def test_much_smaller_thumbnails_of_jpegs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    drawn_photo(402, 302).resize((806, 602)).save(tmp_path / "in" / "a.jpg", quality=95)
    pixels = {}
    for name, options in (("fast", []), ("exact", ["--exact"])):
        result = run("convert", tmp_path / "in", tmp_path / name, "--size", "80x60", "-v", *options)
        assert result.exit_code == 0
        assert ("decoded at 1/2, " in result.stderr) == (name == "fast"), result.stderr
        with Image.open(tmp_path / name / "a.jpg") as small:
            assert small.size == (80, 60)
            pixels[name] = np.asarray(small, float)
    assert 0 < np.square(pixels["fast"] - pixels["exact"]).mean() < 255**2 / 10**3.5  # 35 dB
    with Image.open(tmp_path / "in" / "a.jpg") as image:
        want = learned_downscale.resize(image, (80, 60), exact=True)
    assert np.square(pixels["exact"] - np.asarray(want, float)).mean() < 9  # JPEG


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_colour_becomes_alpha(mode: str, tmp_path: Path) -> None:
    photo = drawn_photo(80, 60).convert(mode)
    photo.paste(9 if mode == "L" else (9, 9, 9), (0, 0, 40, 60))
    key = 9 if mode == "L" else (9, 9, 9)
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in" / "a.png", transparency=key)
    assert run("convert", tmp_path / "in", tmp_path / "out", "--factor", 4).exit_code == 0
    with Image.open(tmp_path / "out" / "a.png") as small:
        alpha = np.asarray(small.getchannel("A"))
        assert small.mode == mode + "A" and not alpha[:, :9].any() and (alpha[:, 11:] == 255).all()


@pytest.mark.parametrize(
    ("mode", "ending", "becomes", "says"),
    [
        ("RGBA", "jpg", "RGB", "laid over white"),
        ("LA", "jpg", "L", "laid over white"),
        ("I;16", "jpg", "L", "I;16 to 8 bits"),
        ("I;16", "webp", "RGB", "I;16 to 8 bits"),
        ("CMYK", "png", "RGB", "CMYK to sRGB"),
        ("CMYK", "webp", "RGB", "CMYK to sRGB"),
        ("LAB", "jpg", "RGB", "LAB to sRGB"),
        ("P", "jpg", "RGB", ""),
    ],
)
def test_a_format_gets_what_fits_in_it(
    mode: str, ending: str, becomes: str, says: str, tmp_path: Path
) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((48, 64), 257 * 90, np.uint16))
    elif mode in ("RGBA", "LA"):
        image = Image.new(mode, (64, 48), (0, 0, 0, 0)[: len(mode)])
    else:
        image = drawn_photo(64, 48)
        image = image.quantize(16) if mode == "P" else image
        if mode == "LAB":
            profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
            image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
        elif mode != "P":
            image = image.convert(mode)
    source = tmp_path / ("a.png" if mode in ("RGBA", "LA", "P", "I;16") else "a.tif")
    image.save(source)
    result = run("convert", source, tmp_path / f"b.{ending}", "--factor", 2, "-v")
    assert result.exit_code == 0 and says in result.stderr, result.output
    with Image.open(tmp_path / f"b.{ending}") as small:
        assert small.mode == becomes and small.size == (32, 24)
        level = np.asarray(small.convert("L"), int)
    if mode in ("RGBA", "LA"):
        assert level.min() == 255
    elif mode == "I;16":
        assert np.abs(level - 90).max() <= 1
    else:
        wanted = np.asarray(drawn_photo(64, 48).resize((32, 24)).convert("L"), int)
        assert np.abs(level - wanted).mean() < 15
    if mode == "RGBA":
        options = ("--factor", 2, "--background", "#102030")
        assert run("convert", source, tmp_path / "c.jpg", *options).exit_code == 0
        with Image.open(tmp_path / "c.jpg") as small:
            assert np.abs(np.asarray(small, int) - (16, 32, 48)).max() <= 2


def test_floats_do_not_fit_into_png(tmp_path: Path) -> None:
    Image.new("F", (64, 48), 0.5).save(tmp_path / "a.tif")
    result = run("convert", tmp_path / "a.tif", tmp_path / "b.png", "--factor", 2)
    assert result.exit_code == 1 and "choose TIFF" in result.stderr
    assert run("convert", tmp_path / "a.tif", tmp_path / "b.jpg", "--factor", 2).exit_code == 0
    with Image.open(tmp_path / "b.jpg") as small:
        assert small.mode == "L" and np.abs(np.asarray(small, int) - 128).max() <= 1


def test_tiff_thumbnails_are_compressed(tmp_path: Path) -> None:
    Image.new("RGB", (800, 600), "white").save(tmp_path / "a.tif", compression="tiff_lzw")
    assert run("convert", tmp_path / "a.tif", tmp_path / "out", "--factor", 2).exit_code == 0
    assert (tmp_path / "out" / "a.tif").stat().st_size < 20_000


def test_what_is_skipped_is_said(folder: Path, tmp_path: Path) -> None:
    (folder / "more.txt").write_text("no image")
    (folder / "._a.jpg").write_bytes(b"what macOS writes")
    (folder / "film.mp4").write_bytes(b"a film")
    drawn_photo(64, 48).save(folder / "b.jfif", "JPEG")
    drawn_photo(64, 48).save(folder / "c.jpe", "JPEG")
    result = run("convert", folder, tmp_path / "out", "--factor", 4)
    assert result.exit_code == 0 and {"b.jfif", "c.jpe"} <= set(files_in(tmp_path / "out"))
    assert "8 converted, 4 other files left out (2 .txt, " in result.stdout, result.stdout


def test_a_pipe_is_no_photo(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    result = run("convert", folder, tmp_path / "out", "--factor", 4)
    assert result.exit_code == 1 and "is no regular file" in result.stderr


def test_existing_thumbnails_are_kept(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("convert", folder, out, "--factor", 4)
    first = (out / "a.jpg").read_bytes()
    result = run("convert", folder, out, "--factor", 4)
    assert result.exit_code == 0 and "0 converted, 6 unchanged" in result.stdout
    result = run("convert", folder, out, "--factor", 2)
    assert result.exit_code == 2 and "factor 4.0 and now 2.0" in result.stderr
    assert (out / "a.jpg").read_bytes() == first
    result = run("convert", folder, out, "--factor", 2, "--overwrite", "always", "-v")
    assert "6 converted" in result.stdout and "learned x2" in result.stderr
    assert (out / "a.jpg").read_bytes() != first


def test_out_inside_in_is_no_source(folder: Path) -> None:
    for _ in range(2):
        run("convert", folder, folder / "small", "--factor", 4)
    assert files_in(folder / "small") == FILES


def test_phone_photos_with_a_preview_are_single_images(tmp_path: Path) -> None:
    photo = drawn_photo(64, 48)
    photo.save(tmp_path / "mpo.jpg", "MPO", save_all=True, append_images=[photo.resize((32, 24))])
    with Image.open(tmp_path / "mpo.jpg") as mpo:
        assert mpo.format == "MPO" and mpo.n_frames == 2
    assert run("convert", tmp_path / "mpo.jpg", tmp_path / "out", "--factor", 2).exit_code == 0
    with Image.open(tmp_path / "out" / "mpo.jpg") as small:
        assert small.size == (32, 24) and small.format == "JPEG"


def test_rotated_tiff_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker"
    drawn_photo(64, 48).save(tmp_path / "a.tif", exif=exif)
    assert run("convert", tmp_path / "a.tif", tmp_path / "out", "--factor", 2).exit_code == 0
    with Image.open(tmp_path / "out" / "a.tif") as small:
        assert small.size == (24, 32)
        kept = small.getexif()
        assert 0x0112 not in kept and kept[0x010F] == "a maker"


def test_originals_are_safe_from_links(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for name in ("in/b.png", "in/sub/b.png"):
        drawn_photo(64, 48).save(tmp_path / name)
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "in")
    before = (tmp_path / "in" / "b.png").read_bytes()
    result = run(
        "convert", tmp_path / "in", tmp_path / "out", "--factor", 2, "--overwrite", "always"
    )
    assert result.exit_code == 2 and "is an original" in result.stderr
    assert (tmp_path / "in" / "b.png").read_bytes() == before


@pytest.mark.parametrize("compression", ["group4", "tiff_lzw", "jpeg", "raw"])
def test_compressed_tiff(compression: str, tmp_path: Path) -> None:
    mode = "1" if compression == "group4" else "RGB"
    drawn_photo(64, 48).convert(mode).save(tmp_path / "a.tif", compression=compression)
    assert run("convert", tmp_path / "a.tif", tmp_path / "out", "--factor", 2).exit_code == 0
    with Image.open(tmp_path / "out" / "a.tif") as small:
        assert small.size == (32, 24) and small.mode == ("L" if mode == "1" else "RGB")


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 65535, 1024, dtype=np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert run("convert", tmp_path / "a.png", tmp_path / "b.png", "--factor", 2).exit_code == 0
    with Image.open(tmp_path / "b.png") as small:
        # the residual of 8-bit inputs is exact to less than one of their levels, 257
        assert np.abs(np.diff(np.asarray(small, dtype=int)[:, 2:-2], axis=1) - 2048).max() < 257


def test_broken_exif_is_the_reason(tmp_path: Path) -> None:
    drawn_photo(64, 48).save(tmp_path / "a.png", exif=b"garbage that is no TIFF header")
    result = run("convert", tmp_path / "a.png", tmp_path / "out", "--factor", 2)
    assert result.exit_code == 1 and "EXIF data is broken" in result.stderr


@pytest.mark.parametrize("tag", [0x011A, 0x0128])  # XResolution, ResolutionUnit
@pytest.mark.parametrize("command", ["convert", "verify"])
def test_a_mistyped_tag_costs_the_tag_alone(tag: int, command: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.update({0x0110: "a model", 0x0112: 6, 0x010F: "a maker"})
    content = exif.tobytes()
    assert content.count(b"\x01\x0f\x00\x02") == 1  # text where a number belongs
    content = content.replace(b"\x01\x0f\x00\x02", tag.to_bytes(2, "big") + b"\x00\x02")
    (tmp_path / "in").mkdir()
    drawn_photo(128, 96).save(tmp_path / "in" / "a.jpg", exif=content)
    if command == "verify":
        result = run("verify", tmp_path / "in", "--factor", 2)
        assert result.exit_code == 0 and "failed" not in result.stderr, result.output
        return
    result = run("convert", tmp_path / "in", tmp_path / "out", "--factor", 2, "-v")
    assert result.exit_code == 0 and "which cannot be written" in result.stderr, result.output
    with Image.open(tmp_path / "out" / "a.jpg") as small:
        assert small.size == (48, 64) and small.getexif()[0x0110] == "a model"
        assert tag not in small.getexif()


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    drawn_photo(64, 48).save(tmp_path / "a.jpg")
    (tmp_path / "out" / "a.jpg").mkdir(parents=True)
    result = run("convert", tmp_path / "a.jpg", tmp_path / "out", "--factor", 2)
    assert result.exit_code == 1 and "is a folder" in result.stderr


def test_enlarging_fails_that_file_alone(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (10, 10)).save(folder / "tiny.png")
    result = run("convert", folder, tmp_path / "out", "--size", "20x20")
    assert result.exit_code == 1 and "6 converted, 1 failed" in result.stdout
    assert "would enlarge" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos", "out"], "exactly one of --factor"),
        (["photos", "out", "--factor", "4", "--size", "2x2"], "exactly one of --factor"),
        (["photos", "out", "--factor", "0"], "above 1"),
        (["photos", "out", "--factor", "0.5"], "enlarge"),
        (["photos", "out", "--size", "20"], "320x240"),
        (["photos", "out", "--size", "0x20"], "at least 1"),
        (["photos", "photos", "--factor", "4"], "never overwritten"),
        (["photos/a.jpg", "photos", "--factor", "4"], "would be overwritten"),
        (["photos/notes.txt", "out", "--factor", "4"], "unknown suffix"),
        (["photos/a.jpg", "out.gif", "--factor", "4"], "thumbnails are written as .jpg"),
        (["photos/deep/er", "photos/a.jpg", "--factor", "4"], "must be a folder"),
        (["nowhere", "out", "--factor", "4"], "does not exist"),
        (["empty", "out", "--factor", "4"], "no files"),
        (["photos", "out", "--factor", "4", "--weights", "x3"], "x2, x2-machine, x4"),
    ],
)
def test_wrong_usage(
    arguments: list[str], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    result = run("convert", *arguments)
    assert result.exit_code == 2 and says in result.stderr
    assert not (folder.parent / "out").exists()


def test_demo(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="needs the extra [demo]")
    result = run("demo", tmp_path / "out")
    assert result.exit_code == 0 and "comparison.png" in result.stdout
    assert files_in(tmp_path / "out" / "thumbnails") == [
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
    ]
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        pixels = np.asarray(picture, dtype=int)
    assert pixels.shape[1] <= 1200
    side, step, top = demo.CELL, demo.CELL + demo.MARGIN, demo.LINE + demo.MARGIN
    for row in range(3):
        y = top + row * step
        cells = [pixels[y : y + side, 12 + i * step : 12 + i * step + side] for i in range(4)]
        original, *others = cells
        # the same part of the same photo, which the decoder reconstructs best
        errors = [np.abs(cell - original).mean() for cell in others]
        assert 0 < errors[2] < min(errors[:2]) and max(errors) < 20
        for thumbnail in others[:2]:
            assert np.array_equal(thumbnail[::4], thumbnail[3::4])  # its pixels are squares


def test_demo_writes_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage", reason="needs the extra [demo]")
    given: list[Any] = []

    class Reader:
        labels = ("tabby_cat", "dog")

        def prepare(self, image: Image.Image) -> Any:
            given.append(image.size)
            return None

        def probabilities(self, prepared: list[Any]) -> Any:
            return np.full((len(prepared), 2), (0.75, 0.25))

    monkeypatch.setattr(demo, "HuggingFaceReader", lambda name: Reader())
    named = demo.write_demo(tmp_path, "a classifier")
    with Image.open(named) as picture:
        below = np.asarray(picture.crop((12, 0, 12 + demo.CELL, picture.height)))
    line = demo.LINE + demo.MARGIN + demo.CELL
    assert below[line : line + demo.LINE].min() < 50  # black letters on white
    assert len(given) == 12 and {(512, 512), (128, 128)} <= set(given)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["verify", "--help"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom learned_downscale.cli import main\n"
        f"try: main({arguments})\n"
        "finally: print(sorted({'torch', 'PIL', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.startswith("Usage") and out.stdout.strip().endswith("[]")


def test_commands_are_imported_by_name() -> None:
    """--version imports no command; --help lists each with its help."""
    code = (
        "import sys\nfrom learned_downscale.cli import main\n"
        "try: main(['--version'])\n"
        "finally: print([m for m in sys.modules if m.startswith('learned_downscale.cli.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")
    lines = run("--help").stdout.partition("Commands:")[2].strip().splitlines()
    for name in COMMANDS:
        (line,) = (line for line in lines if line.split()[0] == name)
        assert len(line.split()) > 3
        assert run(name, "--help").stdout.startswith(f"Usage: main {name} ")
    assert "No such command" in run("reduce").stderr


def test_version() -> None:
    assert learned_downscale.__version__ in run("--version").stdout


def test_format_of_all_thumbnails(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("convert", folder, out, "--factor", 4, "--format", "png").exit_code == 0
    names = ["a.png", "deep/b.png", "deep/er/c.png", "deep/er/d.png", "grey.png", "print.png"]
    assert files_in(out) == names
    for name in names:
        with Image.open(out / name) as small:
            assert small.format == "PNG"
    (folder / "a.png").write_bytes((folder / "deep" / "b.PNG").read_bytes())
    # two images for one name: which is meant is not guessed, and the rest is done
    options = ("--factor", 4, "--format", "png")
    result = run("convert", folder, tmp_path / "other", *options)
    assert result.exit_code == 1 and "5 converted, 2 failed" in result.stdout
    for name, other in (("a.jpg", "a.png"), ("a.png", "a.jpg")):
        assert f"{name}: {other} would become a.png, too" in result.stderr
    assert files_in(tmp_path / "other") == names[1:]
    result = run("convert", folder, tmp_path / "renamed", *options, "--on-collision", "rename")
    assert result.exit_code == 0
    assert files_in(tmp_path / "renamed") == ["a_jpg.png", "a_png.png", *names[1:]]


def test_a_payload_is_never_saved_as_jpeg(folder: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "weights", tmp_path / "out"
    model = learned_downscale.Downscaler(4, qim=8)
    learned_downscale.pretrained.save(weights, [model], "a card")
    options = ("--factor", 4, "--weights", weights)
    result = run("convert", folder, out, *options)
    assert result.exit_code == 2 and "--format png" in result.stderr and not out.exists()
    (folder / "print.jpg").unlink()  # CMYK holds no payload
    grey = drawn_photo(161, 118).convert("L")
    grey.save(folder / "grey.jpeg", icc_profile=bytes(16) + b"GRAY", quality=95)
    for ending in ("png", "webp"):
        out = tmp_path / ending
        assert run("convert", folder, out, *options, "--format", ending).exit_code == 0
        with Image.open(out / f"grey.{ending}") as small, Image.open(folder / "grey.jpeg") as large:
            want = learned_downscale.resize(large.convert("RGB"), 4, weights=model)
            assert np.array_equal(small, want) and "icc_profile" not in small.info
        with Image.open(out / f"deep/b.{ending}") as small:
            want = learned_downscale.resize(drawn_photo(161, 118), 4, weights=model)
            assert np.array_equal(small, want)


def test_a_copy_carries_no_payload(tmp_path: Path) -> None:
    """An image that has the size already would be copied without one."""
    (tmp_path / "in").mkdir()
    for side in (64, 16):
        drawn_photo(side, side).save(tmp_path / "in" / f"{side}.png")
    options = ("--size", "16x16", "--weights", "x4-machine")
    result = run("convert", tmp_path / "in", tmp_path / "out", *options)
    assert result.exit_code == 1 and "would carry no payload" in result.stderr
    assert files_in(tmp_path / "out") == ["64.png"]
    for mode in ("YCbCr", "HSV", "RGBa"):  # it would not come back from these
        with pytest.raises(ValueError, match=f"is of mode {mode}: convert it to RGB"):
            learned_downscale.resize(Image.new(mode, (64, 64)), 4, weights="x4-machine")


def test_exif_of_a_jpeg_in_a_tiff(tmp_path: Path) -> None:
    """Tags of the JPEG's pixels are not those of the TIFF's."""
    exif = Image.Exif()
    exif.update({0x0100: 320, 0x0101: 240, 0x0106: 6, 0x010F: "a maker"})
    exif.get_ifd(0x8769)[0x8827] = 400
    photo = drawn_photo(320, 240)
    photo.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert run("convert", tmp_path / "a.jpg", tmp_path / "a.tif", "--factor", 4).exit_code == 0
    with Image.open(tmp_path / "a.tif") as small, Image.open(tmp_path / "a.jpg") as large:
        assert np.array_equal(small, learned_downscale.resize(large, 4))
        kept = small.getexif()
    assert kept[0x010F] == "a maker" and kept.get_ifd(0x8769)[0x8827] == 400


def test_palettes_of_the_size_already(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    drawn_photo(64, 48).quantize(16).save(tmp_path / "in" / "a.png")
    for ending in ("webp", "jpg"):
        options = ("--size", "64x48", "--format", ending)
        assert run("convert", tmp_path / "in", tmp_path / ending, *options).exit_code == 0
        with Image.open(tmp_path / ending / f"a.{ending}") as small:
            assert small.mode == "RGB"


def test_what_cannot_be_read_is_reported(folder: Path, tmp_path: Path) -> None:
    """A link to itself and a folder without permission; the rest is done."""
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    walk, error = os.walk, PermissionError(13, "Permission denied", str(folder / "deep"))

    def without_deep(top: Path, onerror: Callable[[OSError], None]) -> Iterator[Any]:
        if top == folder / "deep":
            error.filename = str(top)
        onerror(error)
        yield from (entry for entry in walk(top) if "deep" not in entry[0])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "walk", without_deep)
        result = run("convert", folder, tmp_path / "out", "--factor", 4)
        assert result.exit_code == 1 and "3 converted, 2 failed" in result.stdout
        assert f"failed: {folder / 'deep'}: " in result.stderr
        assert f"failed: {folder / 'loop.jpg'}: " in result.stderr
        result = run("convert", folder / "deep", tmp_path / "other", "--factor", 4)
        assert result.exit_code == 2 and "Permission denied" in result.stderr
