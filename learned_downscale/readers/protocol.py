"""What a network must offer to read images for `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from learned_downscale.core.resampling import Array


class Reader(Protocol):
    """A network that classifies images.

    name: what reports call it.
    labels: its classes, in the order of its outputs.
    threshold: a prediction with a lower probability counts as none of the classes; in [0, 1].
    has_decoder: whether it reconstructs photos from thumbnails itself.
    """

    name: str
    labels: tuple[str, ...]
    threshold: float
    has_decoder: bool

    def prepare(self, image: Image.Image) -> Any:
        """The input of `probabilities`, small enough to be kept while the image is not; called
        from several threads. Raises ValueError for an image that cannot be read."""

    def probabilities(self, prepared: Sequence[Any]) -> Array:
        """(N, classes) float32; each row sums to 1."""

    def output_of(self, name: str) -> int | None:
        """The index of a class by any of its names; None for an unknown name."""
