"""Find the network that a command line chooses, so that its class gives the defaults of all other options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml


def chosen_network(arguments: Sequence[str]) -> str | None:
    """Return the class of the network that configurations or options name, the last one of several.

    The parser starts from the defaults of one network. Where another network has an option of the same name, it would
    keep the value of the first: DETR the backbone of EfficientPS.

    Args:
        arguments: words of a command line.

    >>> chosen_network(["fit", "--model.network", "DETRPanoptic", "--model.network.step=joint"])
    'DETRPanoptic'
    """
    chosen = None
    for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
        key, is_joined, value = option.partition("=")
        value = value if is_joined else following
        if key in ("--model.network", "--model.network.class_path") and not value.startswith("{"):
            chosen = value
        elif key in ("-c", "--config"):
            chosen = _named_in(Path(value)) or chosen
    return chosen


def _named_in(config: Path) -> str | None:
    """Return the class of the network in a configuration file; None if it names none or cannot be read."""
    try:
        network = yaml.safe_load(config.read_text())["model"]["network"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    if isinstance(network, dict):
        network = network.get("class_path")
    return network if isinstance(network, str) else None
