"""Parameter groups of the optimizer: learning rates of backbones, weight decay of norms and biases."""

from __future__ import annotations

from typing import TypedDict

from torch import nn
from torch.optim import Optimizer

from efficientps.backbones import Backbone
from efficientps.networks.network import PanopticNetwork


class ParameterGroup(TypedDict, total=False):
    """One group of an optimizer; without ``weight_decay``, the optimizer's default applies."""

    params: list[nn.Parameter]
    name: str
    lr_factor: float  # factor of the optimizer's learning rate
    weight_decay: float


def parameter_groups(
    network: PanopticNetwork,
    *,
    weight_decay_norms: bool = True,
    backbone_lr_factor: float = 1.0,
    backbone_layer_decay: float = 1.0,
) -> list[ParameterGroup]:
    """Divide the trainable parameters into groups; each is in exactly one, and empty groups are left out.

    There are at most four groups; with a layer decay, the backbone has two for each of its depths.

    Args:
        network: the network; it names its backbones and the parameters without weight decay.
        weight_decay_norms: ``False`` exempts the network's ``undecayed_parameters`` from weight decay, by default every
            parameter of at most one dimension. The published recipe decays them (authors' code).
        backbone_lr_factor: learning rate of the backbone, as a factor of the rate of the other parts.
        backbone_layer_decay: factor of the learning rate from each depth of the backbone to the depth before it; it is
            applied once to the last depth. 1 gives all depths one rate.

    Raises:
        ValueError: no parameter is trainable, or a factor is not 1 and no trainable parameter belongs to a backbone, or
            is out of range.
    """
    if backbone_lr_factor < 0:
        raise ValueError(f"backbone_lr_factor is {backbone_lr_factor}; give 0 or more.")
    if not 0 < backbone_layer_decay <= 1:
        raise ValueError(f"backbone_layer_decay is {backbone_layer_decay}; give a factor above 0, at most 1.")
    trainable = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("The network has no trainable parameter; unfreeze a part of it.")
    undecayed = set() if weight_decay_norms else network.undecayed_parameters()
    changes_rates = backbone_lr_factor != 1.0 or backbone_layer_decay != 1.0
    distances = _distances_from_the_end(network) if changes_rates else {}
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in trainable:
        distance = distances.get(id(parameter))
        key, lr_factor = "network", 1.0
        if distance is not None:
            key, lr_factor = "backbone", backbone_lr_factor
            if backbone_layer_decay != 1.0:
                key, lr_factor = f"backbone_{distance}", backbone_lr_factor * backbone_layer_decay**distance
        is_undecayed = name in undecayed
        key += "_norms" * is_undecayed
        if key not in groups:
            groups[key] = ParameterGroup(params=[], name=key, lr_factor=lr_factor)
            if is_undecayed:
                groups[key]["weight_decay"] = 0.0
        groups[key]["params"].append(parameter)
    if changes_rates and not any(key.startswith("backbone") for key in groups):
        raise ValueError(
            f"backbone_lr_factor is {backbone_lr_factor} and backbone_layer_decay {backbone_layer_decay}, but no "
            "trainable parameter belongs to a backbone; leave both at 1, or let backbones() of the network name it."
        )
    return list(groups.values())


def _distances_from_the_end(network: PanopticNetwork) -> dict[int, int]:
    """Return the number of depths from each parameter of a backbone to the backbone's end, by the parameter's id."""
    distances: dict[int, int] = {}
    for module in network.backbones():
        depths = module.parameter_depths() if isinstance(module, Backbone) else {}
        end = max(depths.values(), default=0) + 1
        for name, parameter in module.named_parameters():
            distances[id(parameter)] = end - depths.get(name, 0)
    return distances


def linear_scale(*, total_batch: int, reference_batch: int | None) -> float:
    """Return the factor of the learning rate for a batch size: linear scaling (Goyal et al., arXiv 1706.02677).

    Args:
        total_batch: images per optimizer step, over all devices and accumulated batches.
        reference_batch: total batch that the configured learning rate is meant for; ``None`` does not scale.

    Raises:
        ValueError: the reference is not positive.

    >>> linear_scale(total_batch=4, reference_batch=16)
    0.25
    """
    if reference_batch is None:
        return 1.0
    if reference_batch < 1:
        raise ValueError(f"scale_lr is {reference_batch}; give the batch size that the learning rate is for.")
    return total_batch / reference_batch


def scale_learning_rates(optimizer: Optimizer, scale: float) -> None:
    """Multiply the learning rate of each group by ``scale`` and by the group's ``lr_factor``; call it once."""
    for group in optimizer.param_groups:
        group["lr"] *= scale * group.get("lr_factor", 1.0)
