"""What a training run is made of: `Settings` of E and S, `ClassifierSettings` of the bundled
thumbnail classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


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
        _check(self, (*above_0, "downscaler_lr"), ("seed", "weight_decay", "cl", "kd", "mm"))
        if self.factor < 2:
            raise ValueError(f"factor is {self.factor}; it must be 2 or above")
        if self.size % (2 * self.factor):
            raise ValueError(
                f"size is {self.size}; it must be a multiple of twice the factor, {2 * self.factor}"
            )


@dataclass(frozen=True)
class ClassifierSettings:
    """Settings of a thumbnail classifier's training; each default is the bundled one's."""

    downscaler: Literal["learned", "bicubic"] = "learned"  # what makes the thumbnails
    size: int = 224  # side of the photos, px
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0

    # Crop sides lie in [min_crop, 1] of the photo's, each for itself: thumbnails are not square.
    min_crop: float = 0.8
    jpeg: float = 0.5  # part of the thumbnails that are saved as JPEG (quality 60 to 95) and read
    jitter: float = 0.2  # brightness and contrast change by up to this part

    lr: float = 2e-4  # AdamW, cosine to 0
    weight_decay: float = 0.02
    warmup: float = 0.05  # part of the steps in which the learning rate rises from 0
    average: float = 0.998  # S is the moving average of its steps, with this memory

    # L = cl L_CL + kd L_KD + fm L_FM
    cl: float = 0.3
    kd: float = 0.7
    fm: float = 1.0  # without it S learned more slowly (measured)
    temperature: float = 2.0

    def __post_init__(self) -> None:
        _check(
            self,
            ("size", "epochs", "batch_size", "lr", "temperature"),
            ("seed", "weight_decay", "cl", "kd", "fm", "jitter"),
        )
        for name in ("jpeg", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie from 0 to 1")


def _check(settings: Any, above_0: tuple[str, ...], from_0: tuple[str, ...]) -> None:
    for name in above_0:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be above 0")
    for name in from_0:
        if not getattr(settings, name) >= 0:
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be 0 or above")
    if not 0 < settings.min_crop <= 1:
        raise ValueError(f"min_crop is {settings.min_crop}; it must lie above 0, up to 1")
    if not 0 <= settings.warmup < 1:
        raise ValueError(f"warmup is {settings.warmup}; it must lie from 0 to below 1")
