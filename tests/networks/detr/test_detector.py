"""The detector and the whole network against transformers' DETR with the same weights."""

import copy
from functools import partial

import pytest
import torch
from torchvision.ops.misc import FrozenBatchNorm2d
from transformers import DetrConfig, DetrForSegmentation
from transformers.models.detr.modeling_detr import DetrEncoderLayer
from transformers.models.timm_backbone import TimmBackboneConfig

from efficientps.backbones import ResNetBackbone
from efficientps.backbones.resnet import FixedNorm
from efficientps.networks.detr import Detector, DETRPanoptic
from tests.sweep import sweep

NUM_STUFF, NUM_THINGS, QUERIES, LAYERS = 2, 3, 7, 3


def reference(**options):
    """A small DETR of transformers, whose norms have statistics to speak of."""
    backbone = TimmBackboneConfig(backbone="resnet10t", use_pretrained_backbone=False, out_indices=[1, 2, 3, 4])
    config = DetrConfig(
        backbone_config=backbone,
        num_labels=NUM_STUFF + NUM_THINGS,
        num_queries=QUERIES,
        d_model=64,
        encoder_layers=2,
        decoder_layers=LAYERS,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        **options,
    )
    torch.manual_seed(0)
    model = DetrForSegmentation(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("running_mean", "running_var", "bias")):
                tensor.copy_(torch.rand_like(tensor) * 0.3 + 0.1)
            elif tensor.dim() > 1:  # else all queries are nearly alike
                is_query = name.endswith("query_position_embeddings.weight")
                tensor.copy_(torch.randn_like(tensor) * (5.0 if is_query else (2 / tensor[0].numel()) ** 0.5))
    return model


def own(state_dict, step="joint", dropout=0.0):
    network = DETRPanoptic(
        NUM_STUFF,
        NUM_THINGS,
        backbone=ResNetBackbone(variant="resnet10t", pretrained=False),
        detector=partial(
            Detector, num_queries=QUERIES, channels=64, encoder_layers=2, decoder_layers=LAYERS, feed_forward=96,
            dropout=dropout,
        ),
        step=step,
    )  # fmt: skip
    network.load_state_dict(network.adapt_state(state_dict))
    return network.eval()


@pytest.fixture(scope="module")
def model():
    return reference()


@pytest.fixture(scope="module")
def images():
    """Two images on a canvas of 64x96, of which the second fills 40x70."""
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    images[1, :, 40:], images[1, :, :, 70:] = 0, 0
    return images, [(64, 96), (40, 70)]


def theirs(model, network, images, sizes):
    mask = torch.zeros(len(images), *images.shape[-2:], dtype=torch.int64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (network.normalization.mean, network.normalization.std))
    pixels = (images - mean) / std
    for i, (h, w) in enumerate(sizes):
        mask[i, :h, :w] = 1
    with torch.no_grad():
        return model(pixel_values=pixels * mask[:, None], pixel_mask=mask)


