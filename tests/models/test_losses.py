"""Losses against loops."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from efficientps.models.losses import hard_pixel_cross_entropy


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 4, 6, generator=generator) * 3
    target = torch.randint(0, 5, (3, 4, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return logits, target


@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop_over_pixels(scope, seed):
    """Oracle: a Python loop that sorts the losses of single pixels."""
    logits, target = random_case(seed)
    losses = [
        [
            0.0 if target[b, y, x] == 255 else -logits[b, :, y, x].log_softmax(0)[target[b, y, x]].item()
            for y in range(4)
            for x in range(6)
        ]
        for b in range(3)
    ]
    groups = losses if scope == "image" else [[loss for image in losses for loss in image]]
    worst = [sorted(group, reverse=True)[: int(0.25 * len(group))] for group in groups]
    expected = sum(sum(w) / len(w) for w in worst) / len(worst)
    assert hard_pixel_cross_entropy(logits, target, scope=scope).item() == pytest.approx(expected, rel=1e-5)


def test_all_pixels_is_plain_cross_entropy():
    """Oracle: degenerate parameter; torch's cross_entropy without ignored pixels."""
    logits, target = random_case()
    target[target == 255] = 0
    torch.testing.assert_close(hard_pixel_cross_entropy(logits, target, fraction=1.0), cross_entropy(logits, target))


def test_scopes_agree_for_one_image():
    logits, target = random_case()
    image, batch = (hard_pixel_cross_entropy(logits[:1], target[:1], scope=s) for s in ("image", "batch"))
    torch.testing.assert_close(image, batch)


def test_all_void_is_zero_and_keeps_the_graph():
    """Oracle: definition."""
    logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    loss = hard_pixel_cross_entropy(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_half_precision_logits_do_not_overflow():
    """Oracle: float32 on the same numbers; 300 differences would overflow the exponent in half precision."""
    logits = (torch.randn(1, 5, 8, 8) * 100).half()
    target = torch.randint(0, 5, (1, 8, 8))
    loss = hard_pixel_cross_entropy(logits, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, hard_pixel_cross_entropy(logits.float(), target))
