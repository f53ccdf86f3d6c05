"""Weights: bundled with the package, in a folder, or on the Hugging Face Hub. Loaded one way:
safetensors only, strictly, checked against the SHA-256 in config.json. Knows no network class:
`load(Downscaler, "x4")` is told which one to build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, ONNX = "config.json", "model.onnx"
MODEL, DECODER = "model.safetensors", "decoder.safetensors"
DECODER_ONNX = "decoder.onnx"


class Network(Protocol):
    """What this module must know of a network: an `nn.Module` that says how it is stored.

    kind: the key of config.json that holds its arguments. file: the safetensors file. sha256: the
    key of config.json that holds the file's hash. float16: whether the file holds float16.
    config: the arguments that build it again.
    """

    kind: ClassVar[str]
    file: ClassVar[str]
    sha256: ClassVar[str]
    float16: ClassVar[bool]

    @property
    def config(self) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Tensor]: ...


N = TypeVar("N", bound=Network)


def bundled(kind: str = "downscaler") -> list[str]:
    """Names of the weights inside the package, sorted; kind: "downscaler", "decoder" or
    "classifier"."""
    return list(_bundled(kind))


def is_bundled(name: str | Path, kind: str = "downscaler") -> bool:
    """Whether weights of this name are inside the package; a Path is always a folder."""
    return name in _bundled(kind)


@cache
def _bundled(kind: str) -> tuple[str, ...]:
    names = []
    for folder in files("learned_downscale.weights").iterdir():
        config = folder.joinpath(CONFIG)
        if config.is_file() and kind in json.loads(config.read_text(encoding="utf-8")):
            names.append(folder.name)
    return tuple(sorted(names))


def load(cls: type[N], name: str | Path, *, revision: str | None = None) -> N:
    """A network with trained weights, in evaluation mode, frozen, on the CPU, in float32.

    Args:
        cls: `Downscaler`, `Decoder` or another class that says how it is stored (`Network`).
        name: a bundled name (see `bundled`; these never touch the network), a folder that holds
            config.json and the weights (as a Path, or a str that is no bundled name), or a model
            id "owner/name" of the Hugging Face Hub.
        revision: branch, tag or commit of a Hub model; pin a commit in production.

    Raises:
        FileNotFoundError: no such name or folder, or a file of it is missing.
        ValueError: the files are damaged, do not belong together, or are of another kind.
        OSError: the Hub cannot be reached or has no such model.
    """
    config_path, weights_path = _locate(cls.kind, name, cls.file, revision)
    config = _parse(config_path, cls.kind, cls.sha256)
    content = _checked(weights_path, config_path, config[cls.sha256])
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        with torch.device("cpu"):
            model: Any = cls(**config[cls.kind])
        # whatever the caller's default device and dtype are: nothing is rounded on the way in
        model = model.to("cpu", torch.float32)
        model.load_state_dict(load_tensors(content), strict=True)
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{weights_path} does not fit the network in {config_path}: {error}"
        ) from error
    return model.eval().requires_grad_(False)


def read_config(
    name: str | Path, kind: str = "downscaler", *, revision: str | None = None
) -> dict[str, Any]:
    """The config.json of weights of a kind; raises as `load`."""
    (path,) = _locate(kind, name, None, revision)
    return _parse(path, kind)


def load_onnx(
    name: str | Path, kind: str = "downscaler", *, revision: str | None = None
) -> tuple[bytes, dict[str, Any]]:
    """The content of model.onnx and config.json, without torch; `name` as for `load`.

    Raises:
        FileNotFoundError: as `load`; or the weights were never exported.
        ValueError: the files are damaged or do not belong together.
        OSError: the Hub cannot be reached or has no such model.
    """
    config_path, onnx_path = _locate(kind, name, ONNX, revision)
    config = _parse(config_path, kind)
    if "onnx_sha256" not in config:
        raise ValueError(f"{config_path} names no {ONNX}; {_EXPORT.format(config_path.parent)}")
    return _checked(onnx_path, config_path, config["onnx_sha256"]), config


_EXPORT = "make it with `learned-downscale export {}`"


def _parse(path: Path, kind: str, sha256: str | None = None) -> dict[str, Any]:
    keys = [kind] if sha256 is None else [kind, sha256]
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {**config, **{key: config[key] for key in keys}, kind: dict(config[kind])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not describe a {kind} ({type(error).__name__}: {error}); it needs the "
            f"keys {' and '.join(map(repr, keys))} that training writes"
        ) from error


def _checked(path: Path, config: Path, expected: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{path} is not the file that {config} names (SHA-256 differs): "
            "it is damaged or from another training; fetch both again"
        )
    return content


def check_free(folder: Path, kind: str = "downscaler") -> None:
    """Raise FileExistsError if `save` into `folder` would replace what is not weights."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        json.loads((folder / CONFIG).read_text(encoding="utf-8"))[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{folder} exists and holds no weights of a {kind}; its files are not replaced: "
            "name a new folder"
        ) from error


def save(folder: Path, networks: Iterable[Network], card: str, **extra: Any) -> None:
    """Write networks that belong together (a downscaler and its decoder, say) into `folder`:
    their safetensors files, config.json and the model card README.md.

    `extra` goes into config.json as it is: what the weights were trained with.
    """
    from safetensors.torch import save as save_tensors

    config: dict[str, Any] = {"library_name": "learned_downscale"}
    contents: dict[str, bytes] = {}
    for network in networks:
        tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
        if network.float16:
            tensors = {k: v.half() for k, v in tensors.items()}
        content = contents[network.file] = save_tensors(tensors)
        config[network.kind] = network.config
        config[network.sha256] = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (MODEL, DECODER, ONNX, DECODER_ONNX):  # of weights that these replace
        (folder / stale).unlink(missing_ok=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    write_config(folder, {**config, **extra})
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.json of a weights folder."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def folder_of(name: str | Path, kind: str = "downscaler") -> Path | None:
    """The folder of bundled weights or of a path; None where the name is no folder."""
    if name in _bundled(kind):
        return Path(str(files("learned_downscale.weights").joinpath(str(name))))
    return Path(name) if Path(name).is_dir() else None


def _locate(
    kind: str, name: str | Path, file: str | None, revision: str | None
) -> tuple[Path, ...]:
    """config.json and another file of a name; a Path is always a folder."""
    wanted = (CONFIG,) if file is None else (CONFIG, file)
    folder = folder_of(name, kind)
    if folder is not None:
        paths = tuple(folder / part for part in wanted)
        for path in paths:
            if not path.is_file():
                hint = f"; {_EXPORT.format(folder)}" if path.name == ONNX else ""
                raise FileNotFoundError(
                    f"{path} is missing; weights folders hold {' and '.join(wanted)}{hint}"
                )
        return paths
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import hf_hub_download

        return tuple(Path(hf_hub_download(name, part, revision=revision)) for part in wanted)
    raise FileNotFoundError(
        f"no weights of a {kind} named {str(name)!r}: bundled are {', '.join(bundled(kind))}; "
        "otherwise give a folder or a Hugging Face model id (owner/name)"
    )
