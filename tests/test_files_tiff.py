"""TIFF as people have it: every layout is read right or refused, never mangled."""

from __future__ import annotations

import io
import itertools
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from learned_downscale.files import encode, frames, open_image
from learned_downscale.files.metadata import Metadata
from learned_downscale.files.samples import unpremultiplied

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

Array = NDArray[Any]
Layout = tuple[str, int, str, tuple[str, ...], str, bool, str | None, bool, str]

COLOURS: list[tuple[int, str, tuple[str, ...]]] = [
    (1, "minisblack", ()),
    (1, "miniswhite", ()),
    (2, "minisblack", ("unassalpha",)),
    (2, "minisblack", ("unspecified",)),
    (2, "minisblack", ("assocalpha",)),
    (3, "rgb", ()),
    (4, "rgb", ("unassalpha",)),
    (4, "rgb", ("assocalpha",)),
    (4, "rgb", ("unspecified",)),
    (5, "rgb", ("unassalpha", "unspecified")),
    (4, "separated", ()),
]
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")


def layouts() -> Iterator[Layout]:
    for dtype, (n, photometric, extra), tiled in itertools.product(DTYPES, COLOURS, (False, True)):
        for planar in ("contig", "separate")[: min(n, 2)]:
            for compression in (None, "lzw", "adobe_deflate", "packbits", "zstd"):
                for predictor in (False, True)[: 1 if compression in (None, "packbits") else 2]:
                    for order in "<>":
                        yield (
                            *(dtype, n, photometric, extra, planar),
                            *(tiled, compression, predictor, order),
                        )


def written(layout: Layout, **more: Any) -> tuple[Array, bytes]:
    dtype, n, photometric, extra, planar, tiled, compression, predictor, order = layout
    rng, shape = np.random.default_rng(0), (21, 37, n)[: 2 if n == 1 else 3]
    if dtype.startswith("float"):
        samples = rng.random(shape).astype(dtype)
    else:
        info = np.iinfo(dtype)
        samples = rng.integers(info.min // 2, info.max // 2, shape).astype(dtype)
    if "assocalpha" in extra:
        samples = np.minimum(samples, samples[..., -1:])
    options = dict(more)
    if n > 1:
        options["planarconfig"] = planar
    if extra:
        options["extrasamples"] = extra
    options.update({"tile": (16, 16)} if tiled else {"rowsperstrip": 8})
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.moveaxis(samples, -1, 0) if planar == "separate" else samples,
        photometric=photometric,
        byteorder=order,
        compression=compression,
        predictor=predictor,
        metadata=None,
        **options,
    )
    return samples, file.getvalue()


def meant(samples: Array, layout: Layout) -> Array:
    """What the samples of a layout show, (H, W, channels)."""
    _, _, photometric, extra, *_ = layout
    out = np.atleast_3d(samples)
    if photometric == "miniswhite" and out.dtype.kind == "u":
        out = np.iinfo(out.dtype).max - out
    if photometric == "separated":
        return out if out.dtype == np.uint8 else np.rint(out / 257)
    colours = 3 if photometric == "rgb" else 1
    if not extra or "alpha" not in extra[0]:
        return out[..., :colours]
    out = out[..., : colours + 1]
    return unpremultiplied(out) if extra[0] == "assocalpha" else out


def as_array(image: Any) -> Array:
    if isinstance(image, Image.Image):
        image = image.convert("LA") if image.mode == "La" else image
        return np.atleast_3d(np.asarray(image))
    assert isinstance(image, np.ndarray)
    return image


def check(layout: Layout) -> str:
    """ "read" if it is read right, else the reason for which it is refused."""
    samples, content = written(layout)
    try:
        image = open_image(content, deep=True).image
    except ValueError as error:
        return str(error)
    want = meant(samples, layout)
    got = as_array(image)
    assert got.shape == want.shape, layout
    slack = (
        1
        if "assocalpha" in layout[3] or layout[2] == "separated"
        else 1e-3
        if layout[0] == "float64"
        else 0
    )
    assert np.abs(got.astype(np.float64) - want).max() <= slack, layout
    return "read"


WANTED = {
    ("uint8", "uint16"): "read",
    ("float16", "float32", "float64"): "read",
    ("int8",): "no range that is agreed",
}


def outcome(layout: Layout) -> str | None:
    dtype, n, photometric = layout[:3]
    if photometric == "separated" and dtype not in ("uint8", "uint16"):
        return "CMYK of"
    if dtype == "uint32" and photometric == "miniswhite":
        return "no range"
    if dtype in ("uint32", "int32", "int16"):
        return "read" if n == 1 or (n, layout[3]) == (2, ("unspecified",)) else "no range"
    return next(text for dtypes, text in WANTED.items() if dtype in dtypes)


