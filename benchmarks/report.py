"""The result of a benchmark: rows of measurements and bars, as a text table and as JSON."""

from __future__ import annotations

import contextlib
import json
import operator
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from benchmarks.machine import describe_machine, source_state
from benchmarks.timing import Timing
from efficientps.atomic_file import write_text


@dataclass(frozen=True)
class Row:
    """Measurements of one side of a comparison.

    Attributes:
        case: the compared case, such as "30 instances".
        side: name of the side, such as a preset or a peer.
        timing: time of a call; None if it was not timed.
        figures: other measurements, by a name that ends with the unit ("extra_mb").
    """

    case: str
    side: str
    timing: Timing | None = None
    figures: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Bar:
    """A claim that a benchmark tests.

    Attributes:
        claim: the claim in words.
        value: the measured value.
        relation: required relation of the value to the limit.
        limit: the limit.
    """

    claim: str
    value: float
    relation: Literal["<=", ">="]
    limit: float

    @property
    def reached(self) -> bool:
        """Whether the claim holds.

        >>> Bar("time against the peer", value=0.4, relation="<=", limit=0.5).reached
        True
        """
        compare = operator.le if self.relation == "<=" else operator.ge
        return bool(compare(self.value, self.limit))


@dataclass
class Report:
    """The result of a benchmark.

    Attributes:
        name: name of the benchmark.
        options: options of the call.
        rows: the measurements.
        bars: the claims.
        skipped: sides that could not be measured, one sentence with the reason each.
        file: if given, the report is written to this file after each addition, so that a crash loses one side only.
    """

    name: str
    options: Mapping[str, object]
    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    file: Path | None = None

    def add(self, case: str, timings: Mapping[str, Timing], figures: Mapping[str, Mapping[str, float]]) -> None:
        """Add a row with time and figures for each side; it replaces an earlier row of the same case and side."""
        for side, timing in timings.items():
            self._put(Row(case, side, timing, dict(figures.get(side, {}))))
        self._keep()

    def add_figures(self, case: str, side: str, figures: Mapping[str, float | int | str | None]) -> None:
        """Add a row without a time; it replaces an earlier row of the same case and side."""
        self._put(Row(case, side, None, dict(figures)))
        self._keep()

    def skip(self, sentence: str) -> None:
        """Add a sentence about a side that could not be measured."""
        self.skipped.append(sentence)
        self._keep()

    @contextlib.contextmanager
    def side(self, name: str) -> Iterator[None]:
        """Context for measuring one side: an error inside is added to ``skipped``, and the benchmark continues."""
        try:
            yield
        except ImportError as error:
            hint = "" if "install" in str(error) else "; install it with: pip install -e '.[bench]'."
            self.skipped.append(f"{name}: {error}{hint}")
        except Exception as error:
            traceback.print_exc(limit=-8, file=sys.stderr)
            first_line = (str(error).strip() or "no message").splitlines()[0]
            self.skipped.append(f"{name}: {type(error).__name__}: {first_line}")
        finally:
            self._keep()

    def _put(self, row: Row) -> None:
        self.rows = [old for old in self.rows if (old.case, old.side) != (row.case, row.side)]
        self.rows.append(row)

    def _keep(self) -> None:
        if self.file is not None:
            self.write(self.file)

    @cached_property
    def _origin(self) -> dict[str, object]:
        return {"commit": source_state(), "machine": describe_machine()}

    def as_dict(self) -> dict[str, object]:
        """Return the report in plain types, with the machine and the commit of the measurement."""
        return {
            "benchmark": self.name,
            **self._origin,
            "options": dict(self.options),
            "rows": [asdict(row) for row in self.rows],
            "bars": [asdict(bar) | {"reached": bar.reached} for bar in self.bars],
            "skipped": list(self.skipped),
        }

    def write(self, path: str | Path) -> None:
        """Write the report as JSON, atomically, so that a reader never sees a partial file."""
        write_text(path, json.dumps(self.as_dict(), indent=1) + "\n")

    def table(self) -> str:
        """Return the report as text: rows, bars and skipped sides."""
        lines = [f"{'case':<32} {'side':<34} {'median':>10} {'quartiles':>21} {'cpu':>10}  figures"]
        for row in self.rows:
            numbers = " " * 43
            if row.timing is not None:
                spread = f"{readable(row.timing.low)} - {readable(row.timing.high)}"
                numbers = f"{readable(row.timing.seconds):>10} {spread:>21} {readable(row.timing.cpu_seconds):>10}"
            figures = ", ".join(f"{name} {_brief(value)}" for name, value in row.figures.items())
            lines.append(f"{row.case:<32} {row.side:<34} {numbers}  {figures}".rstrip())
        for bar in self.bars:
            verdict = "reached" if bar.reached else "missed"
            lines.append(f"{verdict:>8}: {bar.claim}: {_brief(bar.value)} ({bar.relation} {_brief(bar.limit)})")
        lines += [f" skipped: {sentence}" for sentence in self.skipped]
        return "\n".join(lines)


def readable(seconds: float) -> str:
    """Return a duration as text with three digits and a unit.

    >>> readable(12.345), readable(0.0123), readable(4.56e-5)
    ('12.3 s', '12.3 ms', '45.6 us')
    """
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _brief(value: float | int | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
