"""Reading checkpoints as what they are, untrusted files, and starting a network from the weights of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from efficientps.backbones import Backbone
from efficientps.backbones.weights import read_file, state_dict_in
from efficientps.networks.network import PanopticNetwork

NETWORK_PREFIX = "network."
"""Prefix of the network's tensors in the state of a ``PanopticModule``."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint or a state dict: tensors and plain types only, on the CPU, mapped rather than copied.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, is no checkpoint, or holds pickled objects.
    """
    return read_file(path, kind="checkpoint")


def check_checkpoint(path: str | Path, *, resume: bool) -> None:
    """Read a file that Lightning is to load, so that a bad one is known before anything is set up.

    Args:
        path: the file.
        resume: whether training is to go on from it, which takes the optimizer's state as well.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or holds weights alone.
    """
    content = read_checkpoint(path)
    needed = ["state_dict", "pytorch-lightning_version"] + ["optimizer_states", "lr_schedulers", "loops"] * resume
    if any(key not in content for key in needed):
        raise ValueError(
            f"The file {path} holds weights, but no state of training; start from them with --model.init_from={path}."
        )


class StateDifference(NamedTuple):
    """How the tensors of a checkpoint differ from those of a network, each as a sorted list of keys."""

    missing: list[str]  # in the network alone
    unexpected: list[str]  # in the checkpoint alone
    mismatched: list[str]  # in both, of different shapes

    def __bool__(self) -> bool:
        """Return whether there is any difference."""
        return bool(self.missing or self.unexpected or self.mismatched)


def compare_states(expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> StateDifference:
    """Compare the state dict of a network with one from a file.

    >>> compare_states({"a": torch.zeros(1), "b": torch.zeros(2)}, {"b": torch.zeros(3), "c": torch.zeros(1)})
    StateDifference(missing=['a'], unexpected=['c'], mismatched=['b'])
    """
    return StateDifference(
        missing=sorted(expected.keys() - found.keys()),
        unexpected=sorted(found.keys() - expected.keys()),
        mismatched=sorted(
            key for key in expected.keys() & found.keys() if _shape(found[key]) != list(expected[key].shape)
        ),
    )


def explain_difference(expected: Mapping[str, Tensor], found: Mapping[str, Any], *, path: str | Path) -> str | None:
    """Return one sentence on why the tensors of a checkpoint do not fit a network, ``None`` where they do."""
    difference = compare_states(expected, found)
    if not difference:
        return None
    parts = []
    if difference.missing:
        parts.append(f"it lacks {_first(difference.missing)}")
    if difference.unexpected:
        parts.append(f"it has {_first(difference.unexpected)} in excess")
    if difference.mismatched:
        key = difference.mismatched[0]
        more = f" (and {len(difference.mismatched) - 1} more)" if len(difference.mismatched) > 1 else ""
        parts.append(f"'{key}' has the shape {_shape(found[key])} instead of {list(expected[key].shape)}{more}")
    what = f"The checkpoint {path} is of another network than the configured one"
    differing, fitting = _parts(expected, difference)
    if differing and fitting:
        what = f"The checkpoint {path} has another {_and(differing)} than the configured network"
        what += f", while {_and(fitting)} fit"
    return (
        f"{what}: {', '.join(parts)}; give the --config that it was trained with, or start from those of its weights "
        f"that fit with --model.init_from={path}."
    )


def _parts(expected: Mapping[str, Tensor], difference: StateDifference) -> tuple[list[str], list[str]]:
    """Return the parts of a network, such as its backbone, in which two states differ and in which they agree."""
    keys = [key for keys in difference for key in keys]
    differing = {_part(key.removeprefix(NETWORK_PREFIX)) for key in keys if key.startswith(NETWORK_PREFIX)}
    every = [_part(key.removeprefix(NETWORK_PREFIX)) for key in expected if key.startswith(NETWORK_PREFIX)]
    return sorted(differing), [part for part in dict.fromkeys(every) if part not in differing]


def _part(key: str) -> str:
    return key.partition(".")[0]


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _shape(value: object) -> list[int] | None:
    return list(value.shape) if isinstance(value, Tensor) else None


def _first(keys: list[str]) -> str:
    return f"'{keys[0]}'" if len(keys) == 1 else f"'{keys[0]}' and {len(keys) - 1} more"


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
            f"model.init_from: none of the {len(found)} tensors in {path} fits the network, whose first key is "
            f"'{next(iter(expected), '')}'; check that the file is of the same family and backbone."
        )
    for key in fitting:
        expected[key].copy_(found[key])
    for name, module in network.named_modules():
        if isinstance(module, Backbone) and {f"{name}.{key}" for key in module.state_dict()} <= set(fitting):
            module.pretrained_weights = None
    of_part = Counter(map(_part, expected))
    loaded = Counter(map(_part, fitting))
    shares = ", ".join(f"{part} {loaded[part]} of {number}" for part, number in of_part.items())
    line = f"Started from {path}: {len(fitting)} of {len(expected)} tensors loaded ({shares})"
    for keys, reason in (
        (difference.missing, "not in the file"),
        (difference.mismatched, "of another shape, which begin anew"),
        (difference.unexpected, "of the file unused"),
    ):
        if keys:
            line += f"; {len(keys)} {reason} ({_first(keys)})"
    return line + "."
