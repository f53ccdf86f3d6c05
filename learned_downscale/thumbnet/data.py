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
from PIL import Image, ImageOps
from torch import Tensor

from learned_downscale.thumbnet.settings import Run, Task

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


def read_photos(
    paths: Sequence[str | Path], size: int = 224, warn: Callable[[str], None] = lambda line: None
) -> Photos:
    """Read photos in ImageFolder layout: `.../class/file`.

    Args:
        paths: folders (one sub-folder a class) and `.tar` shards (members `.../class/file`).
        size: every photo is scaled to a short side of `size` px (bicubic), then cropped to a
            centred square; one of that size is not changed.
        warn: is called with a line for every file that cannot be read; the rest is used.

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
    """x: (N, 3, h, w), crops as uint8, or thumbnails in [0, 1]; labels: (N,); index: (N,) places in
    the Photos; step: of the run; file: quality and format of the files that the thumbnails pass
    through (`lossy`), None for none; photos: where x are thumbnails, what they were made of."""

    x: Tensor
    labels: Tensor
    index: Tensor
    step: int = 0
    file: tuple[int, str] | None = None
    photos: Tensor | None = None


class Batches:
    """Endless shuffled batches. Batch `step` depends on (seed, step) alone, so a resumed run gets
    exactly what an uninterrupted one would have got, and so do several processes."""

    def __init__(self, photos: Photos, run: Run) -> None:
        self.batch_size, self.seed = min(run.batch_size, len(photos)), run.seed
        self.photos, self.steps_per_epoch = photos, len(photos) // self.batch_size

    def shuffled(self, step: int) -> Tensor:
        """The places (N,) of the photos of a batch."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.photos), generator=generator(self.seed, 0, epoch))
        return order[within * self.batch_size : (within + 1) * self.batch_size]

    def take(self, step: int, part: slice = slice(None)) -> Batch:
        """A batch, or a part of it."""
        raise NotImplementedError

    def smallest(self) -> Batch:
        """One photo, in the smallest crop if its size decides what a network can read."""
        return self.take(0, slice(0, 1))


class Crops(Batches):
    """Batches of crops at the photos' own resolution: they are never resampled, so the detail that
    E learns from is real. Flips; one crop size a batch, one place an image (ours). Photos are
    copied to the device once, as uint8. sizes: of the crops, px, sorted; made_of: the task."""

    def __init__(
        self, photos: Photos, run: Run, sizes: Sequence[int], made_of: Task, device: Any = "cpu"
    ) -> None:
        super().__init__(photos, run)
        self.images, self.labels = photos.images.to(device), photos.labels.to(device)
        self.sizes, self.made_of = sizes, made_of

    def take(self, step: int, part: slice = slice(None)) -> Batch:
        index = self.shuffled(step)
        chance = generator(self.seed, 1, step)
        size = self.sizes[int(torch.randint(len(self.sizes), (), generator=chance))]
        span = self.images.shape[-1] - size + 1
        corners = torch.randint(span, (len(index), 2), generator=chance)
        flips = torch.rand(len(index), generator=chance) < 0.5
        made, file = self.made_of, None
        if float(torch.rand((), generator=chance)) < made.lossy:
            quality = int(torch.randint(made.min_quality, 96, (), generator=chance))
            file = (
                quality,
                made.formats[int(torch.randint(len(made.formats), (), generator=chance))],
            )
        x = crops(self.images, index[part], corners[part], (size, size), flips[part])
        index = index[part].to(self.images.device, non_blocking=True)
        return Batch(x, self.labels[index], index, step, file)

    def smallest(self) -> Batch:
        size, batch = self.sizes[0], self.take(0, slice(0, 1))
        return replace(batch, x=batch.x[..., :size, :size])


def crops(
    images: Tensor, index: Tensor, corners: Tensor, size: tuple[int, int], flips: Tensor
) -> Tensor:
    """(N, 3, *size) of images (M, 3, H, W) at places (N,); corners: (N, 2), top and left, px;
    flips: (N,)."""
    places = zip(index.tolist(), corners.tolist(), strict=True)
    height, width = size
    made = torch.stack([images[i, :, y : y + height, x : x + width] for i, (y, x) in places])
    return torch.where(flips.to(made.device)[:, None, None, None], made.flip(3), made)


def generator(*key: int) -> torch.Generator:
    """Independent random streams: nearby keys give unrelated seeds."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
