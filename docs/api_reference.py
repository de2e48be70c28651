"""Writes one page of the API reference for each part of the package, from the modules that are there.

``sphinx-build`` calls it; the text of the pages comes from the docstrings, by autodoc.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

PARTS = {
    "structures": "Structures: what the parts exchange",
    "backbones": "Backbones",
    "layers": "Layers",
    "networks": "Networks",
    "data": "Data",
    "metrics": "Metrics",
    "inference": "Inference",
    "training": "Training",
}
"""Parts of the package that have a page, with its title."""


def modules(part: str) -> list[str]:
    """Return the names of a part's modules that hold more than imports."""
    package = import_module(f"efficientps.{part}")
    names = [info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.") if not info.ispkg]
    return [name for name in names if not name.rpartition(".")[2].startswith("_")]


def page(part: str) -> str:
    """Return the page of a part as MyST Markdown."""
    lines = [f"# {PARTS[part]}", ""]
    for name in modules(part):
        lines += [f"## {name.removeprefix('efficientps.')}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write the pages that are not there already, and remove those of parts that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {folder / f"{part}.md": page(part) for part in PARTS}
    for path in set(folder.glob("*.md")) - set(pages):
        path.unlink()
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
