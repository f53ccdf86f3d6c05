"""Builds sdist and wheel, lists what is in them, and installs each in a new virtual environment.

    python .ci/release.py [--out dist] [--tag v0.1.0]

Fails for a file that git does not track or of a kind that does not belong there (data, caches), for
a wheel above 25 MB, for another version than the changelog's, and if what was installed does not
have the bundled weights. Needs git; the package `build` is installed if it is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 25 * 10**6  # bytes of a wheel
# Folders of the source tree under their installed names.
MAPPED = {"learned_downscale/cli": "cli", "learned_downscale/weights": "weights"}
KINDS = {".py", ".typed", ".toml", ".md", ".html", ".txt", ".json", ".safetensors", ".onnx"}
# Made by the build.
BUILT = re.compile(
    r"PKG-INFO|setup\.cfg|learned_downscale\.egg-info/[\w.-]+"
    r"|learned_downscale-[\w.]+\.dist-info/([\w.-]+|licenses/(weights/)?LICENSE)"
)
# What an installed release must do without its dependencies.
TRIED = """
import json
from importlib.metadata import version
from learned_downscale import __version__, pretrained
assert version("learned-downscale") == __version__
for kind in pretrained.KINDS:
    for name in pretrained.bundled(kind):
        pretrained.check_folder(pretrained.folder_of(name, kind))
assert {"x2", "x4"} <= set(pretrained.bundled())
"""


def contents(path: Path) -> dict[str, int]:
    """Names and sizes in bytes of the files of a wheel or an sdist; of the latter without its
    folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {i.filename: i.file_size for i in wheel.infolist() if not i.is_dir()}
    with tarfile.open(path) as sdist:
        files = [member for member in sdist.getmembers() if not member.isdir()]
        return {member.name.partition("/")[2]: member.size for member in files}


def source(name: str) -> str:
    """The path in the source tree of a file of a wheel."""
    for installed, folder in MAPPED.items():
        if name.startswith(f"{installed}/"):
            return folder + name.removeprefix(installed)
    return name


def check_contents(files: dict[str, int], path: Path) -> None:
    """Exit with a message if a release holds a file that does not belong there."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    committed = set(listed.stdout.splitlines())
    wheel = path.suffix == ".whl"
    stray = []
    for name in files:
        if BUILT.fullmatch(name):
            continue
        known = (source(name) if wheel else name) in committed
        kind = Path(name).suffix in KINDS or Path(name).name in ("LICENSE", "MANIFEST.in")
        inside = not wheel or name.startswith("learned_downscale/")
        if not (known and kind and inside):
            stray.append(name)
    if stray:
        sys.exit(f"{path.name} holds what does not belong there: {', '.join(sorted(stray))}")


def check_version(tag: str | None = None) -> None:
    """Exit with a message if the changelog does not begin with the version, or a tag is another."""
    package = (ROOT / "learned_downscale" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'^__version__ = "(.+)"$', package, re.M)
    top = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[:1]
    if version != top:
        sys.exit(f"the version is {version}, but the changelog begins with {top}")
    if tag is not None and tag != f"v{version[0]}":
        sys.exit(
            f"the tag is {tag}, but the version is {version[0]}: the tag must be v{version[0]}"
        )


def build(out: Path) -> None:
    """Write sdist and wheel into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        python = sys.executable
        if importlib.util.find_spec("build") is None:
            python = environment(Path(folder))
            subprocess.run([python, "-m", "pip", "install", "-q", "build>=1.3"], check=True)
        subprocess.run([python, "-m", "build", "--outdir", str(out), str(ROOT)], check=True)


def environment(folder: Path) -> str:
    """The Python of a new virtual environment."""
    venv.create(folder, with_pip=True)
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def install(path: Path, folder: Path) -> None:
    """Install a release without its dependencies in a new environment, and try it."""
    python = environment(folder)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(path)], check=True)
    # from another folder, or the source tree would be imported
    subprocess.run([python, "-I", "-c", TRIED], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="an empty or new folder")
    parser.add_argument("--tag", help="of the commit; must be v and the version")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty; remove what is in it, or name another folder with --out")
    check_version(arguments.tag)
    build(out)
    built = sorted(out.iterdir())
    if [path.name.rpartition(".")[2] for path in built] != ["whl", "gz"]:
        sys.exit(f"{out} holds {', '.join(path.name for path in built)}, not a wheel and an sdist")
    for path in built:
        files = contents(path)
        size = path.stat().st_size
        print(f"== {path.name}: {size:,} bytes, {len(files)} files")
        for name, length in sorted(files.items()):
            print(f"{length:>11,}  {name}")
        check_contents(files, path)
        if path.suffix == ".whl" and size > LARGEST:
            sys.exit(f"{path.name} has {size:,} bytes; at most {LARGEST:,} are allowed")
        with tempfile.TemporaryDirectory() as folder:
            install(path, Path(folder))
        print(f"== {path.name} is installed and found whole", flush=True)


if __name__ == "__main__":
    main()
