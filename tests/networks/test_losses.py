"""Losses against loops."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, cross_entropy

from efficientps.networks.losses import dice_loss, focal_loss, hard_pixel_cross_entropy
from tests.sweep import sweep


def random_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 4, 6, generator=generator) * 3
    target = torch.randint(0, 5, (3, 4, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return logits, target


LAYOUTS = sweep("layout", [torch.contiguous_format, torch.channels_last])


@LAYOUTS
@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop_over_pixels(scope, seed, layout):
    """Oracle: a Python loop that sorts the losses of single pixels."""
    logits, target = random_case(seed)
    logits = logits.contiguous(memory_format=layout)
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


def test_layouts_have_the_same_gradient():
    """Oracle: the other layout; the gradient lies in memory as the logits do."""
    logits, target = random_case()
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = logits.clone(memory_format=layout).requires_grad_()
        hard_pixel_cross_entropy(leaf, target).backward()
        assert leaf.grad.is_contiguous(memory_format=layout)
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@LAYOUTS
def test_all_void_is_zero_and_keeps_the_graph(layout):
    """Oracle: definition."""
    logits = torch.randn(2, 5, 4, 4).contiguous(memory_format=layout).requires_grad_()
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


@sweep("alpha, gamma", [(0.25, 2.0), (0.7, 0.0), (0.5, 3.5)])
def test_focal_loss_is_weighted_cross_entropy(alpha, gamma):
    """Oracle: Eq. 5 of the paper written out in float64, on one-hot targets."""
    logits = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).double() * 3
    targets = torch.eye(5, dtype=torch.float64)[torch.arange(60) % 5, :4]  # every fifth row is background
    probs = logits.sigmoid()
    right = torch.where(targets == 1, probs, 1 - probs)
    weight = torch.where(targets == 1, alpha, 1 - alpha)
    expected = (weight * (1 - right) ** gamma * binary_cross_entropy(probs, targets, reduction="none")).sum()
    loss = focal_loss(logits.float(), targets.float(), alpha=alpha, gamma=gamma)
    assert loss.dtype == torch.float32 and loss.shape == ()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_loss_has_the_published_parameters():
    """Oracle: hand-worked; at probability 1/2 a positive counts 0.25 * 0.25 * ln 2, a negative three times as much."""
    at_half = torch.tensor(2.0).log().item() / 16
    assert focal_loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(at_half)
    assert focal_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(3 * at_half)


def test_focal_loss_of_many_half_precision_logits():
    """Oracle: hand-worked; the sum of half a million elements and logits of 1000 stay finite."""
    logits = torch.zeros(1 << 19).half().requires_grad_()
    loss = focal_loss(logits, torch.zeros(1 << 19).half())
    loss.backward()
    assert loss.item() == pytest.approx((1 << 19) * 3 / 16 * torch.tensor(2.0).log().item(), rel=1e-4)
    assert logits.grad.isfinite().all()
    extreme = torch.tensor([1000.0, -1000.0]).half()
    assert focal_loss(extreme, torch.tensor([0.0, 1.0])).item() == pytest.approx(750 + 250)


def naive_dice(logits, targets):
    """Return the loss of one mask, from lists of numbers."""
    probs = [1 / (1 + math.exp(-logit)) for logit in logits]
    both = sum(p * t for p, t in zip(probs, targets, strict=True))
    return 1 - 2 * both / (sum(p * p for p in probs) + 1e-3 + sum(t * t for t in targets) + 1e-3)


@sweep("soft", [False, True])
@sweep("seed", range(5))
def test_dice_loss_equals_a_loop(seed, soft):
    """Oracle: the definition, mask by mask; targets of 0 and 1, soft ones, and one without any pixel."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 20, generator=generator) * 4
    targets = torch.rand(6, 20, generator=generator)
    targets = targets if soft else (targets < 0.3).float()
    targets[3] = 0
    loss = dice_loss(logits, targets)
    expected = [naive_dice(*pair) for pair in zip(logits.tolist(), targets.tolist(), strict=True)]
    assert loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx(expected, abs=1e-6)


def test_dice_gradients_equal_finite_differences():
    """Oracle: central differences of the definition in float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, generator=generator)
    targets = (torch.rand(2, 7, generator=generator) < 0.5).float()
    logits.requires_grad_()
    dice_loss(logits, targets).sum().backward()
    for row, target, gradient in zip(logits.tolist(), targets.tolist(), logits.grad.tolist(), strict=True):
        for i in range(7):
            up, down = ([*row[:i], row[i] + step, *row[i + 1 :]] for step in (1e-4, -1e-4))
            difference = (naive_dice(up, target) - naive_dice(down, target)) / 2e-4
            assert gradient[i] == pytest.approx(difference, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dice_loss_of_large_masks_in_half_precision(dtype):
    """Oracle: hand-worked; a perfect mask of 131072 pixels, which overflows float16 in every sum, and a wrong one."""
    logits = torch.tensor([[20.0], [-20.0]], dtype=dtype).repeat(1, 1 << 17).requires_grad_()
    loss = dice_loss(logits, torch.ones(2, 1 << 17, dtype=dtype))
    assert loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx([0, 1], abs=1e-6)
    with torch.autocast("cpu", dtype):
        assert torch.equal(dice_loss(logits, torch.ones(2, 1 << 17)), loss)
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_losses_of_nothing_are_nothing_and_keep_the_graph():
    """Oracle: definition; neither cells nor positive pairs."""
    logits = torch.zeros(0, 12, requires_grad=True)
    loss = dice_loss(logits, torch.zeros(0, 12))
    assert loss.shape == (0,)
    (loss.sum() + focal_loss(logits, torch.zeros(0, 12))).backward()
    assert logits.grad.shape == (0, 12)
