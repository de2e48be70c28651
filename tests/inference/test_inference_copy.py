"""Copies of whole networks against the networks."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from efficientps.backbones import ResNetBackbone
from efficientps.inference.inference_copy import InferenceCopies, inference_copy
from efficientps.layers import InPlaceABN
from efficientps.layers.norm_act import set_norm_implementation
from efficientps.networks.detr import DETRPanoptic
from efficientps.networks.detr.detector import Detector
from efficientps.networks.efficientps import InstanceHead
from tests.inference.networks import HEADS, NUM_STUFF, NUM_THINGS, ready_network
from tests.inference.networks import network as small_network
from tests.networks.efficientps.test_network import image_batch
from tests.sweep import sweep
from tests.tiny_network import TinyNetwork


def logits(network, batch):
    """Return the pyramid and the semantic logits of a batch."""
    pyramid = network.pyramid(batch["images"], batch["image_sizes"])
    return [*pyramid, network.semantic_head(pyramid)]


def assert_equal(copy, network, batch):
    """In float64 maps are equal to 1e-10, in float32 as close to these as the network's; so are 99.9 % of the pixels.

    Rounding in float32 alone grows to 5e-5 of the largest value over the hundred layers of random weights of B5.
    """
    exact = deepcopy(network).double()
    with torch.inference_mode():
        maps = [logits(side, batch) for side in (exact, inference_copy(exact), network, copy)]
        for truth, exact_copy, plain, found in zip(*maps, strict=True):
            largest = truth.abs().max()
            assert (exact_copy - truth).abs().max() <= 1e-10 * largest
            assert (found - truth).abs().max() <= max(2 * (plain - truth).abs().max(), 1e-5 * largest)
        for found, expected in zip(copy.predict(batch), network.predict(batch), strict=True):
            assert len(found.instances) == len(expected.instances) > 0
            assert (found.semantic == expected.semantic).float().mean() >= 0.999
            same = classes(found) == classes(expected)
            assert same.float().mean() >= 0.999 and len(classes(expected).unique()) > 1


def classes(prediction):
    """Return the class of each pixel of the panoptic map, things with the number of their instance."""
    things, table = 0, {0: -1}
    for segment in prediction.panoptic.segments:
        things += segment.is_thing
        table[segment.id] = segment.train_id + 100 * things * segment.is_thing
    return torch.tensor([table[i] for i in prediction.panoptic.segment_ids.flatten().tolist()])


@pytest.mark.parametrize(
    ("variant", "head", "implementation"),
    [
        *(("b0", head, norms) for head in HEADS for norms in ("in_place", "eager")),
        ("b5", "mask_rcnn", "in_place"),
        pytest.param("b5", "mask_rcnn", "eager", marks=pytest.mark.slow),
        *(pytest.param("b5", "solov2", norms, marks=pytest.mark.slow) for norms in ("in_place", "eager")),
    ],
)
def test_a_copy_predicts_what_the_network_does(variant, head, implementation, caplog):
    # Oracle: the network itself, whose norms have weights of both signs and statistics of their own.
    network = ready_network(head, variant=variant, norm_implementation=implementation)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level("INFO", logger="efficientps.inference"):
        copy = inference_copy(network)
    norms = sum(isinstance(layer, InPlaceABN) for layer in network.modules())
    assert f"{norms} of {norms} norms are folded." in caplog.text
    assert not any(isinstance(layer, InPlaceABN) for layer in copy.modules())
    assert not any(p.requires_grad for p in copy.parameters()) and not copy.training
    assert_equal(copy, network, image_batch([(64, 96), (60, 90)]))
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_copy_of_norms_by_triton(monkeypatch):
    # Oracle: as above; Triton's interpreter reads the kernels where there is no card.
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    torch.manual_seed(0)
    network = TinyNetwork(NUM_STUFF, NUM_THINGS, width=8).eval().to(memory_format=torch.channels_last)
    network.backbone[1] = InPlaceABN(8).eval()
    network.backbone[1].weight.data.normal_()
    network.backbone[1].running_mean.normal_()
    set_norm_implementation(network, "triton")
    images = image_batch([(32, 32)], canvas=(32, 32))["images"]
    with torch.inference_mode():
        torch.testing.assert_close(inference_copy(network).logits(images), network.logits(images), rtol=1e-5, atol=1e-6)


class Casts(TorchDispatchMode):
    """Counts what is cast, by shape."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@sweep("head", HEADS)
