"""The mask head against that of transformers, whose order of expansion is the other one."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.detr.modeling_detr import DetrMaskHeadSmallConv, DetrMHAttentionMap

from efficientps.networks.detr.detector import Detection
from efficientps.networks.detr.mask_head import MaskHead

CHANNELS, HEADS, LEVELS = 32, 8, (8, 12, 20)
BATCH, QUERIES, SIZE = 2, 6, (3, 5)


def published_order(head: MaskHead, detection: Detection, levels):
    """Return the masks [B, Q, h, w] of transformers' modules, with the same weights."""
    attention = DetrMHAttentionMap(CHANNELS, HEADS)
    attention.load_state_dict(head.attention.state_dict())
    convolutions = DetrMaskHeadSmallConv(CHANNELS + HEADS, list(LEVELS[::-1]), CHANNELS)
    convolutions.load_state_dict(head.convolutions.state_dict())
    padding = torch.where(detection.valid[:, None, None], 0.0, torch.finfo(torch.float32).min)
    maps = attention(detection.states, detection.memory, attention_mask=padding)
    masks = convolutions(detection.features, maps, levels[::-1])
    return masks.view(len(detection.states), -1, *masks.shape[-2:]), convolutions, attention


@pytest.fixture
def example():
    torch.manual_seed(0)
    head = MaskHead(CHANNELS, HEADS, LEVELS)
    h, w = SIZE
    valid = torch.ones(BATCH, h, w, dtype=torch.bool)
    valid[1, :, 3:] = False
    detection = Detection(
        class_logits=torch.empty(0),
        boxes=torch.empty(0),
        states=torch.randn(BATCH, QUERIES, CHANNELS),
        memory=torch.randn(BATCH, CHANNELS, h, w),
        features=torch.randn(BATCH, CHANNELS, h, w),
        valid=valid,
    )
    levels = [torch.randn(BATCH, c, h * s, w * s) for c, s in zip(LEVELS, (8, 4, 2), strict=True)]
    return head, detection, levels


def every_query():
    return torch.arange(BATCH).repeat_interleave(QUERIES), torch.arange(QUERIES).repeat(BATCH)


def test_equals_the_published_order(example):
    # Oracle: transformers' modules. Found to differ by 2e-6.
    head, detection, levels = example
    masks = head(detection, levels, *every_query()).view(BATCH, QUERIES, SIZE[0] * 8, SIZE[1] * 8)
    expected, _, _ = published_order(head, detection, levels)
    assert expected.std() > 0.1
    torch.testing.assert_close(masks, expected, rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_the_published_order(example):
    head, detection, levels = example
    weight = torch.randn(BATCH * QUERIES, SIZE[0] * 8, SIZE[1] * 8)
    (head(detection, levels, *every_query()) * weight).mean().backward()
    expected, convolutions, attention = published_order(head, detection, levels)
    (expected.flatten(0, 1) * weight).mean().backward()
    for ours, theirs in ((head.convolutions, convolutions), (head.attention, attention)):
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_a_query_does_not_depend_on_the_others(example):
    # Oracle: the same queries among all; so matched ones suffice in training.
    head, detection, levels = example
    images, queries = torch.tensor([1, 0, 1]), torch.tensor([5, 2, 0])
    everything = head(detection, levels, *every_query()).view(BATCH, QUERIES, *levels[0].shape[-2:])
    torch.testing.assert_close(head(detection, levels, images, queries), everything[images, queries])


def test_masks_of_one_image(example):
    # Oracle: the same queries by number of image and query, bit by bit.
    head, detection, levels = example
    queries = torch.tensor([5, 2, 0])
    with torch.no_grad():
        expected = head(detection, levels, torch.ones_like(queries), queries)
        assert torch.equal(head.masks(head.features(detection, levels), 1, queries), expected)


def test_padding_has_no_attention(example):
    head, detection, levels = example
    expected = head(detection, levels, *every_query())
    detection.memory[1, :, :, 3:] = 1e3
    torch.testing.assert_close(head(detection, levels, *every_query()), expected)


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_levels_are_not_copied_at_their_full_width():
    # Oracle: counted by hand; at stride 4, 256 channels of each query in transformers, and 32 here. Sizes of ResNet-50.
    number, h, w = 80, 2, 2
    head = MaskHead(256, 8, (256, 512, 1024))
    states, memory, valid = torch.randn(1, number, 256), torch.randn(1, 256, h, w), torch.ones(1, h, w).bool()
    detection = Detection(torch.empty(0), torch.empty(0), states, memory, memory, valid)
    levels = [torch.randn(1, c, h * s, w * s) for c, s in ((256, 8), (512, 4), (1024, 2))]
    with torch.no_grad(), LargestTensor() as here:
        head(detection, levels, torch.zeros(number, dtype=torch.int64), torch.arange(number))
    convolutions = DetrMaskHeadSmallConv(264, [1024, 512, 256], 256)
    with torch.no_grad(), LargestTensor() as there:
        convolutions(memory, torch.randn(1, number, 8, h, w), levels[::-1])
    assert there.elements == number * 256 * 16 * 16
    assert here.elements == number * 32 * 16 * 16


def test_number_of_parameters():
    # Oracle: summed by hand, layer by layer; published as 1.33 M.
    def conv(inside, outside, side=3):
        return outside * (inside * side * side + 1)

    norms = 2 * (264 + 128 + 64 + 32 + 16)
    convolutions = conv(264, 264) + conv(264, 128) + conv(128, 64) + conv(64, 32) + conv(32, 16) + conv(16, 1)
    adapters = conv(1024, 128, 1) + conv(512, 64, 1) + conv(256, 32, 1)
    attention = 2 * (256 * 256 + 256)
    count = sum(p.numel() for p in MaskHead(256, 8, (256, 512, 1024)).parameters())
    assert count == norms + convolutions + adapters + attention == 1_333_657


def test_initial_weights():
    # Oracle: bounds of the two uniform distributions, sqrt(3 / fan_in) and sqrt(6 / (fan_in + fan_out)).
    torch.manual_seed(0)
    head = MaskHead(256, 8, (256, 512, 1024))
    for weight, bound in (
        (head.convolutions.conv1.conv.weight, math.sqrt(3 / (264 * 9))),
        (head.convolutions.fpn_stages[0].fpn_adapter.weight, math.sqrt(3 / 1024)),
        (head.attention.q_proj.weight, math.sqrt(6 / 512)),
    ):
        assert 0.99 * bound < weight.abs().max() <= bound
    assert not any(p.any() for name, p in head.named_parameters() if name.endswith("bias") and "norm" not in name)
