"""How the parameters of a network are divided among the groups of its optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from torch import nn
from torch.optim import Optimizer


class ParameterGroup(TypedDict, total=False):
    """One group of an optimizer; without ``weight_decay`` the optimizer's own holds."""

    params: list[nn.Parameter]
    name: str
    lr_factor: float  # of the optimizer's learning rate
    weight_decay: float


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay_norms: bool = True,
    backbone_lr_factor: float = 1.0,
) -> list[ParameterGroup]:
    """Divide the trainable parameters into at most four groups; each is in exactly one, empty groups are left out.

    Args:
        named_parameters: of a network; those of the backbone have names that begin with ``backbone.``.
        weight_decay_norms: ``False`` exempts the weights of norms and all biases, that is every parameter of at most
            one dimension, from weight decay. The published recipe decays them (authors' code).
        backbone_lr_factor: learning rate of the backbone as a factor of the others'.

    Raises:
        ValueError: nothing is trainable, or a factor is asked for and no parameter is of a backbone.
    """
    trainable = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    if not trainable:
        raise ValueError("The network has no trainable parameter; unfreeze a part of it.")
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in trainable:
        is_backbone = backbone_lr_factor != 1.0 and name.startswith("backbone.")
        is_undecayed = not weight_decay_norms and parameter.ndim <= 1
        key = ("backbone" if is_backbone else "network") + ("_norms" if is_undecayed else "")
        if key not in groups:
            groups[key] = ParameterGroup(params=[], name=key, lr_factor=backbone_lr_factor if is_backbone else 1.0)
            if is_undecayed:
                groups[key]["weight_decay"] = 0.0
        groups[key]["params"].append(parameter)
    if backbone_lr_factor != 1.0 and not any(key.startswith("backbone") for key in groups):
        raise ValueError(
            f"model.backbone_lr_factor is {backbone_lr_factor}, but no trainable parameter belongs to a backbone; "
            "leave it at 1."
        )
    return list(groups.values())


def linear_scale(*, total_batch: int, reference_batch: int | None) -> float:
    """Return the factor of the learning rate for a batch: proportional to it (Goyal et al., arXiv 1706.02677).

    Args:
        total_batch: images per optimizer step, over all devices and accumulated batches.
        reference_batch: the batch that the configured learning rate is for; ``None`` scales nothing.

    Raises:
        ValueError: the reference is not positive.

    >>> linear_scale(total_batch=4, reference_batch=16)
    0.25
    """
    if reference_batch is None:
        return 1.0
    if reference_batch < 1:
        raise ValueError(f"model.scale_lr is {reference_batch}; give the batch size that the learning rate is for.")
    return total_batch / reference_batch


def scale_learning_rates(optimizer: Optimizer, scale: float) -> None:
    """Multiply the learning rate of each group by ``scale`` and by the group's ``lr_factor``; once, at the start."""
    for group in optimizer.param_groups:
        group["lr"] *= scale * group.get("lr_factor", 1.0)