def test_autocast_casts_no_weight_of_a_copy(head):
    # Oracle: by hand; no operation of a prediction casts a tensor of a weight's shape, and the maps stay close.
    network, batch = ready_network(head), image_batch([(64, 96)])
    copy = inference_copy(network, dtype=torch.bfloat16)
    shapes = {tuple(p.shape) for p in network.parameters() if p.dim() == 4}
    counts = []
    with torch.no_grad():  # inference mode would hide casts in operations of several steps
        exact = logits(network, batch)[-1]
        for side in (network, copy):
            with Casts() as casts, torch.autocast("cpu", dtype=torch.bfloat16):
                side.predict(batch)
            counts.append(sum(shape in shapes for shape in casts.shapes))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, expected = logits(copy, batch)[-1], logits(network, batch)[-1]
    assert counts[0] > 100 and counts[1] == 0
    assert (found - exact).abs().mean() <= 1.2 * (expected - exact).abs().mean()


def test_group_norms_stay_in_float32():
    # Oracle: by hand; what autocast does not cast keeps its type, and no norm of the head is folded.
    copy = inference_copy(ready_network("solov2 with group norms"), dtype=torch.bfloat16)
    norms = [layer for layer in copy.instance_head.modules() if isinstance(layer, nn.GroupNorm)]
    convolutions = [layer for layer in copy.instance_head.modules() if isinstance(layer, nn.Conv2d)]
    assert norms and {layer.weight.dtype for layer in norms} == {torch.float32}
    assert {layer.weight.dtype for layer in convolutions} == {torch.bfloat16}


@pytest.mark.parametrize("frozen", [True, False])
def test_detr_is_folded(frozen, caplog):
    # Oracle: the network; all norms of the ResNet follow a convolution.
    torch.manual_seed(0)
    backbone = ResNetBackbone(variant="resnet10t", pretrained=False, frozen_norms=frozen)
    small = partial(Detector, channels=32, num_heads=8, feed_forward=32, encoder_layers=1, decoder_layers=1,
                    num_queries=9)  # fmt: skip
    network = DETRPanoptic(NUM_STUFF, NUM_THINGS, backbone=backbone, detector=small).eval()
    generator = torch.Generator().manual_seed(0)
    norms = [layer for layer in backbone.modules() if hasattr(layer, "running_var")]
    for layer in norms:
        layer.running_mean.normal_(std=0.1, generator=generator)
        layer.running_var.uniform_(0.5, 2, generator=generator)
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
    with caplog.at_level("INFO", logger="efficientps.inference"):
        copy = inference_copy(network)
    assert f"{len(norms)} of {len(norms)} norms are folded." in caplog.text
    batch = image_batch([(64, 96)])
    with torch.inference_mode():
        (found, _), (expected, _) = (n.detect(batch["images"], batch["image_sizes"]) for n in (copy, network))
    torch.testing.assert_close(found.class_logits, expected.class_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-5, atol=1e-5)


def test_networks_of_strangers():
    # Oracle: the networks themselves; one with plain layers, and one that refuses small images.
    class Large(TinyNetwork):
        def predict(self, batch):
            if batch["images"].shape[-1] < 96:
                raise ValueError("too small")
            return super().predict(batch)

    batch = image_batch([(64, 96)])
    for cls, norm in ((TinyNetwork, nn.Identity), (Large, nn.BatchNorm2d)):
        torch.manual_seed(0)
        network = cls(NUM_STUFF, NUM_THINGS).eval()
        copy = inference_copy(network, dtype=torch.bfloat16 if cls is Large else None)
        assert isinstance(copy.backbone[1], norm)
        assert torch.equal(copy.predict(batch)[0].panoptic.segment_ids, network.predict(batch)[0].panoptic.segment_ids)


def test_heads_with_predict_alone():
    # Oracle: the head whose ``predict`` it is.
    network = ready_network("mask_rcnn")
    original = network.instance_head

    class Stranger(InstanceHead):
        def __init__(self):
            super().__init__()
            self.inner = original

        def loss(self, pyramid, targets):
            return {}

        def predict(self, pyramid, image_sizes):
            return self.inner.predict(pyramid, image_sizes)

    batch = image_batch([(64, 96)])
    with torch.inference_mode():
        expected = network.predict(batch)[0]
        network.instance_head = Stranger()
        found = network.predict(batch)[0]
    assert torch.equal(found.panoptic.segment_ids, expected.panoptic.segment_ids)


def test_compiled_parts_are_compiled_in_a_copy():
    # Oracle: by hand; a plain deep copy has forgotten them.
    network = small_network("mask_rcnn", torch_compile=("neck",)).eval()
    assert network.neck._compiled_call_impl is not None
    assert deepcopy(network).neck._compiled_call_impl is None
    assert inference_copy(network).neck._compiled_call_impl is not None


def test_the_holder_makes_a_copy_when_it_is_asked_and_anew_after_it_is_dropped():
    # Oracle: by hand.
    network, copies = TinyNetwork(NUM_STUFF, NUM_THINGS), InferenceCopies()
    first = copies.of(network)
    assert copies.of(network) is first
    network.head.bias.data.fill_(3.0)
    copies.drop()
    assert set(copies.of(network).head.bias.tolist()) == {3.0}
