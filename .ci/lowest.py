"""The tests with the lowest versions that pyproject.toml allows, in a new virtual environment.

    python .ci/lowest.py             install and run
    python .ci/lowest.py --list      print the versions

Of the extras, `onnx` is tested, too. Takes Python 3.11 or 3.12, for which the oldest versions have
wheels.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("onnx",)
# Tests that need neither transformers nor the files of another extra.
TESTS = (
    "tests/test_downscaler.py",
    "tests/test_files.py",
    "tests/test_hub.py",
    "tests/test_pixels_stay.py",
    "tests/test_pretrained.py",
    "tests/test_properties.py",
    "tests/test_qim.py",
    "tests/test_resize.py",
    "tests/test_resizer.py",
    "tests/test_rows.py",
    "tests/test_untrusted.py",
)


def lowest(project: dict[str, Any]) -> list[str]:
    """The requirements of the package and of EXTRAS, each at its lowest version
    (with its latest patch)."""
    wanted = [*project["dependencies"]]
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    return [re.sub(r">=([\w.]+).*", r"==\1.*", requirement) for requirement in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the versions and stop")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = lowest(project)
    if arguments.list:
        print("\n".join(requirements))
        return
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        constraints = Path(folder) / "lowest.txt"
        constraints.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        editable = f".[{','.join(EXTRAS)}]"
        install = ["install", "-q", "-c", str(constraints), "-e", editable, "pytest>=9.0"]
        for command in (["pip", *install], ["pip", "check"], ["pytest", "-q", *TESTS]):
            print("==", *command, flush=True)
            code = subprocess.run([str(python), "-m", *command], cwd=ROOT).returncode
            if code:
                sys.exit(code)


if __name__ == "__main__":
    main()
