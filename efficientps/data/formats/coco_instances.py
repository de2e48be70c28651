"""Instance annotations in the COCO format: images, classes, and the annotations of each image.

Every annotation that cannot be used is listed, not only the first: tools export them by the thousand.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from efficientps.data.formats.coco_categories import distinct_color
from efficientps.data.formats.coco_fields import MAX_NUMBER, read_image_entry
from efficientps.data.formats.coco_segmentation import fault_of, without_faults
from efficientps.data.formats.image_file import MAX_PIXELS, image_size, open_image
from efficientps.data.formats.json_file import read_json
from efficientps.data.formats.safe_path import inside, shortened
from efficientps.data.problems import Problem, Problems
from efficientps.structures.categories import Category

PathLike = str | os.PathLike[str]


class InstanceAnnotation(NamedTuple):
    """One annotation: its class, its polygons or run lengths as the file has them, and its crowd flag."""

    category_id: int
    segmentation: Any
    is_crowd: bool


@dataclass(frozen=True)
class InstanceFile:
    """What a COCO instance file says.

    Attributes:
        path: the file.
        categories: its classes, in its order.
        images: file name, with "/" between its parts, and (h, w) of each image by its id.
        annotations: the usable annotations of each image by its id, in the order of the file.
        total: number of annotations in the file, of which some may be unusable.
        problems: the unusable annotations; in one of several polygons the good ones are used.
        headings: names of classes that were left out, because they are the parent of others and no annotation is of
            them.
    """

    path: PathLike
    categories: tuple[Category, ...]
    images: Mapping[str, tuple[str, tuple[int, int]]]
    annotations: Mapping[str, list[InstanceAnnotation]]
    total: int
    problems: Problems
    headings: tuple[str, ...]

    def classes_of_crowds(self) -> dict[str, int]:
        """Return the thing classes all of whose annotations are crowd regions, and how many these are."""
        every = (annotation for annotations in self.annotations.values() for annotation in annotations)
        flags = Counter((annotation.category_id, annotation.is_crowd) for annotation in every)
        return {
            category.name: flags[category.label_id, True]
            for category in self.categories
            if category.is_thing and flags[category.label_id, True] and not flags[category.label_id, False]
        }


def read_instances(path: PathLike, *, image_roots: Iterable[PathLike] = (), must_exist: bool = False) -> InstanceFile:
    r"""Read a COCO instance file.

    Args:
        path: the JSON file.
        image_roots: folders in which the images may lie. A file name with backslashes, which tools on Windows write, is
            read as one with "/" if there is such a file in one of them.
        must_exist: whether each image must lie in one of these folders.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, one of its lists is missing or broken, two images have one id, or file names lead
            out of the folder of the images or name no file; faulty annotations are ``problems`` of the result.
    """
    document = read_json(path)
    items = document.get("annotations") if isinstance(document, dict) else None
    categories, headings = _without_headings(path, document, _used_classes(items))
    images = _read_images(path, document, tuple(image_roots), must_exist=must_exist)
    if not isinstance(items, list):
        raise ValueError(f"Annotation file '{path}' has no list 'annotations'.")
    known = {category.label_id for category in categories}
    annotations: dict[str, list[InstanceAnnotation]] = {image_id: [] for image_id in images}
    problems = Problems()
    for number, item in enumerate(items):
        image_id = _image_id(item)
        if image_id not in images:
            problems.add(_problem(path, f"annotations[{number}]", "is of no image of the file"))
            continue
        fault, segmentation = _fault(item, images[image_id][1], known)
        if fault is not None:
            problems.add(_problem(path, f"annotations[{number}] of image '{image_id}'", fault))
        if segmentation is not None:
            crowd = item.get("iscrowd") == 1
            annotations[image_id].append(InstanceAnnotation(item["category_id"], segmentation, crowd))
    return InstanceFile(path, categories, images, annotations, len(items), problems, headings)


def read_instance_categories(path: PathLike, document: Any, *, is_thing: bool | None = None) -> list[Category]:
    """Return the classes of an instance file; without ``isthing``, as files of detection data sets, all are things.

    Args:
        path: the file, for messages.
        document: its content.
        is_thing: what each class is; by default what ``isthing`` says.

    Raises:
        ValueError: if the list is missing, or an entry lacks ``id`` (from 0) or ``name``.
    """
    items = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ValueError(f"Annotation file '{path}' has no list 'categories' whose entries say 'id' and 'name'.")
    if faulty := [number for number, item in enumerate(items) if not _is_category(item)]:
        raise ValueError(
            f"Annotation file '{path}' has {shortened(items[faulty[0]])} as 'categories[{faulty[0]}]'; each of them "
            "has 'id', a whole number from 0, and 'name', and if it has 'isthing', that is 0 or 1."
        )
    return [
        Category(
            item["id"],
            item["name"],
            distinct_color(number),
            item.get("isthing") != 0 if is_thing is None else is_thing,
        )
        for number, item in enumerate(items)
    ]


def _is_category(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and type(item.get("id")) is int
        and 0 <= item["id"] < MAX_NUMBER
        and isinstance(item.get("name"), str)
        and item.get("isthing") in (None, 0, 1)
    )


def _used_classes(items: Any) -> set[int]:
    found = [item.get("category_id") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return {value for value in found if type(value) is int}


def _without_headings(path: PathLike, document: Any, used: set[int]) -> tuple[tuple[Category, ...], tuple[str, ...]]:
    """Return the classes, and the names of unused ones that only head others, as the class 0 of Roboflow does."""
    categories = read_instance_categories(path, document)
    parents = {
        str(item.get("supercategory")) for item in document["categories"] if item.get("supercategory") != item["name"]
    }
    roots = {item["id"] for item in document["categories"] if item.get("supercategory") in (None, "", "none")}
    is_heading = [
        category.label_id in roots and category.label_id not in used and category.name in parents
        for category in categories
    ]
    pairs = list(zip(categories, is_heading, strict=True))
    return tuple(item for item, heads in pairs if not heads), tuple(item.name for item, heads in pairs if heads)


def _read_images(
    path: PathLike, document: Mapping[str, Any], roots: tuple[PathLike, ...], *, must_exist: bool
) -> dict[str, tuple[str, tuple[int, int]]]:
    items = document.get("images")
    if not isinstance(items, list) or not items:
        raise ValueError(f"Annotation file '{path}' has no image in a list 'images'.")
    images: dict[str, tuple[str, tuple[int, int]]] = {}
    named: dict[str, str] = {}
    for number, item in enumerate(items):
        image_id, file_name, size = read_image_entry(path, item, f"images[{number}].")
        if image_id in images:
            raise ValueError(f"Annotation file '{path}' has the image id '{image_id}' twice.")
        if size[0] * size[1] > MAX_PIXELS:
            raise ValueError(
                f"Annotation file '{path}' says that image '{image_id}' is {size[0]}x{size[1]} pixels, where "
                f"{MAX_PIXELS} in all are read; cut it into tiles."
            )
        name = _name_inside(path, file_name, roots, must_exist=must_exist)
        if (first := named.setdefault(os.path.normpath(name), image_id)) != image_id:
            raise ValueError(
                f"Annotation file '{path}' names the image '{name}' twice, under the ids '{first}' and '{image_id}'."
            )
        if must_exist:
            _check_size(next(filter(os.path.isfile, (inside(root, name, path) for root in roots))), size, path)
        images[image_id] = (name, size)
    return images


def _check_size(file: str, size: tuple[int, int], path: PathLike) -> None:
    """Refuse an image of another size than its entry says, which no reader of the result would take."""
    with open_image(file) as image:
        sizes = [image_size(image, upright=upright) for upright in (False, True)]
    if size not in sizes:
        raise ValueError(
            f"Image '{file}' is {sizes[0][0]}x{sizes[0][1]} pixels (height x width) where the annotation file '{path}' "
            f"says {size[0]}x{size[1]}."
        )


def _name_inside(path: PathLike, name: str, roots: tuple[PathLike, ...], *, must_exist: bool) -> str:
    """Return the name of an image file with "/" between its parts, or refuse what no reader would find."""
    if "\\" in name:
        turned = name.replace("\\", "/")
        try:
            if any(os.path.isfile(inside(root, turned, path)) for root in roots):
                return turned
        except ValueError:
            pass  # the sentence about the name itself follows
        raise ValueError(
            f"Annotation file '{path}' names the file {shortened(name)} with backslashes, and no folder of images "
            f"({', '.join(map(str, roots)) or 'none was given'}) has it with '/' in their place; say where the images "
            "are, or write the names relative to their folder."
        )
    places = [inside(root, name, path) for root in (roots or ("the folder of the images",))]
    if must_exist and not any(map(os.path.isfile, places)):
        raise ValueError(f"Image '{Path(places[0])}', which annotation file '{path}' names, does not exist.")
    return name


def _image_id(item: Any) -> str | None:
    """Return the image id of an annotation as text, None if it has none that an image can have."""
    value = item.get("image_id") if isinstance(item, dict) else None
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _fault(item: Mapping[str, Any], size: tuple[int, int], known: set[int]) -> tuple[str | None, Any]:
    """Return what is wrong with an annotation, None if nothing, and the part of its segmentation that can be used."""
    category_id, crowd = item.get("category_id"), item.get("iscrowd")
    if type(category_id) is not int or category_id not in known:
        return f"is of the category {shortened(category_id)}, which is not in 'categories'", None
    if crowd not in (None, 0, 1):
        return f"has iscrowd = {shortened(crowd)}, where it is 0 or 1", None
    segmentation = item.get("segmentation")
    fault = fault_of(segmentation, size)
    return fault, segmentation if fault is None else without_faults(segmentation)


def _problem(path: PathLike, where: str, fault: str) -> Problem:
    """Return the problem of an annotation; its kind does not name the file."""
    return Problem(Problem.of(fault).kind, where, text=f"Annotation file '{path}': {where} {fault}.")
