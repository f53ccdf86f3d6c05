"""The paper's future work: a student on thumbnails (bicubic), pruned on top, by ThiNet's criterion,
to half of its multiply-adds."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from run import SIDE, System
from thinet import PHOTOS, smaller

from learned_downscale.thumbnet.costs import multiply_adds
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    size = SIDE // factor, SIDE // factor

    def thumbnail(photo: Image.Image) -> Image.Image:
        return photo.resize(size, Image.Resampling.BICUBIC)

    some = photos.images[:: len(photos) // PHOTOS].permute(0, 2, 3, 1).numpy()
    made = np.stack([np.asarray(thumbnail(Image.fromarray(photo))) for photo in some])
    x = torch.from_numpy(made).permute(0, 3, 1, 2)
    return System(smaller(teacher, x, multiply_adds(teacher, x[:1].float()) / 2), thumbnail)
