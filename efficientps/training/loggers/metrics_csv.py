"""The log of a run as a table, which a resumed run continues."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from efficientps.atomic_file import atomic_file
from efficientps.training.run_folder import RunFolder

Row = dict[str, Any]


class MetricsCsv(Logger):
    """Writes ``metrics.csv`` into the folder of a run, one row for each call; the trainer takes the folder from it.

    Lightning's ``CSVLogger`` deletes the file of an earlier part of the run. This one goes on after its last row, and
    ``cut`` removes the rows that a resumed run will write again.

    Args:
        folder: folder of the run.
        enabled: whether the file is written; the run has its folder in any case.

    Attributes:
        num_rows: rows in the file.
    """

    def __init__(self, folder: RunFolder, *, enabled: bool = True) -> None:
        """Store the folder; no file is touched yet."""
        super().__init__()
        self.folder = folder
        self.enabled = enabled
        self.num_rows = 0
        self._fields: list[str] | None = None  # None until the file has been looked at
        self._last: Row | None = None

    @property
    def name(self) -> str:
        """No folder between that of the run and its files."""
        return ""

    @property
    def version(self) -> str:
        """No folder between that of the run and its files."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of the run."""
        return str(self.folder.path)

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return self.save_dir

    @property
    def file(self) -> Path:
        """The file."""
        return self.folder.path / "metrics.csv"

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration of the run is a file of its own."""

    @rank_zero_only  # type: ignore[untyped-decorator, unused-ignore]
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append a row, unless it repeats the row before.

        Raises:
            FileNotFoundError: the folder of the run is gone.
            OSError: the disk is full, or writing is not permitted.
        """
        row = {name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
        row["step"] = step
        if not self.enabled or (self._last and row["step"] == self._last["step"] and row.keys() == self._last.keys()):
            return
        try:
            self._append(row)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"The log {self.file} could not be written: its folder is gone. Make it available and resume."
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"The log {self.file} could not be written: {reason}. Make room and resume.") from error

    def _append(self, row: Row) -> None:
        if self._fields is None:
            self._fields, rows = _read(self.file)
            self.num_rows = len(rows)
        is_new = not self._fields
        if new := row.keys() - set(self._fields):
            self._fields = sorted({*self._fields, *new})
            _write(self.file, self._fields, [] if is_new else _read(self.file)[1])
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._fields).writerow(row)
        self._last = row
        self.num_rows += 1

    @rank_zero_only  # type: ignore[untyped-decorator, unused-ignore]
    def cut(self, *, num_rows: int | None, step: int) -> None:
        """Remove what the run wrote after the checkpoint that it goes on from.

        Args:
            num_rows: rows of the file at the checkpoint; None, which older checkpoints give, counts by the steps.
            step: optimizer steps of the checkpoint.
        """
        if not self.enabled or not self.file.is_file():
            return
        fields, rows = _read(self.file)
        kept = rows[:num_rows] if num_rows is not None else [row for row in rows if int(row["step"]) < step]
        _write(self.file, fields, kept)
        self._fields, self.num_rows, self._last = fields, len(kept), None


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows of a file; a row that was not written whole ends it."""
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    fields = lines[0] if lines else []
    rows: list[Row] = []
    for line in lines[1:]:
        row = dict(zip(fields, line, strict=False))
        if len(line) != len(fields) or not row.get("step", "").isdecimal():
            break
        rows.append(row)
    return fields, rows


def _write(path: Path, fields: list[str], rows: list[Row]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
