"""A layer of DETR's encoder."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import dropout
from transformers.models.detr.modeling_detr import DetrEncoderLayer


class EncoderLayer(DetrEncoderLayer):
    """A layer of the encoder that bounds its states in training without asking the device whether it has to.

    ``transformers`` waits in every layer to know whether all states are finite, and bounds them if not.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        spatial_position_embeddings: Tensor | None = None,
    ) -> Tensor:
        """Return the states ``[B, h * w, channels]`` after attention and feed-forward network."""
        attended, _ = self.self_attn(hidden_states, attention_mask, position_embeddings=spatial_position_embeddings)
        attended = dropout(attended, p=self.dropout, training=self.training)
        states = self.self_attn_layer_norm(hidden_states + attended)
        states = self.final_layer_norm(states + self.mlp(states))
        if self.training:
            bound = torch.finfo(states.dtype).max - 1000
            states = states.clamp(min=-bound, max=bound)
        return cast(Tensor, states)
