"""Find the checkpoint to resume from or to evaluate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from efficientps.data.hidden_files import visible
from efficientps.training.checkpoints.read import read_checkpoint

CHECKPOINT_NAME = "epoch{epoch:03d}_PQ{val/PQ:.4f}"
"""File name of a checkpoint that is kept for its panoptic quality, without the extension; or for its ``boxAP``."""

_QUALITY = re.compile(r"_(?:PQ|boxAP)(\d+\.\d+)(-v\d+)?\.ckpt$")


def resolve_checkpoint(choice: str, root: str | Path, *, fits: Callable[[Path], bool] | None = None) -> Path | None:
    """Return the file of a checkpoint that is chosen by its path or by its role.

    Args:
        choice: a path; or ``"last"``, the newest ``last.ckpt`` of the runs below ``root`` that fit, and where that is
            damaged the newest checkpoint that is not, with a line that says so; or ``"best"``, the checkpoint with the
            highest panoptic quality of the newest run that kept one.
        root: the folder of the runs (``trainer.default_root_dir``).
        fits: whether ``"last"`` can take a checkpoint of the run that wrote this one; None takes any.

    Returns:
        ``None`` where ``"last"`` or ``"best"`` finds no checkpoint.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: all checkpoints that ``"last"`` finds are damaged.
    """
    if choice == "last":
        return _first_whole(path for path in newest_first(root) if fits is None or fits(path))
    if choice == "best":
        newest = max(_rated(Path(root)), key=_modified, default=None)
        return None if newest is None else max(_rated(newest.parent), key=_quality)
    if not Path(choice).is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {choice}; give the path of a file, or 'last' or 'best' of the runs below {root}."
        )
    return Path(choice)


def _first_whole(paths: Iterable[Path]) -> Path | None:
    """Return the first checkpoint that can be read, ``None`` where there is none at all."""
    damaged: ValueError | None = None
    for path in paths:
        try:
            read_checkpoint(path)
        except ValueError as error:
            damaged = damaged or error
        else:
            if damaged:
                rank_zero_info(f"{damaged} Taking {path} instead.")
            return path
    if damaged:
        raise damaged
    return None


def newest_first(root: str | Path) -> list[Path]:
    """Return the checkpoints below a folder: each ``last.ckpt`` by its age, then all others by theirs."""
    return sorted(visible(Path(root).rglob("*.ckpt"), root), key=_recency, reverse=True)


def _recency(path: Path) -> tuple[bool, float]:
    return path.name.startswith("last"), _modified(path)


def is_rated(path: Path) -> bool:
    """Return whether the name of a file is that of a checkpoint that is kept for its metric."""
    return _QUALITY.search(path.name) is not None


def _rated(folder: Path) -> list[Path]:
    return [path for path in visible(folder.rglob("*.ckpt"), folder) if is_rated(path)]


def _quality(path: Path) -> tuple[float, float]:
    match = _QUALITY.search(path.name)
    assert match is not None
    return float(match[1]), _modified(path)


def _modified(path: Path) -> float:
    return path.stat().st_mtime
