"""Choose the queries of an image that get masks: for the panoptic map, as instances, or for both."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ChosenQueries(NamedTuple):
    """The N queries of an image that get masks, in order. Places are among these N."""

    queries: Tensor  # int64 [N], numbers in the image
    in_map: Tensor  # int64 [M], places of those that compete for the panoptic map
    things: Tensor  # int64 [K], places of the instances, that of the highest score first
    train_ids: list[int]  # classes of the M queries in the map
    scores: list[float]  # their scores


def choose_queries(scores: Tensor, train_ids: Tensor, in_map: Tensor, is_thing: Tensor) -> list[ChosenQueries]:
    """Choose the queries that are in the panoptic map or instances; the host waits once for all images.

    Args:
        scores: float32 ``[B, Q]``.
        train_ids: int64 ``[B, Q]``.
        in_map: bool ``[B, Q]``, whether a query competes for the panoptic map.
        is_thing: bool ``[B, Q]``, whether it is an instance.

    Returns:
        One for each image, with tensors on the device of the scores.
    """
    # Doubles hold every float and every class.
    packed = torch.stack([column.double() for column in (scores, train_ids, in_map, is_thing)], dim=1)
    return [_chosen(*columns, device=scores.device) for columns in packed.tolist()]


def _chosen(
    scores: list[float], train_ids: list[float], in_map: list[float], is_thing: list[float], *, device: torch.device
) -> ChosenQueries:
    """Choose in one image; the places go to the device in one transfer."""
    queries = [query for query in range(len(scores)) if in_map[query] or is_thing[query]]
    in_map_at = [place for place, query in enumerate(queries) if in_map[query]]
    things_at = [place for place, query in enumerate(queries) if is_thing[query]]
    things_at.sort(key=lambda place: -scores[queries[place]])  # of equal ones, the first stays the first
    packed = torch.tensor([*queries, *in_map_at, *things_at], dtype=torch.int64).to(device, non_blocking=True)
    of_map = [queries[place] for place in in_map_at]
    chosen, in_map_place, thing_place = torch.split(packed, [len(queries), len(in_map_at), len(things_at)])
    return ChosenQueries(
        queries=chosen,
        in_map=in_map_place,
        things=thing_place,
        train_ids=[int(train_ids[query]) for query in of_map],
        scores=[scores[query] for query in of_map],
    )
