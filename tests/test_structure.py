"""The floors of the package: arrows point one way, without a circle, and nothing shadows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "learned_downscale"

# From the top to the ground; a module may import from floors below its own, and from its own
# package. What shares a line may not import each other.
FLOORS = [
    {"cli"},
    {"conversion", "verification", "thumbnet", "bench", "demo", "parity"},
    {"readers"},
    {"api", "pillow", "opencv", "torchvision", "transformers", "albumentations", "preprocess"},
    {"resizer"},
    {"engine"},
    {"pixels"},
    {"core"},
    {"hub"},
    {"saving", "front_matter"},
    {"pretrained"},
    {"remote", "plan", "files"},
]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, cli as it is installed."""
    found = {}
    for folder, prefix in ((ROOT / PACKAGE, PACKAGE), (ROOT / "cli", f"{PACKAGE}.cli")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((prefix, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = modules()


def imported(name: str, path: Path) -> set[str]:
    """The modules of ours that a module imports, inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow points"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
    return {one for one in found if one.startswith(PACKAGE) and one != PACKAGE}


def floor_of(module: str) -> int | None:
    part = module.split(".")[1] if "." in module else ""
    return next((i for i, names in enumerate(FLOORS) if part in names), None)


def part_of(module: str) -> str:
    return module.split(".")[1]


ARROWS = [
    (name, other)
    for name, path in MODULES.items()
    if name != PACKAGE  # the public names
    for other in imported(name, path)
    if part_of(name) != part_of(other) and part_of(other) != "weights"
]


def test_every_module_has_a_floor() -> None:
    assert [name for name in MODULES if name != PACKAGE and floor_of(name) is None] == []


def test_arrows_point_down() -> None:
    up = []
    for name, other in ARROWS:
        here, there = floor_of(name), floor_of(other)
        assert here is not None and there is not None, (name, other)
        if here >= there:
            up.append(f"{name} -> {other}")
    assert up == []


def test_the_library_never_imports_the_training_code() -> None:
    assert {part_of(name) for name, other in ARROWS if part_of(other) == "thumbnet"} <= {"cli"}


def test_an_upward_arrow_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from learned_downscale.cli import main\n")
    assert imported("learned_downscale.plan", path) == {"learned_downscale.cli"}


def test_no_circle() -> None:
    """Between single modules, inside a package, too."""
    graph = {name: imported(name, path) for name, path in MODULES.items() if name != PACKAGE}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_ground_floor_modules_import_nothing_of_ours() -> None:
    for name in ("plan", "files", "remote"):
        of = f"{PACKAGE}.{name}"
        for module in (one for one in MODULES if one == of or one.startswith(f"{of}.")):
            inside = {one for one in imported(module, MODULES[module]) if one.startswith(f"{of}.")}
            assert imported(module, MODULES[module]) == inside, module


def test_the_core_knows_no_images_or_files() -> None:
    for name, path in MODULES.items():
        if name.startswith(f"{PACKAGE}.core"):
            assert "PIL" not in path.read_text(encoding="utf-8").replace("PIL.Image.Resampling", "")


def public_functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_no_module_shadows_a_function() -> None:
    """No module is called as a function or class of a module beside it, or as a public name."""
    beside: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        beside.setdefault(name.rpartition(".")[0], set()).update(public_functions(path))
    for name in MODULES:
        package, _, last = name.rpartition(".")
        assert last not in beside[package], f"{name} has the name of a function beside it"
    import learned_downscale

    tops = {name.split(".")[1] for name in MODULES if name.count(".") == 1}
    assert not tops & set(learned_downscale.__all__)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_files_stay_short(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "split it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            docstring = node.body[0]
            length = node.end_lineno - node.lineno + 1
            if isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant):
                assert docstring.end_lineno is not None
                length -= docstring.end_lineno - docstring.lineno + 1
            assert length <= 80, f"{name}.{node.name} has {length} lines without its docstring"


def test_the_training_code_stays_small() -> None:
    lines = sum(
        path.read_text(encoding="utf-8").count("\n")
        for name, path in MODULES.items()
        if name.startswith(f"{PACKAGE}.thumbnet")
    )
    assert lines <= 2700
