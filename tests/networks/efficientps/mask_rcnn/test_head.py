"""Mask R-CNN against torchvision's own losses and detections, built with torchvision's standard layers."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign, roi_align

from efficientps.networks.efficientps import MaskRCNNHead
from efficientps.networks.efficientps.mask_rcnn.box_branch import BoxBranch
from efficientps.networks.efficientps.mask_rcnn.mask_branch import MaskBranch, mask_targets
from efficientps.networks.efficientps.mask_rcnn.region_proposals import RegionProposalNetwork as RPN
from efficientps.structures import FeaturePyramid, InstanceTargets
from tests.instance_head_contract import CHANNELS, HEIGHT, NUM_THINGS, WIDTH, random_pyramid
from tests.sweep import sweep

EVERYTHING = 10**6  # Samples per image: more than there are, so that nothing is drawn at random.


def random_targets(numbers: list[int], seed: int = 0) -> list[InstanceTargets]:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for number in numbers:
        corners = torch.randint(0, 40, (number, 2), generator=generator)
        sizes = torch.randint(6, 24, (number, 2), generator=generator)
        boxes = torch.cat([corners, corners + sizes], dim=1).float()
        masks = torch.zeros(number, HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = torch.rand(y1 - y0, x1 - x0, generator=generator) < 0.7
        labels = torch.randint(0, NUM_THINGS, (number,), generator=generator)
        targets.append(InstanceTargets(labels=labels, boxes=boxes, masks=masks))
    return targets


class TorchvisionHead(nn.Module):
    """torchvision's RPN and RoI heads with its standard layers, on four levels."""

    def __init__(self) -> None:
        super().__init__()
        levels = ["p4", "p8", "p16", "p32"]
        anchors = AnchorGenerator(((32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 4)
        counts = {"training": 300, "testing": 300}
        self.rpn = RegionProposalNetwork(anchors, RPNHead(CHANNELS, 3), 0.7, 0.3, EVERYTHING, 0.5, counts, counts, 0.7)
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(levels, 7, 2), TwoMLPHead(CHANNELS * 49, 64), BoxBranch(NUM_THINGS).predictor,
            0.5, 0.5, EVERYTHING, 0.25, None, 0.05, 0.5, 100,
            MultiScaleRoIAlign(levels, 14, 2), MaskRCNNHeads(CHANNELS, (CHANNELS,) * 4, 1), nn.Identity(),
        )  # fmt: skip


def twins() -> tuple[MaskRCNNHead, TorchvisionHead]:
    """Our head and torchvision's, sharing every layer."""
    torch.manual_seed(0)
    theirs = TorchvisionHead()
    head = MaskRCNNHead(NUM_THINGS, CHANNELS, rpn_proposals_train=300, rpn_proposals_test=300, box_hidden=64)
    head.box_branch = BoxBranch(
        NUM_THINGS, in_channels=CHANNELS, hidden=64, samples_per_image=EVERYTHING, box_loss_beta=1 / 9, aligned=False
    )
    head.mask_branch = MaskBranch(NUM_THINGS, in_channels=CHANNELS, channels=CHANNELS, aligned=False)
    head.rpn.sampler.batch_size_per_image = EVERYTHING
    head.rpn.head = theirs.rpn.head
    theirs.roi_heads.box_predictor = head.box_branch.predictor
    head.box_branch.fc[1], head.box_branch.fc[3] = theirs.roi_heads.box_head.fc6, theirs.roi_heads.box_head.fc7
    head.mask_branch.convs = theirs.roi_heads.mask_head
    theirs.roi_heads.mask_predictor = nn.Sequential(
        head.mask_branch.deconv, head.mask_branch.deconv_act, head.mask_branch.predictor
    )
    for parameter in theirs.rpn.head.parameters():
        nn.init.normal_(parameter, std=0.05)
    return head, theirs


def as_torchvision(pyramid: FeaturePyramid) -> tuple[ImageList, OrderedDict[str, torch.Tensor]]:
    batch = len(pyramid.p4)
    images = ImageList(torch.zeros(batch, 3, HEIGHT, WIDTH), [(HEIGHT, WIDTH)] * batch)
    return images, OrderedDict(pyramid._asdict())


@sweep("numbers", [[3, 5], [4, 0], [1, 12]])
def test_losses_equal_torchvisions(numbers):
    """Oracle: torchvision's RegionProposalNetwork and RoIHeads on the same layers, all samples kept."""
    head, theirs = twins()
    pyramid, targets = random_pyramid(), random_targets(numbers)
    ours = head.loss(pyramid, targets)
    images, features = as_torchvision(pyramid)
    their_targets = [
        {"labels": t["labels"] + 1, "boxes": t["boxes"], "masks": t["masks"].to(torch.uint8)} for t in targets
    ]
    proposals, expected = theirs.train().rpn(images, features, their_targets)
    expected.update(theirs.roi_heads(features, proposals, images.image_sizes, their_targets)[1])
    assert set(ours) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, msg=lambda m, name=name: f"{name}: {m}")


