"""One picture through all doors. `python tests/test_parity.py` writes the table in the docs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import drawn_photo

from learned_downscale import resize
from learned_downscale.cli import main
from learned_downscale.parity import DOORS, passages

DOCS = Path(__file__).parents[1] / "docs" / "doors.md"
BEGIN, END = "<!-- table: doors -->\n\n", "<!-- end -->"


def table() -> str:
    lines = ["| door | needs | pixels |", "| --- | --- | --- |"]
    for name, (needs, _) in DOORS.items():
        same = "within 2 levels: Pillow's bicubic" if needs == "onnxruntime" else "the same"
        lines.append(f"| `{name}` | {needs or 'the base install'} | {same} |")
    return "\n".join(lines) + "\n"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("size", [(50, 37), (100, 74), (51, 38), (20, 30), (9, 7), (150, 140)])
def test_all_doors_agree(size: tuple[int, int]) -> None:
    image = np.asarray(drawn_photo(200, 148))
    tried = {}
    for passage in passages(image, size):
        if passage.difference is None:
            assert passage.missing
            continue
        tried[passage.door] = passage
        onnx = passage.needs == "onnxruntime"
        assert passage.difference <= (2 if onnx else 0), passage
        assert onnx or passage.sha256 == tried["resize, numpy"].sha256
    assert {name for name, (needs, _) in DOORS.items() if not needs} <= set(tried)


def test_the_table_of_doors_is_generated() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text.split(BEGIN)[1].split(END)[0] == table(), "run python tests/test_parity.py"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_photo(160, 120).save(tmp_path / "a.png")
    run = CliRunner().invoke(main, ["parity", str(tmp_path / "a.png"), "--factor", "4"])
    assert run.exit_code == 0, run.output
    rows = [line for line in run.stdout.splitlines() if line.startswith("| resize, ")]
    digests = {row.split("|")[3].strip() for row in rows if "backend" not in row}
    assert len(digests) == 1 and len(digests.pop()) == 16
    (tmp_path / "bad.png").write_bytes(b"no picture")
    run = CliRunner().invoke(main, ["parity", str(tmp_path / "bad.png")])
    assert run.exit_code == 2 and "cannot be read as an image" in run.stderr

    def other(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
        return np.zeros((size[1], size[0], 3), np.uint8)

    monkeypatch.setitem(DOORS, "resize, PIL", ("", other))
    run = CliRunner().invoke(main, ["parity", str(tmp_path / "a.png")])
    assert run.exit_code == 1 and "please report it" in run.stderr


if __name__ == "__main__":
    before, after = DOCS.read_text(encoding="utf-8").split(BEGIN)
    DOCS.write_text(before + BEGIN + table() + END + after.split(END)[1], encoding="utf-8")


def test_jax_gets_the_same_pixels() -> None:
    """By the door of numpy; its own arrays are refused, with that advice."""
    jnp = pytest.importorskip("jax.numpy", reason="needs jax")
    picture = np.array(drawn_photo(96, 64))
    want = resize(picture, (24, 16))
    got = jnp.asarray(resize(np.asarray(jnp.asarray(picture)), (24, 16)))
    assert got.dtype == jnp.uint8 and np.array_equal(np.asarray(got), want)
    floats = resize(np.asarray(jnp.asarray(picture) / 255), (24, 16))
    assert floats.dtype == np.float32 and np.abs(floats * 255 - want).max() < 2
    with pytest.raises(TypeError, match="numpy"):
        resize(jnp.asarray(picture), (24, 16))
