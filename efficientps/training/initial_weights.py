"""The weights that a training starts from: pretrained ones of the backbone, and those of a file over them."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities import rank_zero_info

from efficientps.backbones import Backbone
from efficientps.networks.network import PanopticNetwork
from efficientps.training.checkpoints.init_from import init_from


def load_initial_weights(network: PanopticNetwork, *, file: str | Path | None, pretrained: bool) -> list[str]:
    """Load what a network starts from; return lines that say what was loaded.

    Args:
        network: changed in place.
        file: file whose fitting tensors the network takes, see ``init_from``; they replace pretrained ones.
        pretrained: load the pretrained weights that backbones describe. A backbone of which the file has every tensor
            is left out, so that nothing is fetched for it.

    Raises:
        OSError: pretrained weights cannot be fetched, or there is no such file.
        ValueError: a file cannot be read, or its weights do not fit.
    """
    lines = [init_from(network, file)] if file is not None else []
    backbones = [module for module in network.modules() if isinstance(module, Backbone)] if pretrained else []
    loaded = [line for backbone in backbones if (line := backbone.load_pretrained_weights())]
    if loaded and file is not None:  # the file has a part of the backbone, which was just overwritten
        init_from(network, file)
    return loaded + lines


def start_network(network: PanopticNetwork, strategy: Strategy, *, file: str | Path | None, pretrained: bool) -> None:
    """Load what a network starts from, and print what was loaded; rank 0 first, so that one process downloads.

    The arguments are those of ``load_initial_weights``.

    Raises:
        OSError: rank 0 has raised it, or this rank; where rank 0 fails, all ranks raise, and none waits for another.
        ValueError: in the same way.
    """
    error: Exception | None = None
    if strategy.is_global_zero:
        try:
            for line in load_initial_weights(network, file=file, pretrained=pretrained):
                rank_zero_info(line)
        except (OSError, ValueError) as raised:
            error = raised
    error = strategy.broadcast(error)
    if error is not None:
        raise error
    if not strategy.is_global_zero:
        load_initial_weights(network, file=file, pretrained=pretrained)
