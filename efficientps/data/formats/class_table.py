"""Tables of classes in small files that a person writes: JSON, YAML or CSV.

JSON and YAML hold the list ``categories`` of the COCO panoptic format, or that list alone; a CSV has the same names as
its columns::

    id,name,isthing
    7,road,0
    26,car,1
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from efficientps.data.formats.coco_categories import categories_of, distinct_color
from efficientps.data.formats.json_file import read_json
from efficientps.structures.categories import Categories, Category

MAX_BYTES = 2**20
"""Largest size of a YAML or CSV file: thousands of times that of a table of 255 classes."""

_FLAGS = {"0": 0, "false": 0, "no": 0, "stuff": 0, "1": 1, "true": 1, "yes": 1, "thing": 1}


def read_class_table(path: str | os.PathLike[str]) -> Categories:
    """Read the classes of a file, whose kind its ending says: ``.json``, ``.yaml``, ``.yml`` or ``.csv``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is of another kind or damaged, or a class lacks its id, name or ``isthing``.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".json", ".yaml", ".yml", ".csv"):
        raise ValueError(f"Table of classes '{path}' is none of .json, .yaml, .yml and .csv, which are read.")
    if ending == ".json":
        document = read_json(path)
    else:
        document = _read_csv(path) if ending == ".csv" else _read_yaml(path)
    return categories_of({"categories": document} if isinstance(document, list) else document, path)


def class_table(things: Iterable[tuple[int, str]], stuff: Iterable[tuple[int, str]]) -> Categories:
    """Make a table of classes of their ids and names.

    Raises:
        ValueError: if two classes have one id or one name, an id is negative, or there is no class.

    >>> [(category.label_id, category.name) for category in class_table([(26, "car")], [(7, "road")])]
    [(7, 'road'), (26, 'car')]
    """
    classes = [(label_id, name, False) for label_id, name in sorted(stuff)]
    classes += [(label_id, name, True) for label_id, name in sorted(things)]
    return Categories(
        Category(label_id, name, distinct_color(number), is_thing)
        for number, (label_id, name, is_thing) in enumerate(classes)
    )


def _read_text(path: str | os.PathLike[str]) -> str:
    if not Path(path).is_file():
        raise FileNotFoundError(f"Table of classes '{path}' does not exist.")
    if (size := Path(path).stat().st_size) > MAX_BYTES:
        raise ValueError(f"Table of classes '{path}' has {size} bytes where at most {MAX_BYTES} are read.")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Table of classes '{path}' is no text in UTF-8 ({error.reason}); save it as UTF-8.") from None


def _read_yaml(path: str | os.PathLike[str]) -> Any:
    try:
        return yaml.safe_load(_read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(f"Table of classes '{path}' is no YAML ({' '.join(str(error).split())[:200]}).") from None


def _read_csv(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    text = _read_text(path)
    try:
        rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
        if not {"id", "name", "isthing"} <= set(rows.fieldnames or ()):
            raise ValueError("a column is missing")
        return [_class_of_row(row) for row in rows]
    except (csv.Error, KeyError, ValueError, AttributeError):
        raise ValueError(
            f"Table of classes '{path}' is no CSV with the columns id, name and isthing (0 or 1), which its first line "
            "names."
        ) from None


def _class_of_row(row: dict[str, str]) -> dict[str, Any]:
    return {"id": int(row["id"]), "name": row["name"].strip(), "isthing": _FLAGS[row["isthing"].strip().lower()]}
