"""Ids of images to predict on, which become the names of the files that are written."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

MAX_ID_BYTES = 180
"""Longest id: most disks take names of 255 bytes, and outputs have the id and more in theirs."""

_CITYSCAPES_SUFFIX = "_leftImg8bit"


def image_id_of(path: PurePath) -> str:
    """Return the id of one image, given its relative path; a Cityscapes image has its city in its name already.

    >>> image_id_of(PurePath("site/3.jpg")), image_id_of(PurePath("bonn/bonn_1_leftImg8bit.png"))
    ('site_3', 'bonn_1')
    """
    if path.stem.endswith(_CITYSCAPES_SUFFIX):
        return _fit_for_a_file(path.stem.removesuffix(_CITYSCAPES_SUFFIX))
    return _fit_for_a_file("_".join((*path.parts[:-1], path.stem)))


def unique_ids(paths: Sequence[PurePath]) -> list[str]:
    """Return one id for each relative path, all different, also on a disk that does not tell "A" from "a".

    Where images differ in their ending alone, it becomes part of the id; where ids are still equal, a number does.

    >>> unique_ids([PurePath(name) for name in ("a.jpg", "a.png", "b/c.png", "b_c.png")])
    ['a_jpg', 'a_png', 'b_c_png', 'b_c_png_2']
    """
    ids = [image_id_of(path) for path in paths]
    count = Counter(map(folded, ids))
    taken: set[str] = set()
    for index, path in enumerate(paths):
        if count[folded(ids[index])] > 1:
            ids[index] = free_id(_fit_for_a_file(f"{ids[index]}_{path.suffix[1:]}".removesuffix("_")), taken)
        taken.add(folded(ids[index]))
    return ids


def free_id(image_id: str, taken: set[str]) -> str:
    """Return an id, with a number added if it is taken.

    Args:
        image_id: the id.
        taken: ids that are taken, as ``folded`` gives them.

    >>> free_id("a", {"b"}), free_id("A", {"a", "a_2"})
    ('a', 'A_3')
    """
    found, number = image_id, 2
    while folded(found) in taken:
        found, number = f"{image_id}_{number}", number + 1
    return found


def folded(image_id: str) -> str:
    """Return what an id has in common with all others that a disk may take for the same file name."""
    return unicodedata.normalize("NFC", image_id).casefold()


def _fit_for_a_file(image_id: str) -> str:
    r"""Replace characters that no file name should have, and shorten an id that is too long for one.

    >>> _fit_for_a_file("a\nb"), len(_fit_for_a_file(300 * "a"))
    ('a_b', 180)
    """
    plain = "".join("_" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in image_id)
    encoded = plain.encode()
    if len(encoded) <= MAX_ID_BYTES:
        return plain
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: MAX_ID_BYTES - 17].decode(errors='ignore')}_{digest}"
