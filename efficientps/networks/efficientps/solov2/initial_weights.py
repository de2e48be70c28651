"""The weights that SOLOv2 starts from."""

from __future__ import annotations

import math

from torch import Tensor, nn


def init_solov2(head: nn.Module, category_bias: Tensor, *, category_prior: float) -> None:
    """Initialise as all published implementations do: convolutions from N(0, 0.01), biases 0 but for the categories'.

    Args:
        head: all of its convolutions are initialised.
        category_bias: bias of the layer that returns the category logits.
        category_prior: category score of every cell at the start.
    """
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.constant_(category_bias, -math.log((1 - category_prior) / category_prior))
