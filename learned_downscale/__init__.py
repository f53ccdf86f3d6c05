"""An image downscaler that is trained to keep what a classifier needs.

    import learned_downscale
    thumbnail = learned_downscale.resize(image, 4)

Nothing heavy (torch, PIL, ...) is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Eagerly, and light: else importing the module `resize` would hide the function of that name.
from learned_downscale.resize import Plan, resize

if TYPE_CHECKING:
    from learned_downscale.classifier import Prediction, ThumbnailClassifier
    from learned_downscale.decoder import Decoder
    from learned_downscale.downscaler import Downscaler
    from learned_downscale.stream import downscale_rows
    from learned_downscale.verification import Verification, verify

__version__ = "0.1.0"
__all__ = [
    "Decoder",
    "Downscaler",
    "Plan",
    "Prediction",
    "ThumbnailClassifier",
    "Verification",
    "downscale_rows",
    "resize",
    "verify",
]

_LATER = {
    "Decoder": "decoder",
    "Downscaler": "downscaler",
    "Prediction": "classifier",
    "ThumbnailClassifier": "classifier",
    "Verification": "verification",
    "downscale_rows": "stream",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
