"""ThumbNet: E and S trained together. E begins with the published weights of the factor; L_MM holds
its thumbnails natural. Source: Zhao and Ghanem 2020; without L_FM, as `run.py` trains no D."""

from __future__ import annotations

from run import System
from torch import Tensor, nn

from learned_downscale import pretrained
from learned_downscale.core.downscaler import Downscaler
from learned_downscale.core.symmetry import tie
from learned_downscale.thumbnet.data import Photos
from learned_downscale.thumbnet.losses import moment_matching
from learned_downscale.thumbnet.networks import Reader


def make(teacher: Reader, factor: int, photos: Photos) -> System:
    front = tie(pretrained.load(Downscaler, f"x{factor}").requires_grad_(True))

    def loss(x: Tensor) -> Tensor:
        return 2.0 * moment_matching(front(x), x, factor)

    network = nn.Sequential(front, teacher.copied())
    return System(network, None, front, [*front.parameters()], loss)
