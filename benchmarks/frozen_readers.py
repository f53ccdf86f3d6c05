"""Accuracy of frozen classifiers on thumbnails: filters, and weights with their decoder.

    python benchmarks/frozen_readers.py val1000/val-000.tar --reader efficientnet-lite2 \
        --method bicubic --method x4 --method x4-machine

Photos come as for `train`: class folders (WordNet ids, labels, or places 0 to 999 among the sorted
ImageNet ids) or .tar shards. Each method makes 8-bit thumbnails of the centred squares; they are
saved in memory as PNG, or as `--file` says, and decoded again. The decoder of the weights
reconstructs the photo, or that of other weights: `bicubic+x4` is bicubic thumbnails and the decoder
of x4. Thumbnails without a decoder are enlarged to the size of the photo. Prints the
top-1 of each reader, %, and their mean less bicubic's, with its paired standard error.
Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from learned_downscale import Decoder, Resizer
from learned_downscale.core.filters import FILTERS
from learned_downscale.readers.labels import imagenet_classes
from learned_downscale.thumbnet.data import Photos, read_photos
from learned_downscale.thumbnet.networks import Reader, load_reader
from learned_downscale.verification.methods import filtered

BATCH = 50
# kind -> what Pillow is told
FILES = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {"subsampling": 0}),
    "jpeg420": ("JPEG", {"subsampling": 2}),
    "webp": ("WEBP", {}),
}
ENLARGE = {"bicubic": 3, "bilinear": 2, "lanczos": 1, "box": 4}


def choices(photos: Photos, folders: bool = False) -> tuple[list[str], Tensor]:
    """The classes that a reader chooses from, and each photo's place among them: all 1000 of
    ImageNet where the folders are some of them, else (or with `folders`) the folders."""
    ids = [*imagenet_classes()]
    named = [ids[int(name)] if name.isdecimal() else name for name in photos.classes]
    if folders or not set(named) <= set(ids):
        return named, photos.labels
    return ids, torch.tensor([ids.index(name) for name in named])[photos.labels]


def opened(
    paths: list[str], readers: list[str], size: int, folders: bool = False
) -> tuple[list[Image.Image], list[str], Tensor, dict[str, Reader]]:
    """The photos as squares of `size` px, `choices` of them, and the readers by their names."""
    photos = read_photos(paths, size, warn=print)
    classes, labels = choices(photos, folders)
    images = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in photos.images]
    return images, classes, labels, {name: load_reader(name, classes) for name in readers}


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    """The image as it is decoded from a file."""
    name, options = FILES[kind]
    file = io.BytesIO()
    image.save(file, name, **options, **({} if name == "PNG" else {"quality": quality}))
    return Image.open(file).convert("RGB")


def inputs(method: str, args: argparse.Namespace) -> Callable[[Image.Image], Tensor]:
    """What a network is given of a photo: (3, H, W) in [0, 1]."""
    if method == "photo":
        return lambda photo: as_tensor(photo)
    decoder, resizer = None, None
    method, _, of = method.partition("+")
    if method not in FILTERS:
        resizer = Resizer(args.factor, weights=method)
        if args.decoder:
            decoder = resizer.decoder()
    if of:
        decoder = Decoder.from_pretrained(of)

    @torch.no_grad()
    def one(photo: Image.Image) -> Tensor:
        size = photo.width // args.factor, photo.height // args.factor
        small = filtered(FILTERS[method], photo, size) if resizer is None else resizer(photo)
        small = saved(small, args.file, args.quality)
        if decoder is None:
            return as_tensor(small.resize(photo.size, ENLARGE[args.enlarge]))
        large = decoder(as_tensor(small)[None])[0].clamp(0, 1)
        return (large * 255).round() / 255

    return one


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--reader", action="append", required=True, help="as train --teacher")
    parser.add_argument("--method", action="append", default=[], help="filter or weights, +decoder")
    parser.add_argument("--folders", action="store_true", help="choose among their classes alone")
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--size", type=int, default=224, help="of the photos, px")
    parser.add_argument("--file", choices=FILES, default="png")
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--enlarge", choices=ENLARGE, default="bicubic")
    parser.add_argument("--bfloat16", action="store_true", help="faster on some processors")
    parser.add_argument("--no-decoder", dest="decoder", action="store_false")
    args = parser.parse_args()
    images, classes, labels, readers = opened(args.data, args.reader, args.size, args.folders)
    right: dict[str, np.ndarray] = {}
    what = f"{len(images)} photos, {len(classes)} classes"
    print(f"| {what} | {' | '.join(readers)} | mean | over bicubic |")
    print(f"|{' --- |' * (3 + len(readers))}")
    for method in ["photo", "bicubic", *(m for m in args.method if m != "bicubic")]:
        given = inputs(method, args)
        x = torch.stack([(given(image) * 255).round().byte() for image in images])
        hits = []
        for reader in readers.values():
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                logits = torch.cat([reader(part.float() / 255) for part in x.split(BATCH)])
            hits.append((logits.argmax(1) == labels).numpy())
        right[method] = np.mean(hits, 0)
        over = right[method] - right.get("bicubic", right[method])
        error = over.std() / len(over) ** 0.5
        cells = [f"{100 * hit.mean():.1f}" for hit in hits] + [f"{100 * right[method].mean():.1f}"]
        gain = (
            ""
            if method in ("photo", "bicubic")
            else f"{100 * over.mean():+.1f} +- {100 * error:.1f}"
        )
        print(f"| {method} | {' | '.join(cells)} | {gain} |", flush=True)


if __name__ == "__main__":
    torch.backends.cudnn.allow_tf32 = False
    main()
