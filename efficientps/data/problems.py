r"""Lists of problems as a user reads them: each kind once, with its count, the first examples, and what to do.

Whatever finds many faults at once (a check of a data set, a converter, a prediction for a folder) collects them in
``Problems``, which alone decides how the list is shown, and whose memory is bounded.

>>> problems = Problems()
>>> problems.extend(f"Image '{number}.png' does not exist." for number in range(1, 6))
>>> problems.add(Problem("polygon of fewer than three points", "annotations[7]", "leave it out"))
>>> print("\n".join(problems.lines("error: ")))
error: Image '1.png' does not exist.
       5 of this kind; others:
       Image '2.png' does not exist.
       Image '3.png' does not exist.
error: annotations[7]: polygon of fewer than three points.
       What to do: leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SHOWN = 3
"""Examples of a kind that the text shows."""

MAX_EXAMPLES = 200
"""Examples of a kind that are kept, for JSON."""

MAX_KINDS = 100
"""Kinds that are told apart; problems of further kinds are counted together."""

MAX_LENGTH = 1000
"""Characters of a sentence that are kept."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_INDEX = re.compile(r"\[\d+\]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

_REST = "problem of a further kind"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        kind: what is wrong, without anything that differs between problems of this kind, and without a full stop.
        where: the place, which is the file, the image or the annotation.
        remedy: what to do about it, without a full stop; empty where ``kind`` says it.
        text: a whole sentence that takes the place of ``kind`` and ``where`` in what the user reads; empty if there is
            none.
    """

    kind: str
    where: str
    remedy: str = ""
    text: str = ""

    @classmethod
    def of(cls, error: str | Exception, *, remedy: str = "") -> Problem:
        """Make a problem of a sentence; sentences that differ only in quoted names and numbers are of one kind.

        >>> Problem.of("Image 'a/1.png' is 7x9 pixels where its annotation says 5x5.").kind
        "Image '…' is …x… pixels where its annotation says …x…"
        """
        sentence = str(error)
        return cls(
            _NUMBER.sub("…", _QUOTED.sub(_without_name, sentence)).rstrip(".")[:MAX_LENGTH], "", remedy, sentence
        )

    @property
    def sentence(self) -> str:
        """The problem as one sentence, without its remedy."""
        return self.text or f"{self.where}: {self.kind}."


def _without_name(quoted: re.Match[str]) -> str:
    """Return a quoted word without what differs; a place in a file, as ``images[3].id``, keeps its key."""
    return quoted.group() if _INDEX.search(quoted.group()) else f"{quoted.group()[0]}…{quoted.group()[0]}"


class ProblemsError(ValueError):
    """Something cannot be done because of one or more problems; the message tells the first.

    Attributes:
        problems: all of them, by kind.
    """

    def __init__(self, message: str, problems: Problems) -> None:
        """Keep the problems."""
        super().__init__(message)
        self.problems = problems


@dataclass
class _Kind:
    """The problems of one kind: how many, the first of them, and what to do."""

    remedy: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Problems:
    """Problems by their kind, in the order in which the kinds were first met.

    The number of kinds, of examples of a kind, and of the characters of each is bounded; the counts are exact.
    """

    def __init__(self, problems: Iterable[Problem | str | Exception] = ()) -> None:
        """Begin with these."""
        self._kinds: dict[str, _Kind] = {}
        self.extend(problems)

    def add(self, problem: Problem | str | Exception) -> None:
        """Count a problem, and keep it if it is among the first of its kind; a sentence is taken by ``Problem.of``."""
        if not isinstance(problem, Problem):
            problem = Problem.of(problem)
        name = problem.kind if problem.kind in self._kinds or len(self._kinds) < MAX_KINDS else _REST
        kind = self._kinds.setdefault(name, _Kind("" if name is _REST else problem.remedy))
        kind.count += 1
        if len(kind.examples) < MAX_EXAMPLES:
            kind.examples.append(problem.sentence[:MAX_LENGTH])

    def extend(self, problems: Iterable[Problem | str | Exception]) -> None:
        """Add each of these."""
        for problem in problems:
            self.add(problem)

    def __len__(self) -> int:
        """Return the number of problems of all kinds."""
        return sum(kind.count for kind in self._kinds.values())

    def __iter__(self) -> Iterator[str]:
        """Yield the sentences of the problems that are kept, kind by kind."""
        for kind in self._kinds.values():
            yield from kind.examples

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of problems of each kind."""
        return MappingProxyType({name: kind.count for name, kind in self._kinds.items()})

    def lines(self, prefix: str = "") -> list[str]:
        """Return the text, line by line: for each kind its first problem, its count, further examples, the remedy.

        Args:
            prefix: stands before the first line of each kind, as "error: " does; further lines are indented by it.
        """
        indent = " " * len(prefix)
        lines: list[str] = []
        for kind in self._kinds.values():
            first, *others = kind.examples[:SHOWN]
            lines.append(prefix + first)
            if kind.count > 1:
                lines.append(f"{indent}{kind.count} of this kind; others:")
            lines += [indent + other for other in others]
            if kind.remedy:
                lines.append(f"{indent}What to do: {kind.remedy}.")
        return lines

    def table(self) -> list[str]:
        """Return one line for each kind, its count first, the most frequent kind on top."""
        width = max((len(str(count)) for count in self.counts.values()), default=0)
        ordered = sorted(self.counts.items(), key=lambda item: -item[1])
        return [f"{count:{width}d}  {name}" for name, count in ordered]

    def as_dict(self) -> list[dict[str, Any]]:
        """Return the kinds in plain types (for JSON): ``kind``, ``count``, ``examples`` and ``remedy`` of each."""
        return [
            {"kind": name, "count": kind.count, "examples": list(kind.examples), "remedy": kind.remedy}
            for name, kind in self._kinds.items()
        ]
