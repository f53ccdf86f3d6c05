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

from learned_downscale.cli import main

ROOT = Path(__file__).parents[1]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks(page: Path, tmp_path: Path) -> None:
    """The blocks of a page, one after the other, print what their comments promise."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    if not code:
        return
    drawn_photo(400, 300).save(tmp_path / "photo.jpg")
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert out.stdout.splitlines() == promised


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^learned-downscale (.*)$", text, re.M):
        command, *arguments = line.split()
        options = [a for a in arguments if a.startswith("--")]
        shown = CliRunner().invoke(main, [command, "--help"]).stdout
        assert shown.startswith("Usage") and all(option in shown for option in options), line


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *(
            ROOT / name
            for name in ("CONTRIBUTING.md", "benchmarks/README.md", "docs/demo/README.md")
        ),
    ],
    ids=str,
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert missing == []


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 6000
    assert text.index("![") < 60  # a picture first


def test_ci_finds_its_commands() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    wanted = re.findall(r"^run (\w+)$", (ROOT / ".ci" / "run").read_text(), re.M)
    assert wanted == ["test", "slow", "lint", "types"]
    for name in wanted:
        assert text.count(f"<!-- command: {name} -->\n```bash\n") == 1, name


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_notebooks(notebook: Path) -> None:
    pytest.importorskip("skimage", reason="needs the extra [demo]")
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert "def " not in code
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
