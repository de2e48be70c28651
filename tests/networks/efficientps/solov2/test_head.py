"""SOLOv2 against its definition, written as loops over cells and objects."""

import copy
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from efficientps.networks.efficientps import SOLOv2Head
from efficientps.networks.efficientps.solov2.levels import five_levels
from efficientps.structures import FeaturePyramid, InstanceTargets
from tests.instance_head_contract import CHANNELS, HEIGHT, NUM_THINGS, WIDTH, random_pyramid

GRIDS = ((8, 16), (6, 12), 5, (3, 6), (2, 4))


def small_head(**options: object) -> SOLOv2Head:
    torch.manual_seed(0)
    arguments = {"num_convs": 1, "channels": 32, "kernel_channels": 32, "mask_hidden": 32, "num_grids": GRIDS}
    return SOLOv2Head(NUM_THINGS, CHANNELS, **{**arguments, **options})


def rectangles(*boxes: tuple[int, int, int, int], labels: list[int]) -> InstanceTargets:
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return InstanceTargets(
        labels=torch.tensor(labels, dtype=torch.int64), boxes=torch.tensor(boxes).float().reshape(-1, 4), masks=masks
    )


@pytest.mark.parametrize(("preset", "millions"), [("full", 17.75), ("light", 2.68)])
def test_published_sizes(preset, millions):
    """Oracle: parameter counts of the published instance branch at 8 classes."""
    head = SOLOv2Head(8, 256, preset=preset)
    parts = (head.category_tower, head.category, head.kernel_tower, head.kernel)
    count = sum(p.numel() for part in parts for p in part.parameters())
    assert abs(count / 1e6 - millions) <= 0.01


def test_preset_gives_way_to_single_values():
    """Oracle: construction."""
    head = SOLOv2Head(8, 64, preset="light", channels=64, num_convs=3)
    assert len(head.kernel_tower) == 3
    assert head.kernel.in_channels == 64
    assert head.kernel.out_channels == 128


def test_initial_scores_are_a_hundredth():
    """Oracle: the published bias, -log((1 - 0.01) / 0.01)."""
    logits, _ = small_head().cells(random_pyramid())
    for level in logits:
        torch.testing.assert_close(level.sigmoid().mean(), torch.tensor(0.01), atol=2e-3, rtol=0)


def test_kernels_are_scaled():
    """Oracle: definition; a tenth of the kernels, the same categories."""
    pyramid = random_pyramid()
    logits, kernels = small_head(kernel_scale=1.0).cells(pyramid)
    same, tenths = small_head(kernel_scale=0.1).cells(pyramid)
    for level in range(5):
        torch.testing.assert_close(tenths[level], 0.1 * kernels[level])
        assert torch.equal(same[level], logits[level])


