"""DPID: detail-preserving image downscaling, no learning. Source: Weber et al. 2016; the package
pepedpid (MIT), lambda 1, as in the paper."""

from __future__ import annotations

import numpy as np
import pepedpid
from PIL import Image
from run import SIDE, System

from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.networks import Reader


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    side = SIDE // factor

    def thumbnail(photo: Image.Image) -> Image.Image:
        x = np.asarray(photo, np.float32) / 255
        small = pepedpid.dpid_resize(x, side, side, 1.0)
        return Image.fromarray((small.clip(0, 1) * 255).round().astype(np.uint8))

    return System(teacher.copied(), thumbnail)
