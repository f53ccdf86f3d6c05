"""Where weights differ from bicubic: in frequency, and in the picture.

    python benchmarks/residuals.py val1000/val-000.tar --picture residuals.png --photo photo.jpg

Prints, for bands of frequency of the thumbnail (1: its Nyquist frequency), the power of luma and of
chroma of thumbnails at factor 4, in dB over those of Pillow's bicubic, mean over the photos. Draws,
of a zone plate and of the photo of a file, thumbnails and 128 + 4 x (thumbnail - bicubic). Photos
come as for `train`. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from learned_downscale import Resizer
from learned_downscale.thumbnet.data import read_photos

SIDE, FACTOR, BANDS = 224, 4, 8
METHODS = ("box", "lanczos", "x4", "x4-jpeg", "x4-machine")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "box": Image.Resampling.BOX,
           "lanczos": Image.Resampling.LANCZOS}  # fmt: skip
# luma; two of chroma
OPPONENT = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])


def make(method: str, image: Image.Image) -> np.ndarray:
    size = image.width // FACTOR, image.height // FACTOR
    if method in FILTERS:
        return np.asarray(image.resize(size, FILTERS[method]))
    return np.asarray(Resizer(FACTOR, weights=method)(image))


def power(pixels: np.ndarray) -> np.ndarray:
    """(bands, 2): of luma and of chroma, mean over the frequencies of a band. A Hann window keeps
    the borders, where a picture does not go on, out of it."""
    side = len(pixels)
    window = np.outer(np.hanning(side), np.hanning(side))[..., None]
    planes = pixels.astype(float) @ OPPONENT.T
    planes = (planes - planes.mean((0, 1))) * window
    spectrum = np.abs(np.fft.fft2(planes, axes=(0, 1))) ** 2
    frequency = np.abs(np.fft.fftfreq(side)) * 2
    radius = np.hypot(frequency[:, None], frequency[None])
    band = np.minimum((radius * BANDS).astype(int), BANDS)  # the last one: corners, left out
    rows = [spectrum[band == b].mean(0) for b in range(BANDS)]
    return np.array([[row[0], row[1] + row[2]] for row in rows])


def zone_plate(side: int = SIDE) -> Image.Image:
    """Rings whose frequency grows to the photo's Nyquist frequency at the border."""
    across = np.arange(side) - side / 2
    phase = np.pi * (across[:, None] ** 2 + across[None] ** 2) / side
    return Image.fromarray((127.5 + 127.5 * np.cos(phase)).round().astype(np.uint8)).convert("RGB")


def draw_picture(images: list[Image.Image], path: Path) -> None:
    """A row of thumbnails and a row of differences for each image, which is the first of these."""
    import matplotlib.pyplot as plt

    shown = ("bicubic", "x4", "x4-jpeg", "x4-machine")
    size = (2.2 * len(shown), 4.6 * len(images))
    figure, grid = plt.subplots(2 * len(images), len(shown), figsize=size, layout="constrained")
    for i, image in enumerate(images):
        plain = make("bicubic", image).astype(float)
        for j, method in enumerate(shown):
            small = make(method, image)
            difference = np.clip(128 + 4 * (small - plain), 0, 255).astype(np.uint8)
            words = f"128 + 4 x ({method} - bicubic)"
            if method == "bicubic":
                difference, words = np.asarray(image), "the image"
            for axes, pixels, title in (
                (grid[2 * i, j], small, method),
                (grid[2 * i + 1, j], difference, words),
            ):
                axes.imshow(pixels, interpolation="nearest")
                axes.set_title(title, fontsize=8)
                axes.axis("off")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--photo", type=Path, help="in the picture; its centre square")
    args = parser.parse_args()
    photos = read_photos(args.data, SIDE, warn=print)
    images = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in photos.images]
    totals = {
        method: np.mean([power(make(method, image)) for image in images], 0)
        for method in ("bicubic", *METHODS)
    }
    gains = {method: 10 * np.log10(totals[method] / totals["bicubic"]) for method in METHODS}
    heads = [f"{b / BANDS:.2f} to {(b + 1) / BANDS:.2f}" for b in range(BANDS)]
    print(f"{len(images)} photos; luma / chroma, dB over bicubic\n")
    print(f"| thumbnails | {' | '.join(heads)} |")
    print(f"|{' --- |' * (BANDS + 1)}")
    for method, gain in gains.items():
        print(
            f"| {method} | {' | '.join(f'{luma:+.1f} / {chroma:+.1f}' for luma, chroma in gain)} |"
        )
    if args.picture:
        shown = [zone_plate()]
        if args.photo:
            with Image.open(args.photo) as photo:
                shown.append(ImageOps.fit(photo.convert("RGB"), (SIDE, SIDE)))
        draw_picture(shown, args.picture)


if __name__ == "__main__":
    main()
