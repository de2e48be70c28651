"""Loss normalisers: the number of samples that a summed loss is divided by, averaged over processes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.distributed as dist

NormalizerScope: TypeAlias = Literal["global", "device"]
"""Whose samples count: those of all processes, or each process' own."""


def normalizer(count: int | torch.Tensor, *, scope: NormalizerScope, device: torch.device) -> torch.Tensor:
    """Return what to divide a sum of losses by, so that gradients averaged over the processes are what they should be.

    An image with many objects then weighs the same wherever it is dealt to: N processes with batch b have the gradient
    of one process with batch N·b. The published recipes divide by each GPU's own count (torchvision's detection losses,
    WXinlong/SOLO:solov2_head.py), which gives objects on a GPU that has few of them a greater weight.

    Args:
        count: of this process' samples. All processes call this together, once for each sum.
        scope: ``global`` divides by the mean count of all processes, ``device`` by this process' own.
        device: of the losses.

    Returns:
        A float32 scalar; in place of no sample at all, over all processes or here, one counts.
    """
    if isinstance(count, torch.Tensor):
        counted = count.to(device, torch.float32)
    else:  # filled in on the device: a copy of the number would make the host wait
        counted = torch.full((), float(count), device=device)
    if scope == "device" or not (dist.is_available() and dist.is_initialized()):
        return counted.clamp(min=1)
    counted = counted.clone()
    dist.all_reduce(counted)
    return counted.clamp(min=1) / dist.get_world_size()
