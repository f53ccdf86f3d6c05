"""Weights: bundled with the package, in a folder, or on the Hugging Face Hub. Loaded one way:
safetensors only, strictly, checked against the SHA-256 in config.json. Knows no network class:
`load(Downscaler, "x4")` is told which one to build.

A weights folder is not trusted: no part of it is run or unpickled, and the networks' constructors
refuse arguments of wrong types and sizes that would fill the memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from learned_downscale import remote

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, ONNX, CARD = "config.json", "model.onnx", "README.md"
MODEL, DECODER = "model.safetensors", "decoder.safetensors"
DECODER_ONNX = "decoder.onnx"
KINDS = ("downscaler", "decoder", "classifier")
# The key of config.json that holds a file's SHA-256.
HASHED = {
    "sha256": MODEL,
    "decoder_sha256": DECODER,
    "onnx_sha256": ONNX,
    "decoder_onnx_sha256": DECODER_ONNX,
}
LARGEST_CONFIG = 2**20  # bytes; ours have 8,000 or fewer


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
            id "owner/name" or "owner/name@revision" of the Hugging Face Hub.
        revision: branch, tag or commit of a Hub model; pin a commit in production.

    Raises:
        FileNotFoundError: no such name, folder, Hub model or revision, or a file of it is missing.
        ValueError: the files are damaged, do not belong together, or are of another kind; or a
            revision of what is not on the Hub.
        PermissionError: the Hub model needs a token that is not there or may not read it.
        ConnectionError: the Hub cannot be reached (within 5 seconds), and the model is not in the
            cache.
    """
    config_path, weights_path = _locate(cls.kind, name, cls.file, revision)
    config = _parse(config_path, cls.kind, cls.sha256)
    content = _checked(weights_path, config_path, config[cls.sha256])
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        tensors = load_tensors(content)
        with torch.device("cpu"):
            model: Any = cls(**config[cls.kind])  # whose constructor bounds what it takes
        _check_tensors(tensors, model)
        # whatever the caller's default device and dtype are: nothing is rounded on the way in
        model = model.to("cpu", torch.float32)
        model.load_state_dict(tensors, strict=True)
    except (
        ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError, SafetensorError
    ) as error:  # fmt: skip
        raise ValueError(
            f"{weights_path} does not fit the network in {config_path}: {error}"
        ) from error
    return model.eval().requires_grad_(False)


def _check_tensors(tensors: dict[str, Tensor], network: Network) -> None:
    """Raise ValueError for other names, shapes or dtypes than the network's, and for infinities."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        wrong = [
            f"{name} is {found.get(name, 'missing')}, not {wanted.get(name, 'part of it')}"
            for name in sorted({*wanted, *found})
            if wanted.get(name) != found.get(name)
        ]
        raise ValueError("; ".join(wrong[:3]) + (" ..." if wrong[3:] else ""))
    for name, tensor in tensors.items():
        if str(tensor.dtype) not in ("torch.float32", "torch.float16"):
            raise ValueError(f"{name} is {tensor.dtype}, not float32 or float16")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds values that are infinite or not a number")


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
        ValueError, PermissionError, ConnectionError: as `load`.
    """
    config_path, onnx_path = _locate(kind, name, ONNX, revision)
    config = _parse(config_path, kind)
    if "onnx_sha256" not in config:
        raise ValueError(f"{config_path} names no {ONNX}; {_EXPORT.format(config_path.parent)}")
    return _checked(onnx_path, config_path, config["onnx_sha256"]), config


_EXPORT = "make it with `learned-downscale export {}`"


def pinned(name: Any, revision: str | None = None) -> tuple[Any, str | None]:
    """("owner/name@commit", None) of a Hub model, so that all that is loaded later is of one
    commit; what is no Hub model comes back as it is. Raises as `load`."""
    parts = None
    if isinstance(name, str) and not any(is_bundled(name, k) for k in KINDS):
        parts = None if Path(name).is_dir() else remote.split(name, revision)
    if parts is None:
        return name, revision
    (path,) = remote.fetch(parts[0], (CONFIG,), parts[1])
    return f"{parts[0]}@{remote.commit_of(path)}", None


def parse_config(path: Path) -> dict[str, Any]:
    """The content of a config.json; raises ValueError if it is no JSON object or above 1 MiB."""
    size = path.stat().st_size
    if size > LARGEST_CONFIG:
        raise ValueError(f"{path} has {size} bytes; a config.json of weights has at most 1 MiB")

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}; fetch or save the weights again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a JSON {type(config).__name__}, not an object")
    return config


