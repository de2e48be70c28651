"""The authors' released network for Cityscapes as a model that stands on its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from efficientps.inference.building import ModelFileError, excerpt
from efficientps.networks.efficientps import EfficientPS, authors_network
from efficientps.networks.efficientps.authors_weights import is_authors_state
from efficientps.structures.categories import Categories


def read_authors_model(
    content: Mapping[str, Any], state: Mapping[str, Tensor], path: str | Path
) -> tuple[EfficientPS, Categories] | None:
    """Return the authors' network with the weights of their file, and its classes; ``None`` for any other file.

    Args:
        content: what the file holds; ``meta`` is mmdetection's.
        state: its tensors.
        path: the file, for messages.

    Raises:
        ModelFileError: the weights are of other classes or of another network than the released one.
    """
    if not is_authors_state(state):
        return None
    from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES  # imports Lightning

    categories = CITYSCAPES_CATEGORIES
    things = [category.name for category in categories[categories.num_stuff :]]
    meta = content.get("meta")
    named = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if isinstance(named, list | tuple) and list(named) != things:
        raise ModelFileError(
            f"The checkpoint {path} is of the authors' code, for the things {excerpt(', '.join(map(str, named)))}; the "
            f"released network has those of Cityscapes: {', '.join(things)}."
        )
    network = authors_network(categories.num_stuff, categories.num_things)
    try:
        network.load_state_dict(network.adapt_state(state))
    except RuntimeError as error:
        raise ModelFileError(
            f"The checkpoint {path} is of the authors' code, but its weights do not fit the network that "
            f"they released: {excerpt(' '.join(str(error).split()))}"
        ) from error
    return network.eval(), categories
