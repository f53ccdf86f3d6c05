"""The thumbnails of one picture through every door: do they agree, and with which bits?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from learned_downscale.api import downscale_rows, resize
from learned_downscale.core.resampling import Array

Size = tuple[int, int]
# A door takes an RGB image, uint8 (H, W, 3), and a size (width, height), and gives (h, w, 3).
Door = Callable[[Array, Size], Array]


@dataclass(frozen=True)
class Passage:
    """A picture through a door.

    door, needs: its name, and the module that it needs besides the base install, or "".
    missing: why it could not be tried, or "".
    difference: the largest one to the first door, in levels; None where it was not tried.
    sha256: of the pixels, row by row.
    """

    door: str
    needs: str
    missing: str = ""
    difference: int | None = None
    sha256: str = ""


def passages(image: Array, size: Size) -> Iterator[Passage]:
    """A picture, (H, W, 3), uint8, through every door to a size (width, height); `resize` of the
    array is the first one. What a door needs and does not find is said, not raised."""
    image = np.array(image)  # torch warns of arrays that are not to be written to
    first = resize(image, size)
    for name, (needs, door) in DOORS.items():
        try:
            if needs:
                import_module(needs)
            small = door(image, size)
        # RuntimeError: a torchvision that was built for another torch
        except (ImportError, RuntimeError) as error:
            yield Passage(name, needs, str(error).splitlines()[0])
            continue
        difference = int(np.abs(small.astype(int) - first).max())
        digest = hashlib.sha256(np.ascontiguousarray(small).tobytes()).hexdigest()
        yield Passage(name, needs, "", difference, digest)


def _pil(image: Array, size: Size) -> Array:
    return np.asarray(resize(Image.fromarray(image), size))


def _tensor(image: Array, size: Size) -> Array:
    import torch

    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return resize(x, size).permute(1, 2, 0).numpy()


def _rows(image: Array, size: Size) -> Array:
    blocks = (image[top : top + 64] for top in range(0, len(image), 64))
    return np.concatenate(list(downscale_rows(blocks, (image.shape[1], image.shape[0]), size)))


def _onnx(image: Array, size: Size) -> Array:
    return resize(image, size, backend="onnx")


def _pillow(image: Array, size: Size) -> Array:
    from learned_downscale import pillow

    return np.asarray(pillow.resize(Image.fromarray(image), size))


def _opencv(image: Array, size: Size) -> Array:
    from learned_downscale import opencv

    return opencv.resize(np.ascontiguousarray(image[..., ::-1]), size)[..., ::-1]


def _torchvision(image: Array, size: Size) -> Array:
    import torch

    from learned_downscale.torchvision import Resize

    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    small: Any = Resize(size[::-1])(x)
    return np.asarray(small.permute(1, 2, 0))


def _transformers(image: Array, size: Size) -> Array:
    from learned_downscale.transformers import LearnedImageProcessor

    sides = {"height": size[1], "width": size[0]}
    processor = LearnedImageProcessor(size=sides, do_rescale=False, do_normalize=False)
    return np.moveaxis(np.asarray(processor(image)["pixel_values"][0]), 0, -1)


def _albumentations(image: Array, size: Size) -> Array:
    from learned_downscale.albumentations import LearnedResize

    small: Array = LearnedResize(size[1], size[0])(image=image)["image"]
    return small


def _preprocess(image: Array, size: Size) -> Array:
    from learned_downscale.preprocess import Preprocess

    x = Preprocess(size, mean=(0, 0, 0), std=(1, 1, 1))(image)
    return np.rint(np.moveaxis(x, 0, -1) * 255).astype(np.uint8)


# name -> the module that it needs besides the base install, and the door
DOORS: dict[str, tuple[str, Door]] = {
    "resize, numpy": ("", lambda image, size: resize(image, size)),
    "resize, PIL": ("", _pil),
    "resize, torch": ("", _tensor),
    "downscale_rows": ("", _rows),
    "pillow.resize": ("", _pillow),
    "opencv.resize": ("", _opencv),
    "torchvision.Resize": ("torchvision", _torchvision),
    "transformers.LearnedImageProcessor": ("transformers", _transformers),
    "albumentations.LearnedResize": ("albumentations", _albumentations),
    "resize, backend onnx": ("onnxruntime", _onnx),
    "Preprocess": ("onnxruntime", _preprocess),
}
