"""The demo in the browser (docs/demo): its planner, its bicubic and its pixels are Python's, and
its page works. Whoever changes weights runs

    python tests/test_demo.py

and commits docs/demo/parity.json with the reason.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import json
import random
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from learned_downscale import Decoder, ThumbnailClassifier, pretrained, resize
from learned_downscale.core.resampling import Array
from learned_downscale.plan import make_plan, target_size

DEMO = Path(__file__).parents[1] / "docs" / "demo"
BUILT = DEMO / "built"
PARITY = DEMO / "parity.json"
NODE = shutil.which("node")

# (width, height, seed), size, weights
PICTURES: tuple[tuple[tuple[int, int, int], Any, str | None], ...] = (
    ((320, 240, 0), 4, None),
    ((321, 239, 1), 4, None),
    ((200, 152, 2), 2, None),
    ((199, 153, 3), 2.7, None),
    ((300, 225, 4), 1.5, None),
    ((640, 427, 5), (84, 56), "x4"),
    ((97, 260, 6), (21, 56), "x2"),
    ((448, 300, 7), 4, "x4-machine"),
    ((333, 251, 8), 2, "x2-machine"),
    ((500, 375, 9), (75, 56), "x4-jpeg"),
)


def drawn(width: int, height: int, seed: int) -> Array:
    """What drawn.js draws: (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    disc = 5 + seed % 4
    hill = (x * (seed + 3) >> 1) % 97
    low = 3 * y > 2 * height - hill
    stripe = (x * disc + y * (seed % 7)) % 23 < 9
    round_ = (x % 64 - 32) ** 2 + (y % 64 - 32) ** 2 < 14 * disc * disc
    state, noise = 2 * seed + 1, np.empty(width * height, int)
    for i in range(width * height):
        state = (state * 1664525 + 1013904223) % 2**32
        noise[i] = (state >> 24) % 25
    noise = noise.reshape(height, width)
    sky = 150 * y // height
    red = np.where(low, np.where(stripe, 190, 60), sky) + noise
    green = np.where(low, 70 + hill, 60 + sky) + 20 * round_
    blue = np.where(round_, 40 + noise, np.where(low, 50, 220 - sky))
    return np.stack([red, green, blue], -1).astype(np.uint8)


def in_python() -> list[dict[str, Any]]:
    """parity.json."""
    found = []
    for picture, size, weights in PICTURES:
        small = resize(drawn(*picture), size, weights=weights, backend="onnx", exact=True)
        sha256 = hashlib.sha256(small.tobytes()).hexdigest()
        found.append({"picture": picture, "size": size, "weights": weights, "sha256": sha256})
    return found


def written(found: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join("  " + json.dumps(one) for one in found) + "\n]\n"


def node(code: str, given: Any = None) -> Any:
    """What a module prints as JSON; it begins in docs/demo, and `given` is what it reads."""
    if NODE is None:
        pytest.skip("Node.js is not installed")
    begin = f"""
        const given = JSON.parse(require("node:fs").readFileSync(0, "utf-8"));
        const load = file => import({DEMO.as_uri() + "/"!r} + file);
        (async () => {{ {code} }})().then(x => process.stdout.write(JSON.stringify(x)));
    """
    out = subprocess.run(
        [NODE, "--input-type=commonjs", "-e", begin],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert out.returncode == 0 and out.stderr == "", out.stderr
    return json.loads(out.stdout)


@pytest.fixture(scope="module")
def built() -> Path:
    if not (BUILT / "models.json").is_file() or not (BUILT / "ort" / "lock.json").is_file():
        pytest.skip("the demo is not built, so onnxruntime-web is missing (docs/demo/build.py)")
    for name in pretrained.bundled():
        if (BUILT / f"{name}.onnx").read_bytes() != pretrained.load_onnx(name)[0]:
            pytest.skip("the demo was built of other weights: run docs/demo/build.py again")
    return BUILT


# -- what needs Node, and no build -------------------------------------------------------------


def asked(count: int) -> list[dict[str, Any]]:
    """Questions to the planner, of all kinds, with those that it must refuse."""
    draw = random.Random(0)
    near = (1, 2, 3, 4, 5, 7, 8, 12, 13)
    found = []
    for i in range(count):
        source = [draw.choice((1, 2, 3, 5, 40, 97, 224, 500, 1001, 4032, 9000)) for _ in "wh"]
        source = [max(1, side + draw.randrange(-3, 4)) for side in source]
        exactly = [max(1, side // draw.choice(near) + draw.randrange(-1, 2)) for side in source]
        factor = draw.choice(
            (1, 2, 4, 1.1, 1.3, 2.5, 3.999, 4.000000001, 6.7, 13, 400, 0.3, 0.3e-3, 0, -2)
        )
        weights = draw.choice(
            ({2: "x2", 4: "x4"}, {4: "x4-machine"}, {2: "x2"}, {3: "mine", 8: "m"})
        )
        found.append({
            "source": source,
            "size": exactly if i % 2 else factor,
            "rounding": draw.choice(("up", "nearest", "down")),
            "weights": weights,
            "required": draw.random() < 0.4,
            "exact": draw.random() < 0.5,
        })  # fmt: skip
    return found


def planned(question: dict[str, Any]) -> dict[str, Any]:
    source, size = tuple(question["source"]), question["size"]
    try:
        target = target_size(
            source, tuple(size) if isinstance(size, list) else size, question["rounding"]
        )
        plan = make_plan(
            source, target, question["weights"], question["required"], question["exact"]
        )
    except ValueError as error:
        return {"error": str(error)}
    found = vars(plan) | {"backend": None}
    return json.loads(json.dumps({k: v for k, v in found.items() if k != "backend"}))


PLAN = """
    const { targetSize, makePlan } = await load("plan.js");
    return given.map(({ source, size, rounding, weights, required, exact }) => {
      try {
        return makePlan(source, targetSize(source, size, rounding), weights, { required, exact });
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        return { error: error.message };
      }
    });
"""


def test_the_planner_is_pythons() -> None:
    questions = asked(1000)
    want = [planned(question) for question in questions]
    found = node(PLAN, questions)
    for question, one, other in zip(questions, want, found, strict=True):
        assert one == other, question
    kinds = {str(one.get("reason", one.get("error")))[:9] for one in want}
    assert len(kinds) >= 8, "the questions ask too little"
    assert sum(one.get("patches", False) for one in want) > 10
    assert sum(one.get("reduced") is not None for one in want) > 10


def test_the_planner_refuses_what_is_no_size() -> None:
    code = """
        const { targetSize } = await load("plan.js");
        const sizes = [[4], [4, 3, 2], [1.5, 2], "4", null, { width: 4 }];
        return sizes.map(size => {
          try { return targetSize([400, 300], size); } catch (error) { return error.name; }
        });
    """
    assert node(code) == ["TypeError"] * 6


BICUBIC = """
    const { bicubic } = await load("bicubic.js");
    const { drawn } = await load("drawn.js");
    const { createHash } = require("node:crypto");
    return given.map(([picture, size]) => {
      const image = drawn(...picture);
      const small = bicubic(image, size);
      return [image, small].map(i => createHash("sha256").update(i.data).digest("hex"));
    });
"""


def test_bicubic_is_pillows() -> None:
    sizes = [(50, 38), (51, 37), (25, 19), (101, 75), (4, 3), (1, 1), (100, 20), (30, 76), (3, 76),
             (99, 76), (100, 75), (67, 51), (400, 304), (404, 300)]  # fmt: skip
    asked_of = [((100, 76, seed), size) for seed, size in enumerate(sizes)]
    asked_of += [((640, 1, 1), (37, 1)), ((1, 500, 2), (1, 33)), ((900, 640, 3), (31, 22))]
    found = node(BICUBIC, asked_of)
    for (picture, size), (drawn_there, small_there) in zip(asked_of, found, strict=True):
        image = Image.fromarray(drawn(*picture))
        assert hashlib.sha256(image.tobytes()).hexdigest() == drawn_there, picture
        # rows first, as the library does it; Pillow begins with columns where that is cheaper
        small = image.resize((size[0], image.height), Image.Resampling.BICUBIC)
        small = small.resize(size, Image.Resampling.BICUBIC)
        assert hashlib.sha256(small.tobytes()).hexdigest() == small_there, (picture, size)
        if size[0] <= image.width and size[1] <= image.height:
            assert small.tobytes() == image.resize(size, Image.Resampling.BICUBIC).tobytes()


# -- parity ------------------------------------------------------------------------------------


def test_python_makes_the_pixels_of_parity() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    assert written(in_python()) == PARITY.read_text(encoding="utf-8")


def parity(*arguments: Any) -> subprocess.CompletedProcess[str]:
    if NODE is None:
        pytest.skip("Node.js is not installed")
    command = [NODE, str(DEMO / "parity.js"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_node_makes_the_same(built: Path) -> None:
    out = parity()
    assert (out.returncode, out.stderr) == (0, ""), out.stdout
    assert len(out.stdout.splitlines()) == 10 and "DIFFERENT" not in out.stdout


@pytest.mark.slow
def test_node_makes_the_same_in_strips(built: Path) -> None:
    out = parity(PARITY, 5000)
    assert (out.returncode, out.stderr) == (0, ""), out.stdout


def test_node_finds_another_pixel(built: Path, tmp_path: Path) -> None:
    pictures = json.loads(PARITY.read_text(encoding="utf-8"))[:2]
    pictures[1]["picture"][2] = 77
    (tmp_path / "parity.json").write_text(json.dumps(pictures))
    out = parity(tmp_path / "parity.json")
    assert out.returncode == 1 and "1 pictures are not Python's" in out.stderr
    assert [line.split()[0] for line in out.stdout.splitlines()] == ["equal", "DIFFERENT"]


READ = """
    const all = await (await load("node.js")).networks();
    const { drawn } = await load("drawn.js");
    const thumbnail = (await all.resize(drawn(...given), 4, { weights: "x4-machine" })).image;
    const large = await all.reconstruct(thumbnail, "x4-machine");
    const read = await all.classify(thumbnail);
    const readLarge = await all.classify(large);
    const inStrips = await (await load("node.js")).networks(20_000);
    const again = await inStrips.reconstruct(thumbnail, "x4-machine");
    return { large: [...large.data], again: [...again.data], read, readLarge };
"""


@pytest.mark.slow
def test_node_reconstructs_and_classifies_as_python(built: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    picture = (300, 224, 3)
    found = node(READ, picture)
    small = shrunk(drawn(*picture), 4, "x4-machine")
    large = reconstructed(small, "x4-machine")
    there = np.array(found["large"], np.uint8).reshape(large.shape)
    assert np.abs(there.astype(int) - large).max() <= 1  # floats, in another order
    assert np.abs(np.array(found["again"]) - found["large"]).max() <= 1
    classifier = ThumbnailClassifier.from_pretrained()
    for image, read in ((small, found["read"]), (shrunk(there, (214, 160)), found["readLarge"])):
        want = classifier(image)
        assert dict(read["probabilities"]) == pytest.approx(want.probabilities, abs=2e-3)
        assert read["label"] == want.label and read["probability"] > 0.01


# -- the page, in a browser --------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    serve = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    with served(DEMO) as url:
        yield url


PHOTO = (333, 251, 8)


@pytest.fixture(scope="module")
def page(address: str, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page on a phone, after a photo was chosen; it says nothing, and sends nothing away."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(drawn(*PHOTO)).save(path)
    said: list[str] = []
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    tab = context.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    context.on(
        "request",
        lambda r: (
            None
            if r.method == "GET" and r.url.startswith((address, "data:"))
            else said.append(f"{r.method} {r.url}")
        ),
    )
    tab.goto(address)
    tab.locator("#file").set_input_files(path)
    finish(tab, "^The classifier|^Done")
    yield tab
    assert said == []
    context.close()


def finish(page: Any, says: str = "^Done in") -> None:
    page.locator(f'#status:text-matches("{says}")').wait_for(timeout=60_000)


def canvas(page: Any, selector: str) -> Array:
    url = page.locator(selector).evaluate("canvas => canvas.toDataURL('image/png')")
    image = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    return np.asarray(image.convert("RGB"))


def shown(page: Any, name: str) -> Array:
    return canvas(page, f"[data-name={name}] canvas")


def shrunk(image: Array, size: Any, weights: str | None = None) -> Array:
    return resize(image, size, weights=weights, backend="onnx", exact=True)


def reconstructed(small: Array, weights: str) -> Array:
    x = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        large = Decoder.from_pretrained(weights)(x)[0]
    return (255 * large.clamp(0, 1)).round().permute(1, 2, 0).numpy()


def test_page_shows_pythons_pixels(page: Any) -> None:
    photo, size = drawn(*PHOTO), (74, 56)
    assert np.array_equal(shown(page, "photo"), photo)
    bicubic = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
    assert np.array_equal(shown(page, "bicubic"), bicubic)
    assert np.array_equal(shown(page, "learned"), shrunk(photo, size, "x4"))
    assert not np.array_equal(shown(page, "learned"), bicubic)
    large = reconstructed(shrunk(photo, size, "x4-machine"), "x4-machine")
    assert np.abs(shown(page, "reconstructed").astype(int) - large).max() <= 1


@pytest.mark.slow
def test_page_shows_pythons_verdict(page: Any) -> None:
    finish(page)
    want = ThumbnailClassifier.from_pretrained()(shown(page, "learned"))
    pane = page.locator("[data-name=learned]")
    assert pane.locator(".verdict").text_content() == (want.label or "none of its classes")
    first = next(iter(want.probabilities))
    label, share = pane.locator("li").first.locator("span").all_text_contents()
    assert label == first and abs(int(share.split()[0]) - 100 * want.probability) <= 1
    assert page.locator("figure .verdict").count() == 4
    assert all(page.locator("figure .verdict").all_text_contents())


def test_page_fits_a_phone(page: Any) -> None:
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.set_viewport_size({"width": 360, "height": 740})
    targets = page.locator("button, select, #slider, fieldset label, #drop")
    for box in [target.bounding_box() for target in targets.all()]:
        assert box["height"] >= 44, "too small for a finger"
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(251, 251, 249)", "rgb(22, 24, 27)"]


def test_slider_divides_the_pictures(page: Any) -> None:
    assert np.array_equal(canvas(page, "#over"), shown(page, "bicubic"))
    assert np.array_equal(canvas(page, "#under"), shown(page, "reconstructed"))
    divider, stage = page.locator("#divider"), page.locator("#stage").bounding_box()

    def at() -> float:
        x: float = divider.bounding_box()["x"] + 1 - stage["x"]
        return 100 * x / stage["width"]

    assert abs(at() - 50) < 1
    page.locator("#slider").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert abs(at() - 60) < 1
    page.locator("#stage").scroll_into_view_if_needed()
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + 0.5 * stage["width"], stage["y"] + 20)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.2 * stage["width"], stage["y"] + 20)
    page.mouse.up()
    assert abs(at() - 20) < 1
    assert page.locator("#slider").input_value() == "20"
    page.locator("#left").select_option("learned")
    assert np.array_equal(canvas(page, "#over"), shown(page, "learned"))
    page.locator("#left").select_option("bicubic")


def test_page_is_operable_by_keyboard(page: Any) -> None:
    """Every control is reached by Tab, in the order of the page."""
    page.evaluate("document.activeElement.blur()")
    page.locator("h1").click()
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name ||"
                                     "document.activeElement.tagName"))  # fmt: skip
    assert reached == ["file", "drawn", "factor", "size", "left", "right", "slider", "SUMMARY",
                       reached[-1]]  # fmt: skip
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "1000 classes of ImageNet" in page.locator("details").inner_text()
    page.keyboard.press("Enter")


def test_other_networks_and_sizes(page: Any) -> None:
    page.locator("[name=factor]").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator("select[name=size]").select_option("factor")
    page.locator('[data-name=reconstructed] p:text("334 × 252 px")').wait_for()
    photo = drawn(*PHOTO)
    assert page.locator("select[name=size] option").last.text_content() == "photo ÷ 2"
    assert np.array_equal(shown(page, "learned"), shrunk(photo, 2, "x2"))
    large = reconstructed(shrunk(photo, 2, "x2-machine"), "x2-machine")
    assert np.abs(shown(page, "reconstructed").astype(int) - large).max() <= 1


def drop(page: Any, name: str, content: bytes) -> None:
    """A file from a folder, onto the page."""
    page.evaluate(
        """([name, content]) => {
          const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], name));
          const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }""",
        [name, base64.b64encode(content).decode()],
    )


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_errors_say_what_to_do(page: Any) -> None:
    before = shown(page, "photo")
    drop(page, "letter.txt", b"not an image")
    finish(page, "cannot read letter.txt as an image: choose a JPEG, PNG or WebP")
    assert np.array_equal(shown(page, "photo"), before)
    page.locator("[name=factor][value='4']").check()
    page.locator("select[name=size]").select_option("56")
    drop(page, "small.png", as_png(Image.fromarray(drawn(60, 50, 0))))
    finish(page, "60 × 50 px, too few .* choose a smaller thumbnail, x2, or a larger photo")


@pytest.mark.slow
def test_long_photos_are_not_classified(page: Any) -> None:
    page.locator("[name=factor][value='2']").check()
    page.locator("select[name=size]").select_option("56")
    drop(page, "long.png", as_png(Image.fromarray(drawn(640, 120, 0))))
    finish(page)
    verdicts = page.locator("figure .verdict").all_text_contents()
    assert all("too long for the classifier" in verdict for verdict in verdicts), verdicts


def test_transparency_is_laid_over_white(page: Any) -> None:
    image = Image.fromarray(drawn(240, 224, 5)).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 120, 224))
    drop(page, "cut.png", as_png(image))
    page.locator('[data-name=photo] p:text("240 × 224 px")').wait_for()
    found = shown(page, "photo")
    assert (found[:, :120] == 255).all()
    assert np.array_equal(found[:, 120:], drawn(240, 224, 5)[:, 120:])


def test_a_page_that_was_not_built(browser: Any, tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "demo", ignore=shutil.ignore_patterns("built"))
    context = browser.new_context()
    tab = context.new_page()
    with served(tmp_path / "demo") as url:
        tab.goto(url)
        finish(tab, "^The part of this page that computes failed: a file of it is missing")
        tab.get_by_role("button", name="Use a drawn picture").click()
        finish(tab, "^The part of this page that computes failed: a file of it is missing")
    tab.goto((tmp_path / "demo" / "index.html").as_uri())
    finish(tab, "^This page needs a web server")
    context.close()


@pytest.mark.shared_data
def test_a_real_photo(page: Any, val_shard: Path) -> None:
    with tarfile.open(val_shard) as tar:
        photos = (m for m in tar if m.name.lower().endswith((".jpg", ".jpeg")))
        content = tar.extractfile(next(photos)).read()  # type: ignore[union-attr]
    image = Image.open(io.BytesIO(content)).convert("RGB")
    page.locator("[name=factor][value='4']").check()
    page.locator("select[name=size]").select_option("56")
    drop(page, "photo.jpg", content)
    page.locator(f'[data-name=photo] p:text("{image.width} × {image.height} px")').wait_for()
    page.locator('[data-name=reconstructed] p:text-matches("^224 × 224 px")').wait_for()
    decoded = shown(page, "photo")
    # another decoder of JPEG than Pillow's may differ a little
    assert np.abs(decoded.astype(int) - np.asarray(image)).max() <= 8
    assert np.array_equal(shown(page, "learned"), shrunk(decoded, 4, "x4"))


if __name__ == "__main__":
    PARITY.write_text(written(in_python()), encoding="utf-8")
