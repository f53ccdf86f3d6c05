"""JPEG between E and S, differentiable, so that thumbnails keep their gain when they are saved."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from learned_downscale.core.tensors import round_through

# ITU-T T.81, annex K: what a JPEG encoder divides the coefficients of a block by at quality 50.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
# Rows: Y, Cb, Cr of R, G, B.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def through_jpeg(x: Tensor, quality: int) -> Tensor:
    """x (N, 3, H, W) in [0, 1] saved as JPEG without chroma subsampling, as `convert` saves
    thumbnails, and opened again; the gradient passes every rounding unchanged.

    quality: 1 to 100, as libjpeg and Pillow have it.

    Source: the standard; the straight-through gradient is ours.
    """
    height, width = x.shape[-2:]
    to_ycc = torch.tensor(_TO_YCC).to(x)
    ycc = round_through(torch.einsum("dc,nchw->ndhw", to_ycc, 255 * x))
    ycc = F.pad(ycc, (0, -width % 8, 0, -height % 8), mode="replicate")
    ycc = ycc - torch.tensor([128.0, 0.0, 0.0]).to(x).view(3, 1, 1)
    blocks = ycc.unflatten(2, (-1, 8)).unflatten(4, (-1, 8))  # n c Y y X x
    dct = _dct().to(x)
    steps = _steps(quality).to(x)[:, None, :, None, :]
    coefficients = torch.einsum("uy,ncYyXx,vx->ncYuXv", dct, blocks, dct)
    coefficients = round_through(coefficients / steps) * steps
    blocks = torch.einsum("uy,ncYuXv,vx->ncYyXx", dct, coefficients, dct)
    ycc = blocks.flatten(4, 5).flatten(2, 3)[..., :height, :width]
    ycc = round_through(ycc + torch.tensor([128.0, 0.0, 0.0]).to(x).view(3, 1, 1))
    rgb = torch.einsum("dc,nchw->ndhw", to_ycc.double().inverse().to(x), ycc)
    return round_through(rgb).clamp(0, 255) / 255


def _steps(quality: int) -> Tensor:
    """(3, 8, 8): the quantisation steps of Y, Cb and Cr, scaled as libjpeg does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor((_LUMINANCE, _CHROMINANCE, _CHROMINANCE))
    return ((tables * scale + 50) // 100).clamp(1, 255).float()


def _dct() -> Tensor:
    """(8, 8): row u is the basis function of frequency u."""
    u, y = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = torch.cos((2 * y + 1) * u * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
