"""The detector of DETR after its backbone: transformer, class head and box head, for things and stuff alike."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from efficientps.networks.counts import check_counts


class Detection(NamedTuple):
    """The output of the detector for a batch: D decoder layers (outside of training the last one only), Q queries.

    Here h and w are the height and the width of the coarsest level.
    """

    class_logits: Tensor  # float32 [D, B, Q, C + 1], train_id; the last class is "no object"
    boxes: Tensor  # float32 [D, B, Q, 4], cxcywh as fractions of the valid image
    states: Tensor  # [B, Q, channels], of the last layer
    memory: Tensor  # [B, channels, h, w], of the encoder
    features: Tensor  # [B, channels, h, w], the input of the encoder
    valid: Tensor | None  # bool [B, h, w], where there is image and no padding; None if there is no padding at all


class Detector(nn.Module):
    """Transformer and heads of DETR (Carion et al., ECCV 2020, arXiv 2005.12872), by the parts of ``transformers``.

    The heads read the states of every decoder layer after the decoder's norm; the next layer gets them without this
    norm. (``DetrConfig.auxiliary_loss`` of ``transformers`` gives the normalised states to the next layer, which
    computes other results with the same weights.)

    Args:
        in_channels: channels of the backbone's coarsest level.
        num_classes: stuff and things, without "no object".
        num_queries: number of queries, each of which finds at most one segment; give more than an image of the data has
            segments (100 in DETR, for at most 70 in COCO).
        channels: width of the transformer, a multiple of 16 and of ``num_heads``.
        num_heads: number of attention heads.
        feed_forward: width of the feed-forward networks.
        encoder_layers: number of layers in the encoder.
        decoder_layers: number of layers in the decoder.
        dropout: rate of the dropout in encoder and decoder.
        box_layers: number of linear layers in the box head (3, DETR, Sec. 3.2).
        position_temperature: base of the wavelengths of the position embedding (10000,
            facebookresearch/detr:models/position_encoding.py).

    Raises:
        ValueError: a count is too small, ``channels`` does not fit the position embedding or the heads, or the dropout
            is not in [0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        num_queries: int = 100,
        channels: int = 256,
        num_heads: int = 8,
        feed_forward: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        dropout: float = 0.1,
        box_layers: int = 3,
        position_temperature: int = 10_000,
    ) -> None:
        super().__init__()
        counts = {"num_queries": num_queries, "channels": channels, "num_heads": num_heads}
        layers = {"feed_forward": feed_forward, "decoder_layers": decoder_layers, "box_layers": box_layers}
        temperature = {"position_temperature": position_temperature}
        check_counts("detector", counts | layers | temperature)
        check_counts("detector", {"encoder_layers": encoder_layers}, least=0)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout of the detector is {dropout}; it is a rate, from 0 up to but not including 1.")
        if channels % 16 or channels % num_heads:
            raise ValueError(
                f"channels of the detector is {channels}; it must be a multiple of 16 and of num_heads, {num_heads}."
            )
        # Imported where a detector is built: a command line knows the class, and mostly builds another network.
        from transformers.models.detr.configuration_detr import DetrConfig
        from transformers.models.detr.modeling_detr import (
            DetrDecoder,
            DetrEncoder,
            DetrMLPPredictionHead,
            DetrSinePositionEmbedding,
        )

        from efficientps.networks.detr.encoder_layer import EncoderLayer

        config = DetrConfig(
            d_model=channels,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            encoder_attention_heads=num_heads,
            decoder_attention_heads=num_heads,
            encoder_ffn_dim=feed_forward,
            decoder_ffn_dim=feed_forward,
            dropout=dropout,
        )
        self.channels = channels
        self.num_heads = num_heads
        self.num_queries = num_queries
        self.input_projection = nn.Conv2d(in_channels, channels, 1)
        self.position_embedding = DetrSinePositionEmbedding(channels // 2, position_temperature, normalize=True)
        self.encoder = DetrEncoder(config)
        with torch.random.fork_rng(devices=[]):  # leaves the numbers for later weights as they are
            self.encoder.layers = nn.ModuleList(EncoderLayer(self.encoder.config) for _ in range(encoder_layers))
        self.decoder = DetrDecoder(config)
        self.queries = nn.Embedding(num_queries, channels)
        self.class_head = nn.Linear(channels, num_classes + 1)
        self.box_head: nn.Module = DetrMLPPredictionHead(channels, channels, 4, num_layers=box_layers)  # type: ignore[no-untyped-call]
        for module in (self.encoder, self.decoder):
            _init_transformer(module)
        self._last_positions: tuple[Hashable, Tensor] | None = None

    def forward(self, level: Tensor, valid: Tensor) -> Detection:
        """Detect objects in the backbone's coarsest level.

        Args:
            level: ``[B, in_channels, h, w]``.
            valid: bool ``[B, h, w]``, False in padding; in the host's memory, so that the host need not wait to learn
                whether there is padding.
        """
        features = self.input_projection(level)
        positions = self._positions(valid, features)
        is_padded = not bool(valid.all())
        on_device = valid.to(level.device, non_blocking=True) if is_padded else None
        # The layers use a mask of four dimensions unchanged; for one of two dimensions they check for padding, and
        # wait.
        attended = None if on_device is None else on_device.flatten(1)[:, None, None]
        memory = self.encoder(
            inputs_embeds=_sequence(features), attention_mask=attended, spatial_position_embeddings=positions
        ).last_hidden_state
        states = self._decode(memory, positions, attended)
        stacked = torch.stack(states)
        return Detection(
            class_logits=self.class_head(stacked).float(),
            boxes=self.box_head(stacked).float().sigmoid(),
            states=states[-1],
            memory=memory.mT.unflatten(2, level.shape[-2:]),
            features=features,
            valid=on_device,
        )

    def _decode(self, memory: Tensor, positions: Tensor, attended: Tensor | None) -> list[Tensor]:
        """Return the normed states ``[B, Q, channels]`` of the decoder's layers, outside of training of the last alone.

        The layers are called one by one. Asked for the states of all layers, the decoder of ``transformers`` would
        leave hooks on them that cannot be pickled.
        """
        queries = self.queries.weight.expand(len(memory), -1, -1)
        states = [torch.zeros_like(queries)]
        for layer in self.decoder.layers:
            states.append(layer(states[-1], None, positions, queries, memory, encoder_attention_mask=attended))
        last = self.decoder.layernorm(states[-1])
        earlier = states[1:-1] if self.training else []
        return [*map(self.decoder.layernorm, earlier), last]

    def _positions(self, valid: Tensor, features: Tensor) -> Tensor:
        """Return the position embeddings ``[B, h * w, channels]`` of cells, from the last call if they fit."""
        key = (valid.shape, valid.cpu().numpy().tobytes(), features.device, features.dtype)
        if self._last_positions is None or self._last_positions[0] != key:
            # Training may use the embeddings of a prediction, and training cannot use inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                cells = valid.to(features.device, non_blocking=True)
                embedded = self.position_embedding(features.shape, features.device, torch.float32, cells)
                self._last_positions = key, _sequence(embedded).to(features.dtype)
        return self._last_positions[1]


def _sequence(grid: Tensor) -> Tensor:
    """Lay a grid ``[B, C, h, w]`` out as a sequence ``[B, h * w, C]``."""
    return grid.flatten(2).mT


def _init_transformer(module: nn.Module) -> None:
    """Draw the weights as the authors do (facebookresearch/detr:models/transformer.py): uniform after Xavier.

    Biases of the attention are 0, as in torch's own; the others stay torch's.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
            nn.init.xavier_uniform_(layer.weight)
            if "attn" in name:
                nn.init.zeros_(layer.bias)
