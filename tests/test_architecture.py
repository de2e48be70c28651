"""Who may import whom, read from the source with ast."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "efficientps"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
ALLOWED = {
    "former_names": set(),
    "structures": {"structures"},
    "layers": {"layers"},
    "backbones": {"backbones", "layers", "structures"},
    "networks": {"backbones", "layers", "networks", "structures"},
    "inference": {"inference", "layers", "networks", "structures"},
    "data": {"data", "structures"},
    "synthetic": {"data", "structures", "synthetic"},
    "metrics": {"metrics", "structures"},
    "visualization": {"structures"},
    "reporting": {"metrics", "visualization"},
    "training": {
        "data",
        "inference",
        "layers",
        "metrics",
        "networks",
        "reporting",
        "structures",
        "training",
        "visualization",
    },
    "cli": {
        "backbones",
        "cli",
        "data",
        "metrics",
        "networks",
        "reporting",
        "structures",
        "training",
        "visualization",
    },
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
    rooms = [PACKAGE / room for room in ("training", "cli", "data/loading", "data/sources")]
    if not any(room in path.parents for room in rooms):
        assert "pytorch_lightning" not in names


HEADS = [path for path in (PACKAGE / "networks/efficientps").iterdir() if path.is_dir() and (path / "head.py").exists()]


def mentions(source: str) -> set[str]:
    """Every name, attribute, import and string of a program, in pieces between dots; docstrings are not read."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    docstrings = {id(node.body[0].value) for node in nodes}
    words = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            words.append(node.id)
        elif isinstance(node, ast.Attribute):
            words.append(node.attr)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            words += [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words += node.value.split()
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            words.append(node.name)
    return {piece for word in words for piece in word.split(".")}


def names_of(head: Path) -> set[str]:
    """The folder of a head, and its class."""
    classes = [node.name for node in ast.parse((head / "head.py").read_text()).body if isinstance(node, ast.ClassDef)]
    return {head.name, *(name for name in classes if name.endswith("Head"))}


@pytest.mark.parametrize(
    "line",
    [
        "from efficientps.networks.efficientps.solov2 import matrix_nms",
        "import efficientps.networks.efficientps.solov2.head",
        "x = SOLOv2Head(8)",
        "x = models.SOLOv2Head",
        "x = importlib.import_module('efficientps.networks.efficientps.solov2')",
        "if type(head).__name__ == 'SOLOv2Head': pass",
    ],
)
def test_the_search_for_names_finds_them(line):
    """Oracle: hand-made violations; and a docstring is none."""
    assert mentions(line) & names_of(PACKAGE / "networks/efficientps/solov2")
    assert not mentions('"""Works for SOLOv2Head of networks.efficientps.solov2 as well."""') & {
        "SOLOv2Head",
        "solov2",
    }


def test_nothing_but_its_own_folder_names_an_instance_head():
    """The exceptions are the list of what the family offers, and the table of former names."""
    assert len(HEADS) == 2
    for head in HEADS:
        for path in FILES:
            allowed = path in (PACKAGE / "networks/efficientps/__init__.py", PACKAGE / "former_names.py")
            if head not in path.parents and not allowed:
                assert not mentions(path.read_text()) & names_of(head), f"{path} names {head.name}"


def test_no_room_for_leftovers():
    assert not [path for path in FILES if path.stem in {"utils", "misc", "common", "helpers"}]
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_constructors_take_no_kwargs():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                assert node.args.kwarg is None, f"{path}:{node.lineno} takes **{node.args.kwarg.arg}"
