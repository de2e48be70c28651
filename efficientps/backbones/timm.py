"""Any network of timm that has features at strides 4, 8, 16 and 32, chosen by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from efficientps.backbones.backbone import Backbone
from efficientps.backbones.weights import HubWeights, WeightFile, load_matching
from efficientps.layers.activation_checkpointing import checkpointed
from efficientps.layers.norm_act import freeze_norms
from efficientps.structures import STRIDES, FeaturePyramid

_STAGE = re.compile(r"(?:stages|layers|layer|blocks)[_.]?(\d+)")
"""The number of a stage in the name of a parameter."""

_POSITIONS = ("pos_embed", "relative_position_bias_table")
"""Tables of positions, which timm exempts from weight decay (the ``no_weight_decay`` of its networks)."""


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Args:
        name: name of the network in timm, for instance ``convnext_tiny`` or ``swin_tiny_patch4_window7_224``; a tag
            after a dot chooses among its weights, as in ``convnext_tiny.in12k_ft_in1k``.
        pretrained: let training start from timm's weights of that name.
        weights: a local weight file in timm's keys instead of a download; implies ``pretrained``.
        frozen_norms: fix batch norms to their running statistics.

    Attributes:
        image_mean: mean of the images that timm's weights were trained on, in [0, 255].
        image_std: standard deviation of these images, in the same range.
    """

    def __init__(
        self, *, name: str, pretrained: bool = True, weights: str | None = None, frozen_norms: bool = False
    ) -> None:
        """Build the network.

        Raises:
            ValueError: timm has no such network, or it has other strides.
        """
        super().__init__()
        import timm

        try:
            config = timm.get_pretrained_cfg(name)
            if config is None:
                raise RuntimeError(f"Unknown model ({name})")
            self.network = _features(name)
        except (RuntimeError, AttributeError, IndexError, AssertionError) as error:
            raise ValueError(
                f"timm cannot build {name!r} with four levels of features ({error}); timm.list_models() names its "
                "networks."
            ) from error
        strides = tuple(self.network.feature_info.reduction())
        if strides != STRIDES:
            raise ValueError(f"timm's {name!r} has features at the strides {strides}; a backbone needs {STRIDES}.")
        self.channels = tuple(self.network.feature_info.channels())
        self.image_mean = _in_255(config.mean)
        self.image_std = _in_255(config.std)
        if weights is not None:
            self.pretrained_weights = WeightFile(weights)
        elif pretrained:
            if not config.hf_hub_id:
                raise ValueError(f"timm has no weights of {name!r} on the hub; give a file as weights.")
            self.pretrained_weights = HubWeights(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        if frozen_norms:
            freeze_norms(self)

    def forward(self, images: Tensor, *, checkpoint_blocks: bool = False) -> FeaturePyramid:
        """Return the features at strides 4, 8, 16 and 32 of normalised images, float ``[B, 3, H, W]``.

        With ``checkpoint_blocks`` the backward pass computes the whole network a second time, see ``checkpointed``.
        """
        levels = checkpointed(self.network, images) if checkpoint_blocks else self.network(images)
        if str(getattr(self.network, "output_fmt", "")).endswith("NHWC"):
            levels = [level.permute(0, 3, 1, 2).contiguous() for level in levels]
        return FeaturePyramid(*levels)

    def load_weights(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load weights in timm's keys.

        Raises:
            ValueError: a tensor of the backbone is missing or has another shape.
        """
        # timm's feature networks have other keys than its files: "stages_0." for "stages.0.", or "model." before each
        # key.
        renamed = dict(state)
        for key in self.network.state_dict():
            first, _, rest = key.partition(".")
            for of_file in (re.sub(r"_(\d+)$", r".\1", first) + f".{rest}", key.removeprefix("model.")):
                if key not in renamed and of_file in state:
                    renamed[key] = state[of_file]
        load_matching(self.network, renamed, source=source)

    def parameter_depths(self) -> dict[str, int]:
        """Return the depth of each parameter: 0 in the stem, then the number of its stage, counted from 1."""
        depths: dict[str, int] = {}
        lowest = min(
            (int(found[1]) for name, _ in self.named_parameters() if (found := _STAGE.search(name))), default=0
        )
        depth = 0
        for name, _ in self.named_parameters():
            if found := _STAGE.search(name):
                depth = int(found[1]) - lowest + 1
            depths[name] = depth  # a norm after a stage belongs to it
        return depths

    def undecayed_parameters(self) -> set[str]:
        """Return the names of the weights of norms, of the biases and of the position embeddings."""
        tables = {name for name, _ in self.named_parameters() if any(word in name for word in _POSITIONS)}
        return super().undecayed_parameters() | tables


def _features(name: str) -> Any:
    """Build a timm network that returns its last four levels, and takes images of any size where timm allows it."""
    import timm

    last_four = (-4, -3, -2, -1)
    try:
        return timm.create_model(name, features_only=True, out_indices=last_four, strict_img_size=False)
    except TypeError:  # most networks take any size, and have no such argument
        return timm.create_model(name, features_only=True, out_indices=last_four)


def _in_255(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (255 * value for value in values)
    return red, green, blue
