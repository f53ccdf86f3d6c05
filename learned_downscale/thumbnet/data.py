"""Photos: ImageFolder layout, plain folders or tar shards, decoded once and kept as uint8."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import torch
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
    """x: (N, 3, h, w), crops of photos as uint8, or thumbnails in [0, 1]; labels: (N,); index:
    (N,) places in the Photos; step: of the run; quality: of the JPEG that the thumbnails pass
    through, None for none."""

    x: Tensor
    labels: Tensor
    index: Tensor
    step: int = 0
    quality: int | None = None


class Batches(Protocol):
    """Endless shuffled batches. Batch `step` depends on (seed, step) alone, so a resumed run gets
    exactly what an uninterrupted one would have got, and so do several processes."""

    batch_size: int
    steps_per_epoch: int

    def take(self, step: int, part: slice = slice(None)) -> Batch:
        """A batch, or a part of it."""

    def smallest(self) -> Batch:
        """One photo in the smallest crop."""


def shuffled(photos: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The places (N,) of the photos of a batch."""
    epoch, within = divmod(step, photos // batch_size)
    order = torch.randperm(photos, generator=generator(seed, 0, epoch))
    return order[within * batch_size : (within + 1) * batch_size]


class Crops:
    """Batches of crops at the photos' own resolution: they are never resampled, so the detail that
    E learns from is real. Flips; one crop size a batch, one place an image (ours). Photos are
    copied to the device once, as uint8.
    """

    def __init__(
        self,
        photos: Photos,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        jpeg: float = 0.0,
        device: torch.device | str = "cpu",
    ):
        """sizes: widths and heights of crops to choose from, px, sorted; jpeg: share of the batches
        with a JPEG quality."""
        self.images, self.labels = photos.images.to(device), photos.labels.to(device)
        self.batch_size, self.seed = min(batch_size, len(photos)), seed
        self.sizes, self.jpeg = sizes, jpeg
        self.steps_per_epoch = len(photos) // self.batch_size

    def take(self, step: int, part: slice = slice(None)) -> Batch:
        index = shuffled(len(self.images), self.batch_size, self.seed, step)
        chance = generator(self.seed, 1, step)
        size = self.sizes[int(torch.randint(len(self.sizes), (), generator=chance))]
        span = self.images.shape[-1] - size + 1
        corners = torch.randint(span, (len(index), 2), generator=chance)
        flips = torch.rand(len(index), generator=chance) < 0.5
        saved = float(torch.rand((), generator=chance)) < self.jpeg
        quality = int(torch.randint(70, 96, (), generator=chance)) if saved else None
        index, corners, flips = (self._here(t[part]) for t in (index, corners, flips))
        return Batch(
            self._crops(index, corners, flips, size), self.labels[index], index, step, quality
        )

    def smallest(self) -> Batch:
        zero = self._here(torch.zeros(1).long())
        x = self._crops(zero, zero.expand(1, 2), zero.bool(), self.sizes[0])
        return Batch(x, self.labels[zero], zero, 0, 70 if self.jpeg else None)

    def _here(self, choice: Tensor) -> Tensor:
        """Where the photos are; a GPU is not waited for."""
        return choice.to(self.images.device, non_blocking=True)

    def _crops(self, index: Tensor, corners: Tensor, flips: Tensor, size: int) -> Tensor:
        """(N, 3, size, size) uint8; corners: top and left."""
        along = torch.arange(size, device=self.images.device)
        rows = corners[:, :1] + along
        columns = corners[:, 1:] + torch.where(flips[:, None], along.flip(0), along)
        x = self.images.permute(0, 2, 3, 1)[
            index[:, None, None], rows[:, :, None], columns[:, None, :]
        ]
        return x.permute(0, 3, 1, 2)


def generator(*key: int) -> torch.Generator:
    """Independent random streams: nearby keys give unrelated seeds."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
