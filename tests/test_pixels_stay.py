"""The pixels of the published weights stay what they are, bit for bit, over kinds, sizes, weights
and backends. Whoever means to change them (new weights, another filter) runs

    python tests/test_pixels_stay.py

and commits golden/pixels.json with the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import drawn_photo
from PIL import Image

import learned_downscale

GOLDEN = Path(__file__).parent / "golden" / "pixels.json"
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
WEIGHTS = ("x2", "x4", "x2-machine", "x4-machine", "x4-jpeg")
SIZES = ((160, 120), (161, 118), (67, 230), (9, 7))
ASKED = (1.5, 2, 3, 4, 6.5, (31, 22))
# Case -> the package whose version rounds its last bits: transparency is weighted in float32, CMYK
# is resized by Pillow alone.
ROUNDED_BY = {"kind: PIL RGBA": "torch", "kind: array RGBA": "torch", "kind: PIL CMYK": "pillow"}


def _alpha(photo: Image.Image) -> Image.Image:
    """The photo with a transparent half, an opaque quarter and a ramp."""
    width, height = photo.size
    ramp = np.clip(np.linspace(-255, 510, width), 0, 255).astype(np.uint8)
    out = photo.convert("RGBA")
    out.putalpha(Image.fromarray(np.broadcast_to(ramp, (height, width)).copy()))
    return out


def _kinds(photo: Image.Image) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Only 8 bits: float32 differs in its last bits between processors."""
    array = np.asarray(photo)
    chw = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for mode in ("RGB", "L", "P", "1", "RGBX", "YCbCr", "CMYK"):
        yield f"PIL {mode}", photo.convert(mode), {}
    yield "PIL RGBA", _alpha(photo), {}
    yield "PIL LA", _alpha(photo).convert("LA"), {}
    yield "array grey", array[..., 0].copy(), {}
    yield "array RGB", array, {}
    yield "array BGR", array[..., ::-1], {"channel_order": "bgr"}
    yield "array RGBA", np.asarray(_alpha(photo)), {}
    yield "tensor CHW", chw, {}
    yield "tensor NCHW", torch.stack([chw, chw.flip(2)]), {}


def _bytes(image: Any) -> bytes:
    if isinstance(image, Image.Image):
        return f"{image.mode} {image.size} ".encode() + image.tobytes()
    array = image.numpy() if isinstance(image, torch.Tensor) else image
    return f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()


def _digest(calls: Iterator[Any]) -> str:
    """Of the results of all calls; what is refused counts by its kind of error."""
    digest = hashlib.sha256()
    for call in calls:
        try:
            result = call()
        except (ValueError, TypeError) as error:
            digest.update(type(error).__name__.encode())
        else:
            digest.update(_bytes(result))
    return digest.hexdigest()


def _cases() -> dict[str, Iterator[Any]]:
    photos = [drawn_photo(*size, seed=i) for i, size in enumerate(SIZES)]
    cases: dict[str, list[Any]] = {}

    def add(name: str, *arguments: Any, **options: Any) -> None:
        cases.setdefault(name, []).append(lambda: learned_downscale.resize(*arguments, **options))

    for photo in photos:
        for kind, image, options in _kinds(photo):
            for asked in ASKED:
                add(f"kind: {kind}", image, asked, **options)
        for weights in WEIGHTS:
            for backend in ("torch", "onnx"):
                for asked in ASKED:
                    add(f"weights: {weights}, {backend}", photo, asked, weights=weights,
                        backend=backend)  # fmt: skip
        for asked in ASKED:
            add("backend: onnx, own weights", photo, asked, backend="onnx")
            for rounding in ("nearest", "down"):
                add(f"rounding: {rounding}", photo, asked, rounding=rounding)
    large = drawn_photo(1901, 1403, seed=9)
    for asked in (2, 4, 13, (475, 351)):
        for threads in (1, 3):
            add(f"tiles: {threads} threads", large, asked, num_threads=threads)
            add(f"tiles: {threads} threads", _alpha(large), asked, num_threads=threads)

            def rows(asked: Any = asked, threads: int = threads) -> Any:
                array = np.asarray(large)
                blocks = (array[i : i + 100] for i in range(0, len(array), 100))
                made = learned_downscale.downscale_rows(
                    blocks, large.size, asked, num_threads=threads
                )
                return np.concatenate(list(made))

            cases.setdefault(f"rows: {threads} threads", []).append(rows)
    return {name: iter(calls) for name, calls in cases.items()}


@pytest.mark.parametrize("name", sorted(json.loads(GOLDEN.read_text())) if GOLDEN.exists() else [])
def test_pixels_stay(name: str) -> None:
    if "onnx" in name:
        pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    package = ROUNDED_BY.get(name)
    if package is not None:
        pinned = re.findall(rf"^{package}==(.*)$", CONSTRAINTS.read_text(), re.MULTILINE)
        found = version(package).split("+")[0]
        if [found] != pinned:
            pytest.skip(f"{package} {found} rounds otherwise than {pinned[0]}")
    assert _digest(_cases()[name]) == json.loads(GOLDEN.read_text())[name]


def test_a_changed_pixel_is_found() -> None:
    photo = drawn_photo(64, 48)
    changed = photo.copy()
    changed.putpixel((20, 20), (0, 0, 0))
    assert _digest(iter([lambda: photo])) != _digest(iter([lambda: changed]))


if __name__ == "__main__":
    found = {name: _digest(calls) for name, calls in sorted(_cases().items())}
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
