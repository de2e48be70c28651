"""Which checkpoint a run goes on from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from efficientps.training.checkpoint import read_checkpoint

CHECKPOINT_NAME = "epoch{epoch:03d}_PQ{val/PQ:.4f}"
"""File name of a checkpoint that is kept for its panoptic quality, without the extension."""

_QUALITY = re.compile(r"_PQ(\d+\.\d+)(-v\d+)?\.ckpt$")


def resolve_checkpoint(choice: str, root: str | Path) -> Path | None:
    """Return the checkpoint that ``--ckpt_path`` names.

    Args:
        choice: a path; or ``"last"``, the newest ``last.ckpt`` of all runs below ``root``, and where that is damaged
            the newest checkpoint that is not, with a line that says so; or ``"best"``, the checkpoint with the highest
            panoptic quality of the newest run that kept one.
        root: the folder of the runs (``trainer.default_root_dir``).

    Returns:
        ``None`` where ``"last"`` or ``"best"`` finds no checkpoint.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: all checkpoints that ``"last"`` finds are damaged.
    """
    if choice == "last":
        return _first_whole(sorted(Path(root).rglob("*.ckpt"), key=_recency, reverse=True))
    if choice == "best":
        newest = max(_rated(Path(root)), key=_modified, default=None)
        return max(_rated(newest.parent), key=_quality) if newest else None
    if not Path(choice).is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {choice}; --ckpt_path takes a file, 'last' or 'best' (below {root})."
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


def _recency(path: Path) -> tuple[bool, float]:
    return path.name.startswith("last"), _modified(path)


def _rated(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.ckpt") if _QUALITY.search(path.name)]


def _quality(path: Path) -> tuple[float, float]:
    match = _QUALITY.search(path.name)
    assert match is not None
    return float(match[1]), _modified(path)


def _modified(path: Path) -> float:
    return path.stat().st_mtime
