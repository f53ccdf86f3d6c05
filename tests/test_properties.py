"""What must hold by construction of every published weights that embed no payload: colour, means,
symmetry, no pattern where the picture is finer than the thumbnail."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import drawn_photo
from PIL import Image, ImageDraw, ImageFont

from learned_downscale import Downscaler, pretrained, resize

Array = np.ndarray
# x4-jpeg was trained before these properties were asked for, without a shared residual.
WEIGHTS = [
    name
    for name in pretrained.bundled()
    if pretrained.read_config(name)["downscaler"].get("shared")
]


def factor(name: str) -> int:
    return Downscaler.from_pretrained(name).factor


def small(pixels: Array, name: str) -> Array:
    return np.asarray(resize(pixels, factor(name), weights=name)).astype(float)


def patterns() -> dict[str, Array]:
    """(192, 240, 3) uint8, of one colour or grey, much finer than a thumbnail's pixels; whole
    periods, so that the border, where bicubic itself is off, counts little."""
    y, x = np.mgrid[:192, :240]
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for width in (1, 2, 3):
        found[f"columns {width}"] = 255 * (x // width % 2)
        found[f"rows {width}"] = 255 * (y // width % 2)
        found[f"checkers {width}"] = 255 * ((x // width + y // width) % 2)
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    for level in (3, 8, 13):
        found[f"dither {level}"] = 255 * (np.tile(bayer, (48, 60)) < level)
    found["white noise"] = rng.integers(0, 256, (192, 240))
    spectrum = np.fft.fft2(rng.standard_normal((192, 240)))
    frequency = np.hypot(np.fft.fftfreq(192)[:, None], np.fft.fftfreq(240)[None])
    frequency[0, 0] = 1
    pink = np.real(np.fft.ifft2(spectrum / frequency))
    found["1/f noise"] = (127.5 + 40 * (pink - pink.mean()) / pink.std()).clip(0, 255)
    return {k: np.repeat(v.astype(np.uint8)[..., None], 3, 2) for k, v in found.items()}


PATTERNS = patterns()


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_means_stay(pattern: str, name: str) -> None:
    """Of grey and coloured patterns, per channel, within 1 level; of a saturated colour, where two
    channels are clipped at 0, within 2.5."""
    grey = PATTERNS[pattern]
    for colour, bound in (((1, 1, 1), 1), ((0.2, 0.9, 0.5), 1), ((1, 0, 0), 2.5)):
        pixels = np.rint(grey * np.array(colour)).astype(np.uint8)
        difference = small(pixels, name).mean((0, 1)) - pixels.mean((0, 1))
        assert np.abs(difference).max() <= bound, (colour, difference)


@pytest.mark.parametrize("name", WEIGHTS)
def test_grey_stays_grey(name: str) -> None:
    for pixels in (
        *PATTERNS.values(),
        np.asarray(drawn_photo(200, 152).convert("L").convert("RGB")),
    ):
        out = small(pixels, name)
        assert (out.max(2) - out.min(2)).max() <= 1
        grey = np.asarray(resize(pixels[..., 0], factor(name), weights=name))
        assert np.abs(grey - out[..., 0]).max() <= 1


@pytest.mark.parametrize("name", WEIGHTS)
def test_mirrored_and_turned_images_give_mirrored_and_turned_thumbnails(name: str) -> None:
    f = factor(name)
    pixels = np.asarray(drawn_photo(64 * f, 48 * f))
    straight = small(pixels, name)
    for change, back in (
        (np.fliplr, np.fliplr),
        (np.flipud, np.flipud),
        (np.rot90, lambda a: np.rot90(a, -1)),
    ):
        difference = np.abs(back(small(np.ascontiguousarray(change(pixels)), name)) - straight)
        assert difference.mean() <= 0.3 and (difference <= 4).mean() >= 0.999


@pytest.mark.parametrize("name", WEIGHTS)
def test_no_pattern_above_the_nyquist_frequency(name: str) -> None:
    """Of a zone plate, the corner whose frequencies no thumbnail holds is nearly flat."""
    side = 512
    y, x = np.mgrid[:side, :side].astype(float)
    plate = 127.5 + 127.5 * np.cos(np.pi * (x**2 + y**2) / (2 * side))
    out = small(np.repeat(np.rint(plate)[..., None], 3, 2).astype(np.uint8), name)
    n = out.shape[0]
    corner = out[int(0.75 * n) : -4, int(0.75 * n) : -4]
    assert corner.std() <= 8


@pytest.mark.parametrize("name", WEIGHTS)
def test_black_text_on_white_has_no_colour(name: str) -> None:
    page = Image.new("RGB", (400, 240), "white")
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(("The quick brown fox", "jumps over 13 lazy", "dogs: 42.50 EUR")):
        draw.text((12, 12 + 70 * i), line, "black", ImageFont.load_default(34))
    pixels = np.asarray(page)
    out = small(pixels, name)
    assert (out.max(2) - out.min(2)).max() <= 1
    # the overshoots of bicubic, and of what is added to it, are clipped at white: darker
    bicubic = np.asarray(page.resize(out.shape[1::-1], Image.Resampling.BICUBIC)).mean((0, 1))
    assert np.abs(out.mean((0, 1)) - bicubic).max() <= 0.7
    assert np.abs(out.mean((0, 1)) - pixels.mean((0, 1))).max() <= 1.1


@pytest.mark.parametrize("name", WEIGHTS)
def test_constants_and_ramps_are_exact(name: str) -> None:
    f = factor(name)
    for level in (0, 1, 127, 254, 255):
        assert (small(np.full((48, 64, 3), level, np.uint8), name) == level).all()
    x = np.arange(64 * f) * 255 / (64 * f - 1)
    for ramp in (np.tile(x, (48 * f, 1)), np.tile(x[: 48 * f, None], (1, 64 * f))):
        pixels = np.repeat(np.rint(ramp)[..., None], 3, 2).astype(np.uint8)
        height, width = pixels.shape[:2]
        wanted = ramp.reshape(height // f, f, width // f, f).mean((1, 3))
        inside = (slice(4, -4), slice(4, -4))  # at the border the bicubic filter is cut off
        assert np.abs(small(pixels, name)[..., 1] - wanted)[inside].max() <= 1


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("photo", ["astronaut", "chelsea", "coffee"])
def test_photos_keep_their_mean_and_look_natural(photo: str, name: str) -> None:
    """Per channel within 0.3 level; at least 31 dB from bicubic."""
    data = pytest.importorskip("skimage.data", reason="needs the extra [demo]")
    f = factor(name)
    pixels = getattr(data, photo)()
    pixels = pixels[: pixels.shape[0] // f * f, : pixels.shape[1] // f * f]
    out = small(pixels, name)
    bicubic = Image.fromarray(pixels).resize(out.shape[1::-1], Image.Resampling.BICUBIC)
    assert np.abs(out.mean((0, 1)) - pixels.mean((0, 1))).max() <= 0.3
    error = ((out - np.asarray(bicubic)) ** 2).mean()
    assert 0 < error <= 255**2 / 10**3.1


def test_other_filters_can_fail() -> None:
    """The bounds are not empty: weights that were trained without them are outside."""
    machine = np.asarray(resize(PATTERNS["columns 1"], 4, weights="x4-machine")).astype(float)
    assert (machine.max(2) - machine.min(2)).max() > 1
    nearest = PATTERNS["columns 1"][::4, ::4].astype(float)
    assert np.abs(nearest.mean((0, 1)) - PATTERNS["columns 1"].mean((0, 1))).max() > 1
