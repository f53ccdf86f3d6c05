"""The demo in the browser (docs/demo): its planner, its bicubic and its pixels are Python's, and its
page works. Whoever changes weights runs

    python tests/test_demo.py

and commits docs/demo/parity.json with the reason.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from learned_downscale import pretrained, resize
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
        # rows first, as the library does it; Pillow itself begins with columns where that is cheaper
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


if __name__ == "__main__":
    PARITY.write_text(written(in_python()), encoding="utf-8")
