"""The configurations that the package brings along, which a command line names without a folder and an ending."""

from __future__ import annotations

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "presets"  # setup.py copies config.yaml and configs/ into it when it builds a wheel
_IS_CHECKOUT = not _INSTALLED.is_dir()

REFERENCE = (_PACKAGE.parent if _IS_CHECKOUT else _INSTALLED) / "config.yaml"
"""The configuration of the reference run."""


def presets() -> dict[str, Path]:
    """Return the file of each preset by its name, such as ``cityscapes_paper``; ``config`` is the reference."""
    folder = _PACKAGE.parent / "configs" if _IS_CHECKOUT else _INSTALLED
    return {path.stem: path for path in sorted({REFERENCE, *folder.glob("*.yaml")})}


def find_config(name: str) -> str:
    """Return the path of a configuration: the name itself where there is such a file, else the preset of that name.

    Args:
        name: what a command line gives. One that is neither a file nor a preset is returned as it is.
    """
    return name if Path(name).is_file() else str(presets().get(name, name))


def near_presets(path: str) -> list[str]:
    """Return the presets whose name is near that of a file, the nearest first.

    >>> near_presets("configs/cityscapes_papr.yaml")[0]
    'cityscapes_paper'
    """
    return difflib.get_close_matches(Path(path).stem, presets(), n=3, cutoff=0.75)
