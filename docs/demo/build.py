"""Put into built/ what the demo needs and git does not hold: onnxruntime-web, from npm at the
version of package-lock.json, and the bundled weights as ONNX files. Needs npm and the extra `onnx`.

    python docs/demo/build.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from learned_downscale import pretrained
from learned_downscale.core.decoder import Decoder
from learned_downscale.readers.bundled import DEFAULT, ThumbnailClassifier
from learned_downscale.readers.onnx_graph import make, make_decoder

HERE = Path(__file__).parent
BUILT = HERE / "built"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
PACKAGES = ("package.json", "package-lock.json")


def copy_runtime() -> None:
    """onnxruntime-web, unless it is there at the wanted version; npm checks its hash."""
    lock = (HERE / PACKAGES[1]).read_text(encoding="utf-8")
    out = BUILT / "ort"
    if (out / "lock.json").is_file() and (out / "lock.json").read_text(encoding="utf-8") == lock:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is missing; it brings onnxruntime-web: install Node.js 20")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in PACKAGES:
            shutil.copy(HERE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(command, cwd=folder).returncode:
            raise OSError("npm could not fetch onnxruntime-web (its reason is above)")
        for name in RUNTIME:
            shutil.copy(Path(folder, "node_modules", "onnxruntime-web", "dist", name), out)
    (out / "lock.json").write_text(lock, encoding="utf-8")  # last: now they are all there


def write_models() -> None:
    """The ONNX files, and models.json, which describes them."""
    downscalers: dict[str, Any] = {}
    for name in pretrained.bundled():
        content, config = pretrained.load_onnx(name)
        (BUILT / f"{name}.onnx").write_bytes(content)
        decoder = None
        if "decoder" in config:
            decoder = f"{name}-decoder.onnx"
            (BUILT / decoder).write_bytes(make_decoder(pretrained.load(Decoder, name)))
        made_of = config["downscaler"]
        downscalers[name] = {
            "file": f"{name}.onnx",
            "factor": made_of["factor"],
            "qim": made_of.get("qim", 1),
            "decoder": decoder,
        }
    classifier = ThumbnailClassifier.from_pretrained(DEFAULT)
    (BUILT / f"{DEFAULT}.onnx").write_bytes(make(classifier))
    read = {
        "file": f"{DEFAULT}.onnx",
        "labels": classifier.labels,
        "threshold": classifier.threshold,
    }
    folder = pretrained.folder_of(DEFAULT, "classifier")
    assert folder is not None
    shutil.copy(folder.parent / "LICENSE", BUILT / "LICENSE.txt")
    models = {"downscalers": downscalers, "classifier": read}
    (BUILT / "models.json").write_text(json.dumps(models, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    BUILT.mkdir(exist_ok=True)
    try:
        copy_runtime()
        write_models()
    except ModuleNotFoundError as error:
        sys.exit(f"the demo was not built: {error}; pip install 'learned-downscale[onnx]'")
    except OSError as error:
        sys.exit(f"the demo was not built: {error}")
    size = sum(path.stat().st_size for path in BUILT.rglob("*"))
    print(f"{BUILT}: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
