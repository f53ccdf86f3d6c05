"""Weights folders of strangers: each of over 100 damaged or hostile ones is refused with a reason,
nothing in it is run, and nothing is built that would fill the memory."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from learned_downscale import Decoder, Downscaler, ThumbnailClassifier, pretrained
from learned_downscale.readers.efficientnet_lite import EfficientNetLite
from learned_downscale.readers.resnet import ResNet

Change = Callable[[Path], None]
MARK = "was run"


class Evil:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    E = Downscaler(2, channels=4)
    torch.nn.init.normal_(E.out.weight)
    E.save_pretrained(base / "pair")
    Decoder(2, width=4).save_pretrained(base / "pair")
    lite = EfficientNetLite(0.25, 0.25, 2, 2)
    names = (["cat", "dog"], ["n1", "n2"], 0.5)
    ThumbnailClassifier(lite, *names).save_pretrained(base / "lite")
    resnet = ResNet(4, [4, 8], [1, 1], False, False, False, 2, [0.5] * 3, [0.25] * 3)
    ThumbnailClassifier(resnet, *names).save_pretrained(base / "resnet")
    return {path.name: path for path in base.iterdir()}


def load_everything(folder: Path) -> None:
    """As `learned-downscale push` does before it sends a folder."""
    config = pretrained.check_folder(folder)
    for kind, cls in (
        ("downscaler", Downscaler),
        ("decoder", Decoder),
        ("classifier", ThumbnailClassifier),
    ):
        if kind in config:
            cls.from_pretrained(folder)


def at(*path: str | int, value: Any) -> Change:
    """config.json with a value changed."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        part = config
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def without(*path: str) -> Change:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        part = config
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        (folder / "config.json").write_text(json.dumps(config))

    return change