def test_equals_transformers(model, images):
    # Oracle: DetrForSegmentation, on a batch with padding.
    network = own(model.state_dict())
    expected = theirs(model, network, *images)
    with torch.no_grad():
        detection, levels = network.detect(*images)
        every = torch.arange(2).repeat_interleave(QUERIES), torch.arange(QUERIES).repeat(2)
        masks = network.mask_head(detection, levels[:3], *every).unflatten(0, (2, QUERIES))
    assert expected.pred_boxes.std(dim=1).mean() > 0.005
    torch.testing.assert_close(detection.class_logits[-1], expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(detection.boxes[-1], expected.pred_boxes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masks, expected.pred_masks, rtol=1e-3, atol=1e-3)


def test_earlier_layers_do_not_change_the_last(model, images):
    # Oracle: the network without auxiliary outputs. transformers' auxiliary_loss hands normed states on, which is
    # another network: its logits differ.
    network = own(model.state_dict())
    with torch.no_grad():
        (last,) = network.detect(*images)[0].class_logits
        network.train()
        all_layers = network.detect(*images)[0].class_logits
    assert len(all_layers) == LAYERS
    torch.testing.assert_close(all_layers[-1], last)
    auxiliary = reference(auxiliary_loss=True)
    auxiliary.load_state_dict(model.state_dict())
    assert (theirs(auxiliary, network, *images).logits - last).abs().max() > 0.1


def test_each_earlier_layer_is_that_of_a_shorter_decoder(model, images):
    # Oracle: the same network whose decoder ends there.
    network = own(model.state_dict()).train()
    with torch.no_grad():
        all_layers = network.detect(*images)[0]
        network.eval()
        for number in range(1, LAYERS):
            network.detector.decoder.layers = torch.nn.ModuleList(list(network.detector.decoder.layers)[:LAYERS])
            shorter = own(model.state_dict())
            shorter.detector.decoder.layers = shorter.detector.decoder.layers[:number]
            found = shorter.detect(*images)[0]
            torch.testing.assert_close(all_layers.class_logits[number - 1], found.class_logits[-1])
            torch.testing.assert_close(all_layers.boxes[number - 1], found.boxes[-1])


@sweep("state", [1.0, float("inf"), float("nan")])
def test_an_encoder_layer_is_that_of_transformers(state):
    # Oracle: transformers' layer, in training, with states that are finite and some that are not.
    torch.manual_seed(0)
    (layer,) = Detector(32, 5, encoder_layers=1, channels=64, feed_forward=96, dropout=0.2).encoder.layers
    reference = DetrEncoderLayer(layer.self_attn.config)
    reference.load_state_dict(layer.state_dict())
    hidden, positions = torch.randn(2, 15, 64), torch.randn(1, 15, 64)
    mask = torch.arange(15)[None, None, None] < 12
    with torch.no_grad():
        for parameters in (layer.final_layer_norm, reference.final_layer_norm):
            parameters.bias[3] = state
    outputs, gradients = [], []
    for module in (layer, reference):
        torch.manual_seed(1)
        given = hidden.clone().requires_grad_()
        outputs.append(module.train()(given, mask, spatial_position_embeddings=positions))
        outputs[-1][..., :3].square().sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*outputs, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(*gradients)


def test_positions_follow_the_images():
    # Oracle: a detector that has seen nothing yet; sizes, padding and types change, also after inference mode.
    torch.manual_seed(0)
    detector = Detector(8, 3, channels=64, encoder_layers=1, decoder_layers=1, feed_forward=32).eval()
    level, valid = torch.randn(2, 8, 3, 5), torch.ones(2, 3, 5, dtype=torch.bool)
    padded = valid.clone()
    padded[1, 2:] = False
    for cells, size in ((valid, 5), (padded, 5), (padded, 4), (valid, 5)):
        fresh = copy.deepcopy(detector)
        fresh._last_positions = None
        with torch.inference_mode():
            found = detector(level[..., :size], cells[..., :size]).memory
        again = detector(level[..., :size], cells[..., :size]).memory
        expected = fresh(level[..., :size], cells[..., :size]).memory
        assert torch.equal(found, expected)
        assert torch.equal(again, expected)
        again.sum().backward()


def test_fixed_norms_are_those_of_torchvision():
    # Oracle: torchvision's module with the same tensors, bit by bit; and one kernel's formula, to rounding.
    torch.manual_seed(0)
    fixed, learning = (ResNetBackbone(variant="resnet10t", pretrained=False, frozen_norms=f) for f in (True, False))
    norms = [module for module in fixed.modules() if isinstance(module, FixedNorm)]
    assert len(norms) == sum(isinstance(module, torch.nn.BatchNorm2d) for module in learning.modules()) > 9
    assert fixed.state_dict().keys() == {k for k in learning.state_dict() if not k.endswith("num_batches_tracked")}
    norm, reference = norms[3], FrozenBatchNorm2d(norms[3].weight.shape[0])
    for tensor in norm.buffers():
        tensor.uniform_(0.5, 2)
    reference.load_state_dict(norm.state_dict())
    x = torch.randn(2, len(norm.weight), 4, 5)
    assert torch.equal(norm(x), reference(x))
    if torch.cuda.is_available():
        torch.testing.assert_close(norm.cuda()(x.cuda()).cpu(), reference(x))
    else:
        fused = torch.nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        torch.testing.assert_close(fused, reference(x))


def test_initial_weights_are_the_authors():
    # Oracle: Xavier's bound, and torch's own normal distribution of embeddings; transformers draws all with 0.02.
    torch.manual_seed(0)
    detector = Detector(32, 5)
    for name, parameter in detector.named_parameters():
        if name.startswith(("encoder", "decoder")) and parameter.dim() > 1:
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.99 * bound < parameter.detach().abs().max() <= bound, name
    assert detector.queries.weight.detach().std() == pytest.approx(1, abs=0.02)
