"""Mixed precision: the dtype of autocast, and unscaled gradients for the clipping of fused optimizers.

With a loss scale (float16), Lightning unscales the gradients of ordinary optimizers between backward pass and clipping.
It leaves a fused optimizer to unscale its gradients inside its step, which is after clipping, and therefore refuses to
clip them. The functions here unscale the gradients of a fused optimizer right after the backward pass. The optimizer's
step then only receives the flag of an overflow, and skips the update on the device without waiting for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch.optim import Optimizer

AUTOCAST_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16}
"""The dtype of autocast, for the trainer's precisions that use it."""


def unscaling_closure(
    plugin: Precision, optimizer: Optimizer | LightningOptimizer, closure: Callable[[], Any] | None
) -> Callable[[], Any] | None:
    """Return the closure of an optimizer step, extended by unscaling if the optimizer is fused and the loss is scaled.

    Args:
        plugin: precision of the trainer.
        optimizer: the optimizer that steps; whether its step takes part in loss scaling is set again, because a resumed
            optimizer is fused if its checkpoint's was, and PyTorch has set this when it was built.
        closure: computes the loss and its gradients.
    """
    scaler = plugin.scaler if isinstance(plugin, MixedPrecision) else None
    if scaler is None:
        return closure
    inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
    fused = any(group.get("fused") for group in inner.param_groups)
    inner._step_supports_amp_scaling = fused  # type: ignore[attr-defined]
    if not fused or closure is None:
        return closure

    def loss_with_unscaled_gradients() -> Any:
        loss = closure()
        if loss is not None:
            scaler.unscale_(inner)
        return loss

    return loss_with_unscaled_gradients


def clip_gradients(plugin: MixedPrecision, optimizer: Optimizer, value: float, algorithm: str | None) -> None:
    """Clip gradients in mixed precision, also those of a fused optimizer, which Lightning refuses to clip.

    Lightning cannot know that the gradients are unscaled: in bfloat16 nothing scales them, and in float16
    ``unscaling_closure`` has unscaled them.

    Args:
        plugin: precision of the trainer.
        optimizer: optimizer whose gradients are clipped.
        value: largest norm, or largest absolute value.
        algorithm: ``norm`` (the default) or ``value``.
    """
    Precision.clip_gradients(plugin, optimizer, value, GradClipAlgorithmType(algorithm or "norm"))
