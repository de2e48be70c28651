"""The result of checking a data set: problems, remarks, and the amount of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len, set_cell_size

from efficientps.data.entries import SegmentEntry
from efficientps.data.problems import Problems
from efficientps.structures import VOID
from efficientps.structures.categories import Categories


class ClassCount(NamedTuple):
    """Amount of one class in a data set, by its maps."""

    name: str
    is_thing: bool
    segments: int
    crowds: int
    images: int
    area: int  # pixels


@dataclass
class DatasetReport:
    """Result of checking a data set.

    Attributes:
        problems: faults that would stop training or evaluation or be counted wrongly.
        remarks: what is allowed but probably a mistake.
        classes: what the good images hold, in the order of train ids.
        images: number of images that were looked at.
        bad_images: how many of them have a problem.
        void: pixels that belong to no segment.
        area: pixels in all.
    """

    problems: Problems = field(default_factory=Problems)
    remarks: Problems = field(default_factory=Problems)
    classes: list[ClassCount] = field(default_factory=list)
    images: int = 0
    bad_images: int = 0
    void: int = 0
    area: int = 0

    def remark_on_classes(self) -> None:
        """Add remarks on classes that a network cannot learn as they are: without a segment, or of crowds alone."""
        for count in self.classes:
            if not count.segments:
                self.remarks.add(f"Class '{count.name}' has no segment.")
            elif count.is_thing and count.crowds == count.segments:
                self.remarks.add(
                    f"Class '{count.name}' has crowd regions alone, {count.crowds} of them: no instance can be learned."
                )

    def table(self) -> str:
        """Lay out the classes as text; areas in percent of all pixels."""
        width = max(len("Class"), *(cell_len(count.name) for count in self.classes)) if self.classes else 5
        lines = [f"{'Class':{width}}  kind   segments  crowds  images   area %"]
        for name, is_thing, segments, crowds, images, area in self.classes:
            kind = "thing" if is_thing else "stuff"
            share = 100 * area / max(1, self.area)
            lines.append(f"{set_cell_size(name, width)}  {kind}  {segments:8d}  {crowds:6d}  {images:6d}  {share:7.3f}")
        return "\n".join([*lines, f"{'(void)':{width}}{'':34}{100 * self.void / max(1, self.area):7.3f}"])

    def count(self, areas: Mapping[int, int]) -> None:
        """Add the pixels of a good image, of each id of its map."""
        self.void += areas.get(VOID, 0)
        self.area += sum(areas.values())

    def as_dict(self) -> dict[str, Any]:
        """Return everything in plain types (for JSON)."""
        return {
            "problems": self.problems.as_dict(),
            "remarks": self.remarks.as_dict(),
            "classes": [count._asdict() for count in self.classes],
            "images": self.images,
            "bad_images": self.bad_images,
            "void": self.void,
            "area": self.area,
        }


class ClassCounts:
    """Segments, images and pixels of each class.

    Attributes:
        amounts: int64 ``[classes, 4]``, the segments, crowds, images and pixels of each train id.
    """

    def __init__(self, categories: Categories) -> None:
        """Begin with none."""
        self._categories = categories
        self.amounts = np.zeros((len(categories), 4), dtype=np.int64)

    def add(self, segments: Sequence[SegmentEntry], areas: Mapping[int, int]) -> None:
        """Count a good image: its segments, and the pixels of each by its id."""
        of_image: dict[int, list[int]] = {}
        for segment in segments:
            amounts = of_image.setdefault(self._categories.train_id(segment.category_id), [0, 0, 1, 0])
            amounts[0] += 1
            amounts[1] += segment.is_crowd
            amounts[3] += areas[segment.id]
        if of_image:
            self.amounts[list(of_image)] += list(of_image.values())

    def result(self) -> list[ClassCount]:
        """Return the counts in the order of train ids."""
        return [
            ClassCount(category.name, category.is_thing, *amounts)
            for category, amounts in zip(self._categories, self.amounts.tolist(), strict=True)
        ]
