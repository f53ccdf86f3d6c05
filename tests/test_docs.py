"""What people copy from the README and the notebooks works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import drawn_photo

import learned_downscale
from learned_downscale.cli import main

ROOT = Path(__file__).parents[1]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


BLOCKS = [
    pytest.param(block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
]


# What the worker is shown in, and no extra installs
ENGINES = {"daft", "datasets", "pyspark"}


def write_parquet(path: Path, photos: list[Path]) -> None:
    """As datasets of images are kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": photo.read_bytes(), "path": photo.name}} for photo in photos]
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("code", BLOCKS)
def test_python_blocks(code: str, tmp_path: Path) -> None:
    """Each block alone, beside a photo and a folder of photos, prints what its comments promise."""
    for needed in ENGINES & set(re.findall(r"^(?:import|from) (\w+)", code, re.M)):
        if find_spec(needed) is None:
            pytest.skip(f"needs {needed}, which no extra installs")
    (tmp_path / "photos").mkdir()
    for path in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        drawn_photo(400, 300).save(tmp_path / path)
    if "photos.parquet" in code:
        write_parquet(tmp_path / "photos.parquet", sorted((tmp_path / "photos").iterdir()))
    # caches; and a Python that has the package
    beside = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-c", code]
    out = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | beside
    )
    assert out.returncode == 0, out.stderr[-3000:]
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
    assert wanted == ["test", "slow", "lint", "types", "docs"]
    for name in wanted:
        assert text.count(f"<!-- command: {name} -->\n```bash\n") == 1, name


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_their_outputs(path: Path) -> None:
    """They were run from top to bottom, define no function and name no place of a machine."""
    text = path.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell["outputs"] for cell in cells)
    said = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in said)
    assert all(output.get("name") != "stderr" for output in said)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assert "def " not in code and "lambda" not in code
    assert not re.search(r"/(tmp|home|root|work|usr|Users)/", text)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a clean kernel. Each takes less than a minute on two idle cores."""
    nbclient = pytest.importorskip("nbclient", reason="needs the extra [test]")
    for needed, extra in (("ipykernel", "test"), ("skimage", "demo"), ("transformers", "train")):
        pytest.importorskip(needed, reason=f"needs the extra [{extra}]")
    import nbformat

    scripts = Path(sys.executable).parent  # where `learned-downscale` is
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own libraries
        nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: every link and anchor leads somewhere, and the demo's build files stay out."""
    for needed in ("mkdocs", "material", "mkdocstrings"):
        if find_spec(needed) is None:
            pytest.skip(f"needs the extra [docs]: {needed} is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "when/index.html", "weights/x4/index.html", "demo/index.html"} <= pages
    assert {f"notebooks/{path.stem}/index.html" for path in NOTEBOOKS} <= pages
    assert not list(tmp_path.rglob("*.md")) and not list(tmp_path.glob("demo/package*"))
    assert not list(tmp_path.glob("demo/*.py")) and not list(tmp_path.glob("site/*.py"))
    reference = (tmp_path / "reference" / "index.html").read_text()
    public = [*learned_downscale.__all__, "opencv.letterbox", "torchvision.Resize"]
    assert [x for x in public if f'id="learned_downscale.{x}"' not in reference] == []
    assert "factor*h" in reference  # not emphasis
    # the newcomer's way: from the README (the first page) to what decides
    for page in ("index.html", "faq/index.html"):
        text = (tmp_path / page).read_text()
        assert re.search(r'href="(\.\./)?when/', text), page
