"""Configuration of the documentation: ``sphinx-build -W -q docs docs/_build`` from the root of the project."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import api_reference  # noqa: E402
import configuration_reference  # noqa: E402

from efficientps import __version__  # noqa: E402

project = "EfficientPS"
author = "the authors of the project"
copyright = "the authors; licence Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_generated/configuration.md"]  # the latter is part of another page
html_theme = "furo"
html_title = f"EfficientPS {__version__}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

GENERATED = Path(__file__).resolve().parent / "_generated"
configuration_reference.write(GENERATED / "configuration.md")
api_reference.write(GENERATED / "api")
