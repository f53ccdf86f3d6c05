"""A learned image downscaler: a drop-in replacement for bicubic resizing.

    import learned_downscale
    thumbnail = learned_downscale.resize(image, 4)

Nothing heavy (torch, PIL, ...) is imported before it is used.
"""

# Python starts no threads for a module that is first imported while it shuts down (atexit).
import concurrent.futures.thread as _thread  # noqa: F401
import os as _os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_downscale.api import downscale_rows, resize
    from learned_downscale.core.decoder import Decoder
    from learned_downscale.core.downscaler import Downscaler
    from learned_downscale.plan import Plan
    from learned_downscale.readers.bundled import Prediction, ThumbnailClassifier
    from learned_downscale.resizer import Resizer
    from learned_downscale.verification.compare import verify
    from learned_downscale.verification.results import Verification

# In a checkout, cli/ and weights/ lie beside this folder, not in it: for Python that starts there.
if not _os.path.isdir(_os.path.join(__path__[0], "weights")):
    __path__.append(_os.path.dirname(__path__[0]))

__version__ = "0.1.0"
__all__ = [
    "Decoder",
    "Downscaler",
    "Plan",
    "Prediction",
    "Resizer",
    "ThumbnailClassifier",
    "Verification",
    "downscale_rows",
    "resize",
    "verify",
]

_LATER = {
    "Decoder": "core.decoder",
    "Downscaler": "core.downscaler",
    "Plan": "plan",
    "Prediction": "readers.bundled",
    "Resizer": "resizer",
    "ThumbnailClassifier": "readers.bundled",
    "Verification": "verification.results",
    "downscale_rows": "api",
    "resize": "api",
    "verify": "verification.compare",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
