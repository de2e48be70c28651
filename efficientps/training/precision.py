"""The precisions of a training: which there are, and weights that are stored in bfloat16."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from pytorch_lightning.strategies import Strategy
from torch import nn


class BFloat16Weights(Precision):
    """Stores weights, gradients and optimizer states in bfloat16, and computes under autocast to bfloat16.

    Norms, biases and running statistics stay in float32, as do boxes and losses: three digits, which bfloat16 has, are
    too few for them. Lightning's own plugin converts those as well.

    The optimizer needs half of the memory. An update below a 256th of a weight is lost, so that such weights learn less
    than those of ``bf16-mixed``.

    Args:
        device_type: ``"cuda"`` or ``"cpu"``, for autocast.
    """

    precision = "bf16-true"

    def __init__(self, device_type: str) -> None:
        """Store the type of the device."""
        self.device_type = device_type

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Convert the weights in place: parameters of more than one dimension."""
        for parameter in module.parameters():
            if parameter.ndim > 1 and parameter.dtype == torch.float32:
                parameter.data = parameter.data.to(torch.bfloat16)
        return module

    @contextmanager
    def forward_context(self) -> Generator[None, None, None]:
        """Compute under autocast."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16):
            yield


def settle_precision(strategy: Strategy) -> None:
    """Refuse a precision that gives wrong values, and let ``bf16-true`` be that of ``BFloat16Weights``.

    Call it before the strategy converts the module.

    Raises:
        ValueError: saying which precisions there are.
    """
    plugin = strategy.precision_plugin
    if type(plugin) is Precision or isinstance(plugin, MixedPrecision | DoublePrecision | BFloat16Weights):
        return
    if isinstance(plugin, HalfPrecision) and plugin.precision == "bf16-true":
        strategy.precision_plugin = BFloat16Weights(strategy.root_device.type)
        return
    reason = f"{type(plugin).__name__} is not supported"
    if isinstance(plugin, HalfPrecision):
        reason = "weights in float16 lose small updates, and their gradients overflow"
    raise ValueError(
        f"The precision {plugin.precision} cannot be used: {reason}. Choose 32-true, 16-mixed, bf16-mixed, "
        "bf16-true or 64-true."
    )
