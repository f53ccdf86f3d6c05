"""The systems that ThumbNet's paper compares with, or its readers ask for, trained alike.

    python benchmarks/systems/run.py --train imagenet20/train-000.tar --val imagenet20/val-000.tar \
        --teacher RESNET50 --system bicubic --system x4 --system thinet --json systems.json

Each system gives thumbnails to T's architecture, or makes T smaller and reads whole photos. All
begin with T's weights and are trained on the same photos, in the same order, with the same flips,
by L_CL and L_KD from T's logits of the whole photo; T's network learns at --rate, what is new at
ten times that; batch norm is folded. No crops: T's logits are computed once (--logits keeps them).
Photos come as for `train`. Needs the extra `train`; dpid, thinet* and low_rank need `pip install
--no-deps pepedpid torch-pruning tensorly`.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from int8 import Int8
from PIL import Image, ImageFilter
from torch import Tensor, nn

from learned_downscale import Resizer
from learned_downscale.core.filters import FILTERS
from learned_downscale.thumbnet import costs, losses
from learned_downscale.thumbnet.data import Photos, crops, generator, read_photos
from learned_downscale.thumbnet.networks import Reader, load_reader
from learned_downscale.verification.methods import filtered

SIDE, BATCH, TEMPERATURE, CALIBRATION = 224, 32, 2.0, 128
# systems with a file of their own, beside this one: `make(teacher, factor, photos) -> System`
FILES = (
    "autoencoder",
    "dpid",
    "learning_to_resize",
    "low_rank",
    "lwae",
    "muller",
    "slimmable",
    "thinet",
    "thinet_student",
    "thumbnet",
)


class System(NamedTuple):
    """network: (N, 3, h, w) in [0, 1] -> logits; what is trained.
    thumbnail: makes what the network is given, once for each photo; None: it is given the photo.
    front: the part of the network that makes thumbnails, where it has one.
    new: parameters that did not come from T.
    loss: a term beside L_CL and L_KD, of a batch of photos.
    """

    network: nn.Module
    thumbnail: Callable[[Image.Image], Image.Image] | None = None
    front: nn.Module | None = None
    new: Sequence[nn.Parameter] = ()
    loss: Callable[[Tensor], Tensor] | None = None


def make(name: str, teacher: Reader, factor: int, photos: Photos) -> System:
    """The system of that name: a file here, a filter, or published weights, frozen."""
    if name in FILES:
        made: System = import_module(name).make(teacher, factor, photos)
        return made
    size = SIDE // factor, SIDE // factor
    if name == "unsharp":
        sharpen = ImageFilter.UnsharpMask(radius=1, percent=60, threshold=0)
        return System(teacher.copied(), lambda photo: photo.resize(size, 3).filter(sharpen))
    if name in FILTERS:
        return System(teacher.copied(), lambda photo: filtered(FILTERS[name], photo, size))
    return System(teacher.copied(), Resizer(size, weights=name))


def given(system: System, photos: Photos) -> Tensor:
    """What the network is given, (M, 3, h, w) uint8."""
    if system.thumbnail is None:
        return photos.images
    images = (Image.fromarray(x.permute(1, 2, 0).numpy()) for x in photos.images)
    made = np.stack([np.asarray(system.thumbnail(image)) for image in images])
    return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous()


def fit(
    system: System, x: Tensor, labels: Tensor, logits: Tensor, args: argparse.Namespace
) -> None:
    """Train the network: AdamW, rates that rise for 5 % of the steps and fall by a cosine."""
    new = {id(p) for p in system.new}
    every = [p for p in system.network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in every if id(p) not in new], "lr": args.rate},
        {"params": [p for p in every if id(p) in new], "lr": 10 * args.rate},
    ]
    steps = args.epochs * (len(x) // BATCH)
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.05)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda i: min((i + 1) / (0.05 * steps), 0.5 + 0.5 * np.cos(np.pi * i / steps)),
    )
    system.network.train()  # batch norm of what is new; T's is folded
    began = time.perf_counter()
    for step in range(steps):
        epoch, part = divmod(step, len(x) // BATCH)
        order = torch.randperm(len(x), generator=generator(args.seed, 0, epoch))
        index = order[part * BATCH : (part + 1) * BATCH]
        flips = torch.rand(BATCH, generator=generator(args.seed, 1, step)) < 0.5
        batch = x[index].float() / 255
        batch = torch.where(flips[:, None, None, None], batch.flip(3), batch)
        z = system.network(batch)
        loss = 0.3 * losses.classification(z, labels[index])
        loss = loss + 0.7 * losses.distillation(z, logits[index], TEMPERATURE)
        if system.loss is not None:
            loss = loss + system.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
        if step % 20 == 0:
            each = (time.perf_counter() - began) / (step + 1)
            print(f"  step {step} of {steps}: {loss.item():.4f}, {each:.2f} s", flush=True)


def drawn(photos: Photos, step: int, side: int) -> Tensor:
    """A batch of crops (N, 3, side, side) in [0, 1], flipped by chance: for what is trained before
    the network."""
    chance = generator(0, 2, step)
    index = torch.randint(len(photos), (BATCH,), generator=chance)
    corners = torch.randint(SIDE - side + 1, (BATCH, 2), generator=chance)
    flips = torch.rand(BATCH, generator=chance) < 0.5
    return crops(photos.images, index, corners, (side, side), flips).float() / 255


@torch.no_grad()
def measured(system: System, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """Accuracy, %, and what the network costs at test time, one thread."""
    network = system.network.eval()
    one = x[:1].float() / 255
    front = 0 if system.front is None else costs.multiply_adds(system.front, one)
    row: dict[str, Any] = {
        **accuracy(network, x, labels),
        "multiply_adds": costs.multiply_adds(network, one) - front,
        "front_multiply_adds": front,
        "parameters": costs.parameters(network),
        "activation_bytes": costs.activation_bytes(network, one),
        "bytes": None,
    }
    if system.thumbnail is not None:
        row["bytes"] = float(np.mean([png(image) for image in x[:200]]))
    return row


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1 and top-5, %, and images a second, one thread."""
    z = torch.cat([network(part.float() / 255) for part in x.split(BATCH)])
    best = z.topk(5).indices == labels[:, None]
    return {
        "top1": 100 * best[:, 0].float().mean().item(),
        "top5": 100 * best.any(1).float().mean().item(),
        "images_per_second": rate(network, x[:16].float() / 255),
    }


