"""Loss normalisers: the number of samples that a summed loss is divided by, averaged over processes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.distributed as dist

NormalizerScope: TypeAlias = Literal["global", "device"]
"""The samples that count: those of all processes, or those of each process alone."""


def normalizer(count: int | torch.Tensor, *, scope: NormalizerScope, device: torch.device) -> torch.Tensor:
    """Return the number to divide a sum of losses by; gradients are averaged over the processes afterwards.

    With ``global``, N processes with batch b have the gradient of one process with batch N·b, however the objects are
    spread over the images. The published recipes divide by each GPU's own count (torchvision's detection losses,
    WXinlong/SOLO:solov2_head.py), which gives objects on a GPU that has few of them a greater weight.

    Args:
        count: number of samples of this process. All processes must call this together, once for each sum.
        scope: ``global`` divides by the mean count of all processes, ``device`` by this process' own.
        device: device of the losses.

    Returns:
        A float32 scalar; without any sample, the number for one sample.
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
