"""The check of a sample that was read: its image, map, segments and entry must fit each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import torch

from efficientps.data.entries import Entry, Reading
from efficientps.data.map_mistakes import mistake_of
from efficientps.structures.segment_runs import present_ids


def check_reading(entry: Entry, reading: Reading, category_ids: Collection[int] = ()) -> None:
    """Refuse a sample whose image, map, segments and entry do not fit each other.

    Args:
        entry: the entry.
        reading: what was read.
        category_ids: ids of the classes, for hints at mistakes in maps.

    Raises:
        ValueError: if something does not fit.
    """
    image, segment_ids, segments = reading
    named = f"Panoptic map '{entry.files[-1]}'" if entry.files else f"The panoptic map of image '{entry.image_id}'"
    if image.dtype != torch.uint8 or image.dim() != 3 or len(image) != 3:
        raise ValueError(
            f"Image '{entry.image_id}' was read as {image.dtype} {list(image.shape)}; it must be torch.uint8 [3, h, w]."
        )
    if segment_ids.dtype != torch.int32 or segment_ids.dim() != 2:
        raise ValueError(
            f"{named} was read as {segment_ids.dtype} {list(segment_ids.shape)}; it must be torch.int32 [h, w]."
        )
    height, width = segment_ids.shape
    if entry.size is not None and (height, width) != tuple(entry.size):
        raise ValueError(
            f"{named} is {height}x{width} pixels (height x width) where its annotation says "
            f"{entry.size[0]}x{entry.size[1]}; image and label must have one size."
        )
    if (height, width) != tuple(image.shape[1:]):
        raise ValueError(
            f"{named} is {height}x{width} pixels (height x width) and image '{entry.image_id}' is "
            f"{image.shape[1]}x{image.shape[2]}; image and label must have one size."
        )
    listed = {segment.id for segment in segments}
    if len(listed) < len(segments):
        twice, _ = Counter(segment.id for segment in segments).most_common(1)[0]
        raise ValueError(f"Image '{entry.image_id}' has the segment id {twice} twice; ids of segments must be unique.")
    try:
        present = set(present_ids(segment_ids.numpy()))
    except ValueError as error:
        raise ValueError(f"{named}: {error}") from None
    if (mistake := mistake_of(present, listed, category_ids)) is not None:
        raise ValueError(f"{named} of image '{entry.image_id}' {mistake.kind}; {mistake.remedy}.")
    if unlisted := present - listed:
        raise ValueError(
            f"{named} has pixels of segment {min(unlisted)}, which the annotations of image '{entry.image_id}' do not "
            "list; make maps and annotations again, together."
        )
    if absent := listed - present:
        raise ValueError(
            f"{named} has no pixel of segment {min(absent)}, which the annotations of image '{entry.image_id}' list; "
            "make maps and annotations again, together."
        )
