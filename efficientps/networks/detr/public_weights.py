"""Rename the keys of public DETR weights to the keys of this package.

Three layouts are known: the authors' (facebookresearch/detr, its hub files), that of the files that ``transformers``
published before version 5, and that of its modules since then. Files of detectors and of panoptic models are read; in
the latter the detector's keys begin with ``detr.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RULES: tuple[tuple[str, str], ...] = (
    # What a model is wrapped in.
    (r"detr\.", r""),
    # transformers; those published before version 5 have .conv_encoder, .out_proj, and no .mlp.
    (r"model\.backbone\.(?:conv_encoder\.)?model\.", r"backbone.network."),
    (r"model\.input_projection\.", r"detector.input_projection."),
    (r"model\.query_position_embeddings\.", r"detector.queries."),
    (r"model\.((?:en|de)coder)\.", r"detector.\1."),
    (r"class_labels_classifier\.", r"detector.class_head."),
    (r"bbox_predictor\.", r"detector.box_head."),
    # The authors'.
    (r"backbone\.0\.body\.", r"backbone.network."),
    (r"input_proj\.", r"detector.input_projection."),
    (r"query_embed\.", r"detector.queries."),
    (r"transformer\.decoder\.norm\.", r"detector.decoder.layernorm."),
    (r"transformer\.((?:en|de)coder)\.", r"detector.\1."),
    (r"class_embed\.", r"detector.class_head."),
    (r"bbox_embed\.", r"detector.box_head."),
    (r"(detector\.(?:en|de)coder\.layers\.\d+\.)linear([12])\.", r"\1fc\2."),
    (r"(detector\.(?:en|de)coder\.layers\.\d+\.)fc([12])\.", r"\1mlp.fc\2."),
    (r"(detector\.decoder\.layers\.\d+\.)multihead_attn\.", r"\1encoder_attn."),
    (r"(detector\.encoder\.layers\.\d+\.)norm1\.", r"\1self_attn_layer_norm."),
    (r"(detector\.encoder\.layers\.\d+\.)norm2\.", r"\1final_layer_norm."),
    (r"(detector\.decoder\.layers\.\d+\.)norm1\.", r"\1self_attn_layer_norm."),
    (r"(detector\.decoder\.layers\.\d+\.)norm2\.", r"\1encoder_attn_layer_norm."),
    (r"(detector\.decoder\.layers\.\d+\.)norm3\.", r"\1final_layer_norm."),
    (r"(detector\..*_attn\.)out_proj\.", r"\1o_proj."),
    # The mask head; the authors' names and those of transformers before version 5 are the same.
    (r"bbox_attention\.([qk])_(?:linear|proj)\.", r"mask_head.attention.\1_proj."),
    (r"mask_head\.lay([12])\.", r"mask_head.conv\1.conv."),
    (r"mask_head\.gn([12])\.", r"mask_head.conv\1.norm."),
    *(
        rule
        for stage in range(3)
        for rule in (
            (rf"mask_head\.adapter{stage + 1}\.", rf"mask_head.fpn_stages.{stage}.fpn_adapter."),
            (rf"mask_head\.lay{stage + 3}\.", rf"mask_head.fpn_stages.{stage}.refine.conv."),
            (rf"mask_head\.gn{stage + 3}\.", rf"mask_head.fpn_stages.{stage}.refine.norm."),
        )
    ),
    (r"mask_head\.out_lay\.", r"mask_head.output_conv."),
    (r"mask_head\.(conv[12]|fpn_stages|output_conv)\.", r"mask_head.convolutions.\1."),
)
"""Beginnings of keys and their replacements, applied one after the other."""

_JOINT = re.compile(r"(.*_attn\.)in_proj_(weight|bias)")


def to_own_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a state dict; keys that are the network's own, or of nothing known, stay as they are.

    The authors' attention has queries, keys and values in one tensor, which becomes three.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, replacement in _RULES:
            key = re.sub(rf"^{pattern}", replacement, key)
        joint = _JOINT.fullmatch(key)
        if joint:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{joint[1]}{part}_proj.{joint[2]}"] = rows
        else:
            renamed[key] = value
    return renamed
