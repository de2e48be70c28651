"""ImageNet weights of EfficientNet: the keys of other libraries, and the fit to in-place activated batch norm."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from efficientps.layers.norm_act import InPlaceABN

StateDict = dict[str, Tensor]

_FLAT_BLOCK = re.compile(r"_blocks\.(\d+)\.(.*)")
_EXPANDED_BLOCK = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                   "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
_PLAIN_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OUTSIDE_BLOCKS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def to_timm_keys(state_dict: Mapping[str, Tensor], stage_lengths: Sequence[int]) -> StateDict:
    """Rename the keys of ``efficientnet_pytorch`` to timm's; a state dict that has timm's keys is returned as it is.

    Args:
        state_dict: weights in either format.
        stage_lengths: number of blocks of each stage; ``efficientnet_pytorch`` numbers the blocks of all stages
            consecutively.
    """
    if "_conv_stem.weight" not in state_dict:
        return dict(state_dict)
    position = [(stage, block) for stage, length in enumerate(stage_lengths) for block in range(length)]
    renamed: StateDict = {}
    for key, value in state_dict.items():
        match = _FLAT_BLOCK.fullmatch(key)
        layer, _, rest = (match[2] if match else key).partition(".")
        if match is None:
            names, prefix = _OUTSIDE_BLOCKS, ""
        else:
            stage, block = position[int(match[1])] if int(match[1]) < len(position) else (-1, -1)
            names = _PLAIN_BLOCK if stage == 0 else _EXPANDED_BLOCK
            prefix = f"blocks.{stage}.{block}."
        # Keys without a translation (squeeze-excitation, classifier) are not part of the backbone.
        renamed[f"{prefix}{names[layer]}.{rest}" if layer in names else f"unused.{key}"] = value
    return renamed


def fit_to_norms(state_dict: Mapping[str, Tensor], convs: Mapping[str, str], *, eps: float) -> StateDict:
    """Rewrite batch-norm weights so that an ``InPlaceABN``, whose scale is ``abs(weight) + eps``, computes the same.

    The sign of a negative weight moves into the convolution before the norm, and the running mean changes its sign. eps
    is subtracted from the absolute weight. A scale nearer to 0 than eps cannot be represented; it becomes eps.

    Args:
        state_dict: timm's keys.
        convs: name of each norm -> name of the convolution (without bias) right before it.
        eps: eps of the norms.
    """
    fitted = dict(state_dict)
    for norm, conv in convs.items():
        weight = fitted[f"{norm}.weight"]
        sign = torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)
        fitted[f"{norm}.weight"] = (weight.abs() - eps).clamp(min=0)
        fitted[f"{norm}.running_mean"] = fitted[f"{norm}.running_mean"] * sign
        fitted[f"{conv}.weight"] = fitted[f"{conv}.weight"] * sign[:, None, None, None]
    return fitted


def load_into(model: torch.nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Load the tensors that a backbone has; squeeze-excitation, classifier and batch counters are ignored.

    Args:
        model: a timm EfficientNet without squeeze-excitation whose norms are ``InPlaceABN``.
        state_dict: timm's keys.
        source: named in errors.

    Raises:
        ValueError: a tensor of the backbone is missing or has another shape.
    """
    expected = model.state_dict()
    for key, value in expected.items():
        if key not in state_dict:
            raise ValueError(f"{source} has no tensor {key!r}; it is not a weight file of this EfficientNet variant.")
        if state_dict[key].shape != value.shape:
            raise ValueError(
                f"{source} has {key!r} of shape {list(state_dict[key].shape)}, the backbone wants {list(value.shape)}; "
                "choose the variant that the weights belong to."
            )
    norms = {name: layer for name, layer in model.named_modules() if isinstance(layer, InPlaceABN)}
    names = list(dict(model.named_modules()))
    convs = {norm: _conv_before(norm, names) for norm in norms}
    eps = next(iter(norms.values())).eps
    fitted = fit_to_norms({key: state_dict[key] for key in expected}, convs, eps=eps)
    model.load_state_dict(fitted)


def _conv_before(norm: str, names: Sequence[str]) -> str:
    """Return the last convolution that stands before a norm in the module order, inside the same block."""
    parent = norm.rpartition(".")[0]
    before = names[: names.index(norm)]
    return next(name for name in reversed(before) if "conv" in name and name.rpartition(".")[0] == parent)
