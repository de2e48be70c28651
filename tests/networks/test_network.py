"""What every panoptic network does when it is moved or converted."""

from functools import partial

import pytest
import torch

from efficientps.backbones import EfficientNetBackbone, ResNetBackbone, TimmBackbone
from efficientps.networks.detr import DETRPanoptic
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead, SOLOv2Head
from efficientps.structures import ImageBatch

SMALL = partial(EfficientNetBackbone, variant="b0", pretrained=False)
FAMILIES = {
    "mask_rcnn": partial(EfficientPS, 11, 8, backbone=SMALL, instance_head=MaskRCNNHead),
    "solov2": partial(EfficientPS, 11, 8, backbone=SMALL, instance_head=SOLOv2Head),
    "detr": partial(DETRPanoptic, 11, 8, backbone=partial(ResNetBackbone, variant="resnet50", pretrained=False)),
}


@pytest.fixture
def image():
    pixels = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageBatch(images=pixels, image_sizes=[(64, 90)], original_sizes=[(64, 90)], image_ids=["noise"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_state_dict_is_all_that_a_network_needs(family, image):
    """Oracle: the network that never was on the meta device."""
    network = FAMILIES[family]().eval()
    with torch.no_grad():
        (expected,) = network.predict(image)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        network.to("meta").to_empty(device="cpu").load_state_dict(state)
        (found,) = network.predict(image)
    assert torch.equal(found.panoptic.segment_ids, expected.panoptic.segment_ids)
    assert torch.equal(found.semantic, expected.semantic)


def test_tensors_that_no_state_dict_holds_are_not_left_without_values():
    """The tables of relative positions in timm's Swin; the network is also built on the meta device."""
    backbone = partial(TimmBackbone, name="swin_tiny_patch4_window7_224", pretrained=False)
    network = EfficientPS(11, 8, backbone=backbone, instance_head=SOLOv2Head)
    with pytest.raises(ValueError, match=r"computes backbone\..*relative_position_index when .* Build the net"):
        network.to("meta").to_empty(device="cpu")


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.bfloat16, lambda m: m.to(torch.float16)])
def test_half_precision_of_the_weights_is_refused(convert):
    network = FAMILIES["solov2"]()
    with pytest.raises(ValueError, match=r"EfficientPS cannot be converted to b?float16: .*16-mixed or bf16-mixed"):
        convert(torch.nn.Sequential(network))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
