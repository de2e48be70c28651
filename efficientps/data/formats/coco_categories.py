"""The table of classes that a COCO panoptic JSON file lists."""

from __future__ import annotations

import colorsys
import os
from typing import Any

from efficientps.data.formats.coco_fields import near_key, read_class
from efficientps.data.formats.json_file import read_json
from efficientps.data.formats.safe_path import shortened
from efficientps.structures.categories import Categories, Category

_HUE_STEP = 0.6180339887
"""Step of the hue as a part of the colour circle; it is irrational, so that any number of hues lie far apart."""


def read_categories(path: str | os.PathLike[str]) -> Categories:
    """Read the classes of a COCO panoptic JSON file: stuff first, then things, each in the order of their ids.

    The order of the file does not matter, so that a file that another tool has written anew means the same train ids.
    A class without a ``color`` is given one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not JSON, or its list ``categories`` is missing, empty or not of the format.
    """
    return categories_of(read_json(path), path)


def categories_of(document: Any, path: str | os.PathLike[str]) -> Categories:
    """Return the classes of a COCO panoptic document, as ``read_categories`` does.

    Args:
        document: content of the JSON file.
        path: the file, for messages.

    Raises:
        ValueError: as ``read_categories``.

    >>> items = [{"id": 90, "name": "crane", "isthing": 1}, {"id": 3, "name": "gravel", "isthing": 0}]
    >>> [category.name for category in categories_of({"categories": items}, "a.json")]
    ['gravel', 'crane']
    """
    items = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ValueError(
            f"Annotation file '{path}' has no list 'categories' whose entries say 'id', 'name' and 'isthing' "
            "(0 for stuff, 1 for things)."
        )
    for number, item in enumerate(items):
        read_class(path, item, f"categories[{number}].")
    if items and not any("isthing" in item for item in items):
        raise ValueError(
            f"Annotation file '{path}' says of no class whether it is a thing; add 'isthing' to each entry of "
            f"'categories' (0 for stuff, 1 for things){near_key(items[0], 'isthing')}."
        )
    if without := [item["name"] for item in items if item.get("isthing") not in (0, 1)]:
        item = next(item for item in items if item.get("isthing") not in (0, 1))
        said = f"{shortened(item['isthing'])} as" if "isthing" in item else "no"
        more = f", and so in {len(without)} entries of {len(items)}" if len(without) > 1 else ""
        raise ValueError(
            f"Annotation file '{path}' has {said} 'isthing' of the class {shortened(item['name'])} (id {item['id']})"
            f"{more}; it is 0 for stuff and 1 for things{near_key(item, 'isthing')}."
        )
    categories = [
        Category(item["id"], item["name"], _color(item, number, path), bool(item["isthing"]))
        for number, item in enumerate(items)
    ]
    try:
        return Categories(sorted(categories, key=lambda category: (category.is_thing, category.label_id)))
    except ValueError as error:
        raise ValueError(f"Annotation file '{path}': {error}") from None


def _color(item: dict[str, Any], number: int, path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Return the colour of a class as the file has it, or else one that differs from those of the others."""
    color = item.get("color")
    if color is None:
        return distinct_color(number)
    if not isinstance(color, list) or len(color) != 3 or not all(type(channel) is int for channel in color):
        raise ValueError(
            f"Annotation file '{path}' gives class '{item['name']}' the color {color!r:.80}; it is a list of red, "
            "green and blue, each 0..255."
        )
    return color[0], color[1], color[2]


def distinct_color(number: int) -> tuple[int, int, int]:
    """Return the colour (r, g, b) of the n-th class of a table that has none; neighbours differ strongly."""
    hue, saturation, value = number * _HUE_STEP % 1, 0.55 + 0.4 * (number % 2), 0.9 - 0.15 * (number % 3)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
