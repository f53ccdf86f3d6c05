"""The options of `convert`, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from learned_downscale.cli.terminal import Size

# the heading of --help -> its options
GROUPS: dict[str, list[click.Option]] = {}


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped = [option for group in GROUPS.values() for option in group]
        rest = [param for param in self.get_params(ctx) if param not in grouped]
        groups: list[tuple[str, Sequence[click.Parameter]]] = [*GROUPS.items()]
        for heading, options in [*groups, ("Other options", rest)]:
            records = [record for o in options if (record := o.get_help_record(ctx)) is not None]
            with formatter.section(heading):
                formatter.write_dl(records)


def options(command: click.Command) -> click.Command:
    """Adds all options."""
    command.params += [option for group in GROUPS.values() for option in group]
    return command


def check_colour(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no colour; give a name or #rrggbb") from error
    return value


def _group(heading: str) -> Callable[..., None]:
    group = GROUPS[heading] = []

    def add(*names: str, **options: Any) -> None:
        group.append(click.Option(names, **options))

    return add


_add = _group("Size of the thumbnails (one of the first four)")
_add("--factor", type=float, help="Divide width and height by this, such as 4.")
_add("--size", type=Size(), help="Exact size of every thumbnail.")
_add(
    "--max-side",
    type=click.IntRange(1),
    help="Longer side, px; the shape is kept.",
)
_add(
    "--fit",
    type=Size(),
    help="Largest width and height; the shape is kept. For portraits the box is turned.",
)
_add(
    "--small",
    type=click.Choice(["copy", "skip", "fail"]),
    help="Images that are not larger than asked.  [default: copy; with --size: fail]",
)

_add = _group("How they are made")
_add(
    "--weights",
    help="A bundled name (x4-machine), a folder or a Hugging Face model id.  [default: x4 or x2, "
    "by the factor]",
)
_add(
    "--exact",
    is_flag=True,
    help="Decode JPEGs whole and resample by antialiased bicubic always: slower, as `resize` with "
    "exact=True.",
)
_add(
    "--max-pixels",
    type=click.IntRange(1),
    default=178_956_970,
    show_default=True,
    help="Images of more pixels fail before they are decoded.",
)
_add("--backend", type=click.Choice(["auto", "torch", "onnx"]), default="auto", show_default=True)
_add("--device", help="Where to compute, as torch names it, such as cuda.  [default: the CPU]")
_add(
    "--workers",
    type=click.IntRange(1),
    help="Images that are worked on at once.  [default: two more than there are processors]",
)

_add = _group("What is written")
_add(
    "--to",
    type=click.Choice(["files", "array", "shards"]),
    default="files",
    show_default=True,
    help="array: thumbnails.npy, uint8 (N, height, width, 3), for training without decoding. "
    "shards: WebDataset tar files. A tar, or a folder of tars, always becomes tars.",
)
_add(
    "--shard-size",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Images in a shard.",
)
_add(
    "--format",
    type=click.Choice(["jpg", "png", "tif", "webp", "avif"]),
    help="Format of all thumbnails.  [default: the format of each image; of those that are only "
    "read, JPEG for HEIF and PNG for GIF, BMP and JPEG 2000]",
)
_add(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="Quality of JPEG, WebP and AVIF files.",
)
_add(
    "--subsampling",
    type=click.Choice(["4:4:4", "4:2:2", "4:2:0"]),
    default="4:4:4",
    show_default=True,
    help="Of the colours of JPEG and AVIF files.",
)
_add(
    "--metadata",
    type=click.Choice(["keep", "strip", "strip-gps"]),
    default="keep",
    show_default=True,
    help="EXIF, XMP, IPTC, comments: all, none, or all but the position. Colour profile and "
    "density stay.",
)
_add(
    "--to-srgb",
    is_flag=True,
    help="Convert colours to sRGB by their profile, which is left out then.",
)
_add(
    "--frames",
    type=click.Choice(["fail", "first", "all"]),
    default="fail",
    show_default=True,
    help="Animations and TIFFs of several pages: report them, take the first image, or convert all "
    "(to WebP, PNG, AVIF or TIFF).",
)
_add(
    "--background",
    default="white",
    show_default=True,
    callback=check_colour,
    help="Colour under transparency where the format has none (JPEG): a name or #rrggbb.",
)
_add("--suffix", default="", help="Put this behind every name: with _s, a.jpg becomes a_s.jpg.")

_add = _group("Which images are converted")
_add(
    "--include",
    multiple=True,
    metavar="GLOB",
    help='Only names that fit, such as "2024/*" or "*.png"; a star takes slashes. Repeatable.',
)
_add("--exclude", multiple=True, metavar="GLOB", help="No names that fit. Repeatable.")
_add(
    "--files-from",
    type=click.File("rb"),
    metavar="LIST",
    help="Names relative to IN, one a line or with NUL bytes between them; - is standard input.",
)
_add(
    "--on-collision",
    type=click.Choice(["fail", "rename"]),
    default="fail",
    show_default=True,
    help="Images whose thumbnails would have one name; rename: a.png and a.jpg become a_png.webp "
    "and a_jpg.webp.",
)

_add = _group("Runs")
_add(
    "--overwrite",
    type=click.Choice(["never", "changed", "always"]),
    default="changed",
    show_default=True,
    help="Which thumbnails in OUT are made again. changed: those whose image has another size or "
    "time than in the manifest.",
)
_add("--retry-failed", is_flag=True, help="Try images again that failed in an earlier run.")
_add(
    "--on-error",
    type=click.Choice(["skip", "stop"]),
    default="skip",
    show_default=True,
    help="skip: report what fails and do the rest.",
)
_add("--hash", "hashes", is_flag=True, help="Put every image's SHA-256 into the manifest.")
_add("--parquet", is_flag=True, help="Write the manifest as Parquet, too (needs pyarrow).")
_add("--dry-run", is_flag=True, help="Write nothing; estimate bytes and time from a sample.")
_add(
    "--verify",
    type=click.IntRange(1),
    metavar="N",
    help="Let the bundled classifier read N thumbnails and their originals.",
)
_add("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
_add("-v", "--verbose", is_flag=True, help="Print how each thumbnail was made.")
_add(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: on the machines of a Ray cluster, which must reach IN and OUT.",
)
_add(
    "--address",
    help="Of the Ray cluster, HOST:PORT or auto.  [default: RAY_ADDRESS, or a new one on this "
    "machine]",
)
