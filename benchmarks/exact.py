"""How far the fast ways of `resize` and `convert` are from `exact=True`: median PSNR, dB.

    python benchmarks/exact.py FOLDER...

FOLDER: JPEGs. Patches: thumbnails of 1.01 and 1.05 times the native factor. Means of blocks, and
JPEGs decoded at a part of their size as `convert` does it: factors 8, 12 and 16. Beside them,
Pillow's bicubic with `reducing_gap=2` against its bicubic.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from learned_downscale import Resizer
from learned_downscale.conversion.worker import least_size
from learned_downscale.files import open_image


def psnr(image: Image.Image, exact: Image.Image) -> float:
    error = np.square(np.asarray(image, float) - np.asarray(exact, float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def main() -> None:
    found: dict[str, list[float]] = defaultdict(list)
    for path in sorted(p for folder in sys.argv[1:] for p in Path(folder).iterdir()):
        photo = open_image(path).image.convert("RGB")
        for weights, native in (("x4", 4), ("x2", 2)):
            for ratio in (1.01, 1.05):
                size = tuple(int(side / native / ratio) for side in photo.size)
                fast = Resizer(size, weights=weights)(photo)
                exact = Resizer(size, weights=weights, exact=True)(photo)
                found[f"patches, {weights}, {ratio}"].append(psnr(fast, exact))
        for factor in (8, 12, 16):
            resizer = Resizer(factor)
            exact = Resizer(factor, exact=True)(photo)
            found[f"means, factor {factor}"].append(psnr(resizer(photo), exact))
            small = open_image(path, partial(least_size, resizer)).image.convert("RGB")
            made = resizer.to(exact.size)(small)
            found[f"decoded at a part, factor {factor}"].append(psnr(made, exact))
            gap = photo.resize(exact.size, Image.Resampling.BICUBIC, reducing_gap=2.0)
            plain = photo.resize(exact.size, Image.Resampling.BICUBIC)
            found[f"Pillow, gap 2, factor {factor}"].append(psnr(gap, plain))
    for name, values in found.items():
        print(f"{name:32} {np.median(values):5.1f} dB, {len(values)} pictures")


if __name__ == "__main__":
    main()
