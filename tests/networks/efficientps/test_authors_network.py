"""The authors' network with random weights: every output of their code, stage by stage.

Oracle of each test: numbers that their code computed (``authors_network/README.md``). A stage gets the golden output of
the stage before, so that no error adds up.
"""

import zlib

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torchvision.ops import box_iou

from efficientps.networks.efficientps import authors_network
from efficientps.networks.efficientps.authors_weights import to_own_keys
from efficientps.networks.efficientps.mask_rcnn.box_branch import SampledProposals
from efficientps.networks.efficientps.mask_rcnn.box_coding import encode_boxes
from efficientps.networks.efficientps.mask_rcnn.hard_mask_targets import hard_mask_targets
from efficientps.networks.efficientps.mask_rcnn.matching import BACKGROUND, NEITHER
from efficientps.networks.efficientps.mask_rcnn.pyramid_roi_align import assign_levels, pyramid_roi_align
from efficientps.networks.efficientps.mask_rcnn.sampling import BalancedSampler
from efficientps.networks.efficientps.panoptic_fusion import panoptic_fusion
from efficientps.structures import STRIDES, InstancePredictions
from tests.networks.efficientps.authors_network.recipe import authors_state, golden_numbers, image

SIZE = (256, 512)


@pytest.fixture(scope="module")
def golden():
    return {
        name: torch.from_numpy(values) if values.dtype.kind in "fiub" and values.dtype != np.uint64 else values
        for name, values in golden_numbers().items()
    }


@pytest.fixture(scope="module")
def network():
    arrays = golden_numbers()
    state = authors_state(arrays)
    for key, first, total in zip(arrays["recipe_keys"], arrays["recipe_first3"], arrays["recipe_sum"], strict=True):
        assert np.array_equal(state[key].flatten()[:3].numpy(), first)
        assert abs(float(state[key].double().sum()) - total) < 1e-9
    network = authors_network()
    network.load_state_dict(to_own_keys(state))
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def taps(network):
    pixels = image(*SIZE)
    assert zlib.crc32(pixels.tobytes()) == int(golden_numbers()["image_crc32"])
    images = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    return network.backbone(network.normalize(images, [SIZE]))


@pytest.fixture(scope="module")
def pyramid(network, taps):
    return network.neck(taps)


@pytest.fixture(scope="module")
def semantic_logits(network, pyramid):
    return network.semantic_head.upsample(network.semantic_head(pyramid))[0]


