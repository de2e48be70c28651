"""Matrix NMS against a loop over pairs of masks, written from the definition."""

import math
import random

import pytest
import torch

from efficientps.networks.efficientps.solov2.matrix_nms import matrix_nms, pairwise_iou
from tests.sweep import sweep

KERNELS = ["gaussian", "linear"]


def random_case(seed):
    """Return masks bool [N, h, w], labels and scores: copies, empty masks, parts of others, equal scores, none."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    number = rng.choice([0, 1, 2, 4, 8, 12])
    masks = torch.zeros(number, 5, 7, dtype=torch.bool)
    for index in range(number):
        kind = rng.choice(["noise", "rectangle", "copy", "part", "empty", "full"])
        if kind in ("noise", "part"):
            masks[index] = torch.rand(5, 7, generator=generator) < rng.random()
        if kind == "rectangle":
            y, x = rng.randrange(5), rng.randrange(7)
            masks[index, y : rng.randint(y, 5), x : rng.randint(x, 7)] = True
        if kind == "full":
            masks[index] = True
        if kind == "copy" and index:
            masks[index] = masks[rng.randrange(index)]
        if kind == "part" and index:
            masks[index] &= masks[rng.randrange(index)]
    labels = torch.tensor([rng.randrange(rng.choice([1, 2, 3])) for _ in range(number)], dtype=torch.int64)
    steps = rng.choice([4, 1000])
    scores = torch.tensor([rng.randint(0, steps) / steps for _ in range(number)], dtype=torch.float32)
    return masks, labels, scores


def naive_matrix_nms(masks, labels, scores, kernel, sigma):
    masks = [{i for i, filled in enumerate(mask) if filled} for mask in masks.flatten(1).tolist()]
    labels, scores = labels.tolist(), scores.tolist()

    def f(iou):
        return math.exp(-sigma * iou**2) if kernel == "gaussian" else 1 - iou

    def iou(i, j):
        union = masks[i] | masks[j]
        return len(masks[i] & masks[j]) / len(union) if union else 0.0

    def better(j):
        same = (i for i in range(len(masks)) if i != j and labels[i] == labels[j])
        return [i for i in same if scores[i] > scores[j] or (scores[i] == scores[j] and i < j)]

    result = []
    for j, score in enumerate(scores):
        decay = 1.0
        for i in better(j):
            own = f(max((iou(k, i) for k in better(i)), default=0.0))
            # Nothing is left of i where its own decay is 0, so that it takes nothing from others.
            decay = min(decay, f(iou(i, j)) / own) if own > 0 else decay
        result.append(score * decay)
    return result


@sweep("kernel", KERNELS)
def test_equals_a_loop_over_pairs(kernel):
    """Oracle: a loop over pairs of pixel sets, 300 random cases for each kernel."""
    for seed in range(300):
        masks, labels, scores = random_case(seed)
        sigma = random.Random(seed).choice([0.5, 2.0, 2.0, 7.0])
        result = matrix_nms(masks, labels, scores, kernel=kernel, sigma=sigma)
        assert result.dtype == torch.float32 and result.isfinite().all(), seed
        assert result.tolist() == pytest.approx(naive_matrix_nms(masks, labels, scores, kernel, sigma), abs=1e-5), seed


@pytest.mark.parametrize("kernel, kept", [("gaussian", math.exp(-2)), ("linear", 0.0)])
def test_copies_of_a_mask(kernel, kept):
    """Oracle: hand-worked; every copy is judged by the first one, and 0/0 is no number to return."""
    masks = torch.ones(4, 6, dtype=torch.bool)
    labels = torch.zeros(4, dtype=torch.int64)
    result = matrix_nms(masks, labels, torch.tensor([0.4, 0.8, 0.8, 0.6]), kernel=kernel)
    assert result.tolist() == pytest.approx([0.4 * kept, 0.8, 0.8 * kept, 0.6 * kept])


@sweep("kernel", KERNELS)
def test_empty_masks_keep_their_scores(kernel):
    """Oracle: definition; they overlap with nothing, not even with each other."""
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[2] = True
    scores = torch.tensor([0.3, 0.9, 0.5])
    assert torch.equal(matrix_nms(masks, torch.zeros(3, dtype=torch.int64), scores, kernel=kernel), scores)


@sweep("kernel", KERNELS)
def test_no_mask_gives_no_score(kernel):
    """Oracle: contract; both shapes of masks."""
    for shape in ((0, 4, 4), (0, 16)):
        masks = torch.zeros(shape, dtype=torch.bool)
        result = matrix_nms(masks, torch.zeros(0, dtype=torch.int64), torch.zeros(0), kernel=kernel)
        assert result.shape == (0,) and result.dtype == torch.float32


def test_other_classes_do_not_matter():
    """Oracle: each class on its own."""
    masks, _, scores = random_case(11)
    assert len(masks) > 3
    labels = torch.arange(len(masks)) % 2
    result = matrix_nms(masks, labels, scores)
    for label in (0, 1):
        own = labels == label
        torch.testing.assert_close(result[own], matrix_nms(masks[own], labels[own], scores[own]))


@sweep("kernel", KERNELS)
def test_permuting_the_masks_permutes_the_result(kernel):
    """Oracle: invariance, where no scores are equal; nothing is changed in place."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(20, 30, generator=generator) < 0.5
    labels = torch.randint(0, 2, (20,), generator=generator)
    scores = torch.rand(20, generator=generator)
    order = torch.randperm(20, generator=generator)
    before = [tensor.clone() for tensor in (masks, labels, scores)]
    result = matrix_nms(masks, labels, scores, kernel=kernel)
    assert not torch.equal(result, scores)
    torch.testing.assert_close(matrix_nms(masks[order], labels[order], scores[order], kernel=kernel), result[order])
    assert all(torch.equal(a, b) for a, b in zip(before, (masks, labels, scores), strict=True))


