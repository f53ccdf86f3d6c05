"""Photos: ImageFolder layout, plain folders or tar shards, decoded once and kept as uint8."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Photos:
    """A labelled set of square photos in memory.

    images: (M, 3, size, size) uint8 RGB. labels: (M,) int64, indices into `classes`.
    classes: sorted folder names. names: "class/file" of each photo, sorted.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Changes when a photo is added, removed or renamed, or the size changes."""
        listing = "\n".join((*self.names, str(self.images.shape[-1])))
        return hashlib.sha256(listing.encode()).hexdigest()

    def sample(self, per_class: int) -> Photos:
        """The first `per_class` photos of each class."""
        keep = torch.cat(
            [(self.labels == c).nonzero()[:per_class, 0] for c in self.labels.unique()]
        )
        names = tuple(self.names[i] for i in keep.tolist())
        return Photos(self.images[keep], self.labels[keep], self.classes, names)


def read_photos(
    paths: Sequence[str | Path], size: int = 224, warn: Callable[[str], None] = lambda line: None
) -> Photos:
    """Read photos in ImageFolder layout: `.../class/file`.

    Args:
        paths: folders (one sub-folder a class) and `.tar` shards (members `.../class/file`);
            a photo's class is the name of its folder.
        size: every photo is scaled so that its short side has `size` pixels (bicubic), then
            cropped to a centred square. Photos that are so already are not touched.
        warn: is told of every file that could not be read; the rest is used.

    Raises:
        FileNotFoundError: a path is neither a folder nor a tar file.
        ValueError: no photo was found, or one photo stands in two places.
    """
    pixels: dict[str, np.ndarray] = {}
    for path in map(Path, paths):
        for name, content in _members(path):
            try:
                square = _square(content, size)
            except Exception as error:  # whatever Pillow raises for a broken file
                warn(f"{path}: {name}: left out: {error}")
                continue
            if name in pixels:
                raise ValueError(
                    f"{path}: {name} was read before; give each photo once, under a name of its own"
                )
            pixels[name] = square
    if not pixels:
        raise ValueError(
            f"no photos in {', '.join(map(str, paths)) or 'nothing'}; expected folders or .tar "
            "shards that hold CLASS/FILE with one of the endings " + " ".join(sorted(SUFFIXES))
        )
    names = tuple(sorted(pixels))
    classes = tuple(sorted({name.split("/")[0] for name in names}))
    images = torch.empty((len(names), 3, size, size), dtype=torch.uint8)
    for i, name in enumerate(names):
        images[i] = torch.from_numpy(pixels.pop(name)).permute(2, 0, 1)
    labels = torch.tensor([classes.index(name.split("/")[0]) for name in names])
    return Photos(images, labels, classes, names)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """("class/file", content) of every photo below a folder or in a tar file."""
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        if shards:
            raise ValueError(
                f"{path} holds shards ({shards[0].name}, ...); name the ones to read, so that "
                "a validation shard is never trained on by accident"
            )
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                if file.parent == path:
                    raise ValueError(f"{file} lies in no class folder; expected {path}/CLASS/FILE")
                yield f"{file.parent.name}/{file.name}", file.read_bytes()
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in tar:
                inside = PurePosixPath(member.name)
                if not member.isfile() or inside.suffix.lower() not in SUFFIXES:
                    continue
                if len(inside.parts) < 2:
                    raise ValueError(f"{path}: {inside} lies in no class folder")
                content = tar.extractfile(member)
                assert content is not None  # a regular file has content
                yield f"{inside.parent.name}/{inside.name}", content.read()
    else:
        raise FileNotFoundError(f"{path} is neither a folder nor a .tar file")


def _square(content: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.array(ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Batch:
    """x: (N, 3, h, w) uint8; labels: (N,), or (N, classes) probabilities of blended photos; index:
    (N,) places in the Photos; quality: of the JPEG that the thumbnails pass through, None for none.
    """

    x: Tensor
    labels: Tensor
    index: Tensor
    quality: int | None = None


@dataclass(frozen=True)
class Draw:
    """What chance decided of a batch: which photos (N,), the sides of their crops (N, 2; height and
    width) and corners (N, 2; top and left), px, flips (N,), the JPEG quality, and what part of a
    photo is its own, 1 where none are blended. enlarge: the crops, to the photo's sides."""

    index: Tensor
    sides: Tensor
    corners: Tensor
    flips: Tensor
    quality: int | None
    own: float = 1.0
    enlarge: bool = False

    def each(self, change: Callable[[Tensor], Tensor]) -> Draw:
        """With what was decided photo by photo changed: some left out, or their order."""
        names = ("index", "sides", "corners", "flips")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, **changed)