def test_detections_equal_torchvisions():
    """Oracle: torchvision's detections and, as probabilities, their masks."""
    head, theirs = twins()
    pyramid = random_pyramid()
    images, features = as_torchvision(pyramid)
    with torch.no_grad():
        found = head.eval().predict(pyramid, images.image_sizes)
        proposals, _ = theirs.eval().rpn(images, features)
        expected, _ = theirs.roi_heads(features, proposals, images.image_sizes)
    for ours, reference in zip(found, expected, strict=True):
        assert len(ours) > 0
        torch.testing.assert_close(ours.boxes, reference["boxes"])
        torch.testing.assert_close(ours.scores, reference["scores"])
        assert torch.equal(ours.labels + 1, reference["labels"])
        torch.testing.assert_close(ours.mask_logits.sigmoid()[:, None], reference["masks"])


def test_masks_belong_to_the_detected_class():
    """Oracle: torchvision's maskrcnn_inference picks channel thing_id + 1."""
    branch = MaskBranch(NUM_THINGS, in_channels=CHANNELS, channels=8).eval()
    pyramid = random_pyramid(1)
    boxes, labels = [torch.tensor([[0.0, 0, 30, 30], [5, 5, 60, 40]])], [torch.tensor([2, 0])]
    with torch.no_grad():
        expected = maskrcnn_inference(branch(pyramid, boxes), [labels[0] + 1])[0][:, 0]
        torch.testing.assert_close(branch.predict(pyramid, boxes, labels)[0].sigmoid(), expected)


def test_mask_target_of_a_whole_box_is_the_mask():
    """Oracle: hand-worked; the box of a 28x28 mask reads it pixel by pixel, across a chunk border as well."""
    masks = torch.rand(20, 40, 40) < 0.5
    boxes = torch.tensor([[5.0, 7.0, 33.0, 35.0]]).expand(20, 4)
    result = mask_targets(masks, boxes, torch.arange(20), size=28, aligned=True)
    torch.testing.assert_close(result, masks[:, 7:35, 5:33].float())


def test_without_an_instance_boxes_and_masks_have_no_loss():
    """Oracle: definition; only the objectness of the background is left to learn."""
    head = MaskRCNNHead(NUM_THINGS, CHANNELS, box_hidden=16, mask_channels=8)
    losses = head.loss(random_pyramid(), random_targets([0, 0]))
    assert losses["loss_rpn_box_reg"] == losses["loss_box_reg"] == losses["loss_mask"] == 0
    assert losses["loss_objectness"] > 0


def test_mask_targets_of_many_objects_are_those_of_each():
    """Oracle: torchvision's kernel on each box's own mask; boxes reach out of the image, two share an object."""
    torch.manual_seed(0)
    masks = torch.rand(19, 40, 60) < 0.5
    matched = torch.cat([torch.randperm(19), torch.tensor([3])])
    corners = torch.rand(20, 2) * 40 - 5
    boxes = torch.cat([corners, corners + torch.rand(20, 2) * 30], dim=1)
    for aligned in (True, False):
        expected = [
            roi_align(masks[i][None, None].float(), [box[None]], 28, 1.0, -1, aligned)[0, 0]
            for i, box in zip(matched, boxes, strict=True)
        ]
        assert torch.equal(mask_targets(masks, boxes, matched, size=28, aligned=aligned), torch.stack(expected))


class WaitsForTheDevice(TorchDispatchMode):
    """Counts the operations whose result, or its shape, the host has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            self.operations.append(func)
        return func(*args, **(kwargs or {}))


def test_the_dense_part_of_prediction_waits_for_nothing():
    """Oracle: PyTorch's own tags of its operators; the rest of the prediction cannot do without such operators."""
    head, pyramid = MaskRCNNHead(NUM_THINGS, CHANNELS, box_hidden=16, mask_channels=8).eval(), random_pyramid()
    with torch.no_grad(), WaitsForTheDevice() as waits:
        dense = head.dense(pyramid)
        assert waits.operations == []
        head.decode(pyramid, dense, [(HEIGHT, WIDTH)] * 2)
        assert waits.operations != []


@pytest.mark.gpu
def test_the_dense_part_of_prediction_can_be_recorded():
    """Oracle: the same operations launched one by one; recording refuses whatever waits or copies from the host."""
    head = MaskRCNNHead(NUM_THINGS, CHANNELS, box_hidden=16, mask_channels=8).eval().cuda()
    pyramid = FeaturePyramid(*(f.cuda() for f in random_pyramid()))
    with torch.no_grad():
        with torch.cuda.stream(torch.cuda.Stream()):
            expected = head.dense(pyramid)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            recorded = head.dense(pyramid)
        graph.replay()
    for value, reference in zip(recorded, expected, strict=True):
        torch.testing.assert_close(value, reference)


def test_short_boxes_are_left_out():
    """Oracle: by size; every box has a side of the number, or there is none."""
    torch.manual_seed(0)
    rpn, branch = partial(RPN, smallest_side=20), partial(BoxBranch, smallest_side=30, detection_thresh=0)
    head = MaskRCNNHead(NUM_THINGS, CHANNELS, rpn=rpn, box_branch=branch, box_hidden=16, mask_channels=8)
    pyramid, sizes = random_pyramid(), [(HEIGHT, WIDTH)] * 2
    for boxes, least in (
        (head.rpn.decode(pyramid, head.dense(pyramid), sizes), 20),
        ([instances.boxes for instances in head.predict(pyramid, sizes)], 30),
    ):
        joined = torch.cat(boxes)
        assert len(joined) and (joined[:, 2:] - joined[:, :2]).min() >= least
