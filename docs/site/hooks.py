"""Hooks of MkDocs: pages from all over the repository, whose links work there and on the site.

A page keeps its place in the repository, without "docs/": weights/x4/README.md becomes
weights/x4/. Links are written for the repository; here they are turned into links of the site.
What they name outside docs/ (a script, a picture, a licence) is copied beside the pages.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "benchmarks/bench.md",
    "benchmarks/paper.md",
    "docs/demo/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("weights/*/README.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb")),
]
# a page and the demo itself would both be demo/index.html
MOVED = {"docs/demo/README.md": "demo/about.md"}
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)(#[^)]*)?\)")


def place(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path in MOVED:
        return MOVED[path]
    path = path.removeprefix("docs/")
    if path.endswith(".ipynb"):
        return path.removesuffix(".ipynb") + ".md"
    return path if Path(path).suffix else path + ".txt"  # LICENSE


def moved_links(text: str, source: str) -> tuple[str, set[str]]:
    """The text of a page with links of the site, and the files of the repository that they name.

    source: the page in the repository.
    """
    named = set()

    def moved(match: re.Match[str]) -> str:
        head, link, anchor = match.groups()
        if "://" in link or link.startswith("mailto:"):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if not (ROOT / target).exists():
            return match[0]  # MkDocs says so
        named.add(target)
        there = posixpath.relpath(place(target), posixpath.dirname(place(source)) or ".")
        return f"{head}{there}{anchor or ''})"

    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(moved, part) for part in parts[::2]]
    return "".join(parts), named


def without_front_matter(text: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)


def notebook(content: str) -> str:
    """A notebook with its outputs as Markdown."""
    parts = []
    for cell in json.loads(content)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(output.get("text") or data.get("text/plain") or [])
            if image := "".join(data.get("image/png", [])).replace("\n", ""):
                parts.append(f'<img class="output" alt="" src="data:image/png;base64,{image}">')
            elif text.strip():
                parts.append(f"``` {{ .text .output }}\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/, and what pages link to."""
    docs = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")]
    named = set()
    for path in (*PAGES, *docs):
        text = (ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".ipynb"):
            text = notebook(text)
        text, links = moved_links(without_front_matter(text), path)
        named |= links
        if files.get_file_from_path(place(path)) is None:
            files.append(File.generated(config, place(path), content=text))
    for path in sorted(named):
        if files.get_file_from_path(place(path)) is None and (ROOT / path).is_file():
            file = File.generated(config, place(path), abs_src_path=str(ROOT / path))
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of the pages inside docs/; the others came turned."""
    if page.file.generated_by is not None:
        return markdown
    return moved_links(markdown, f"docs/{page.file.src_uri}")[0]