def hold(chosen: list[Layout]) -> None:
    for layout in chosen:
        wanted = outcome(layout)
        assert wanted is not None and wanted in check(layout), (layout, check(layout))


def test_layouts() -> None:
    """Every 13th; 13 divides no number of choices."""
    hold(list(layouts())[::13])


@pytest.mark.slow
def test_all_layouts() -> None:
    hold(list(layouts()))


MISREAD: list[Layout] = [
    ("uint16", 3, "rgb", (), "separate", False, None, False, "<"),
    ("uint16", 4, "rgb", ("unassalpha",), "separate", True, None, False, ">"),
    ("uint16", 4, "separated", (), "separate", False, None, False, "<"),
    ("uint16", 1, "miniswhite", (), "contig", False, None, False, "<"),
    ("uint8", 2, "minisblack", ("unassalpha",), "separate", False, "lzw", False, "<"),
    ("uint8", 2, "minisblack", ("assocalpha",), "separate", False, "lzw", False, "<"),
    ("int8", 1, "minisblack", (), "contig", False, None, False, "<"),
    *(
        (dtype, 1, "minisblack", (), "contig", False, "lzw", False, order)
        for dtype in ("int16", "int32", "float32")
        for order in (">" if sys.byteorder == "little" else "<")
    ),
]


