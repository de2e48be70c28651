"""Rename the keys of the authors' weights to the keys of this package (DeepSceneSeg/EfficientPS, mmdet/models).

No tensor is transposed or scaled. The weights fit the network of ``configs/cityscapes_official.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_LATERALS_FROM_COARSEST = re.compile(r"neck\.lateral_convs_bottom\.(\d)\.")

_RULES: tuple[tuple[str, str], ...] = (
    (r"^module\.", r""),
    (r"^backbone\.(?!network\.)", r"backbone.network."),
    (r"^neck\.lateral_convs_top\.(\d)\.", r"neck.top_down_laterals.\1."),
    (r"^neck\.fpn_convs\.(\d)\.", r"neck.outputs.\1."),
    (r"^semantic_head\.lateral_convs_ss\.0\.", r"semantic_head.dpc32."),
    (r"^semantic_head\.lateral_convs_ss\.1\.", r"semantic_head.dpc16."),
    (r"^(semantic_head\.dpc\d+\.)conv\.", r"\1project."),
    *(
        (rf"^(semantic_head\.dpc\d+\.)convs\.{index}\.", rf"\1{name}.")
        for index, name in enumerate(("first", "near", "wide", "far", "after_far"))
    ),
    (r"^semantic_head\.lateral_convs_ls\.0\.convs\.", r"semantic_head.lsfe8."),
    (r"^semantic_head\.lateral_convs_ls\.1\.convs\.", r"semantic_head.lsfe4."),
    (r"^semantic_head\.aligning_convs\.0\.convs\.", r"semantic_head.mc16_to_8."),
    (r"^semantic_head\.aligning_convs\.1\.convs\.", r"semantic_head.mc8_to_4."),
    (r"^semantic_head\.conv_logits\.", r"semantic_head.classifier."),
    (r"^rpn_head\.rpn_conv\.", r"instance_head.rpn.head.conv.0.0."),
    (r"^rpn_head\.rpn_cls\.", r"instance_head.rpn.head.cls_logits."),
    (r"^rpn_head\.rpn_reg\.", r"instance_head.rpn.head.bbox_pred."),
    (r"^bbox_head\.shared_fcs\.0\.", r"instance_head.box_branch.fc.1."),
    (r"^bbox_head\.shared_fcs\.1\.", r"instance_head.box_branch.fc.3."),
    (r"^bbox_head\.fc_cls\.", r"instance_head.box_branch.predictor.cls_score."),
    (r"^bbox_head\.fc_reg\.", r"instance_head.box_branch.predictor.bbox_pred."),
    (r"^mask_head\.convs\.(\d)\.", r"instance_head.mask_branch.convs.\1."),
    (r"^mask_head\.upsample\.", r"instance_head.mask_branch.deconv."),
    (r"^mask_head\.conv_logits\.", r"instance_head.mask_branch.predictor."),
    (r"\.depthwise_conv\.conv\.", r".0."),
    (r"\.depthwise_conv\.bn\.", r".1."),
    (r"\.pointwise_conv\.conv\.", r".2."),
    (r"\.pointwise_conv\.bn\.", r".3."),
    (r"^((?:neck|semantic_head)\..*)\.conv\.(\w+)$", r"\1.0.\2"),
    (r"^((?:neck|semantic_head)\..*)\.bn\.(\w+)$", r"\1.1.\2"),
)
"""Patterns in keys and their replacements, applied one after the other."""


def is_authors_state(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has keys of the authors' network."""
    return any(key.removeprefix("module.").startswith("rpn_head.rpn_conv.") for key in state)


def to_own_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a state dict of the authors' network; any other state dict is returned as it is.

    Their lateral convolutions of the bottom-up branch are counted from the coarsest level, ours from the finest. Their
    counters of batches (``num_batches_tracked``) have no use here and are left out.
    """
    if not is_authors_state(state):
        return dict(state)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".num_batches_tracked"):
            continue
        key = _LATERALS_FROM_COARSEST.sub(lambda match: f"neck.bottom_up_laterals.{3 - int(match[1])}.", key)
        for pattern, replacement in _RULES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed
