"""The classes of a dataset, and the mapping from the ids in its files to train ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from efficientps.structures.panoptic import IGNORE_INDEX


@dataclass(frozen=True)
class Category:
    """One class of a dataset.

    Attributes:
        label_id: the id of the class in the dataset's files.
        name: unique name, as the dataset spells it.
        color: (r, g, b), each 0..255; the colour of the class in pictures.
        is_thing: whether the class has countable instances.
    """

    label_id: int
    name: str
    color: tuple[int, int, int]
    is_thing: bool


class Categories(Sequence[Category]):
    """The classes of a dataset in the order of their train ids: ``categories[train_id]``; stuff comes first.

    Attributes:
        num_stuff: number of stuff classes; their train ids are 0 .. num_stuff - 1.
        num_things: number of thing classes; ``train_id == num_stuff + thing_id``.

    >>> table = Categories([Category(7, "road", (128, 64, 128), False), Category(26, "car", (0, 0, 142), True)])
    >>> table.num_stuff, table.num_things, table.train_id(26), table[1].name
    (1, 1, 1, 'car')
    """

    def __init__(self, categories: Iterable[Category]) -> None:
        """Build the table.

        Args:
            categories: the classes, every stuff class before the first thing class.

        Raises:
            ValueError: if the table is empty, a thing precedes a stuff class, a label id or a name occurs twice, an id
                or a colour is out of range, or there are more classes than a semantic map of bytes can hold.
        """
        self._categories = tuple(categories)
        _validate(self._categories)
        self.num_stuff = sum(not category.is_thing for category in self._categories)
        self.num_things = len(self._categories) - self.num_stuff
        self._train_ids = {category.label_id: train_id for train_id, category in enumerate(self._categories)}

    @overload
    def __getitem__(self, train_id: int) -> Category: ...

    @overload
    def __getitem__(self, train_id: slice) -> tuple[Category, ...]: ...

    def __getitem__(self, train_id: int | slice) -> Category | tuple[Category, ...]:
        """Return the class with this train id (or the classes of a range of them)."""
        return self._categories[train_id]

    def __len__(self) -> int:
        """Return the number of classes, stuff and things together."""
        return len(self._categories)

    def __iter__(self) -> Iterator[Category]:
        """Iterate over the classes in the order of their train ids."""
        return iter(self._categories)

    def __eq__(self, other: object) -> bool:
        """Tables are equal if they hold equal classes in the same order."""
        return isinstance(other, Categories) and self._categories == other._categories

    def __hash__(self) -> int:
        """Hash by the classes."""
        return hash(self._categories)

    def __repr__(self) -> str:
        """Show the number of stuff and thing classes."""
        return f"Categories(num_stuff={self.num_stuff}, num_things={self.num_things})"

    def train_id(self, label_id: int) -> int:
        """Return the train id of the class with this label id.

        Raises:
            ValueError: if no class of the table has this label id.
        """
        try:
            return self._train_ids[label_id]
        except KeyError:
            known = ", ".join(str(known_id) for known_id in sorted(self._train_ids))
            raise ValueError(f"Category id {label_id} is not in the table of classes (known ids: {known}).") from None


def _is_shown(letter: str) -> bool:
    """Return whether a letter is no control character and no end of a line."""
    return unicodedata.category(letter) not in ("Cc", "Zl", "Zp", "Cs")


def _validate(categories: tuple[Category, ...]) -> None:
    """Raise an error if the table would make train ids ambiguous or impossible."""
    if not categories:
        raise ValueError("The table of classes is empty; give at least one class.")
    if len(categories) > IGNORE_INDEX:
        raise ValueError(
            f"The table has {len(categories)} classes; at most {IGNORE_INDEX} fit beside the ignore index."
        )
    label_ids: set[int] = set()
    names: set[str] = set()
    first_thing: Category | None = None
    for category in categories:
        if category.label_id < 0:
            raise ValueError(f"Class '{category.name}' has the negative label id {category.label_id}.")
        if category.label_id in label_ids:
            raise ValueError(f"Label id {category.label_id} occurs twice in the table of classes ('{category.name}').")
        if not category.name.strip() or not all(map(_is_shown, category.name)):
            raise ValueError(
                f"Class {category.label_id} has the name {category.name!r:.80}; give letters that a line can show."
            )
        if category.name.strip() in names:
            raise ValueError(f"Class name '{category.name}' occurs twice in the table of classes.")
        if len(category.color) != 3 or not all(0 <= channel <= 255 for channel in category.color):
            raise ValueError(f"Class '{category.name}' has the colour {category.color}; give (r, g, b) within 0..255.")
        if category.is_thing and first_thing is None:
            first_thing = category
        if not category.is_thing and first_thing is not None:
            raise ValueError(
                f"Stuff class '{category.name}' follows thing class '{first_thing.name}'; list stuff classes first."
            )
        label_ids.add(category.label_id)
        names.add(category.name.strip())
