"""The semantic head against its wiring written out, with the levels concatenated."""

import pytest
import torch
from torch.nn.functional import interpolate

from efficientps.networks.efficientps.semantic_head import SemanticHead
from efficientps.structures import FeaturePyramid


def pyramid(channels: int = 8, height: int = 64, width: int = 128) -> FeaturePyramid:
    return FeaturePyramid(*(torch.randn(2, channels, height // s, width // s) for s in (4, 8, 16, 32)))


def up(x: torch.Tensor, factor: int) -> torch.Tensor:
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def test_equals_the_wiring_of_figure_2():
    """Oracle: Fig. 2 step by step: every level upsampled, concatenated, and then classified."""
    head = SemanticHead(5, 8, channels=4).eval()
    p = pyramid()
    with torch.no_grad():
        s32, s16 = head.dpc32(p.p32), head.dpc16(p.p16)
        m8 = head.mc16_to_8(s16 + up(s32, 2))
        s8 = head.lsfe8(p.p8) + m8
        s4 = head.lsfe4(p.p4) + head.mc8_to_4(s8)
        joined = torch.cat([s4, up(s8, 2), up(s16, 4), up(s32, 8)], dim=1)
        torch.testing.assert_close(head(p), head.classifier(joined), atol=1e-5, rtol=1e-5)


def test_dense_prediction_cells_wiring():
    """Oracle: the five branches written out; dilations of Fig. 2."""
    dpc = SemanticHead(5, 8, channels=4).dpc32.eval()
    x = torch.randn(1, 8, 3, 5)
    with torch.no_grad():
        a = dpc.first(x)
        d = dpc.far(a)
        expected = dpc.project(torch.cat([a, dpc.near(a), dpc.wide(a), d, dpc.after_far(d)], 1))
        torch.testing.assert_close(dpc(x), expected)
    dilations = [b[0].dilation for b in (dpc.first, dpc.near, dpc.wide, dpc.far, dpc.after_far)]
    assert dilations == [(1, 6), (1, 1), (6, 21), (18, 15), (6, 3)]


def test_no_weights_are_shared():
    head = SemanticHead(5)
    assert len({id(p) for p in head.parameters()}) == len(list(head.parameters()))


def test_outputs_are_logits_at_stride_4():
    """Oracle: shape, and values outside [0, 1], which no probability has."""
    logits = SemanticHead(5, 8)(pyramid())
    assert logits.shape == (2, 5, 16, 32)
    assert logits.min() < 0
    assert logits.max() > 1


def test_upsampling_follows_pixel_centres():
    """Oracle: a map that is linear in x stays so in the interior (align_corners=False)."""
    head = SemanticHead(1, 8)
    ramp = (torch.arange(8.0) * 4 + 1.5).expand(1, 1, 8, 8)
    torch.testing.assert_close(head.upsample(ramp)[0, 0, 16, 2:-2], torch.arange(2.0, 30.0))


def test_all_void_target_gives_zero_loss_for_every_parameter():
    head = SemanticHead(5, 8, channels=4)
    head.loss(pyramid(), torch.full((2, 64, 128), 255))["loss_semantic"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in head.parameters())


def test_share_of_hard_pixels_is_checked():
    with pytest.raises(ValueError, match="hard_pixel_fraction is 0; it is a share"):
        SemanticHead(5, hard_pixel_fraction=0)
