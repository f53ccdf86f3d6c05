"""Weights: bundled with the package, in a folder, or on the Hugging Face Hub. Loaded one way:
safetensors only, strictly, checked against the SHA-256 in config.json."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from learned_downscale.decoder import Decoder
    from learned_downscale.downscaler import Downscaler
    from learned_downscale.thumbnail_network import ThumbnailNetwork

CONFIG, WEIGHTS, ONNX = "config.json", "model.safetensors", "model.onnx"
DECODER = "decoder.safetensors"

# What weights can be of: the key of config.json that holds the network's arguments. A decoder
# lies beside its downscaler.
Kind = Literal["downscaler", "classifier", "decoder"]


def bundled(kind: Kind = "downscaler") -> list[str]:
    """Names of the weights inside the package, sorted."""
    names = []
    for folder in files("learned_downscale.weights").iterdir():
        config = folder.joinpath(CONFIG)
        if config.is_file() and kind in json.loads(config.read_text(encoding="utf-8")):
            names.append(folder.name)
    return sorted(names)


def load(name: str | Path, *, revision: str | None = None) -> Downscaler:
    """E with trained weights, in evaluation mode, on the CPU.

    Args:
        name: a bundled name ("x2", "x4", "x2-machine", "x4-machine", "x4-jpeg"; these never touch
            the network), a folder that holds config.json and model.safetensors (as a Path, or a
            str that is no bundled name), or a model id "owner/name" of the Hugging Face Hub.
        revision: branch, tag or commit of a Hub model; pin a commit in production.

    Raises:
        FileNotFoundError: no such name or folder, or a file of it is missing.
        ValueError: the files are damaged, do not belong together, or are not a Downscaler's.
        OSError: the Hub cannot be reached or has no such model.
    """
    from learned_downscale.downscaler import Downscaler

    return _load("downscaler", Downscaler, name, revision)[0]


def load_classifier(
    name: str | Path, *, revision: str | None = None
) -> tuple[ThumbnailNetwork, dict[str, Any]]:
    """S as a product, in evaluation mode, on the CPU, and its config; as `load` otherwise."""
    from learned_downscale.thumbnail_network import ThumbnailNetwork

    return _load("classifier", ThumbnailNetwork, name, revision)


def load_decoder(name: str | Path, *, revision: str | None = None) -> Decoder:
    """D of an E, in evaluation mode, on the CPU; as `load` otherwise."""
    from learned_downscale.decoder import Decoder

    return _load("decoder", Decoder, name, revision)[0]


def decoder_beside(name: str | Path) -> Decoder | None:
    """D of an E, as `load_decoder`; None if it has none."""
    config, _ = _locate("downscaler", name, CONFIG, None)
    if "decoder" not in _read_config("downscaler", config):
        return None
    return load_decoder(name)


def _load(
    kind: Kind, network: type[nn.Module], name: str | Path, revision: str | None
) -> tuple[Any, dict[str, Any]]:
    file, sha256 = (DECODER, "decoder_sha256") if kind == "decoder" else (WEIGHTS, "sha256")
    config_path, weights_path = _locate(kind, name, file, revision)
    config = _read_config(kind, config_path, sha256)
    content = _checked(weights_path, config_path, config[sha256])
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        with torch.device("cpu"):
            model = network(**config[kind])
        model.load_state_dict(load_tensors(content), strict=True)
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{weights_path} does not fit the network in {config_path}: {error}"
        ) from error
    # whatever the caller's default device and dtype are
    return model.to("cpu", torch.float32).eval().requires_grad_(False), config


@cache
def load_bundled(name: str, device: str = "cpu") -> Downscaler:
    """Bundled weights on a device, read once a process; shared, so not to be changed."""
    return load(name).to(device)


def load_onnx(name: str | Path, *, revision: str | None = None) -> tuple[bytes, int, int]:
    """The content of model.onnx, its factor and its modulus, without torch; `name` as for `load`.

    Raises:
        FileNotFoundError: as `load`; or the weights were never exported.
        ValueError: the files are damaged or do not belong together.
        OSError: the Hub cannot be reached or has no such model.
    """
    config_path, onnx_path = _locate("downscaler", name, ONNX, revision)
    config = _read_config("downscaler", config_path)
    if "onnx_sha256" not in config:
        raise ValueError(f"{config_path} names no {ONNX}; {_EXPORT.format(config_path.parent)}")
    content = _checked(onnx_path, config_path, config["onnx_sha256"])
    made_of = config["downscaler"]
    return content, int(made_of["factor"]), int(made_of.get("modulus", 1))


_EXPORT = "make it with `learned-downscale export {}`"


def _read_config(kind: Kind, path: Path, sha256: str = "sha256") -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {**config, kind: dict(config[kind]), sha256: config[sha256]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not describe a {kind} ({type(error).__name__}: {error}); "
            f"it needs the keys {kind!r} and {sha256!r} that training writes"
        ) from error


def _checked(path: Path, config: Path, expected: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{path} is not the file that {config} names (SHA-256 differs): "
            "it is damaged or from another training; fetch both again"
        )
    return content


def check_free(folder: Path, kind: Kind = "downscaler") -> None:
    """Raise FileExistsError if `save` into `folder` would replace what is not weights."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        json.loads((folder / CONFIG).read_text(encoding="utf-8"))[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{folder} is there and holds no weights of a {kind}; its files are not replaced: "
            "name a new folder"
        ) from error


def save(
    folder: Path,
    model: Downscaler | ThumbnailNetwork,
    card: str,
    kind: Kind = "downscaler",
    decoder: Decoder | None = None,
    **extra: Any,
) -> None:
    """Write config.json, model.safetensors and the model card README.md into `folder`, a
    classifier's weights in float16; a downscaler's decoder into decoder.safetensors.

    `extra` goes into config.json as it is: what the weights were trained with.
    """
    from safetensors.torch import save as save_tensors

    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    if kind == "classifier":
        tensors = {k: v.half() for k, v in tensors.items()}
    content = save_tensors(tensors)
    config = {
        "library_name": "learned_downscale",
        kind: model.config,
        "sha256": hashlib.sha256(content).hexdigest(),
        **extra,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DECODER).unlink(missing_ok=True)  # of weights that these replace
    if decoder is not None:
        beside = save_tensors({k: v.contiguous() for k, v in decoder.state_dict().items()})
        (folder / DECODER).write_bytes(beside)
        config["decoder"] = decoder.config
        config["decoder_sha256"] = hashlib.sha256(beside).hexdigest()
    (folder / WEIGHTS).write_bytes(content)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _locate(kind: Kind, name: str | Path, file: str, revision: str | None) -> tuple[Path, Path]:
    """config.json and another file of a name; a Path is always a folder."""
    folder = Path(name)
    if name in bundled(kind):
        folder = Path(str(files("learned_downscale.weights").joinpath(str(name))))
    if folder.is_dir():
        paths = folder / CONFIG, folder / file
        for path in paths:
            if not path.is_file():
                hint = f"; {_EXPORT.format(folder)}" if path.name == ONNX else ""
                raise FileNotFoundError(
                    f"{path} is missing; weights folders hold {CONFIG} and {file}{hint}"
                )
        return paths
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import hf_hub_download

        config, other = (
            Path(hf_hub_download(name, part, revision=revision)) for part in (CONFIG, file)
        )
        return config, other
    raise FileNotFoundError(
        f"no weights of a {kind} named {str(name)!r}: bundled are {', '.join(bundled(kind))}; "
        "otherwise give a folder or a Hugging Face model id (owner/name)"
    )
