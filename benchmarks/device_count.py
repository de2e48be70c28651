"""Counts of launches, waits, blocking copies and mixes of devices of a program, with their source lines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["launch", "wait", "blocking copy", "mix"]

BENCHMARKS = Path(__file__).resolve().parent
PACKAGE = BENCHMARKS.parent / "efficientps"

_OWN = frozenset(("device_count.py", "counting_device.py"))


@dataclass(frozen=True)
class Event:
    """One counted event.

    Attributes:
        kind: a launch, a wait, a blocking copy or a mix of devices.
        operation: name of the operation in PyTorch, such as "nonzero".
        lines: lines of the package and of the benchmarks on the stack, outermost first, such as
            "backbones/resnet.py:12"; if there are none, the innermost line of the program with its full path.
    """

    kind: Kind
    operation: str
    lines: tuple[str, ...]


@dataclass
class DeviceCount:
    """The events of a program so far.

    Attributes:
        events: the events in their order.
    """

    events: list[Event] = field(default_factory=list)

    def add(self, kind: Kind, operation: str) -> None:
        """Add an event at the source line that runs now."""
        self.events.append(Event(kind, operation, _lines()))

    @property
    def launches(self) -> int:
        """Number of operations on the device, including copies to it; an operation with several kernels counts once."""
        return self._number("launch")

    @property
    def waits(self) -> int:
        """Number of times that the host waits until the device has finished its queue."""
        return self._number("wait")

    @property
    def blocking_copies(self) -> int:
        """Number of copies to the device that the host waits for (copies without ``non_blocking=True``)."""
        return self._number("blocking copy")

    @property
    def device_mixes(self) -> list[str]:
        """Operations that mix tensors of CPU and device, which CUDA refuses, each with its source line."""
        return [_where(event) for event in self.events if event.kind == "mix"]

    def places(self, kind: Kind) -> Counter[str]:
        """Return the number of events of a kind for each operation and source line, most frequent first."""
        return Counter(dict(Counter(_where(event) for event in self.events if event.kind == kind).most_common()))

    def by_part(self, parts: Mapping[str, str | tuple[str, ...]]) -> dict[str, DeviceCount]:
        """Return the events of each part; events of no part are under "other".

        Args:
            parts: for the name of each part, the prefixes of its files' paths below the package ("backbones"). An
                event belongs to the part of the outermost of its lines that has one; if that line fits several parts,
                to the first of these.
        """
        counts = {name: DeviceCount() for name in (*parts, "other")}
        for event in self.events:
            found = (name for line in event.lines for name, start in parts.items() if line.startswith(start))
            counts[next(found, "other")].events.append(event)
        return counts

    def _number(self, kind: Kind) -> int:
        return sum(event.kind == kind for event in self.events)


def _where(event: Event) -> str:
    return f"{event.operation} at {event.lines[-1] if event.lines else 'an unknown line'}"


def _lines() -> tuple[str, ...]:
    """Return the lines of the stack, as ``Event.lines`` describes them."""
    own: list[str] = []
    others: list[str] = []
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        path = Path(file)
        top = PACKAGE if path.is_relative_to(PACKAGE) else BENCHMARKS.parent
        if path.is_relative_to(PACKAGE) or path.is_relative_to(BENCHMARKS):
            if path.name not in _OWN:
                own.append(f"{path.relative_to(top).as_posix()}:{frame.f_lineno}")
        elif not others and "/torch/" not in file and "/torchvision/" not in file and path.name not in _OWN:
            others.append(f"{file}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(reversed(own)) or tuple(others)