def rate(network: nn.Module, batch: Tensor) -> float:
    """Images a second, the median of five calls."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        network(batch)
        times.append(time.perf_counter() - began)
    return len(batch) / float(np.median(times))


def png(image: Tensor) -> int:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.tell()


def teacher_logits(teacher: Reader, photos: Photos, kept: Path | None) -> Tensor:
    if kept is not None and kept.exists():
        return torch.from_numpy(np.load(kept))
    with torch.no_grad():
        logits = torch.cat([teacher(x.float() / 255) for x in photos.images.split(16)])
    if kept is not None:
        np.save(kept, logits.numpy())
    return logits


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| system | top-1 / top-5 | at thumbnail, G | network, G | parameters, M "
        "| activations, MB | images/s | PNG, bytes |",
        "|" + " --- |" * 8,
    ]
    for r in rows:
        front = f"{r['front_multiply_adds'] / 1e9:.3f}" if r["front_multiply_adds"] else ""
        stored = "whole photo" if r["bytes"] is None else f"{r['bytes']:.0f}"
        lines.append(
            f"| {r['system']}, x{r['factor']} | {r['top1']:.1f} / {r['top5']:.1f} | {front} "
            f"| {r['multiply_adds'] / 1e9:.3f} | {r['parameters'] / 1e6:.1f} "
            f"| {r['activation_bytes'] / 1e6:.1f} | {r['images_per_second']:.0f} | {stored} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--val", nargs="+", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--system", action="append", required=True)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--int8", action="store_true", help="and a row for the network in 8 bits")
    parser.add_argument("--limit", type=int, help="the first photos of each set, to try it out")
    parser.add_argument("--logits", type=Path, help="a .npy file that keeps T's logits")
    parser.add_argument("--json", type=Path, help="rows are added to this file")
    args = parser.parse_args()
    photos, val = read_photos(args.train, SIDE), read_photos(args.val, SIDE)
    teacher = load_reader(args.teacher, photos.classes)
    logits = teacher_logits(teacher, photos, args.logits)
    rows = []
    for name in args.system:
        torch.manual_seed(args.seed)
        system = make(name, teacher, args.factor, photos)
        end = args.limit
        fit(system, given(system, photos)[:end], photos.labels[:end], logits[:end], args)
        x = given(system, val)[:end]
        row = measured(system, x, val.labels[:end])
        of = {"factor": args.factor, "epochs": args.epochs, "seed": args.seed}
        made = [{"system": name, **of, **row}]
        if args.int8:
            small = Int8(system.network, given(system, photos)[:CALIBRATION])
            row |= {"activation_bytes": row["activation_bytes"] / 4}
            made.append(
                {"system": f"{name}, int8", **of, **row, **accuracy(small, x, val.labels[:end])}
            )
        print(table(made), flush=True)
        rows += made
        if args.json:
            before = json.loads(args.json.read_text()) if args.json.exists() else []
            args.json.write_text(json.dumps([*before, *made], indent=1) + "\n")
    print(f"\n{len(photos)} photos, {args.epochs} epochs\n\n{table(rows)}")


if __name__ == "__main__":
    main()
