"""Normalise images by the mean and the standard deviation of their channels; padding becomes zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from efficientps.networks.padding import clear_padding


class ImageNormalization:
    """Turns uint8 images into the input of a backbone: ``(images - mean) / std``.

    Mean and standard deviation are arguments of a network and no weights: they are kept as numbers, so that no state
    dict has to hold them, and neither ``to_empty`` nor a change of the network's dtype changes them. Their tensors are
    made once for each device.

    Args:
        mean: mean of the channels R, G, B in [0, 255].
        std: standard deviation of these channels, in the same range.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Store the numbers."""
        self.mean, self.std = tuple(mean), tuple(std)
        self._kept: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]], *, weights: torch.dtype = torch.float32
    ) -> Tensor:
        """Return normalised images ``[B, 3, H, W]``; padding becomes 0, the mean colour.

        Args:
            images: uint8 ``[B, 3, H, W]``.
            image_sizes: valid ``(h, w)`` of each.
            weights: dtype of the network's weights. The images are float32, and float64 for weights in float64.
        """
        mean, std = self._tensors(images.device, torch.promote_types(weights, torch.float32))
        return clear_padding((images - mean) / std, image_sizes)

    def _tensors(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, ``[3, 1, 1]`` each."""
        if (device, dtype) not in self._kept:
            with torch.inference_mode(False):
                mean, std = (
                    torch.tensor(values, dtype=dtype, device="cpu").view(3, 1, 1).to(device)
                    for values in (self.mean, self.std)
                )
            self._kept[device, dtype] = mean, std
        return self._kept[device, dtype]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy or a pickle: the numbers without their tensors."""
        return {**self.__dict__, "_kept": {}}