def config_text(text: str | bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def content(make: Callable[[bytes], bytes], file: str = "model.safetensors") -> Change:
    """A safetensors file with other content, whose hash config.json names."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_bytes(make(path.read_bytes()))
        key = next(key for key, name in pretrained.HASHED.items() if name == file)
        at(key, value=hashlib.sha256(path.read_bytes()).hexdigest())(folder)

    return change


def tensors(make: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def change(folder: Path) -> None:
        new = save(make(load_file(folder / "model.safetensors")))
        content(lambda _: new)(folder)

    return change


def damaged(make: Callable[[bytes], bytes], file: str = "model.safetensors") -> Change:
    """A file that is not the one whose hash config.json names."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes(make((folder / file).read_bytes()))

    return change


def header(changed: dict[str, Any]) -> Change:
    """A safetensors header whose entry of the first tensor is changed."""

    def make(old: bytes) -> bytes:
        (length,) = struct.unpack("<Q", old[:8])
        entries = json.loads(old[8 : 8 + length])
        first = next(name for name in entries if name != "__metadata__")
        entries[first] |= changed
        new = json.dumps(entries).encode()
        return struct.pack("<Q", len(new)) + new + old[8 + length :]

    return content(make)


def extra(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(pickle.dumps(Evil(folder.parent / MARK)))

    return change


def pickled(file: str) -> Change:
    """A pickle in the place of a safetensors file, with its hash."""

    def change(folder: Path) -> None:
        content(lambda _: pickle.dumps(Evil(folder.parent / MARK)), file)(folder)

    return change


def remove(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


WRONG = [None, True, False, "2", "", [], {}, [2], 2.5, -1, 0, 1e308, 10**9, 10**30]
PAIR: dict[str, Change] = {
    **{f"factor {v!r}": at("downscaler", "factor", value=v) for v in WRONG},
    **{f"channels {v!r}": at("downscaler", "channels", value=v) for v in WRONG},
    **{f"qim {v!r}": at("downscaler", "qim", value=v) for v in [*WRONG, 3, 256]},
    **{f"shared {v!r}": at("downscaler", "shared", value=v) for v in (None, 1, "no", [], True)},
    **{f"decoder factor {v!r}": at("decoder", "factor", value=v) for v in WRONG},
    **{f"decoder width {v!r}": at("decoder", "width", value=v) for v in WRONG},
    **{f"downscaler {v!r}": at("downscaler", value=v) for v in (None, 3, "x", [], [["factor", 2]])},
    **{f"hash {v!r}": at("sha256", value=v) for v in (None, 3, "", "0" * 64, [], {})},
    "other architecture": at("downscaler", value={"factor": 4, "channels": 4, "qim": 1}),
    "unknown argument": at("downscaler", "path", value="/etc/passwd"),
    "no factor": without("downscaler", "factor"),
    "no hash": without("sha256"),
    "no decoder hash": without("decoder_sha256"),
    "no decoder": without("decoder"),
    "no downscaler": without("downscaler"),
    "both kinds in one file": at("classifier", value={"classes": 2}),
    "hash of no file": at("onnx_sha256", value="0" * 64),
    "config empty": config_text(""),
    "config cut": lambda folder: config_text((folder / "config.json").read_bytes()[:-20])(folder),
    "config list": config_text("[]"),
    "config string": config_text('"downscaler"'),
    "config nan": at("downscaler", "factor", value=float("nan")),
    "config infinity": at("downscaler", "factor", value=float("inf")),
    "config not text": config_text(b"\xff\xfe\x00"),
    "config nested": config_text("[" * 200_000),
    "config huge": config_text(b'{"a": "' + b"x" * 2**21 + b'"}'),
    "config missing": remove("config.json"),
    "model missing": remove("model.safetensors"),
    "decoder missing": remove("decoder.safetensors"),
    "model empty": damaged(lambda _: b""),
    "model a byte off": damaged(lambda old: old[:-1] + bytes([old[-1] ^ 1])),
    "model cut": damaged(lambda old: old[:-8]),
    "decoder a byte more": damaged(lambda old: old + b"\0", "decoder.safetensors"),
    "model empty, hashed": content(lambda _: b""),
    "model cut, hashed": content(lambda old: old[:-8]),
    "model longer, hashed": content(lambda old: old + b"\0" * 8),
    "header cut, hashed": content(lambda old: old[:20]),
    "header length": content(lambda old: struct.pack("<Q", 2**62) + old[8:]),
    "header no JSON": content(lambda old: old[:8] + b"x" + old[9:]),
    "offsets beyond": header({"data_offsets": [0, 2**40]}),
    "offsets backwards": header({"data_offsets": [8, 0]}),
    "shape huge": header({"shape": [2**40, 2**40]}),
    "dtype unknown": header({"dtype": "PICKLE"}),
    "dtype changed": header({"dtype": "I32"}),
    "tensor missing": tensors(lambda t: {k: v for k, v in t.items() if k != "out.weight"}),
    "tensor more": tensors(lambda t: {**t, "other": torch.zeros(1)}),
    "tensor renamed": tensors(lambda t: {f"_{k}": v for k, v in t.items()}),
    "tensor narrowed": tensors(lambda t: {k: v[:, :1].contiguous() for k, v in t.items()}),
    "tensor of integers": tensors(lambda t: {k: v.int() for k, v in t.items()}),
    "tensor float64": tensors(lambda t: {k: v.double() for k, v in t.items()}),
    "tensor nan": tensors(lambda t: {k: v * float("nan") for k, v in t.items()}),
    "tensor infinite": tensors(lambda t: {k: v + float("inf") for k, v in t.items()}),
    "pickled model": pickled("model.safetensors"),
    "pickled decoder": pickled("decoder.safetensors"),
    "pytorch_model.bin beside": extra("pytorch_model.bin"),
    "code beside": extra("modeling.py"),
    "photo beside": extra("photo.jpg"),
    "model.onnx without a hash": extra("model.onnx"),
}  # fmt: skip
LITE: dict[str, Change] = {
    **{f"{key} {v!r}": at("classifier", key, value=v)
       for key in ("width", "depth", "classes", "stem_stride", "input_scale")
       for v in (None, True, "1", [], -1, 0, 1e9)},
    **{f"{key} {v!r}": at(key, value=v)
       for key in ("threshold", "temperature") for v in (None, True, "0.5", -1, 1e9)},
    **{f"architecture {v!r}": at("classifier", "architecture", value=v)
       for v in (None, 3, "os.system", "resnet")},
    **{f"sizes {v!r}": at("sizes", value=v)
       for v in (None, 3, {"smallest": "1"}, {"largest": 9}, {"shrinks": 1}, {"x": 1})},
    "labels too few": at("classes", value=[{"label": "cat", "wordnet_id": "n1"}]),
    "labels twice": at("classes", 1, "label", value="cat"),
    "labels none": without("classes"),
    "label none": without("threshold"),
}  # fmt: skip
RESNET: dict[str, Change] = {
    **{f"{key} {v!r}": at("classifier", key, value=v)
       for key in ("embedding", "hidden", "depths", "mean", "std")
       for v in (None, True, "1", [], -1, [-1, 1], [10**9, 10**9], [1] * 99)},
    **{f"{key} {v!r}": at("classifier", key, value=v)
       for key in ("bottleneck", "stride_first", "downsample_first") for v in (None, 1, "no")},
    "hidden and depths fill the memory": lambda folder: [
        at("classifier", "hidden", value=[4096] * 8)(folder),
        at("classifier", "depths", value=[64] * 8)(folder),
    ][0],
}  # fmt: skip
CASES = [
    (original, name, change)
    for original, changes in (("pair", PAIR), ("lite", LITE), ("resnet", RESNET))
    for name, change in changes.items()
]


def test_there_are_enough() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("original", ["pair", "lite", "resnet"])
def test_the_originals_load(originals: dict[str, Path], original: str) -> None:
    load_everything(originals[original])


@pytest.mark.parametrize("original", ["pair", "lite", "resnet"])
def test_each_is_refused_with_a_reason(
    originals: dict[str, Path], original: str, tmp_path: Path
) -> None:
    passed, slow = [], []
    for number, (_, name, change) in enumerate(c for c in CASES if c[0] == original):
        folder = tmp_path / f"{number}"
        shutil.copytree(originals[original], folder)
        change(folder)
        start = time.monotonic()
        try:
            load_everything(folder)
            passed.append(name)
        except (ValueError, FileNotFoundError) as error:
            assert len(str(error)) > 30 and str(folder) in str(error), (name, error)
        if time.monotonic() - start > 2:
            slow.append(name)
    assert passed == [] and slow == []
    assert not (tmp_path / MARK).exists()


def test_the_mark_of_a_pickle_would_be_seen(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / MARK)))
    assert (tmp_path / MARK).exists()


def test_a_folder_beside_pickles_loads_without_them(
    originals: dict[str, Path], tmp_path: Path
) -> None:
    """Loading opens the two files that it needs, whatever lies beside them."""
    folder = tmp_path / "pair"
    shutil.copytree(originals["pair"], folder)
    extra("pytorch_model.bin")(folder)
    assert Downscaler.from_pretrained(folder).factor == 2
    assert not (tmp_path / MARK).exists()
