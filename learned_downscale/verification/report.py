"""The results of `verify` as a table, as JSON and as an HTML page."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from learned_downscale.verification.results import Verification

CONFUSED = 20  # pairs of classes in the page, at most


def markdown(found: Verification) -> str:
    """The figures as a Markdown table, a row for each method."""
    heads = ["", "top-1", "top-5", "agreement", "confidence", "PSNR", "SSIM", "size", "saved",
             "flipped"]  # fmt: skip
    if not found.methods:
        return "No photo could be compared."
    rows = [heads]
    for name, m in found.methods.items():
        rows.append(
            [
                name,
                *("" if share is None else f"{share:.1%}" for share in (m.top1, m.top5)),
                f"{m.agreement:.1%}",
                f"{100 * m.confidence_change:+.1f}",
                f"{m.psnr:.1f} dB",
                f"{m.ssim:.3f}",
                f"{m.bytes / 1e6:.2f} MB",
                f"{m.saved:.1%}",
                str(len(m.flipped)),
            ]
        )
    if not found.labelled:
        rows = [[row[0], *row[3:]] for row in rows]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])])
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    )


def remarks(found: Verification) -> list[str]:
    """Sentences that a reader of the figures must know."""
    lines = []
    for name, method in found.methods.items():
        parts = []
        if method.decoded:
            parts.append(
                "the weights' decoder reconstructs the photos from the thumbnails in front of "
                f"{found.reader}"
            )
        if method.lossless:
            parts.append("thumbnails of JPEG files are PNG files, which keep the payload")
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}.")
    if found.without_payload:
        lines.append(
            f"{found.without_payload} of {found.images} thumbnails carry no payload, and the "
            "decoder reconstructs little from them. They were made with other weights, or were "
            "saved as JPEG, turned or enlarged later."
        )
    if found.reshaped:
        lines.append(
            f"{found.reshaped} of {found.images} thumbnails have another aspect ratio than their "
            "photo: they are cropped or squashed. PSNR and SSIM, which compare them with the whole "
            "photo, say little, and the parts that were cropped are not read."
        )
    if found.strange_folders:
        lines.append(
            f"The folders ({', '.join(found.strange_folders[:3])}, ...) are no classes of "
            f"{found.reader}: the prediction of {found.reference} for the original counts as the "
            "label of each photo."
        )
    if found.unsure and not found.labelled:
        lines.append(
            f"{found.unsure} of {found.images} originals show none of the classes of "
            f"{found.reference}: the figures say little about their thumbnails. Choose a "
            "classifier that knows their classes, and let it read originals and thumbnails."
        )
    return lines


def as_json(found: Verification) -> dict[str, Any]:
    """The figures for programs: shares and probabilities in [0, 1], `failed` a number."""
    return {
        "images": found.images,
        "failed": len(found.failed),
        "failures": found.failed,
        "labelled": found.labelled,
        "reference": found.reference,
        "reader": found.reader,
        "original_top1": found.original_top1,
        "unsure": found.unsure,
        "reshaped": found.reshaped,
        "without_payload": found.without_payload,
        "original_bytes": found.original_bytes,
        "methods": {name: asdict(method) for name, method in found.methods.items()},
    }


def write_page(found: Verification, path: Path) -> None:
    """Write one HTML page without other files: figures, the most confused pairs of classes, and the
    photos whose pictures were kept (`verify(..., keep_images=)`), worst first."""
    data = as_json(found)
    for method in data["methods"].values():
        method["flipped"] = len(method["flipped"])
    data["order"] = list(found.methods)
    data["remarks"] = remarks(found)
    data["confused"] = {name: _confused(found, name) for name in found.methods}
    data["photos"] = [
        {
            "name": photo.name,
            "truth": photo.truth,
            "original": asdict(photo.original),
            "thumbnails": {name: asdict(reading) for name, reading in photo.thumbnails.items()},
            "preview": _uri(photo.preview),
            "images": {name: _uri(content) for name, content in photo.images.items()},
        }
        for photo in found.photos
        if photo.preview
    ]
    page = (
        files("learned_downscale.verification").joinpath("report.html").read_text(encoding="utf-8")
    )
    # a file may be called </script>
    text = json.dumps(data).replace("<", "\\u003c")
    path.write_text(page.replace(">DATA<", f">{text}<", 1), encoding="utf-8")


def _uri(content: bytes) -> str:
    kinds = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"RI": "webp"}
    return f"data:image/{kinds[content[:2]]};base64,{base64.b64encode(content).decode()}"


def _confused(found: Verification, method: str) -> dict[str, Any]:
    """The pairs of a class and another one that its thumbnails are read as: the most frequent,
    [class, read as, thumbnails], and how many pairs there are."""
    pairs = Counter(
        (photo.truth, photo.thumbnails[method].predicted)
        for photo in found.photos
        if photo.thumbnails[method].predicted != photo.truth
    )
    shown = [[*pair, count] for pair, count in pairs.most_common(CONFUSED)]
    return {"pairs": shown, "in_all": len(pairs)}
