"""Random weights and an image from numpy's PCG64: the same numbers on every machine."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

_GAINS = {
    "rpn_head.rpn_conv.weight": 1.7,
    "rpn_head.rpn_cls.weight": 4.0,
    "rpn_head.rpn_reg.weight": 0.5,
    "bbox_head.shared_fcs.0.weight": 3.0,
    "bbox_head.shared_fcs.1.weight": 2.0,
    "bbox_head.fc_cls.weight": 2.5,
    "bbox_head.fc_reg.weight": 2.0,
    "mask_head.upsample.weight": 1.7,
    "mask_head.conv_logits.weight": 5.0,
    "semantic_head.conv_logits.weight": 4.0,
}
"""Factors of the random weights of layers without a norm after them."""


def golden_numbers():
    """Return the arrays of ``golden.npz`` by name."""
    with np.load(Path(__file__).parent / "golden.npz") as file:
        return dict(file)


def authors_state(golden):
    """Return the state dict of the authors' network with the weights of the recipe."""
    scales = json.loads(str(golden["norm_scale"]))
    shapes = json.loads(str(golden["shapes"]))
    return {
        key: torch.from_numpy(np.asarray(_values(key, tuple(shape), scales)))
        for key, shape in zip(golden["keys"].tolist(), shapes, strict=True)
    }


def _values(key, shape, scales):
    layer, _, leaf = key.rpartition(".")
    random = np.random.default_rng([0, zlib.crc32(key.encode())])
    scale = scales.get(layer, 1.0)
    if leaf == "num_batches_tracked":
        return np.zeros((), np.int64)
    if leaf == "running_mean":
        values = scale * 0.1 * random.standard_normal(shape)
    elif leaf == "running_var":
        values = scale * scale * random.uniform(0.5, 1.5, shape)
    elif leaf == "weight" and len(shape) == 1:  # of a norm; a third is negative
        values = random.uniform(0.5, 1.5, shape) * np.where(random.random(shape) < 0.3, -1, 1)
    elif leaf == "weight":
        inputs = (0,) if "upsample" in key else tuple(range(1, len(shape)))
        values = random.standard_normal(shape)
        is_depthwise = len(shape) == 4 and shape[1] == 1
        if not is_depthwise:
            values = values - values.mean(axis=inputs, keepdims=True)
        fan_in = int(np.prod([shape[axis] for axis in inputs]))
        values = values * (_GAINS.get(key, 1.0) / np.sqrt(fan_in))
    else:
        values = 0.1 * random.standard_normal(shape)
    return values.astype(np.float32)


def image(height, width):
    """Return smooth random colours with noise, uint8 RGB ``[height, width, 3]``."""
    random = np.random.default_rng([0, height, width])
    coarse = random.uniform(0, 255, (height // 16 + 1, width // 16 + 1, 3))
    rows, columns = np.arange(height) / 16, np.arange(width) / 16
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None, None], (columns - left)[:, None]
    bottom, end = np.minimum(top + 1, coarse.shape[0] - 1), np.minimum(left + 1, coarse.shape[1] - 1)

    def row(index):
        return (1 - right) * coarse[index][:, left] + right * coarse[index][:, end]

    smooth = (1 - down) * row(top) + down * row(bottom)
    return np.clip(np.rint(smooth + random.normal(0, 12, (height, width, 3))), 0, 255).astype(np.uint8)