@pytest.mark.parametrize("layout", MISREAD, ids=str)
def test_what_pillow_misreads_is_refused_without_tifffile(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or read by OpenCV. Pillow opens each of these files, and gives other pixels."""
    samples, content = written(layout)
    with Image.open(io.BytesIO(content)) as image:
        try:
            image.load()
        except ValueError:
            pytest.skip("this version of Pillow refuses it")
        with np.errstate(all="ignore"):
            pixels = as_array(image)
        want = meant(samples, layout)
        if layout[0] == "uint16" and layout[2] != "miniswhite":
            want = np.rint(want / 257 if want.max() > 255 else want)
        with np.errstate(all="ignore"):
            assert not np.allclose(pixels[..., : want.shape[2]].astype(np.float64), want, atol=2)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    if layout[0] in ("int16", "int32", "float32"):
        assert check(layout) == "read"
    else:
        assert "pip install learned-downscale[tiff]" in check(layout)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_deep_colours_are_turned(orientation: int, planar: str) -> None:
    """By OpenCV (contiguous) and tifffile, as Pillow turns 8 bits."""
    tag = [(274, "H", 1, orientation, True)]
    layout: Layout = ("uint16", 3, "rgb", (), planar, False, "lzw", False, "<")
    samples, content = written(layout, extratags=tag)
    got = open_image(content, deep=True)
    file = io.BytesIO()
    small = (samples >> 8).astype(np.uint8)
    tifffile.imwrite(file, small, photometric="rgb", metadata=None, extratags=tag)
    want = open_image(file.getvalue())
    assert got.size == want.size == want.image.size
    assert np.array_equal(got.image >> 8, want.image)


def test_sixteen_bits_become_eight_with_a_word() -> None:
    samples, content = written(("uint16", 3, "rgb", (), "contig", False, "lzw", False, "<"))
    opened = open_image(content)
    assert opened.changes == ("16 bits to 8",) and opened.image.mode == "RGB"
    assert np.array_equal(opened.image, np.rint(samples / 257))
    deep = open_image(content, deep=True)
    assert deep.changes == () and np.array_equal(deep.image, samples)


@pytest.mark.parametrize("order", ["<", ">"])
def test_where_pillow_is_right_in_8_bits(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    samples, content = written(("uint16", 3, "rgb", (), "separate", True, "lzw", False, order))
    opened = open_image(content, deep=True)
    assert opened.changes == ("16 bits to 8",)
    assert np.array_equal(opened.image, samples >> 8)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colours_are_written(dtype: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((23, 31, channels))
    samples = (samples * 65535 if dtype == "uint16" else samples).astype(dtype)
    content = encode(samples, ".tif", metadata=Metadata(dpi=(300, 300)))
    assert np.array_equal(tifffile.imread(io.BytesIO(content)), samples)
    opened = open_image(content, deep=True)
    assert np.array_equal(opened.image, samples) and opened.metadata.dpi == (300, 300)


@pytest.mark.parametrize(
    ("compression", "name"),
    [("jpeg2000", "JPEG 2000"), ("webp", "WebP"), ("jpegxl", "JPEG XL"), ("png", "PNG")],
)
def test_compressions_by_their_names(
    compression: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = (np.indices((40, 56)).sum(axis=0) % 200).astype(np.uint8)
    photo = np.stack((photo, photo, photo), axis=2)
    file = io.BytesIO()
    tifffile.imwrite(file, photo, photometric="rgb", compression=compression, metadata=None)
    got = np.asarray(open_image(file.getvalue()).image, int)
    assert np.abs(got - photo).mean() < 5
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ValueError, match=rf"compression {name}.*save it as .*learned-downscale\["):
        open_image(file.getvalue())


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_white_of_few_bits_is_white(bits: int, photometric: str) -> None:
    samples = np.random.default_rng(0).integers(0, 2**bits, (16, 24), np.uint16)
    samples[0, :2] = 0, 2**bits - 1
    file = io.BytesIO()
    tifffile.imwrite(file, samples, bitspersample=bits, photometric=photometric, metadata=None)
    image = open_image(file.getvalue()).image
    want = samples / (2**bits - 1) * 65535
    want = want if photometric == "minisblack" else 65535 - want
    assert image.mode == "I;16" and np.abs(np.asarray(image) - want).max() <= 0.5


def test_what_is_left_out_is_told() -> None:
    for extra, n, text in (
        (("unspecified",), 4, "without 1 further sample a pixel"),
        (("unassalpha", "unspecified", "unspecified"), 6, "without 2 further samples a pixel"),
    ):
        layout: Layout = ("uint8", n, "rgb", extra, "contig", False, "lzw", False, "<")
        assert open_image(written(layout)[1]).changes == (text,)
    file = io.BytesIO()
    tifffile.imwrite(
        file, np.zeros((16, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16), metadata=None
    )
    with pytest.raises(ValueError, match="a volume of 16 layers"):
        open_image(file.getvalue())


def test_a_damaged_file_is_named_as_such() -> None:
    _, content = written(("uint8", 3, "rgb", (), "contig", False, "lzw", False, "<"))
    with pytest.raises(ValueError, match=r"RGB, compression LZW\) is damaged"):
        open_image(content[: len(content) // 2])
    for length in (0, 4, 8, 12):
        with pytest.raises(ValueError, match="cannot identify it"):
            open_image(content[:length])


def pyramid(tmp_path: Path, **options: Any) -> tuple[Path, Array]:
    """A photo of two overviews and a mask."""
    photo = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    path = tmp_path / "pyramid.tif"
    sub_ifds = options.pop("sub_ifds", False)
    with tifffile.TiffWriter(path, **options) as tiff:
        common = {"photometric": "rgb", "metadata": None}
        tiff.write(photo, subifds=2 if sub_ifds else 0, **common)
        for step in (2, 4):
            tiff.write(photo[::step, ::step], subfiletype=1, **common)
        if not sub_ifds:
            mask = np.ones((64, 48), bool)
            tiff.write(mask, subfiletype=4, photometric="mask", metadata=None)
    return path, photo


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"sub_ifds": True}])
def test_overviews_are_passed_over(options: dict[str, Any], tmp_path: Path) -> None:
    path, photo = pyramid(tmp_path, **options)
    for source in (path, path.read_bytes()):
        opened = open_image(source)
        assert opened.count == 1 and np.array_equal(opened.image, photo)
        assert [page.size for page in frames(source)] == [(48, 64)]


def test_an_overview_that_comes_first(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(photo[::4, ::4], subfiletype=1, metadata=None)
        tiff.write(photo, metadata=None)
    assert np.array_equal(open_image(path).image, photo)
    with tifffile.TiffWriter(path) as tiff:  # as DNG
        tiff.write(photo[::4, ::4], subfiletype=1, subifds=1, metadata=None)
        tiff.write(photo, metadata=None)
    with pytest.raises(ValueError, match="camera raw"):
        open_image(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pages(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8).astype(dtype) for i in range(3)]
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as tiff:
        for photo in photos:
            tiff.write(photo, photometric="rgb", metadata=None)
            tiff.write(photo[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
    with pytest.raises(ValueError, match="3 frames"):
        open_image(path)
    first = open_image(path, first=True, deep=True)
    assert first.changes == ("the first of 3 pages",) and np.array_equal(first.image, photos[0])
    found = list(frames(path, deep=True))
    assert [(page.index, page.count, page.duration) for page in found] == [
        (i, 3, None) for i in range(3)
    ]
    for page, photo in zip(found, photos, strict=True):
        assert np.array_equal(page.image, photo)


def test_directories_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("L", (8, 8), 7).save(path)
    content = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, offset)
    struct.pack_into("<I", content, offset + 2 + 12 * entries, offset)
    assert open_image(bytes(content)).count == 1


def test_fuzzed_directories_are_refused_or_read() -> None:
    """Never another error than ValueError."""
    rng = np.random.default_rng(0)
    _, content = written(("uint16", 3, "rgb", (), "contig", False, "lzw", False, "<"))
    refused = 0
    for _ in range(300):
        bad = bytearray(content)
        for _ in range(3):
            bad[rng.integers(4, 400) % len(bad)] = rng.integers(256)
        try:
            open_image(bytes(bad), max_pixels=10**6)
        except ValueError:
            refused += 1
    assert 20 < refused < 300
