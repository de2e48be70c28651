"""Masks of kernels."""

import torch

from efficientps.networks.efficientps.solov2.mask_drawing import draw_masks, dynamic_convolution


def test_masks_drawn_in_chunks():
    """Oracle: every mask by itself, over a chunk's border; an empty one has a maskness of 0."""
    torch.manual_seed(0)
    kernels, features = torch.randn(70, 4), torch.rand(4, 6, 10)
    kernels[3] = -1.0
    masks, maskness = draw_masks(kernels, features)
    for kernel, mask, value in zip(kernels, masks, maskness, strict=True):
        probs = dynamic_convolution(kernel[None], features)[0].sigmoid().flatten()
        assert torch.equal(mask, probs > 0.5)
        expected = probs[probs > 0.5].mean() if mask.any() else torch.tensor(0.0)
        torch.testing.assert_close(value, expected)
    assert maskness[3] == 0
    probs = dynamic_convolution(kernels, features).flatten(1).sigmoid()
    assert torch.equal(draw_masks(kernels, features, 0.7)[0], probs > 0.7)
