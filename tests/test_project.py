"""The project's habits: version and changelog, public names, pinned tools, release contents."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import learned_downscale

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def script(name: str) -> ModuleType:
    """A script of .ci as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_changelog_begins_with_the_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == learned_downscale.__version__


def test_a_checkout_works_without_being_installed() -> None:
    """Python that starts in it finds this folder, not the installed package."""
    code = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in f"{f}".lower()]
sys.path = [p for p in sys.path if "editable" not in p]
import learned_downscale
print(learned_downscale.Downscaler.from_pretrained("x4").factor)
from learned_downscale.cli import main
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout == "4\n", result.stderr


def test_public_names() -> None:
    names = learned_downscale.__all__
    assert names == sorted(names) and len(names) == len(set(names))
    for name in names:
        assert getattr(learned_downscale, name).__doc__
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = learned_downscale.nothing_such


def test_the_documented_names_are_the_public_ones() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    table = guide.partition("## All public names")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == learned_downscale.__all__
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for name in re.findall(r"learned_downscale\.(\w+)", page.read_text()):
            is_module = importlib.util.find_spec(f"learned_downscale.{name}") is not None
            assert name in learned_downscale.__all__ or is_module, f"{page.name}: {name}"


def test_ruff_is_pinned_once() -> None:
    (pinned,) = (x for x in PROJECT["optional-dependencies"]["test"] if x.startswith("ruff"))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = (repo for repo in hooks if repo["repo"].endswith("ruff-pre-commit"))
    assert f"ruff=={ruff['rev'].removeprefix('v')}" == pinned
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-check", "ruff-format"]


def test_the_lowest_versions() -> None:
    lowest = script("lowest").lowest(PROJECT)
    assert {"torch==2.6.*", "pillow==11.3.*", "numpy==2.0.*"} <= set(lowest)
    runtime = [re.split("[<>=]", requirement)[0] for requirement in PROJECT["dependencies"]]
    assert [name.partition("==")[0] for name in lowest[: len(runtime)]] == runtime
    assert all("==" in line for line in lowest)


def test_workflows_call_our_scripts() -> None:
    """Every step that runs something runs a script of .ci or a pip install, and they exist."""
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        workflow = yaml.safe_load(path.read_text())
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                for line in step.get("run", "").splitlines():
                    found = re.search(r"\.ci/[\w.]+", line)
                    assert found is not None, f"{path.name}: {line}"
                    assert (ROOT / found[0]).is_file(), line
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    options = matrix["strategy"]["matrix"]
    assert options["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert options["python"] == ["3.11", "3.12", "3.13", "3.14"]


def wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


def test_stray_files_are_found(tmp_path: Path) -> None:
    release = script("release")
    good = ("learned_downscale/plan.py", "learned_downscale-0.1.0.dist-info/METADATA")
    release.check_contents(release.contents(wheel(tmp_path / "a.whl", *good)), tmp_path / "a.whl")
    for stray in (
        "learned_downscale/photo.jpg",
        "learned_downscale/__pycache__/plan.cpython-311.pyc",
        "learned_downscale/data.tar",
        "tests/test_plan.py",
        "cli/main.py",
        "learned_downscale/notes.py",  # in no commit
    ):
        path = wheel(tmp_path / "b.whl", *good, stray)
        with pytest.raises(SystemExit, match=re.escape(stray)):
            release.check_contents(release.contents(path), path)
    sdist = tmp_path / "c.tar.gz"
    (tmp_path / "photo.jpg").write_text("x")
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(tmp_path / "photo.jpg", "learned_downscale-0.1.0/photo.jpg")
    with pytest.raises(SystemExit, match=r"photo\.jpg"):
        release.check_contents(release.contents(sdist), sdist)


@pytest.mark.slow
def test_the_release_check_passes(tmp_path: Path) -> None:
    """Builds sdist and wheel and installs both."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository: a release holds what git tracks")
    out = subprocess.run(
        [sys.executable, ".ci/release.py", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    assert "learned_downscale/weights/x4/model.safetensors" in out.stdout
