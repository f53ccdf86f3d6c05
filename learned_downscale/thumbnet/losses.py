"""The losses, one function each.

| symbol | in code            | shape                | range   |
| ------ | ------------------ | -------------------- | ------- |
| x      | `x`                | (N, 3, H, W)         | [0, 1]  |
| x_s    | `x_s`              | (N, 3, H/f, W/f)     | [0, 1]  |
| f      | `factor`           |                      | 2, 4    |
| z_S    | `logits`           | (N, classes)         |         |
| z_T    | `teacher_logits`   | (N, classes)         |         |
| y      | `labels`           | (N,)                 |         |
| phi_S  | `features`         | (N, ...)             |         |
| phi_T  | `teacher_features` | as phi_S             |         |
| tau    | `temperature`      |                      | > 0     |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from learned_downscale.core.tensors import bicubic

# Width and height, in thumbnail pixels, of the windows in which spreads are compared: the smallest
# that hold a texture, and small enough that contrast stays in its place.
WINDOW = 4


def moment_matching(x_s: Tensor, x: Tensor, factor: int) -> Tensor:
    """L_MM = mean_p (mu_p(x_s) - mu_p(x))^2 + mean_w (sigma_w(x_s) - sigma_w(x))^2.

    p: the footprint of one thumbnail pixel; w: windows of 4 x 4 thumbnail pixels, every 2;
    both per channel. The first moment keeps brightness and colour where they are; the second
    gives back the local contrast that averaging takes away.

    Source: the paper names moment matching; its moments and this formula are ours.
    """
    height, width = x_s.shape[-2:]
    x = x[..., : factor * height, : factor * width]
    mean = F.avg_pool2d(x, factor)
    mean_of_squares = F.avg_pool2d(x.square(), factor)
    return F.mse_loss(x_s, mean) + F.mse_loss(
        _spread(x_s, x_s.square()), _spread(mean, mean_of_squares)
    )


def _spread(mean: Tensor, mean_of_squares: Tensor) -> Tensor:
    window = min(WINDOW, *mean.shape[-2:])
    mean, mean_of_squares = (F.avg_pool2d(t, window, stride=2) for t in (mean, mean_of_squares))
    # 1e-5: a spread below one 8-bit level counts as none, and the root stays differentiable
    return ((mean_of_squares - mean.square()).clamp(min=0) + 1e-5).sqrt()


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """L_CL = -log softmax(z_S)_y, mean over the batch. Source: the paper."""
    return F.cross_entropy(logits, labels)


def distillation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """L_KD = tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), mean over the batch.

    Source: the paper names it; the formula is Hinton et al. 2015's.
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def feature_mapping(features: Tensor, teacher_features: Tensor) -> Tensor:
    """L_FM = mean (phi_S(x_s) - phi_T(x))^2, over the batch and all features. Source: the paper
    names it; which features phi are is ours."""
    return F.mse_loss(features, teacher_features)


def perceptual(features: Sequence[Tensor], photo_features: Sequence[Tensor]) -> Tensor:
    """L_FM = mean_l mean_n |phi_l(r) - phi_l(x)|^2 / |phi_l(x)|^2, phi_l: the map (N, C, h, w) that
    a layer l of one network gives; n: photos; r: what was reconstructed of x.

    Source: the paper's FM, as the feature reconstruction loss of Johnson et al. 2016; the division,
    which lets no layer and no photo outweigh others, is ours.
    """
    terms = []
    for mine, theirs in zip(features, photo_features, strict=True):
        size = theirs.float().square().mean((1, 2, 3), keepdim=True).sqrt()
        terms.append(feature_mapping(mine.float() / size, theirs.float() / size))
    return torch.stack(terms).mean()


def autoencoding(reconstructed: Tensor, x: Tensor) -> Tensor:
    """L_AE = mean (r - bicubic(x))^2, r: the photo reconstructed from x_s; bicubic: x in r's size.
    Source: the paper compares with an unsupervised auto-encoder; the formula is ours."""
    size = reconstructed.shape[-2], reconstructed.shape[-1]
    return F.mse_loss(reconstructed, bicubic(x, size, levels=None))
