"""An image processor for Hugging Face transformers whose resize is the learned one.

from learned_downscale.transformers import LearnedImageProcessor
processor = LearnedImageProcessor.like(AutoImageProcessor.from_pretrained(name))
classify = pipeline("image-classification", name, image_processor=processor)
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from learned_downscale import pretrained
from learned_downscale.core.resampling import Array
from learned_downscale.resizer import DEFAULT_WEIGHTS, Resizer

# What `like` takes over.
_SHARED = (
    "do_resize",
    "size",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_convert_rgb",
)


_STEPS = ("resize", "center_crop", "rescale", "normalize", "_preprocess")


def _is_own(processor: Any, method: str) -> bool:
    """Whether an image processor has a method of its own in place of transformers' usual one."""
    owner = next(cls for cls in type(processor).__mro__ if method in vars(cls))
    return owner.__module__ != PilBackend.__module__


class LearnedKwargs(ImagesKwargs, total=False):
    """weights: as for `learned_downscale.resize`, by name. weights_sha256: of each weights, by
    name; written when a processor is saved, checked when it is loaded."""

    weights: str | None
    weights_sha256: dict[str, str] | None


class LearnedImageProcessor(PilBackend):
    """Resize (learned), centre crop, rescale, normalise, as transformers' own image processors.

    Takes PIL images, numpy arrays and tensors, (H, W, C) or (C, H, W), and lists of them. Saves to
    and loads from preprocessor_config.json, with the weights' names and hashes. Enlargements are
    Pillow's bicubic.

    Args:
        size: {"height", "width"}; {"shortest_edge"}, perhaps with {"longest_edge"}; or
            {"max_height", "max_width"}. Default: 224 x 224.
        weights: as for `learned_downscale.resize`, by name. Default: x4 or x2, as it fits.
        others: as for transformers' image processors; `resample` has no effect.

    Raises:
        ValueError: it was saved with other weights than are installed here, or a size without
            these keys.
    """

    valid_kwargs = LearnedKwargs
    size = {"height": 224, "width": 224}  # noqa: RUF012, as transformers' own classes have it
    image_mean = [0.485, 0.456, 0.406]  # noqa: RUF012
    image_std = [0.229, 0.224, 0.225]  # noqa: RUF012
    resample = PILImageResampling.BICUBIC  # of enlargements
    do_resize = do_rescale = do_normalize = do_convert_rgb = True
    weights: str | None = None
    weights_sha256: dict[str, str] | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = DEFAULT_WEIGHTS.values() if self.weights is None else [self.weights]
        here = {name: str(pretrained.read_config(name)["sha256"]) for name in names}
        if self.weights_sha256 not in (None, here):
            raise ValueError(
                f"the image processor was saved with the weights {self.weights_sha256}, but here "
                f"are {here}, which give other pixels; install that version of learned-downscale, "
                "or remove weights_sha256 to use these"
            )
        self.weights_sha256 = here

    @classmethod
    def like(cls, processor: Any, **changes: Any) -> LearnedImageProcessor:
        """The same size, crop and normalisation as another image processor, with a learned resize.

        Raises:
            ValueError: the other one does more than resize, crop, rescale and normalise, or has
                methods of its own for these.
        """
        settings = processor.to_dict()
        shared: tuple[str, ...] = _SHARED
        more = ["do_pad"] if settings.get("do_pad") else []
        if isinstance(processor, cls):
            shared = (*_SHARED, "weights")
        else:
            own = (*type(processor).valid_kwargs.__annotations__,)
            more += [k for k in own if k not in ImagesKwargs.__annotations__ and settings.get(k)]
            more += [name for name in _STEPS if _is_own(processor, name)]
        if more:
            raise ValueError(
                f"{type(processor).__name__} has {', '.join(more)}, which {cls.__name__} does not "
                "know; give size, crop_size, image_mean and image_std yourself"
            )
        same = {key: settings.get(key) for key in shared}
        # what the other one leaves out, this one does not do either
        same |= {key: bool(value) for key, value in same.items() if key.startswith("do_")}
        return cls(**{**same, **changes})

    def resize(
        self,
        image: Array,
        size: SizeDict,
        resample: Any = None,
        reducing_gap: int | None = None,
        **kwargs: Any,
    ) -> Array:
        """image: (C, H, W). See the class."""
        height, width = _target(image.shape[-2], image.shape[-1], size)
        if height > image.shape[-2] or width > image.shape[-1]:
            exact = SizeDict(height=height, width=width)
            large: Array = super().resize(image, exact, PILImageResampling.BICUBIC)
            return large
        pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1))
        return np.moveaxis(_resizer((width, height), self.weights)(pixels), -1, 0)


def _target(height: int, width: int, size: SizeDict) -> tuple[int, int]:
    """(height, width) of the result, with transformers' roundings."""
    if size.height and size.width:
        return size.height, size.width
    short, long = min(height, width), max(height, width)
    if size.shortest_edge:
        edge, raw = size.shortest_edge, float(size.shortest_edge)
        if size.longest_edge and long / short * edge > size.longest_edge:
            raw = size.longest_edge * short / long
            edge = round(raw)
        other = long if edge == short else int(raw * long / short)
        return (edge, other) if height <= width else (other, edge)
    if size.max_height and size.max_width:
        scale = min(size.max_height / height, size.max_width / width)
        return int(height * scale), int(width * scale)
    raise ValueError(
        f"size is {size}; give height and width, shortest_edge (perhaps with longest_edge), or "
        "max_height and max_width"
    )


@cache
def _resizer(size: tuple[int, int], weights: str | None) -> Resizer:
    return Resizer(size, weights=weights)
