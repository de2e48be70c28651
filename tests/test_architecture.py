"""What the files of the package may import, name and hold, read from their source with ast.

Each test reads every file and lists all that is wrong.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "efficientps"
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
ALLOWED = {
    "__main__": {"cli"},
    "atomic_file": set(),
    "former_names": set(),
    "lettering": set(),
    "structures": {"structures"},
    "layers": {"layers"},
    "backbones": {"backbones", "layers", "structures"},
    "networks": {"backbones", "layers", "networks", "structures"},
    "inference": {"backbones", "data", "inference", "layers", "networks", "structures", "visualization"},
    "data": {"atomic_file", "data", "structures"},
    "synthetic": {"atomic_file", "data", "structures", "synthetic"},
    "metrics": {"metrics", "structures"},
    "visualization": {"lettering", "structures"},
    "reporting": {"atomic_file", "lettering", "metrics", "reporting", "visualization"},
    "training": {
        "atomic_file",
        "backbones",
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
        "atomic_file",
        "backbones",
        "cli",
        "data",
        "inference",
        "lettering",
        "metrics",
        "networks",
        "reporting",
        "structures",
        "synthetic",
        "training",
        "visualization",
    },
}
LIGHTNING_ROOMS = ("training", "cli", "data/loading", "data/sources")
NOT_LOADED = {
    "efficientps": {"matplotlib", "pytorch_lightning", "timm", "torch", "transformers"},
    "efficientps.cli.start": {"matplotlib", "numpy", "pytorch_lightning", "timm", "torch", "transformers"},
    "efficientps.structures": {"matplotlib", "pytorch_lightning", "timm", "torchvision", "transformers"},
    "efficientps.networks.efficientps.network": {"matplotlib", "pytorch_lightning", "timm", "transformers"},
    "efficientps.inference.predictor": {"matplotlib", "pytorch_lightning", "timm", "transformers"},
    "efficientps.networks.detr": {"matplotlib", "pytorch_lightning", "timm", "transformers"},
}
"""What importing one module after the other must not load."""

MAX_LINES = 300
REASON = "(long: "
"""Stands in the first line of a longer module, before the reason for its length."""


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each name that a program imports, at any depth of its code, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


IMPORTS = [(path, line, name) for path, tree in TREES.items() for line, name in imports(tree)]


def place(path: Path, line: int = 1) -> str:
    """A place in the source, as editors open it."""
    return f"{path.relative_to(ROOT)}:{line}"


def room(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_are_absolute():
    assert not [f"{place(path, line)} imports {name}" for path, line, name in IMPORTS if name.startswith(".")]


def test_imports_point_one_way():
    rooms = {room(path) for path in TREES} - {"__init__"}
    assert rooms <= ALLOWED.keys()
    assert not [
        f"{place(path, line)}: {room(path)} imports {name}"
        for path, line, name in IMPORTS
        if name.startswith("efficientps.")
        and room(path) != "__init__"
        and name.split(".")[1] not in ALLOWED[room(path)]
    ]


def test_lightning_stays_in_its_rooms():
    rooms = [PACKAGE / name for name in LIGHTNING_ROOMS]
    assert not [
        f"{place(path, line)} imports {name}"
        for path, line, name in IMPORTS
        if name.split(".")[0] == "lightning"
        or (name.split(".")[0] == "pytorch_lightning" and not any(room in path.parents for room in rooms))
    ]


def test_heavy_packages_are_imported_where_they_are_used():
    """Oracle: the modules of a new interpreter, after each import."""
    program = ["import sys"]
    for module, packages in NOT_LOADED.items():
        program += [f"import {module}", f"print('{module}:', *sorted({packages} & sys.modules.keys()))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{module}:" for module in NOT_LOADED]


FAMILY = PACKAGE / "networks/efficientps"
HEADS = [path for path in FAMILY.iterdir() if (path / "head.py").exists()]
STRANGERS = [
    ("networks/efficientps/mask_rcnn", "networks/efficientps/solov2"),
    ("networks/detr", "networks/mask2former"),
]
"""Folders of which none knows the other."""


def mentions(tree: ast.AST) -> set[str]:
    """Every name, attribute, import and string of a program, in pieces between dots; docstrings are not read."""
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
    classes = [node.name for node in TREES[head / "head.py"].body if isinstance(node, ast.ClassDef)]
    return {head.name, *(name for name in classes if name.endswith("Head"))}


def test_the_search_for_names_finds_them():
    """Oracle: hand-made violations; and a docstring is none."""
    names = names_of(FAMILY / "solov2")
    violations = [
        "from efficientps.networks.efficientps.solov2 import matrix_nms",
        "import efficientps.networks.efficientps.solov2.head",
        "x = SOLOv2Head(8)",
        "x = models.SOLOv2Head",
        "x = importlib.import_module('efficientps.networks.efficientps.solov2')",
        "if type(head).__name__ == 'SOLOv2Head': pass",
    ]
    assert [line for line in violations if mentions(ast.parse(line)) & names] == violations
    assert not mentions(ast.parse('"""Works for SOLOv2Head of networks.efficientps.solov2 as well."""')) & names


def test_nothing_but_its_own_folder_names_an_instance_head():
    """The exceptions: the list of the family's classes, the table of former names, the command for SOLOv2's grids."""
    assert len(HEADS) == 2
    exceptions = {FAMILY / "__init__.py", PACKAGE / "former_names.py", PACKAGE / "cli/data/grid_coverage.py"}
    named = {path: mentions(tree) for path, tree in TREES.items() if path not in exceptions}
    assert not [
        f"{place(path)} names {head.name}"
        for head in HEADS
        for path, words in named.items()
        if head not in path.parents and words & names_of(head)
    ]


def test_siblings_do_not_import_each_other():
    found = []
    for pair in STRANGERS:
        for own, other in (pair, pair[::-1]):
            package = "efficientps." + other.replace("/", ".")
            found += [
                f"{place(path, line)} imports {name}"
                for path, line, name in IMPORTS
                if PACKAGE / own in path.parents and (name == package or name.startswith(f"{package}."))
            ]
    assert not found


def test_no_room_for_leftovers():
    assert not [place(path) for path in TREES if path.stem in {"utils", "misc", "common", "helpers"}]
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_long_modules_give_a_reason():
    lines = {path: path.read_text().splitlines() for path in TREES}
    long = {path for path in TREES if len(lines[path]) > MAX_LINES and REASON not in lines[path][0]}
    assert not [str(path.relative_to(ROOT)) for path in long]


def test_constructors_take_no_kwargs():
    assert not [
        f"{place(path, node.lineno)} takes **{node.args.kwarg.arg}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__" and node.args.kwarg is not None
    ]


NOT_OF_THE_LIBRARY = re.compile(
    r"(?<![\w-])--[a-z]"
    r"|(?<![\w./])(model|data|trainer|last_checkpoint|non_finite|overlays|html_report|predictions)\.(?!state_dict)[a-z_]+"
    r"|(datasets|scripts)/\w+\.\w+|train_net\.py"
)
"""Options, keys of the configuration, and commands of the checkout."""


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string with a space that is no docstring, with its line."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    docstrings = {id(node.value) for node in statements}  # of modules, classes, functions and constants
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if " " in node.value:
                yield node.lineno, node.value


def test_messages_of_the_library_name_no_keys_and_no_commands():
    """Only the command line knows them; the first line is a violation made by hand."""
    assert NOT_OF_THE_LIBRARY.search(next(sentences(ast.parse("raise ValueError(f'{x}; set data.root or --x')")))[1])
    assert not [
        f"{place(path, line)} says {found[0]!r}"
        for path, tree in TREES.items()
        if room(path) != "cli"
        for line, text in sentences(tree)
        if (found := NOT_OF_THE_LIBRARY.search(text))
    ]


OF_THE_CHECKOUT = sorted(
    {path.name for path in (*ROOT.glob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("*.txt"))}
    | {
        path.name
        for folder in ("configs", "datasets", "docs", "scripts")
        for path in (ROOT / folder).glob("*.*")
        if path.suffix in (".md", ".py", ".sh", ".yaml")
    }
)
"""Names of the files that an installed package does not have; ``config.yaml`` is also a file of each run."""


def test_messages_name_no_file_that_an_installed_package_lacks():
    """Oracle: the files of the repository; the first lines are violations made by hand."""
    lacking = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, OF_THE_CHECKOUT))})(?!\w)|pip install (-e|'?\.)")
    assert lacking.search("see datasets/README.md") and lacking.search("made by prepare_cityscapes.py.")
    assert not [
        f"{place(path, line)} says {found[0]!r}"
        for path, tree in TREES.items()
        for line, text in sentences(tree)
        if (found := lacking.search(text))
    ]
