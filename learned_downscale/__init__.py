"""An image downscaler that is trained to keep what a classifier needs.

    import learned_downscale
    thumbnail = learned_downscale.resize(image, 4)

Nothing heavy (torch, PIL, ...) is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

# Eagerly, and light: else importing the module `resize` would hide the function of that name.
from learned_downscale.resize import Plan, resize

if TYPE_CHECKING:
    from learned_downscale.downscaler import Downscaler
    from learned_downscale.stream import downscale_rows

__version__ = "0.1.0"
__all__ = ["Downscaler", "Plan", "downscale_rows", "resize"]


def __getattr__(name: str) -> Any:
    if name == "Downscaler":
        from learned_downscale.downscaler import Downscaler

        return Downscaler
    if name == "downscale_rows":
        from learned_downscale.stream import downscale_rows

        return downscale_rows
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
