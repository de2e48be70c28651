"""Sequences whose items are kept in arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

Item = TypeVar("Item")


class PackedSequence(Sequence[Item], ABC):
    """A sequence whose items are made when they are asked for; a range of them is a list."""

    @abstractmethod
    def at(self, position: int) -> Item:
        """Make the item at a position from 0 on."""

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """Return an item, or those of a range."""
        positions = range(len(self))[index]
        return self.at(positions) if isinstance(positions, int) else list(map(self.at, positions))

    def __iter__(self) -> Iterator[Item]:
        """Yield each item."""
        return map(self.at, range(len(self)))