def test_five_levels_are_read_where_published():
    """Oracle: the sizes of P8, P8, P16, P32, P32, and P32 subsampled by hand."""
    p = random_pyramid()
    levels = five_levels(p, (8, 16))
    assert [x.shape[-2:] for x in levels] == [p.p8.shape[-2:], p.p8.shape[-2:], p.p16.shape[-2:]] + [(2, 4)] * 2
    assert levels[1] is p.p8
    fifth = interpolate(p.p32[:, :, [0]][..., [0, 2]], size=(2, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(levels[4], fifth)


def test_a_grid_finer_than_p8_reads_p4():
    p = random_pyramid()
    rows, columns = p.p8.shape[-2:]
    assert five_levels(p, (rows, columns))[0].shape == p.p8.shape
    assert five_levels(p, (rows + 1, columns))[0] is five_levels(p, (rows, columns + 1))[0] is p.p4


def test_each_cell_reads_its_own_place():
    """Oracle: an impulse; categories of the cells around it change, those far away do not."""
    head = small_head(norm_act=torch.nn.Identity, num_convs=1)
    quiet = FeaturePyramid(*(torch.zeros_like(level[:1]) for level in random_pyramid()))
    loud = FeaturePyramid(*(level.clone() for level in quiet))
    loud.p8[0, :, 0, 0] = 100
    (before, _), (after, _) = head.cells(quiet), head.cells(loud)
    changed = (before[1] != after[1]).any(dim=1)[0]
    assert changed[0, 0]
    assert not changed[4:].any()
    assert not changed[:, 6:].any()


def naive_predict(head: SOLOv2Head, pyramid: FeaturePyramid, image: int, size: tuple[int, int]) -> list[dict]:
    """The definition, one cell and one class after the other."""
    logits, kernels = head.cells(pyramid)
    features = head.mask_features(pyramid)[image, :, : math.ceil(size[0] / 4), : math.ceil(size[1] / 4)]
    candidates = []
    for level, stride in zip(range(5), (8, 8, 16, 32, 32), strict=True):
        scores = logits[level][image].sigmoid()
        classes, rows, columns = scores.shape
        for c in range(classes):
            for i in range(rows):
                for j in range(columns):
                    window = scores[c, max(0, i - 1) : i + 1, max(0, j - 1) : j + 1]
                    if scores[c, i, j] == window.max() and scores[c, i, j] > head.detection_thresh:
                        kernel = kernels[level][image, :, i, j]
                        candidates.append((scores[c, i, j].item(), c, stride, kernel))
    candidates.sort(key=lambda candidate: -candidate[0])
    found = []
    for score, label, stride, kernel in candidates[: head.nms_pre]:
        mask_logits = torch.einsum("e,ehw->hw", kernel, features)
        probs = mask_logits.sigmoid()
        mask = probs > 0.5
        if mask.sum() > stride:
            maskness = probs[mask].mean().item()
            found.append({"score": score * maskness, "label": label, "mask": mask, "logits": mask_logits})
    found.sort(key=lambda entry: -entry["score"])

    def iou(a: dict, b: dict) -> float:
        if a["label"] != b["label"]:
            return 0.0
        return ((a["mask"] & b["mask"]).sum() / (a["mask"] | b["mask"]).sum()).item()

    for j, entry in enumerate(found):
        decay = 1.0
        for i in range(j):
            most = max([iou(found[k], found[i]) for k in range(i)], default=0.0)
            decay = min(decay, math.exp(-2 * iou(found[i], entry) ** 2) / math.exp(-2 * most**2))
        entry["decayed"] = entry["score"] * decay
    found = [entry for entry in found if entry["decayed"] > head.update_thresh]
    return sorted(found, key=lambda entry: -entry["decayed"])[: head.max_detections]


def head_that_finds_much() -> SOLOv2Head:
    """Scores between 0.02 and 0.12, on both sides of every threshold; kernels of some size, so that masks differ."""
    head = small_head(detection_thresh=0.05, update_thresh=0.02, nms_pre=60, max_detections=30).eval()
    torch.nn.init.normal_(head.category.weight, std=0.1)
    torch.nn.init.constant_(head.category.bias, -3.0)
    torch.nn.init.normal_(head.kernel.weight, std=1.0)
    return head


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (50, 99)])
def test_prediction_equals_the_definition(size):
    """Oracle: loops over cells, classes and pairs of masks."""
    head = head_that_finds_much()
    pyramid = random_pyramid(2, seed=3)
    with torch.no_grad():
        ours = head.predict(pyramid, [(HEIGHT, WIDTH), size])[1]
        expected = naive_predict(head, pyramid, 1, size)
    assert 5 < len(expected) == len(ours)
    torch.testing.assert_close(ours.scores, torch.tensor([entry["decayed"] for entry in expected]))
    assert ours.labels.tolist() == [entry["label"] for entry in expected]
    limit = math.log(99)
    expected_logits = torch.stack([entry["logits"] for entry in expected]).clamp(-limit, limit)
    torch.testing.assert_close(ours.mask_logits, expected_logits, rtol=1e-4, atol=1e-4)


def test_the_dense_part_of_a_prediction_knows_shapes_alone():
    """Oracle: contract; shapes do not follow what is found, and memory that is overwritten later is not handed out."""
    head, pyramid, sizes = head_that_finds_much(), random_pyramid(2, seed=3), [(HEIGHT, WIDTH), (50, 99)]
    with torch.no_grad():
        dense = head.dense(pyramid)
        found = head.decode(pyramid, dense, sizes)
        expected = head.predict(pyramid, sizes)
        head.detection_thresh = 2.0
        assert [part.shape for part in head.dense(pyramid)] == [part.shape for part in dense]
        assert [len(instances) for instances in head.decode(pyramid, dense, sizes)] == [0, 0]
        for part in dense:
            part.zero_()
    for ours, instances in zip(found, expected, strict=True):
        assert 5 < len(ours)
        for name in ("scores", "labels", "boxes", "mask_logits", "mask_frames"):
            assert torch.equal(getattr(ours, name), getattr(instances, name)), name


def test_what_the_head_keeps_is_neither_saved_nor_copied():
    """Oracle: the state dict before; a copy, made after validation in inference mode, learns like a new head."""
    head, pyramid = head_that_finds_much(), random_pyramid()
    keys = list(head.state_dict())
    with torch.inference_mode():
        head.predict(pyramid, [(HEIGHT, WIDTH)] * 2)
    assert list(head.state_dict()) == keys
    targets = [rectangles((33, 17, 39, 23), labels=[2]), rectangles((4, 4, 36, 28), labels=[0])]
    losses = [sum(one.loss(pyramid, targets).values()) for one in (head_that_finds_much(), copy.deepcopy(head), head)]
    assert losses[0] == losses[1] == losses[2]
    losses[2].backward()


