"""What people copy from the README and the notebooks works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import drawn_photo

import learned_downscale
from learned_downscale import pretrained
from learned_downscale.cli import main

ROOT = Path(__file__).parents[1]


def test_readme_python(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
    drawn_photo(400, 300).save(tmp_path / "photo.jpg")
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised and out.stdout.splitlines() == promised


def test_readme_commands_exist() -> None:
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^learned-downscale (.*)$", text, re.M)
    assert len(lines) > 3
    for line in lines:
        command, *arguments = line.split()
        options = [a for a in arguments if a.startswith("--")]
        shown = CliRunner().invoke(main, [command, "--help"]).stdout
        assert shown.startswith("Usage") and all(option in shown for option in options), line


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_notebooks(notebook: Path) -> None:
    pytest.importorskip("skimage", reason="needs the extra [demo]")
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert "def " not in code
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_changelog_knows_the_version() -> None:
    assert f"## {learned_downscale.__version__} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", pretrained.bundled())
def test_cards_say_what_was_measured(name: str) -> None:
    """The card is the one that its config.json gives, with figures of a trained S and baseline."""
    pytest.importorskip("transformers", reason="needs the extra [train]")
    from learned_downscale.thumbnet.card import render

    folder = ROOT / "weights" / name
    config = json.loads((folder / "config.json").read_text())
    parameters = sum(
        p.numel() for p in learned_downscale.Downscaler.from_pretrained(name).parameters()
    )
    card = render(name, parameters, config["training"], config["figures"])
    assert card == (folder / "README.md").read_text()
    systems = {row["system"].partition(",")[0] for row in config["figures"]["rows"]}
    assert systems >= {"original", "thumbnet"}
    assert systems & {"bicubic-retrained", "bicubic"}  # as S was trained, or not
    assert "ImageNet" in card
