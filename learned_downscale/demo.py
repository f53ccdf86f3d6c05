"""Thumbnails of photos that scikit-image ships, and a picture that compares them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from learned_downscale.core.filters import FILTERS
from learned_downscale.readers.huggingface import HuggingFaceReader
from learned_downscale.resizer import Resizer

PHOTOS = ("astronaut", "chelsea", "coffee")
FACTOR, MACHINE = 4, "x4-machine"
CAPTIONS = ("original", f"bicubic x{FACTOR}", f"default x{FACTOR}", f"{MACHINE} + decoder")
CELL, MARGIN, LINE = 280, 12, 28  # px


def write_demo(out: Path, reader: str | Path | None = None) -> Path:
    """Write OUT/thumbnails/NAME.png, by the default weights, and OUT/comparison.png.

    Each row of the picture shows the same part of one photo: the original, the bicubic and the
    default thumbnail with their pixels enlarged to squares, and the photo that the decoder of
    x4-machine reconstructs from its thumbnail.

    Args:
        out: a folder, which is made if it is not there.
        reader: a Hugging Face image classifier, model id or folder (extra `train`); its prediction
            for the whole image is written under each cell. Default: no predictions.

    Returns:
        The path of the picture.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        ImportError, OSError, ValueError: the reader cannot be loaded.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the demo's photos come with scikit-image: pip install 'learned-downscale[demo]'"
        ) from error
    classifier = None if reader is None else HuggingFaceReader(reader)
    (out / "thumbnails").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Image.Image, ...]] = []
    for name in PHOTOS:
        original = Image.fromarray(getattr(data, name)())
        small = Resizer(FACTOR)(original)
        small.save(out / "thumbnails" / f"{name}.png")
        bicubic = original.resize(small.size, FILTERS["bicubic"].resampling)
        rows.append((original, bicubic, small, _reconstructed(original)))
    predictions = None if classifier is None else [_predictions(classifier, row) for row in rows]
    path = out / "comparison.png"
    _sheet(rows, predictions).save(path, optimize=True)
    return path


def _reconstructed(original: Image.Image) -> Image.Image:
    """The photo that the decoder of x4-machine makes of its thumbnail."""
    import torch

    resizer = Resizer(FACTOR, weights=MACHINE)
    decoder = resizer.decoder()
    assert decoder is not None
    x = torch.from_numpy(np.array(resizer(original))).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        levels = (255 * decoder(x)[0].clamp(0, 1)).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _predictions(classifier: HuggingFaceReader, images: tuple[Image.Image, ...]) -> list[str]:
    """The most probable class of each image, and its probability."""
    probabilities = classifier.probabilities([classifier.prepare(image) for image in images])
    labels = [classifier.labels[row.argmax()].replace("_", " ") for row in probabilities]
    return [f"{label} {row.max():.0%}" for label, row in zip(labels, probabilities, strict=True)]


def _sheet(rows: list[tuple[Image.Image, ...]], predictions: list[list[str]] | None) -> Image.Image:
    """The picture: a row of cells for each photo, a caption over each column, and predictions."""
    column = CELL + MARGIN
    line = CELL + MARGIN + (0 if predictions is None else LINE)
    size = len(CAPTIONS) * column + MARGIN, LINE + len(rows) * line + MARGIN
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for i, caption in enumerate(CAPTIONS):
        at = MARGIN + i * column + CELL // 2, MARGIN + LINE // 2 - 4
        draw.text(at, caption, "black", font, anchor="mm")
    for j, images in enumerate(rows):
        top = MARGIN + LINE + j * line
        for i, image in enumerate(images):
            sheet.paste(_cell(images[0], image), (MARGIN + i * column, top))
            if predictions is not None:
                at = MARGIN + i * column + CELL // 2, top + CELL + LINE // 2
                draw.text(at, predictions[j][i], "black", font, anchor="mm")
    return sheet


def _cell(original: Image.Image, image: Image.Image) -> Image.Image:
    """CELL x CELL pixels of the original, or the same part of an image made of it, enlarged so
    that its pixels become squares."""
    step = FACTOR if image.width < original.width else 1
    left, top = (original.width - CELL) // 2 // FACTOR, (original.height - CELL) // 4 // FACTOR
    x, y, side = left * FACTOR // step, top * FACTOR // step, CELL // step
    part = image.crop((x, y, x + side, y + side))
    return part.resize((CELL, CELL), Image.Resampling.NEAREST)
