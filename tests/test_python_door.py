"""What ``import efficientps`` offers."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import efficientps

ROOT = Path(__file__).parents[1]


def test_each_name_is_what_its_module_has():
    """Oracle: the imports of the source, which type checkers read and Python never runs."""
    tree = ast.parse((ROOT / "efficientps/__init__.py").read_text())
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("efficientps.")
        for alias in node.names
    }
    assert sorted(imported) == sorted(efficientps.__all__) == sorted(efficientps._MODULES)
    for name, module in imported.items():
        assert getattr(efficientps, name) is getattr(importlib.import_module(module), name)
        assert name in dir(efficientps)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'efficientps' has no attribute 'Predictr'"):
        efficientps.Predictr  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'laod'"):
        from efficientps import laod  # noqa: F401


def test_names_are_imported_when_they_are_used():
    """Oracle: the modules of a new interpreter: a predictor loads none of Lightning, transformers, OpenCV."""
    program = (
        "import sys, efficientps; dir(efficientps); heavy = ['torch', 'numpy', 'PIL', 'pytorch_lightning',"
        "'transformers', 'matplotlib', 'cv2']; print([name for name in heavy if name in sys.modules]);"
        "efficientps.Predictor; print([name for name in heavy[3:] if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]
