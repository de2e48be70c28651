"""Every instance head against the one contract."""

import pytest
import torch

from efficientps.networks.efficientps import InstanceHead, MaskRCNNHead, SOLOv2Head
from tests.instance_head_contract import CHANNELS, CHECKS, NUM_THINGS


def mask_rcnn(*, finds: bool) -> InstanceHead:
    torch.manual_seed(0)
    return MaskRCNNHead(
        NUM_THINGS, CHANNELS, box_hidden=16, mask_channels=8, fc_norm=True, deconv_norm=True, rpn_proposals_train=100,
        rpn_proposals_test=100, box_samples_per_image=32, detection_thresh=0.0 if finds else 1.0, max_detections=20,
    )  # fmt: skip


def solov2(*, finds: bool) -> InstanceHead:
    torch.manual_seed(0)
    head = SOLOv2Head(
        NUM_THINGS, CHANNELS, num_convs=1, channels=32, kernel_channels=32, mask_hidden=32, max_detections=20,
        num_grids=((8, 16), (6, 12), 5, (3, 6), (2, 4)), detection_thresh=0.0 if finds else 1.0, update_thresh=0.0,
    )  # fmt: skip
    # Wide enough for masks that differ; at their usual start all are half transparent.
    torch.nn.init.normal_(head.kernel.weight, std=1.0)
    return head


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("make", [mask_rcnn, solov2])
def test_contract(make, check):
    """Oracle: the contract, see ``instance_head_contract``."""
    check(make)
