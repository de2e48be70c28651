"""What a program asks of a CUDA device: launches, waits, blocking copies and mixes of devices, with their lines."""

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
    """One thing that the device was asked for.

    Attributes:
        kind: what it costs.
        operation: its name in PyTorch, "nonzero" for instance.
        lines: the lines of the package and of the benchmarks on the stack, outermost first, as
            "backbones/resnet.py:12"; if there is none, the innermost line of the program, with its whole path.
    """

    kind: Kind
    operation: str
    lines: tuple[str, ...]


@dataclass
class DeviceCount:
    """What a program has asked of a device so far.

    Attributes:
        events: one after the other.
    """

    events: list[Event] = field(default_factory=list)

    def add(self, kind: Kind, operation: str) -> None:
        """Note an event, at the line that runs now."""
        self.events.append(Event(kind, operation, _lines()))

    @property
    def launches(self) -> int:
        """Operations of the device, copies to it included; each counts as one, though some take several kernels."""
        return self._number("launch")

    @property
    def waits(self) -> int:
        """How often the host stops until the device has done all that it was given."""
        return self._number("wait")

    @property
    def blocking_copies(self) -> int:
        """How often the host stops until a copy to the device is done: those without ``non_blocking=True``."""
        return self._number("blocking copy")

    @property
    def device_mixes(self) -> list[str]:
        """Operations on tensors of both devices, which CUDA refuses, each with its line."""
        return [_where(event) for event in self.events if event.kind == "mix"]

    def places(self, kind: Kind) -> Counter[str]:
        """Return how many events of a kind each operation and line have, the most frequent first."""
        return Counter(dict(Counter(_where(event) for event in self.events if event.kind == kind).most_common()))

    def by_part(self, parts: Mapping[str, str | tuple[str, ...]]) -> dict[str, DeviceCount]:
        """Return the events of each part, and of "other".

        Args:
            parts: name and beginnings of the paths of its files, below the package ("backbones"); an event
                belongs to the outermost line that has a part, and among these to the first part.
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
    """Return the lines of the stack that count."""
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
