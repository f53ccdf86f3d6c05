"""Thumbnails of photos that scikit-image ships, and a picture that compares them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from learned_downscale.api import resize

PHOTOS = ("astronaut", "chelsea", "coffee")
CELL, MARGIN, CAPTION = 300, 12, 34


def demo(out: Path, factor: float = 4) -> Path:
    """Write OUT/thumbnails/NAME.png for each photo and OUT/comparison.png; returns the latter.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the demo's photos come with scikit-image: pip install 'learned-downscale[demo]'"
        ) from error

    rows: list[tuple[Image.Image, ...]] = []
    (out / "thumbnails").mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        original = Image.fromarray(getattr(data, name)())
        learned = resize(original, factor)
        bicubic = original.resize(learned.size, Image.Resampling.BICUBIC)
        learned.save(out / "thumbnails" / f"{name}.png")
        rows.append((original, bicubic, learned))
    path = out / "comparison.png"
    compare(rows, ("original", f"bicubic, 1/{factor:g}", f"learned, 1/{factor:g}")).save(path)
    return path


def compare(rows: list[tuple[Image.Image, ...]], captions: tuple[str, ...]) -> Image.Image:
    """A picture with a row for each photo and a caption over each column.

    Each row shows the same part of the photo: at its own size where it is the original, its
    pixels enlarged to squares where it is a thumbnail.
    """
    step = CELL + MARGIN
    sheet = Image.new(
        "RGB", (len(captions) * step + MARGIN, len(rows) * step + CAPTION + MARGIN), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        at = (MARGIN + column * step + CELL // 2, (CAPTION + MARGIN) // 2)
        draw.text(at, caption, "black", ImageFont.load_default(20), anchor="mm")
    for row, images in enumerate(rows):
        width, height = images[0].size
        part = min(width, height, CELL)
        left, top = (width - part) / 2 / width, (height - part) / 4 / height
        for column, image in enumerate(images):
            scale = image.width / width
            x, y = round(left * image.width), round(top * image.height)
            side = round(part * scale)
            cell = image.crop((x, y, x + side, y + side)).resize((CELL, CELL), 0)  # 0: nearest
            sheet.paste(cell, (MARGIN + column * step, CAPTION + MARGIN + row * step))
    return sheet
