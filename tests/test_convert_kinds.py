"""`convert` and files as people have them: animations, pages, 16 bits, metadata, formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import drawn_photo
from PIL import Image, ImageSequence

from learned_downscale import resize
from learned_downscale.cli import main
from learned_downscale.conversion.recipe import Recipe
from learned_downscale.conversion.worker import Worker


def convert(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """An animation of three colours, 40 ms each, played twice."""
    frames = [Image.new("RGB", (64, 48), c) for c in ("red", "lime", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, loop=2)
    return path


def test_animations_are_asked_for(moving: Path, tmp_path: Path) -> None:
    result = convert(moving, tmp_path / "out", "--factor", 4)
    assert result.exit_code == 1 and "has 3 frames" in result.stderr
    assert convert(moving, tmp_path / "out", "--factor", 4, "--frames", "first").exit_code == 2
    result = convert(moving, tmp_path / "one", "--factor", 4, "--frames", "first", "-v")
    assert result.exit_code == 0 and "the first of 3 frames" in result.stderr
    with Image.open(tmp_path / "one" / "moving.png") as small:
        assert small.size == (16, 12) and getattr(small, "n_frames", 1) == 1
        assert small.convert("RGB").getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_all_frames_with_their_times(moving: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / "out"
    result = convert(moving, out, "--factor", 4, "--frames", "all", "--format", ending, "-v")
    assert result.exit_code == 0 and "3 frames" in result.stderr
    with Image.open(out / f"moving.{ending}") as small:
        assert small.n_frames == 3 and small.size == (16, 12)  # type: ignore[attr-defined]
        colours, times = [], []
        for frame in ImageSequence.Iterator(small):
            colours.append(np.asarray(frame.convert("RGB"), int)[6, 8])
            times.append(round(frame.info["duration"]))
    want = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert np.abs(np.array(colours) - want).max() <= 6 and times == [40, 40, 40]
    jpeg = convert(moving, tmp_path / "jpeg", "--factor", 4, "--frames", "all", "--format", "jpg")
    assert jpeg.exit_code == 1 and "JPEG holds one" in jpeg.stderr


def test_an_array_takes_no_frame_unasked(moving: Path, tmp_path: Path) -> None:
    options = ("--size", "16x12", "--to", "array")
    result = convert(moving.parent, tmp_path / "out", *options, "--include", "*.gif")
    assert result.exit_code == 1 and "has 3 frames" in result.stderr
    first = (*options, "--include", "*.gif", "--frames", "first")
    assert convert(moving.parent, tmp_path / "first", *first).exit_code == 0
    assert np.load(tmp_path / "first" / "thumbnails.npy")[0, 6, 8].tolist() == [255, 0, 0]
    result = convert(moving.parent, tmp_path / "all", *options, "--frames", "all")
    assert result.exit_code == 2 and "one thumbnail of each image" in result.stderr


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    pages = [drawn_photo(64, 48), drawn_photo(80, 40), drawn_photo(64, 48).convert("L")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert convert(tmp_path / "a.tif", tmp_path / "out", "--factor", 4).exit_code == 1
    made = convert(tmp_path / "a.tif", tmp_path / "all", "--factor", 4, "--frames", "all")
    assert made.exit_code == 0, made.stderr
    with Image.open(tmp_path / "all" / "a.tif") as small:
        assert small.n_frames == 3  # type: ignore[attr-defined]
        for i, page in enumerate(pages):
            small.seek(i)
            assert np.array_equal(np.asarray(small), np.asarray(resize(page, 4)))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_colours_stay(tmp_path: Path, ending: str) -> None:
    pixels = np.asarray(drawn_photo(64, 48)).astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / f"a.{ending}"), pixels[..., ::-1])
    assert convert(tmp_path / f"a.{ending}", tmp_path / "out", "--factor", 4).exit_code == 0
    small = cv2.imread(str(tmp_path / "out" / f"a.{ending}"), cv2.IMREAD_UNCHANGED)
    assert small is not None and small.dtype == np.uint16
    assert np.array_equal(small[..., ::-1], resize(pixels, 4))
    result = convert(
        tmp_path / f"a.{ending}", tmp_path / "eight", "--factor", 4, "--format", "jpg", "-v"
    )
    assert result.exit_code == 0 and "16 bits to 8" in result.stderr


def test_the_position_can_be_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 1
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8769)[0xA002] = 64
    drawn_photo(64, 48).save(tmp_path / "a.jpg", exif=exif, comment=b"a comment")
    kept = {}
    for choice in ("keep", "strip", "strip-gps"):
        out = tmp_path / choice
        assert convert(tmp_path / "a.jpg", out, "--factor", 4, "--metadata", choice).exit_code == 0
        with Image.open(out / "a.jpg") as small:
            found = small.getexif()
            gps, width = found.get_ifd(0x8825), found.get_ifd(0x8769).get(0xA002)
            kept[choice] = found.get(0x010F), bool(gps), width, "comment" in small.info
    assert kept["keep"] == ("a maker", True, 16, True)
    assert kept["strip"] == (None, False, None, False)
    assert kept["strip-gps"] == ("a maker", False, 16, True)


def test_files_are_not_copied_with_what_is_to_be_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    drawn_photo(64, 48).save(tmp_path / "a.jpg", exif=exif)
    for choice, says in (("keep", True), ("strip", False)):
        out = tmp_path / choice
        result = convert(tmp_path / "a.jpg", out, "--max-side", 100, "--metadata", choice)
        assert result.exit_code == 0
        assert (b"a maker" in (out / "a.jpg").read_bytes()) == says


def test_subsampling(tmp_path: Path) -> None:
    drawn_photo(256, 192).save(tmp_path / "a.png")
    sizes = []
    for kind in ("4:4:4", "4:2:0"):
        out = tmp_path / kind.replace(":", "") / "a.jpg"
        out.parent.mkdir()
        assert convert(tmp_path / "a.png", out, "--factor", 2, "--subsampling", kind).exit_code == 0
        sizes.append(out.stat().st_size)
    assert sizes[1] < sizes[0]


def test_formats_that_are_only_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photo = drawn_photo(64, 48)
    for name in ("a.bmp", "b.jp2", "c.gif"):
        photo.save(tmp_path / "in" / name)
    assert convert(tmp_path / "in", tmp_path / "out", "--factor", 4).exit_code == 0
    made = sorted(p.name for p in (tmp_path / "out").iterdir() if p.suffix)
    assert made == ["a.png", "b.png", "c.png"]
    with Image.open(tmp_path / "out" / "a.png") as small:
        assert small.tobytes() == resize(photo, 4).tobytes()


def test_a_worker_takes_and_gives_bytes() -> None:
    with pytest.raises(ValueError, match=r"not written as \.gif"):
        Recipe(factor=4, ending=".gif")
    with pytest.raises(ValueError, match="empty"):
        Worker(Recipe(factor=4))(b"", ".png")