class Augmented:
    """Endless shuffled batches. Batch `step` depends on (seed, step) alone, so a resumed run
    sees exactly what an uninterrupted one would have seen, and so do several processes.

    Augmentation (ours): flips, and crops at the photo's own resolution (never resampled, so
    the detail that E learns from is real): one crop size a batch, one place an image. With
    `enlarge`, crops of any size and aspect, enlarged (bilinear) to the photo's sides; with `mixup`,
    photos of some batches are blended, up to half and half. It runs where the photos are: on a GPU
    they are copied there once, as uint8.
    """

    def __init__(
        self,
        photos: Photos,
        batch_size: int,
        min_crop: float,
        grid: int,
        seed: int,
        device: torch.device | str = "cpu",
        jpeg: float = 0.0,
        enlarge: bool = False,
        mixup: float = 0.0,
    ):
        """min_crop: smallest side of a crop as a part of the photo's (with `enlarge`, the root of
        the smallest area); grid: crop sides and the photo's own are multiples of it; jpeg, mixup:
        part of the batches with a JPEG quality, and of those that are blended."""
        side = photos.images.shape[-1]
        self.grid = grid
        if side % grid:
            raise ValueError(f"photos are {side} px, not a multiple of {grid}; change the size")
        self.images, self.labels = photos.images.to(device), photos.labels.to(device)
        self.classes = len(photos.classes)
        self.batch_size, self.seed = min(batch_size, len(photos)), seed
        self.min_crop, self.jpeg, self.enlarge, self.mixup = min_crop, jpeg, enlarge, mixup
        self.sides = [s for s in range(grid, side + 1, grid) if s >= min_crop * side]
        self.steps_per_epoch = len(photos) // self.batch_size

    def draw(self, step: int, crop: float | None = None) -> Draw:
        """The choices of a batch, on the CPU; crop: of one whose photos are neither enlarged nor
        blended, the side of its crops as a part of the photo's; 0: by chance."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.images), generator=generator(self.seed, 0, epoch))
        index = order[within * self.batch_size : (within + 1) * self.batch_size]
        chance = generator(self.seed, 1, step)
        side = self.sides[int(torch.randint(len(self.sides), (), generator=chance))]
        if crop:
            side = max(1, round(crop * self.images.shape[-1] / self.grid)) * self.grid
        span = self.images.shape[-1] - side + 1
        corners = torch.randint(span, (len(index), 2), generator=chance)
        flips = torch.rand(len(index), generator=chance) < 0.5
        saved = float(torch.rand((), generator=chance)) < self.jpeg
        quality = int(torch.randint(70, 96, (), generator=chance)) if saved else None
        sides = torch.full((len(index), 2), side)
        if crop is not None:
            return Draw(index, sides, corners, flips, quality)
        if self.enlarge:
            sides, corners = self._any_box(len(index), chance)
        own = 1.0
        if float(torch.rand((), generator=chance)) < self.mixup:
            own = 1 - float(torch.rand((), generator=chance)) / 2
        return Draw(index, sides, corners, flips, quality, own, self.enlarge)

    def _any_box(self, count: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sides and corners of crops as torchvision's RandomResizedCrop draws them."""
        side = self.images.shape[-1]
        area, turn, *places = torch.rand(4, count, generator=chance)
        area = self.min_crop**2 + (1 - self.min_crop**2) * area
        aspect = (3 / 4) * (16 / 9) ** turn  # 3/4 to 4/3, all ratios as likely
        sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 1)
        sides = (sides * side).round().clamp(1, side)
        corners = (torch.stack(places, 1) * (side - sides + 1)).floor()
        return sides.long(), corners.long()

    def take(self, draw: Draw, part: slice = slice(None)) -> Batch:
        """The photos of a draw, or of a part of it."""
        mine = draw.each(lambda t: t[part])
        index = self._here(mine.index)
        x, labels = self._crops(mine), self.labels[index]
        if draw.own < 1:
            theirs = draw.each(lambda t: t.roll(1, 0)[part])  # each with the one before
            blend = draw.own * x.float() + (1 - draw.own) * self._crops(theirs).float()
            x = blend.round().byte()
            one_hot = torch.eye(self.classes, device=x.device)
            other = one_hot[self.labels[self._here(theirs.index)]]
            labels = draw.own * one_hot[labels] + (1 - draw.own) * other
        return Batch(x, labels, index, draw.quality)

    def _here(self, choice: Tensor) -> Tensor:
        """Where the photos are; a GPU is not waited for."""
        return choice.to(self.images.device, non_blocking=True)

    def _crops(self, draw: Draw) -> Tensor:
        """(N, 3, h, w) uint8."""
        device = self.images.device
        index, sides, corners, flips = (
            self._here(t) for t in (draw.index, draw.sides, draw.corners, draw.flips)
        )
        if draw.enlarge:
            return self._enlarged(index, sides, corners, flips)
        along = torch.arange(int(draw.sides[0, 0]), device=device)
        rows = corners[:, :1] + along
        columns = corners[:, 1:] + torch.where(flips[:, None], along.flip(0), along)
        x = self.images.permute(0, 2, 3, 1)[
            index[:, None, None], rows[:, :, None], columns[:, None, :]
        ]
        return x.permute(0, 3, 1, 2)

    def _enlarged(self, index: Tensor, sides: Tensor, corners: Tensor, flips: Tensor) -> Tensor:
        side = self.images.shape[-1]
        scale = sides / side  # of height and width, as parts of the photo's
        middle = (2 * corners + sides) / side - 1  # in [-1, 1]
        theta = torch.zeros(len(index), 2, 3, device=index.device)
        theta[:, 0, 0] = torch.where(flips, -scale[:, 1], scale[:, 1])
        theta[:, 1, 1] = scale[:, 0]
        theta[:, :, 2] = middle.flip(1)  # x before y
        grid = F.affine_grid(theta, [len(index), 3, side, side], align_corners=False)
        x = F.grid_sample(
            self.images[index].float(), grid, padding_mode="border", align_corners=False
        )
        return x.round().byte()

    def __getitem__(self, step: int) -> Batch:
        return self.take(self.draw(step))


def generator(*key: int) -> torch.Generator:
    """Independent random streams: nearby keys give unrelated seeds."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
