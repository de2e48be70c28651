"""The contract between panoptic networks and their backbones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efficientps.backbones.weights import PretrainedWeights, load_matching
from efficientps.structures import STRIDES, FeaturePyramid
from efficientps.structures.construction import Constructed

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of the channels R, G, B of ImageNet, in [0, 255]."""

IMAGENET_STD = (58.395, 57.12, 57.375)
"""Standard deviation of the channels R, G, B of ImageNet, in [0, 255]."""

_PROBE_SIZE = 64
"""Side in pixels of the image that a backbone is tested with; its coarsest level has four cells."""


class Backbone(Constructed, nn.Module, ABC):
    """Computes features of images at four strides.

    A subclass sets ``channels`` and writes ``forward``; the rest has defaults. Building one reads no file and needs no
    network connection: ``pretrained_weights`` only says where pretrained weights come from. A training that does not
    resume from a checkpoint loads them.

    Attributes:
        channels: channels of the four levels, finest first.
        strides: pixels of the image per cell of each level, finest first.
        image_mean: mean of the channels R, G, B in [0, 255], subtracted from images.
        image_std: standard deviation of these channels, in the same range, by which images are divided.
        pretrained_weights: description of the weights that training starts from; ``None`` means random weights. It
            becomes ``None`` when any weights are loaded.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = STRIDES
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD
    pretrained_weights: PretrainedWeights | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(_forget_pretrained_weights)  # type: ignore[no-untyped-call]

    @abstractmethod
    def forward(self, images: Tensor, *, checkpoint_blocks: bool = False) -> FeaturePyramid:
        """Return the four levels of normalised images, float ``[B, 3, H, W]`` with H and W multiples of 32.

        Args:
            images: normalised with ``image_mean`` and ``image_std``.
            checkpoint_blocks: recompute each block in the backward pass instead of keeping its activations
                (``efficientps.layers.activation_checkpointing.checkpointed``). A backbone may ignore it.
        """

    def load_weights(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load pretrained weights, whose keys are those of this module; a subclass may know other keys.

        Args:
            state: tensors by name; it may hold more than the backbone needs, such as a classifier.
            source: where they come from, for messages.

        Raises:
            ValueError: a tensor of the backbone is missing or has another shape.
        """
        load_matching(self, state, source=source)

    def load_pretrained_weights(self) -> str | None:
        """Load what ``pretrained_weights`` describes, once; return one line that names it, ``None`` without any.

        Raises:
            OSError: the weights cannot be fetched, or there is no such file.
            ValueError: the file cannot be read, or its weights do not fit.
        """
        weights = self.pretrained_weights
        if weights is None:
            return None
        text = str(weights)
        self.load_weights(weights.read(), source=text[0].upper() + text[1:])
        self.pretrained_weights = None
        return f"The backbone starts from {text}."

    def parameter_depths(self) -> dict[str, int]:
        """Return the depth of each parameter by its name, 0 next to the image, for layer-wise learning rates.

        By default all parameters have the same depth.
        """
        return {name: 0 for name, _ in self.named_parameters()}

    def undecayed_parameters(self) -> set[str]:
        """Return the names of parameters without weight decay, for trainings that exempt norms and biases from it.

        By default those of at most one dimension: weights of norms and all biases.
        """
        return {name for name, parameter in self.named_parameters() if parameter.ndim <= 1}


def build_backbone(
    backbone: Backbone | Callable[[], Backbone], *, strides: Sequence[tuple[int, ...]] = (STRIDES,)
) -> Backbone:
    """Build a backbone, and check its declared channels and strides on a small black image.

    Args:
        backbone: a backbone, or a function that builds one.
        strides: the strides that the network accepts, one tuple for each alternative.

    Raises:
        TypeError: the object is no ``Backbone``.
        ValueError: it has other strides, or its levels are not those that it declares.
    """
    built = backbone if isinstance(backbone, Backbone) else backbone()
    name = type(built).__name__
    if not isinstance(built, Backbone):
        raise TypeError(f"{name} is no backbone; derive it from efficientps.backbones.Backbone.")
    channels, declared = tuple(getattr(built, "channels", ())), tuple(built.strides)
    if len(channels) != 4:
        raise ValueError(f"The backbone {name} must declare the channels of four levels; it declares {channels}.")
    if declared not in strides:
        taken = " or ".join(str(choice) for choice in strides)
        raise ValueError(f"The backbone {name} has levels of strides {declared}; this network takes {taken}.")
    levels = _levels_of_a_small_image(built, name)
    found = [tuple(level.shape[1:]) for level in levels]
    expected = [(width, *[_PROBE_SIZE // stride] * 2) for width, stride in zip(channels, declared, strict=True)]
    if found != expected:
        raise ValueError(
            f"The backbone {name} declares channels {channels} at strides {declared}, but its levels of an image of "
            f"{_PROBE_SIZE}x{_PROBE_SIZE} pixels have the shapes {found} in place of {expected}."
        )
    return built


@torch.no_grad()
def _levels_of_a_small_image(backbone: Backbone, name: str) -> Sequence[Tensor]:
    """Run a backbone in evaluation mode, which draws no random numbers and changes no statistics."""
    modes = {module: module.training for module in backbone.modules()}
    parameter = next(backbone.parameters(), torch.zeros(()))
    backbone.eval()
    try:
        levels = backbone(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"The backbone {name} fails on an image of {_PROBE_SIZE}x{_PROBE_SIZE} pixels: {reason}"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(levels, FeaturePyramid):
        raise ValueError(f"The backbone {name} returns a {type(levels).__name__}; it must return a FeaturePyramid.")
    return levels


def _forget_pretrained_weights(backbone: nn.Module, _keys: Any) -> None:
    """Set ``pretrained_weights`` to None after other weights were loaded, for instance those of a checkpoint."""
    backbone.pretrained_weights = None  # type: ignore[assignment]
