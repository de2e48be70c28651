"""Who may import whom, read from the source with ast."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "efficientps"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
ALLOWED = {
    "structures": set(),
    "layers": {"layers"},
    "models": {"layers", "models", "structures"},
    "data": {"data", "structures"},
    "metrics": {"metrics", "structures"},
    "visualization": {"structures"},
    "evaluate": {"data", "metrics", "structures"},
    "training": {"data", "layers", "metrics", "models", "structures", "training", "visualization"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def part(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    if part(path) == "__init__":
        return
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("efficientps.")}
    assert parts <= ALLOWED[part(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lightning_stays_in_its_rooms(path):
    names = {name.split(".")[0] for name in imports(path)}
    assert "lightning" not in names
    if part(path) != "training" and path != PACKAGE / "data" / "datamodule.py":
        assert "pytorch_lightning" not in names


def test_instance_heads_do_not_know_each_other():
    heads = [path for path in (PACKAGE / "models").iterdir() if path.is_dir() and (path / "head.py").exists()]
    assert heads
    for head in heads:
        others = {f"efficientps.models.{other.name}" for other in heads if other != head}
        for path in head.rglob("*.py"):
            assert not any(name.startswith(tuple(others)) for name in imports(path) if others)


def test_no_room_for_leftovers():
    assert not [path for path in FILES if path.stem in {"utils", "misc", "common", "helpers"}]
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_constructors_take_no_kwargs():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                assert node.args.kwarg is None, f"{path}:{node.lineno} takes **{node.args.kwarg.arg}"
