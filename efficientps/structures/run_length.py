"""COCO's run-length encoding of masks in windows and of panoptic maps, without a full-size mask per object."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from efficientps.structures.segment_runs import run_starts


class RunLengths(TypedDict):
    """COCO's encoding of a mask: the image's ``[h, w]`` and the compressed run lengths in column-major order."""

    size: list[int]
    counts: str


def encode_window(
    mask: npt.NDArray[np.bool_], window: tuple[int, int, int, int], image_size: tuple[int, int]
) -> RunLengths:
    """Encode the mask of an image ``(h, w)`` that is false outside a window ``(x0, y0, x1, y1)``.

    Args:
        mask: bool ``[y1 - y0, x1 - x0]``, the mask inside the window.
        window: half-open window within the image.
        image_size: ``(h, w)`` of the image.
    """
    x0, y0, _, _ = window
    # A row of background above and below: within each column, changes alternate between start and end of a run.
    columns = np.pad(mask.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    return _encode((column + x0) * image_size[0] + row + y0, image_size)


def encode_segments(segment_ids: npt.NDArray[np.int32]) -> dict[int, RunLengths]:
    """Encode the mask of every id that occurs in a map, int32 ``[h, w]``, in a single pass over its pixels."""
    height, width = segment_ids.shape
    pixels = segment_ids.T.ravel()
    starts = run_starts(pixels)
    runs = np.stack([starts, np.append(starts[1:], pixels.size)], axis=1)
    order = np.argsort(pixels[starts], kind="stable")
    ids, firsts = np.unique(pixels[starts][order], return_index=True)
    runs_of_ids = np.split(runs[order], firsts[1:])
    return {int(ids[i]): _encode(runs.ravel(), (height, width)) for i, runs in enumerate(runs_of_ids)}


def _encode(changes: npt.NDArray[np.integer[Any]], image_size: tuple[int, int]) -> RunLengths:
    """Encode a mask from the sorted column-major positions at which its runs alternately start and end."""
    from faster_coco_eval.core import mask as mask_api  # loads OpenCV

    height, width = image_size
    # If a run ends where the next one starts, the position occurs twice and the two runs are joined.
    changes, occurrences = np.unique(changes, return_counts=True)
    bounds = np.concatenate([[0], changes[occurrences == 1], [height * width]])
    counts = np.diff(bounds)
    if counts[-1] == 0:  # the mask reaches the last pixel
        counts = counts[:-1]
    encoded = mask_api.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode()}
