"""The configurations that the package brings along, which a command line names without a folder and an ending."""

from __future__ import annotations

import difflib
from pathlib import Path

from efficientps.data.hidden_files import visible

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "presets"  # setup.py copies config.yaml and configs/ into it when it builds a wheel
_IS_CHECKOUT = not _INSTALLED.is_dir()

REFERENCE = (_PACKAGE.parent if _IS_CHECKOUT else _INSTALLED) / "config.yaml"
"""The configuration of the reference run."""


def presets() -> dict[str, Path]:
    """Return the file of each preset by its name, such as ``cityscapes_paper``; ``config`` is the reference."""
    folder = _PACKAGE.parent / "configs" if _IS_CHECKOUT else _INSTALLED
    return {path.stem: path for path in sorted({REFERENCE, *visible(folder.glob("*.yaml"), folder)})}


def find_config(name: str) -> str:
    """Return the path of a configuration: the name itself where there is such a file, else the preset of that name.

    Args:
        name: value of ``--config``. A name that is neither a file nor a preset is returned unchanged.
    """
    return name if Path(name).is_file() else str(presets().get(name, name))


def suggestion(path: str) -> str:
    """Return the end of a sentence about a configuration that does not exist.

    It names the preset that the file's name is near to; where there is none, and the name could be that of a preset, it
    lists them all.

    >>> suggestion("configs/cityscapes_papr.yaml")
    '; did you mean the preset cityscapes_paper?'
    >>> suggestion("mine.yaml")
    '.'
    >>> suggestion("mine").startswith("; the presets are cityscapes_512x1024_adam, cityscapes_official, ")
    True
    """
    near = difflib.get_close_matches(Path(path).stem, presets(), n=1, cutoff=0.75)
    if near:
        return f"; did you mean the preset {near[0]}?"
    return "." if Path(path).suffix else f"; the presets are {', '.join(sorted(presets()))}."
