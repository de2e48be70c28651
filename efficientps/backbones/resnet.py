"""The ResNet under DETR: four levels, norms fixed to their statistics, stem and first stage not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torchvision.ops import FrozenBatchNorm2d

from efficientps.backbones.backbone import Backbone
from efficientps.backbones.weights import HubWeights, WeightFile, load_matching
from efficientps.layers.activation_checkpointing import checkpointed
from efficientps.structures import STRIDES, FeaturePyramid

ResNetVariant = Literal["resnet10t", "resnet14t", "resnet18", "resnet34", "resnet50", "resnet101"]

_WEIGHTS: dict[str, str] = {"resnet10t": "c3_in1k", "resnet14t": "c3_in1k"}
"""timm's tags of weights; other variants have torchvision's first weights, ``tv_in1k``, as in DETR."""

_STAGE = "network.layer"
"""Beginning of the keys of a stage's parameters, before the number of the stage."""


class ResNetBackbone(Backbone):
    """A ResNet of timm, tapped after its four stages (facebookresearch/detr:models/backbone.py).

    Args:
        variant: DETR is published with ``resnet50`` and ``resnet101``; ``resnet10t`` and ``resnet14t`` are timm's small
            ones, for CPUs.
        pretrained: let training start from ImageNet weights.
        weights: a local weight file in the keys of torchvision and timm instead of a download; implies ``pretrained``.
        frozen_stages: leading stages that are not trained, the stem with the first (0 to 4; 1 in DETR).
        frozen_norms: fix the batch norms to the statistics and scales of the weights (DETR). Norms with initial
            statistics normalise nothing: set False to train from random weights.
        dilation: dilate the last stage in place of its stride, so that the coarsest level has stride 16 (DC5).

    Attributes:
        channels: channels of the four levels, finest first: ``(256, 512, 1024, 2048)`` for ResNet-50.
        strides: strides of the four levels; the last is 16 with ``dilation``.
    """

    def __init__(
        self,
        *,
        variant: ResNetVariant = "resnet50",
        pretrained: bool = True,
        weights: str | None = None,
        frozen_stages: int = 1,
        frozen_norms: bool = True,
        dilation: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= frozen_stages <= 4:
            raise ValueError(f"frozen_stages is {frozen_stages}; a ResNet has 0 to 4 stages to freeze.")
        import timm
        from timm.utils.model import freeze_batch_norm_2d  # type: ignore[attr-defined]

        network: Any = timm.create_model(
            variant, features_only=True, out_indices=(1, 2, 3, 4), output_stride=16 if dilation else 32
        )
        self.channels = tuple(network.feature_info.channels())
        self.strides = (4, 8, 16, 16) if dilation else STRIDES
        if weights is not None:
            self.pretrained_weights = WeightFile(weights)
        elif pretrained:
            self.pretrained_weights = HubWeights(f"timm/{variant}.{_WEIGHTS.get(variant, 'tv_in1k')}")
        self.network: Any = network
        if frozen_norms:
            self.network = _with_fixed_norms(freeze_batch_norm_2d(network))  # type: ignore[no-untyped-call]
        trained = tuple(f"layer{stage}." for stage in range(frozen_stages + 1, 5))
        for key, parameter in self.network.named_parameters():
            parameter.requires_grad_(key.startswith(trained) or frozen_stages == 0)

    def forward(self, images: Tensor, *, checkpoint_blocks: bool = False) -> FeaturePyramid:
        """Return the features at strides 4, 8, 16 and 32 (dilated: 16) of normalised images, float ``[B, 3, H, W]``.

        With ``checkpoint_blocks`` the backward pass computes each block a second time, see ``checkpointed``.
        """
        x, levels = images, []
        for name, part in self.network.items():
            is_stage = name.startswith("layer")
            if is_stage and checkpoint_blocks:
                for block in part:
                    x = checkpointed(block, x)
            else:
                x = part(x)
            if is_stage:
                levels.append(x)
        return FeaturePyramid(*levels)

    def load_weights(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load weights in the keys of torchvision and timm.

        Raises:
            ValueError: a tensor of the backbone is missing or has another shape.
        """
        load_matching(self.network, state, source=source)

    def parameter_depths(self) -> dict[str, int]:
        """Return the depth of each parameter: 0 in the stem, then the number of its stage."""
        names = [name for name, _ in self.named_parameters()]
        return {name: int(name[len(_STAGE)]) if name.startswith(_STAGE) else 0 for name in names}


class FixedNorm(FrozenBatchNorm2d):
    """A batch norm fixed to its statistics and scales, which on a CUDA device is one kernel.

    torchvision's takes seven kernels, because it computes scale and shift in every call, and its maps are float32 under
    autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map ``[B, C, h, w]``, on a CUDA device in the dtype of ``x``."""
        if x.is_cuda:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normed: Tensor = super().forward(x)  # on a CPU the work on pixels is what takes time
        return normed


def _with_fixed_norms(network: nn.Module) -> nn.Module:
    """Replace each frozen batch norm of torchvision by a ``FixedNorm`` with the same tensors."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, FrozenBatchNorm2d):
                fixed = FixedNorm(norm.weight.shape[0], eps=norm.eps)
                for key, tensor in norm.named_buffers():
                    fixed.register_buffer(key, tensor)
                setattr(parent, name, fixed)
    return network
