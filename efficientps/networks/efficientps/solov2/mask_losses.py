"""The Dice losses of the masks that the kernels of positive cells draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from efficientps.networks.efficientps.solov2.mask_drawing import dynamic_convolution, masks_at_a_time
from efficientps.networks.efficientps.solov2.targets import CellTargets, stride4_masks
from efficientps.networks.losses import dice_loss
from efficientps.structures import InstanceTargets


def mask_loss_of_batch(
    kernels: Tensor,
    features: Tensor,
    assigned: Sequence[CellTargets],
    targets: Sequence[InstanceTargets],
    *,
    dice_smoothing: float = 1e-3,
) -> tuple[Tensor, int]:
    """Return the sum of the Dice losses of all pairs of a cell and an object, float32, and the number of pairs.

    Args:
        kernels: ``[B, cells, E]``.
        features: ``[B, E, H/4, W/4]``.
        assigned: the pairs of each image.
        targets: the objects of each image.
        dice_smoothing: number that the Dice loss adds to both sums of its denominator.
    """
    losses = torch.cat(
        [
            mask_losses(of_image, maps, cells, target["masks"], dice_smoothing=dice_smoothing)
            for of_image, maps, cells, target in zip(kernels, features, assigned, targets, strict=True)
        ]
    )
    total = losses.sum()
    if len(losses) == 0:
        # Without any pair the mask loss is zero, and still connected to every parameter.
        total = total + 0.0 * (features.float().mean() + kernels.float().mean())
    return total, len(losses)


def mask_losses(
    kernels: Tensor, features: Tensor, cells: CellTargets, masks: Tensor, *, dice_smoothing: float = 1e-3
) -> Tensor:
    """Return the Dice loss of each pair of a cell and an object, float32 ``[P]``.

    The backward pass draws the masks of the pairs a second time, so that they are not kept in memory.

    Args:
        kernels: ``[cells, E]``, of all cells of the image.
        features: ``[E, H/4, W/4]``, mask features of the image.
        cells: the P pairs.
        masks: bool ``[N, H, W]``, of the N objects.
        dice_smoothing: number that the Dice loss adds to both sums of its denominator.
    """
    targets = stride4_masks(masks).flatten(1)  # one for each object, not for each pair
    losses = [features.new_zeros(0, dtype=torch.float32)]
    if len(cells.cells) == 0:
        return losses[0]
    number = masks_at_a_time(features)
    for chunk, objects in zip(torch.split(cells.cells, number), torch.split(cells.objects, number), strict=True):
        losses.append(
            checkpoint(
                _pair_losses,
                kernels[chunk],
                features,
                targets,
                objects,
                dice_smoothing,
                use_reentrant=False,
                preserve_rng_state=False,
            )
        )
    return torch.cat(losses)


def _pair_losses(kernels: Tensor, features: Tensor, targets: Tensor, objects: Tensor, dice_smoothing: float) -> Tensor:
    return dice_loss(dynamic_convolution(kernels, features).flatten(1), targets[objects], smoothing=dice_smoothing)