def test_bool_and_float_masks_flat_or_not():
    """Oracle: the boolean masks."""
    masks, labels, scores = random_case(11)
    expected = matrix_nms(masks, labels, scores)
    for same in (masks.float(), masks.flatten(1), masks.half()):
        assert torch.equal(matrix_nms(same, labels, scores), expected)


def test_half_precision_scores_become_float32():
    """Oracle: float32 on the same numbers."""
    masks, labels, scores = random_case(11)
    assert torch.equal(matrix_nms(masks, labels, scores.half()), matrix_nms(masks, labels, scores.half().float()))


def test_large_masks_are_counted_exactly_under_autocast():
    """Oracle: hand-worked; 90000 pixels are more than float16 can hold and than bfloat16 can tell from 90001."""
    masks = torch.ones(3, 300, 300, dtype=torch.bool)
    masks[1, 0, 0] = False
    masks[2, 150:] = False
    with torch.autocast("cpu", torch.bfloat16):
        iou = pairwise_iou(masks.flatten(1))
        result = matrix_nms(masks, torch.zeros(3, dtype=torch.int64), torch.tensor([0.9, 0.8, 0.7]), kernel="linear")
    near = 89999 / 90000
    expected = torch.tensor([[1, near, 0.5], [near, 1, 44999 / 90000], [0.5, 44999 / 90000, 1]])
    torch.testing.assert_close(iou, expected, rtol=0, atol=1e-7)
    assert result.tolist() == pytest.approx([0.9, 0.8 / 90000, 0.35], rel=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", KERNELS)
def test_cuda_equals_cpu(kernel):
    """Oracle: the CPU."""
    for seed in range(50):
        case = random_case(seed)
        result = matrix_nms(*(tensor.cuda() for tensor in case), kernel=kernel)
        assert result.is_cuda
        torch.testing.assert_close(result.cpu(), matrix_nms(*case, kernel=kernel))


@sweep("kernel", KERNELS)
def test_masks_without_a_score_are_as_good_as_absent(kernel):
    """Oracle: the others alone, bit by bit; on a GPU, small masks stay with a score of 0."""
    for seed in range(200):
        masks, labels, scores = random_case(seed)
        scores = scores.clamp(min=0.01)
        absent = torch.rand(len(masks), generator=torch.Generator().manual_seed(seed)) < 0.4
        result = matrix_nms(masks, labels, scores.where(~absent, 0), kernel=kernel)
        assert torch.equal(result[~absent], matrix_nms(masks[~absent], labels[~absent], scores[~absent], kernel=kernel))
        assert not result[absent].any(), seed
