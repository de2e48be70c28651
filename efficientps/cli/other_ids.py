"""A hint where predictions name the images in another way than the ground truth does."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from efficientps.data.formats.annotation_table import AnnotationTable
from efficientps.data.sources.image_folder import IMAGE_EXTENSIONS


def hint_at_other_ids(truth: AnnotationTable, predicted: Collection[str]) -> str:
    """Return a part of a sentence if an image without a prediction has one under another id, an empty text otherwise.

    Args:
        truth: the ground truth.
        predicted: image ids of the predictions.
    """
    known = set(truth.image_ids)
    spare = {_plain(image_id): image_id for image_id in predicted if image_id not in known}
    for image_id, name in zip(truth.image_ids, truth.image_names, strict=True):
        if image_id in predicted:
            continue
        found = spare.get(_plain(image_id)) or spare.get(_plain(name.replace("/", "_")))
        if found is not None:
            return (
                f"; one for '{found}' seems to be of the image '{image_id}': predictions for a folder of images have "
                "the names of the files, without their ending, as ids; predictions for the JSON that lists the images "
                "keep its ids"
            )
    return ""


def _plain(image_id: str) -> str:
    """Return an id without what tools add: the ending of an image file, zeros in front of a number."""
    path = PurePosixPath(image_id)
    stem = path.stem if path.suffix.lower() in IMAGE_EXTENSIONS else image_id
    return stem.lstrip("0") or "0"
