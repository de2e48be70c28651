"""Start a network from the weights of a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efficientps.backbones import Backbone
from efficientps.backbones.weights import state_dict_in
from efficientps.networks.network import PanopticNetwork
from efficientps.training.checkpoints.read import read_checkpoint
from efficientps.training.checkpoints.states import NETWORK_PREFIX, compare_states, first_of, part_of


def network_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the network's tensors from a checkpoint of this project, from DETR's (``model``) or a plain state dict.

    >>> network_state({"epoch": 3, "state_dict": {"network.a": torch.tensor(1.0)}})
    {'a': tensor(1.)}
    >>> network_state({"a": torch.tensor(1.0)})
    {'a': tensor(1.)}
    """
    return {key.removeprefix(NETWORK_PREFIX): value for key, value in state_dict_in(content).items()}


@torch.no_grad()
def init_from(network: nn.Module, path: str | Path) -> str:
    """Copy into a network every tensor of a file that has its name and shape; return one line that says what was done.

    A backbone of which the file has every tensor needs no pretrained weights any more.

    Args:
        network: changed in place; what the file does not fit keeps its values.
        path: a checkpoint of this project, or a state dict, ``.safetensors`` or saved by ``torch.save``; a family
            that knows other layouts of its weights reads them as well.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or none of its tensors fits.
    """
    expected = network.state_dict()
    found = network_state(read_checkpoint(path))
    if isinstance(network, PanopticNetwork):
        found = network.adapt_state(found)
    difference = compare_states(expected, found)
    fitting = sorted(expected.keys() & found.keys() - set(difference.mismatched))
    if not fitting:
        raise ValueError(
            f"None of the {len(found)} tensors in {path} fits the network, whose first key is "
            f"'{next(iter(expected), '')}'; check that the file is of the same family and backbone."
        )
    for key in fitting:
        expected[key].copy_(found[key])
    for name, module in network.named_modules():
        if isinstance(module, Backbone) and {f"{name}.{key}" for key in module.state_dict()} <= set(fitting):
            module.pretrained_weights = None
    of_part = Counter(map(part_of, expected))
    loaded = Counter(map(part_of, fitting))
    shares = ", ".join(f"{part} {loaded[part]} of {number}" for part, number in of_part.items())
    line = f"Started from {path}: {len(fitting)} of {len(expected)} tensors loaded ({shares})"
    for keys, reason in (
        (difference.missing, "not in the file"),
        (difference.mismatched, "of another shape, which begin anew"),
        (difference.unexpected, "of the file unused"),
    ):
        if keys:
            line += f"; {len(keys)} {reason} ({first_of(keys)})"
    return line + "."
