"""What a training run is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """Settings of one run; each default is the published x4's."""

    factor: int = 4  # E's factor per side
    downscaler: Literal["learned", "bicubic"] = "learned"  # "bicubic": E is the baseline filter
    channels: int = 16  # width of E
    size: int = 224  # side of the photos, px
    epochs: int = 8
    batch_size: int = 32
    seed: int = 0

    # Crop sides lie in [min_crop, 1] of the photo's.
    min_crop: float = 0.85
    student_lr: float = 1e-4  # AdamW, cosine to 0; 3e-4 learned more slowly (measured)
    downscaler_lr: float = 4e-3  # 2e-3 gave the same accuracy (measured)
    weight_decay: float = 0.05  # S only: E is too small to need it
    warmup: float = 0.05  # part of the steps in which the learning rates rise from 0

    # L = cl L_CL + kd L_KD + mm L_MM
    cl: float = 0.3
    kd: float = 0.7
    mm: float = 2.0
    temperature: float = 2.0

    precision: Literal["float32", "bfloat16"] = "bfloat16"  # of T and S; E is always float32

    def __post_init__(self) -> None:
        above_0 = ("channels", "size", "epochs", "batch_size", "temperature", "student_lr")
        for name in (*above_0, "downscaler_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("seed", "weight_decay", "cl", "kd", "mm"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or above")
        if self.factor < 2:
            raise ValueError(f"factor is {self.factor}; it must be 2 or above")
        if self.size % (2 * self.factor):
            raise ValueError(
                f"size is {self.size}; it must be a multiple of twice the factor, {2 * self.factor}"
            )
        if not 0 < self.min_crop <= 1:
            raise ValueError(f"min_crop is {self.min_crop}; it must lie above 0, up to 1")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it must lie from 0 to below 1")