def _parse(path: Path, kind: str, sha256: str | None = None) -> dict[str, Any]:
    config = parse_config(path)
    keys = [kind] if sha256 is None else [kind, sha256]
    if missing := [key for key in keys if key not in config]:
        raise ValueError(
            f"{path} does not describe a {kind} ({' and '.join(map(repr, missing))} missing); it "
            f"needs the keys {' and '.join(map(repr, keys))} that training writes"
        )
    if not isinstance(config[kind], dict):
        raise ValueError(f"{path} does not describe a {kind}: {kind!r} is no JSON object")
    return {**config, kind: dict(config[kind])}


def _checked(path: Path, config: Path, expected: object) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{path} is not the file that {config} names (SHA-256 differs): it is damaged or from "
            "another training; fetch both again (from the Hub with `learned-downscale download "
            "NAME --force`)"
        )
    return content


def files_of(config: dict[str, Any]) -> list[str]:
    """The files that a config.json names by their SHA-256."""
    return [file for key, file in HASHED.items() if key in config]


def check_folder(folder: Path) -> dict[str, Any]:
    """The config.json of a weights folder that is whole and holds nothing else; networks are not
    built. Names that begin with a dot are left out.

    Raises:
        FileNotFoundError: config.json or a file that it names is missing.
        ValueError: the files are damaged, do not belong together, or there are others.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder / CONFIG} is missing; {folder} is no weights folder")
    config = parse_config(folder / CONFIG)
    kinds = [kind for kind in KINDS if kind in config]
    if not kinds or {"downscaler", "classifier"} <= {*kinds}:
        raise ValueError(f"{folder / CONFIG} describes {' and '.join(kinds) or 'no network'}")
    for kind in kinds:
        _parse(folder / CONFIG, kind, "decoder_sha256" if kind == "decoder" else "sha256")
    wanted = {ONNX, *(MODEL if kind != "decoder" else DECODER for kind in kinds)}
    wanted |= {DECODER_ONNX} if "decoder" in kinds else set()
    named = files_of(config)
    if undescribed := {*named} - wanted:
        raise ValueError(
            f"{folder / CONFIG} names {', '.join(undescribed)}, but describes no network of it"
        )
    others = {path.name for path in folder.iterdir() if path.name[0] != "."}
    if extra := sorted(others - {CONFIG, CARD, *named}):
        raise ValueError(
            f"{folder} holds {', '.join(extra[:5])}, which config.json does not name: move what is "
            "no part of the weights elsewhere"
        )
    for key, file in HASHED.items():
        if file in named:
            if not (folder / file).is_file():
                raise FileNotFoundError(f"{folder / file} is missing; config.json names it")
            _checked(folder / file, folder / CONFIG, config[key])
    return config


def check_free(folder: Path, *kinds: str) -> None:
    """Raise FileExistsError if `save` into `folder` would replace what is not weights of one of
    `kinds` (default: a downscaler)."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    wanted = kinds or ("downscaler",)
    try:
        held = parse_config(folder / CONFIG)
        if any(kind in held for kind in wanted):
            return
        raise ValueError("of another kind")
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"{folder} exists and holds no weights of a {' or '.join(wanted)}; its files are not "
            "replaced: name a new folder"
        ) from error


def save(folder: Path, networks: Iterable[Network], card: str, **extra: Any) -> None:
    """Write networks that belong together (a downscaler and its decoder, say) into `folder`:
    their safetensors files, config.json and the model card README.md.

    `extra` goes into config.json as it is: what the weights were trained with.
    """
    config: dict[str, Any] = {"library_name": "learned_downscale"}
    contents: dict[str, bytes] = {}
    for network in networks:
        content = contents[network.file] = serialised(network)
        config[network.kind] = network.config
        config[network.sha256] = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in HASHED.values():  # of weights that these replace
        (folder / stale).unlink(missing_ok=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    write_config(folder, {**config, **extra})
    (folder / CARD).write_text(card, encoding="utf-8")


def serialised(network: Network) -> bytes:
    """The content of a network's safetensors file."""
    from safetensors.torch import save as save_tensors

    tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
    if network.float16:
        tensors = {k: v.half() for k, v in tensors.items()}
    return save_tensors(tensors)


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
        if revision is not None:
            raise ValueError(f"revision is for models of the Hub, and {str(name)!r} is none")
        paths = tuple(folder / part for part in wanted)
        for path in paths:
            if not path.is_file():
                hint = f"; {_EXPORT.format(folder)}" if path.name == ONNX else ""
                raise FileNotFoundError(
                    f"{path} is missing; weights folders hold {' and '.join(wanted)}{hint}"
                )
        return paths
    if (parts := remote.split(name, revision)) is not None:
        return remote.fetch(parts[0], wanted, parts[1])
    raise FileNotFoundError(
        f"no weights of a {kind} named {str(name)!r}: bundled are {', '.join(bundled(kind))}; "
        "otherwise give a folder or a Hugging Face model id (owner/name or owner/name@revision)"
    )