def close(found, expected):
    """Compare within 1e-4 of the largest value."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def half_open(boxes):
    return torch.cat([boxes[:, :2], boxes[:, 2:4] + 1], dim=1)


def test_levels_and_semantic_logits(golden, taps, pyramid, semantic_logits):
    steps = {"tap": (8, 8, 16, 64), "fpn": (32, 32, 32, 32)}
    for name, levels in (("tap", taps), ("fpn", pyramid)):
        for stride, level, channels, pixels in zip(STRIDES, levels, steps[name], (4, 2, 1, 1), strict=True):
            expected = golden[f"{name}{stride}"]
            close(level[0, ::channels, ::pixels, ::pixels][: len(expected)], expected)
    close(semantic_logits[:, ::16, ::16], golden["semantic_logits"])


def test_region_proposals(golden, network, pyramid):
    rpn = network.instance_head.rpn
    objectness, deltas, anchors = rpn.score(pyramid)
    close(objectness[0, ::8], golden["rpn_objectness"])
    close(deltas[0, ::32], golden["rpn_deltas"])
    per_level = [3 * (SIZE[0] // stride) * (SIZE[1] // stride) for stride in STRIDES]
    firsts = [level[:3] for level in torch.split(anchors, per_level)]
    assert torch.equal(torch.stack(firsts), torch.stack([half_open(level) for level in golden["base_anchors"]]))
    (found,) = rpn.decode(pyramid, rpn.dense(pyramid), [SIZE])
    expected = half_open(golden["proposals"])
    assert len(found) == len(expected)
    assert box_iou(expected, found).amax(dim=1).min() > 0.999


def test_boxes(golden, network, pyramid):
    branch = network.instance_head.box_branch
    proposals = half_open(golden["proposals"])
    assert torch.equal(assign_levels(proposals), golden["roi_level"].long())
    features = pyramid_roi_align(pyramid, [proposals], output_size=7, shift=branch.convention.roi_shift)
    close(features[::100, ::32], golden["roi_features_7"])
    class_logits, deltas = branch(pyramid, [proposals])
    close(class_logits[::4], golden["box_class_logits"])
    close(deltas.flatten(1)[::16], golden["box_deltas"])


def test_detections(golden, network, pyramid):
    (found,) = network.instance_head.predict(pyramid, [SIZE])
    expected = half_open(golden["det_boxes"])
    assert len(found) == len(expected) == 100
    same_class = golden["det_labels"][:, None] == found.labels[None]
    overlap, match = (box_iou(expected, found.boxes) * same_class).max(dim=1)
    assert overlap.min() > 0.99
    torch.testing.assert_close(found.scores[match], golden["det_scores"], rtol=0, atol=1e-4)
    boxes, labels = expected[:24], golden["det_labels"][:24].long()
    close(network.instance_head.mask_branch.predict(pyramid, [boxes], [labels])[0], golden["mask_logits"])


@pytest.mark.parametrize("name, lowered", [("", 0.0), ("_low_stuff", 6.0)])
def test_fused_maps(golden, network, semantic_logits, name, lowered):
    head = network.instance_head
    logits = semantic_logits.clone()
    logits[:11] -= lowered
    boxes, labels = half_open(golden["det_boxes"])[:24], golden["det_labels"][:24].long()
    grids = head.convention.mask_grids(boxes, golden["mask_logits"])
    found = panoptic_fusion(
        logits,
        InstancePredictions(golden["det_scores"][:24], labels, boxes, *grids),
        num_stuff=11,
        mask_logit_scale=head.mask_logit_scale,
        competes_everywhere=head.competes_everywhere,
    )
    classes = torch.full(SIZE, 255)
    for segment in found.segments:
        classes[found.segment_ids == segment.id] = segment.train_id
    theirs = golden[f"panoptic{name}"].long()
    assert torch.equal(classes, golden[f"panoptic_categories{name}"][theirs])
    pairs = torch.stack([theirs.flatten(), found.segment_ids.flatten().long()]).unique(dim=1)
    assert pairs.shape[1] == len(theirs.unique()) == len(found.segment_ids.unique())  # one to one


def test_assignment_and_losses(golden, network, pyramid):
    masks = np.unpackbits(golden["train_masks_packed"].numpy())[: int(golden["train_num_masks"]) * SIZE[0] * SIZE[1]]
    target = {
        "labels": golden["train_gt_thing_ids"],
        "boxes": half_open(golden["train_gt_boxes_inclusive"]),
        "masks": torch.from_numpy(masks.reshape(-1, *SIZE)).bool(),
    }
    objects = target["boxes"]
    found = {"semantic": network.semantic_head.loss(pyramid, golden["train_semantic_target"].long()[None])}
    head = network.instance_head
    objectness, deltas, anchors = head.rpn.score(pyramid)
    matched = head.rpn.match_anchors(objects, anchors, SIZE)
    inside = golden["train_rpn_inside"]
    assert (matched[~inside] == NEITHER).all()
    theirs = golden["train_rpn_assignment_inside"].long()
    assert torch.equal(
        matched[inside], torch.where(theirs > 0, theirs - 1, torch.where(theirs == 0, BACKGROUND, NEITHER))
    )
    counts, positive = matched != NEITHER, matched >= 0
    found["rpn_cls_all"] = binary_cross_entropy_with_logits(objectness[0, counts], positive[counts].float())
    offsets = encode_boxes(objects[matched[positive]], anchors[positive], centre_weight=1.0, size_weight=1.0)
    box_loss = smooth_l1_loss(deltas[0, positive], offsets, beta=head.rpn.box_loss_beta, reduction="sum")
    found["rpn_box_all"] = box_loss / counts.sum()

    everything = BalancedSampler(10**6, positive_fraction=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head.box_branch, "sampler", everything)
        sampled = head.box_branch.sample([half_open(golden["train_proposals"])], [target])
    losses = head.box_branch.loss(pyramid, sampled, [target])
    found["box_cls_all"], found["box_reg_all"] = losses["loss_classifier"], losses["loss_box_reg"]

    boxes, owners = half_open(golden["train_mask_positive_boxes"]), golden["train_mask_positive_gt"]
    targets = np.unpackbits(golden["train_mask_targets_packed"].numpy())[: len(boxes) * 28 * 28]
    assert np.array_equal(
        hard_mask_targets(target["masks"], boxes, owners, size=28).numpy(), targets.reshape(-1, 28, 28)
    )
    number = len(boxes)
    positives = SampledProposals(boxes, owners, target["labels"][owners] + 1, torch.arange(number), [number], [number])
    found["mask"] = head.mask_branch.loss(pyramid, positives, [target])["loss_mask"]
    found["semantic"] = found["semantic"]["loss_semantic"]
    for name, loss in found.items():
        assert float(loss) == pytest.approx(float(golden[f"train_loss_{name}"]), rel=1e-6), name
