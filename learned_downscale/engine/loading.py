"""Named weights -> what computes them: read and packed once a process, shared by all Resizers."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from learned_downscale import pretrained

if TYPE_CHECKING:
    from learned_downscale.core.downscaler import Downscaler
    from learned_downscale.engine.backend import Backend
    from learned_downscale.engine.device import DeviceBackend

# Changes when the config.json of a weights folder is written again: weights in a folder may be
# trained again; what is bundled or on the Hub stays (None).
Stamp = tuple[int, int] | None

_importing = Lock()


@dataclass(frozen=True)
class Facts:
    """What must be known of weights before they are loaded."""

    factor: int
    qim: int
    has_decoder: bool


def stamp(name: str | Path) -> Stamp:
    """Of the weights of a name, for `read_facts` and `load_backend`."""
    if pretrained.is_bundled(name):
        return None
    try:
        status = (Path(name) / pretrained.CONFIG).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=32)
def pinned(name: str, revision: str | None) -> tuple[str, str | None]:
    """`pretrained.pinned`, asked once a process; raises as `pretrained.load`."""
    return pretrained.pinned(name, revision)


@lru_cache(maxsize=32)
def read_facts(name: str | Path, revision: str | None, stamp: Stamp) -> Facts:
    """Of named weights; raises as `pretrained.load`."""
    config = pretrained.read_config(name, revision=revision)
    made_of = config["downscaler"]
    try:
        return Facts(int(made_of["factor"]), int(made_of.get("qim", 1)), "decoder" in config)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the config.json of {name} does not fit: {error!r}") from error


@lru_cache(maxsize=16)
def load_backend(
    name: str | Path | None, revision: str | None, kind: str, device: str, stamp: Stamp
) -> Backend | DeviceBackend:
    """What computes named weights, or bicubic alone (None); kind: "torch" or "onnx"; device: ""
    for the CPU. Raises as `pretrained.load`."""
    if kind == "onnx":
        from learned_downscale.engine.onnx_backend import OnnxBackend

        if name is None:
            return OnnxBackend(None, None)
        content, config = pretrained.load_onnx(name, revision=revision)
        made_of = config["downscaler"]
        return OnnxBackend(content, int(made_of["factor"]), int(made_of.get("qim", 1)))
    _import_torch()
    if name is None:
        return on_device(None, device)
    from learned_downscale.core.downscaler import Downscaler

    return on_device(pretrained.load(Downscaler, name, revision=revision), device)


def _import_torch() -> None:
    """Without the collection of garbage, which takes a sixth of the time and finds next to none."""
    with _importing:
        if "torch" in sys.modules or not gc.isenabled():
            return
        gc.disable()
        try:
            import torch  # noqa: F401
        finally:
            gc.enable()


def on_device(model: Downscaler | None, device: str) -> Backend | DeviceBackend:
    """What computes a downscaler, or bicubic alone, on a device ("": the CPU)."""
    if device:
        from learned_downscale.engine.device import DeviceBackend

        return DeviceBackend(model, device)
    from learned_downscale.engine.torch_backend import TorchBackend

    return TorchBackend(model)
