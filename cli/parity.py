"""learned-downscale parity."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from learned_downscale.cli.terminal import shown


@click.command("parity")
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True,
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--factor", type=float, default=4.0, show_default=True, help="As for `resize`.")
def command(photos: tuple[Path, ...], factor: float) -> None:
    """Make the thumbnails of photos through every door, and compare their pixels.

    Prints, for each door, the largest difference to `resize` of an array, in levels of 8 bits, and
    the SHA-256 of the pixels of all photos, row by row. Doors whose library is not installed are
    named. The two that ONNX Runtime computes may differ by a level or two: their bicubic is
    Pillow's, to the bit, which torch's is not. The exit status is 1 where others differ.
    """
    import hashlib

    import numpy as np

    from learned_downscale.files import decode
    from learned_downscale.parity import DOORS, passages
    from learned_downscale.plan import target_size

    worst: dict[str, int] = {}
    digests = {name: hashlib.sha256() for name in DOORS}
    missing: dict[str, str] = {}
    for path in photos:
        try:
            image = np.asarray(decode(path).convert("RGB"))
            size = target_size((image.shape[1], image.shape[0]), factor)
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{shown(path)}: {error}") from error
        for passage in passages(image, size):
            if passage.difference is None:
                missing[passage.door] = passage.missing
                continue
            worst[passage.door] = max(worst.get(passage.door, 0), passage.difference)
            digests[passage.door].update(bytes.fromhex(passage.sha256))
    click.echo("| door | largest difference | SHA-256 |")
    click.echo("| --- | --- | --- |")
    for name in DOORS:
        if name in missing:
            click.echo(f"| {name} | not tried: {missing[name]} | |")
        else:
            click.echo(f"| {name} | {worst[name]} | {digests[name].hexdigest()[:16]} |")
    if any(worst.get(name, 0) for name, (needs, _) in DOORS.items() if needs != "onnxruntime"):
        click.echo("doors that should agree do not: please report it with these photos", err=True)
        sys.exit(1)
