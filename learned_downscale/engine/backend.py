"""What computes tiles, and which of the libraries does."""

from __future__ import annotations

import numbers
import os
from contextlib import AbstractContextManager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

from learned_downscale.plan import ROUND

if TYPE_CHECKING:
    from learned_downscale.core.resampling import Array, Axis

BackendName = Literal["auto", "torch", "onnx"]
BACKENDS = ("auto", "torch", "onnx")


class Backend(Protocol):
    """What computes tiles. Arrays are (N, H, W, C), C 1, 3 or 4: a fourth channel is carried
    along by `bicubic` and ignored by the network. All may be called from several threads at once.
    """

    name: str
    factor: int | None
    qim: int

    def bicubic(self, x: Array, rows: Axis, columns: Axis) -> Array:
        """Antialiased bicubic, uint8 (rounded) or float32 (as it comes, not clipped).
        Weights that fall outside x are left out, as at an image's border."""

    def thumbnail(self, x: Array, skip: Array | None) -> Array:
        """round(skip + residual(x)), or `qim.embed` of them, uint8 (N, h, w, 3).

        x: uint8 (N, f*h, f*w, 3 or 4). skip: uint8 (N, h, w, 3 or 4), which may be overwritten;
        None: x by bicubic."""

    def residual(self, x: Array) -> Array:
        """What is added or embedded, in levels, float32 (N, h, w, 3), of x, uint8
        (N, f*h, f*w, 3 or 4)."""

    def default_threads(self) -> int:
        """How many threads may work where the caller does not say."""

    def single_thread(self) -> AbstractContextManager[None]:
        """Within it, calls from this thread start no further threads."""


def choose(backend: str) -> tuple[str, str]:
    """("torch" or "onnx", why).

    Raises:
        ImportError: it is not installed.
    """
    if backend == "auto":
        if _installed("torch"):
            return "torch", "chosen because torch is installed, the faster of the two (measured)"
        if _installed("onnxruntime"):
            return "onnx", "chosen because torch is not installed"
        raise ImportError(
            "neither torch nor onnxruntime is installed: pip install learned-downscale brings "
            "torch, learned-downscale[onnx] ONNX Runtime"
        )
    package = {"torch": "torch", "onnx": "onnxruntime"}[backend]
    if not _installed(package):
        raise ImportError(
            f"backend {backend!r} needs {package}: pip install 'learned-downscale"
            + ("[onnx]'" if backend == "onnx" else "'")
        )
    return backend, "as asked"


@cache
def _installed(package: str) -> bool:
    return find_spec(package) is not None


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_choices(
    rounding: str, channel_order: str, backend: str = "auto", num_threads: int | None = None
) -> None:
    """Raise ValueError for what `resize` does not know."""
    for name, value, choices in (
        ("rounding", rounding, tuple(ROUND)),
        ("channel_order", channel_order, ("rgb", "bgr")),
        ("backend", backend, BACKENDS),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
    if num_threads is None:
        return
    if isinstance(num_threads, bool) or not isinstance(num_threads, numbers.Integral):
        raise TypeError(f"num_threads is {num_threads!r}; expected a whole number, or None for all")
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; give 1 or more, or None for all")
