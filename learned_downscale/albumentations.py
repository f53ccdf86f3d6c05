"""A transform for albumentations.

from learned_downscale.albumentations import LearnedResize
transform = A.Compose([LearnedResize(224, 224), A.Normalize()], bbox_params=...)
"""

from __future__ import annotations

from functools import cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from pydantic import Field

from learned_downscale.core.resampling import Array
from learned_downscale.resizer import Resizer


class LearnedResize(A.Resize):  # type: ignore[misc]
    """`albumentations.Resize` with a learned filter; masks, boxes and key points as there.

    Args:
        height, width: of the result, px. An enlargement is OpenCV's bicubic.
        mask_interpolation: of masks; default: their nearest pixels.
        weights: as for `learned_downscale.resize`, by name. Default: x4 or x2, as it fits.
        p: probability of the transform.

    Images of 3 channels are colours; each channel of others is resized as grey.

    Raises (when called):
        TypeError, ValueError: as `learned_downscale.resize`.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        height: int = Field(ge=1)
        width: int = Field(ge=1)
        mask_interpolation: int
        weights: str | None

    def __init__(
        self,
        height: int,
        width: int,
        mask_interpolation: int = 0,
        weights: str | None = None,
        p: float = 1,
    ) -> None:
        super().__init__(height=height, width=width, mask_interpolation=mask_interpolation, p=p)
        self.weights = weights

    def apply(self, img: Array, **params: Any) -> Array:
        size = self.width, self.height
        if size[0] > img.shape[1] or size[1] > img.shape[0]:
            large: Array = cv2.resize(img, size, interpolation=cv2.INTER_CUBIC)
            return large
        resizer = _resizer(size, self.weights)
        if img.ndim == 2 or img.shape[-1] in (1, 3):
            return resizer(img)
        return np.concatenate([resizer(img[..., i : i + 1]) for i in range(img.shape[-1])], -1)

    def apply_to_images(self, images: Array, *args: Any, **params: Any) -> Array:
        return np.stack([self.apply(image) for image in images])


@cache
def _resizer(size: tuple[int, int], weights: str | None) -> Resizer:
    return Resizer(size, weights=weights)