@pytest.mark.gpu
def test_prediction_on_cuda_equals_that_on_cpu():
    """Oracle: the CPU, which draws masks in other parts and drops small ones at once; in float32."""
    head, pyramid, sizes = head_that_finds_much(), random_pyramid(2, seed=3), [(HEIGHT, WIDTH), (50, 99)]
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = head.predict(pyramid, sizes)
        ours = head.cuda().predict(FeaturePyramid(*(level.cuda() for level in pyramid)), sizes)
    for instances, reference in zip(ours, expected, strict=True):
        assert len(instances) == len(reference)
        torch.testing.assert_close(instances.scores.cpu(), reference.scores, atol=1e-4, rtol=1e-3)


def test_losses_are_those_of_the_definition():
    """Oracle: focal loss over all cells and Dice of the pairs written out, with one object in one cell of one level."""
    head = small_head(scale_ranges=((0, 8), (9, 16), (17, 32), (33, 64), (65, 1000)))
    target = rectangles((33, 17, 39, 23), labels=[2])  # centre (36, 20): level 0, cells of 8x8, row 2, column 4
    empty = rectangles(labels=[])
    pyramid = random_pyramid()
    losses = head.loss(pyramid, [target, empty])

    logits, kernels = head.cells(pyramid)
    goals = [torch.zeros_like(level) for level in logits]
    goals[0][0, 2, 2, 4] = 1
    focal = 0.0
    for x, t in zip(logits, goals, strict=True):
        p = x.sigmoid()
        weight = torch.where(t == 1, 0.25 * (1 - p) ** 2, 0.75 * p**2)
        focal += (weight * binary_cross_entropy_with_logits(x, t, reduction="none")).sum()
    torch.testing.assert_close(losses["loss_category"], focal)  # one positive cell

    probs = torch.einsum("e,ehw->hw", kernels[0][0, :, 2, 4], head.mask_features(pyramid)[0]).sigmoid()
    goal = target["masks"][0].float().reshape(16, 4, 32, 4).mean(dim=(1, 3))
    dice = 1 - 2 * (probs * goal).sum() / ((probs**2).sum() + 1e-3 + (goal**2).sum() + 1e-3)
    torch.testing.assert_close(losses["loss_mask"], 3 * dice)


@pytest.mark.parametrize("octaves", [0, 4])
def test_an_object_is_learnt_and_found(octaves):
    """Oracle: the training target; the head overfits two images and returns their objects and nothing else."""
    head = small_head(num_convs=2, fourier_octaves=octaves)
    generator = torch.Generator().manual_seed(1)
    targets = [
        rectangles((4, 4, 36, 28), (40, 6, 76, 58), (100, 40, 112, 52), labels=[0, 1, 2]),
        rectangles((60, 10, 120, 50), labels=[1]),
    ]
    pyramid = random_pyramid(seed=5)
    # Features that tell the objects apart, as a trained pyramid would: one channel for each, at every level.
    for level in pyramid:
        for image, target in enumerate(targets):
            for index, mask in enumerate(target["masks"]):
                shape = interpolate(mask[None, None].float(), size=level.shape[-2:], mode="area")[0, 0]
                level[image, index] += 5 * shape
            level[image] += 0.1 * torch.randn(level[image].shape, generator=generator)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = sum(head.loss(pyramid, targets).values())
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = head.eval().predict(pyramid, [(HEIGHT, WIDTH)] * 2)
    for instances, target in zip(found, targets, strict=True):
        sure = instances[instances.scores > head.score_thresh]
        assert sorted(sure.labels.tolist()) == sorted(target["labels"].tolist())
        for index, label in enumerate(sure.labels.tolist()):
            mask = target["masks"][target["labels"].tolist().index(label)]
            drawn = sure.render(index, (0, 0, WIDTH, HEIGHT)) > 0
            assert (drawn & mask).sum() / (drawn | mask).sum() > 0.8


def test_mask_threshold_moves_the_edge_of_masks():
    """Oracle: the logits of the half, less the logit of the threshold: positive where the probability is higher."""
    options = {
        "nms_pre": 1,
        "detection_thresh": 0.0,
        "update_thresh": 0.0,
        "least_areas": (0,) * 5,
        "mask_prob_margin": 1e-6,
    }
    halves, fewer = small_head(**options), small_head(mask_thresh=0.7, **options)
    for head in (halves, fewer):
        torch.nn.init.normal_(head.kernel.weight, std=0.5, generator=torch.Generator().manual_seed(3))
    for half, few in zip(
        *(head.eval().predict(random_pyramid(), [(HEIGHT, WIDTH)] * 2) for head in (halves, fewer)), strict=True
    ):
        assert len(half) == len(few) == 1
        torch.testing.assert_close(few.mask_logits, half.mask_logits - math.log(0.7 / 0.3))
        assert 0 < (few.mask_logits > 0).sum() < (half.mask_logits > 0).sum()
