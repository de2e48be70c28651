"""The composed network: parameter counts of the two published variants, losses and predictions end to end."""

from functools import partial, partialmethod

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from efficientps.backbones import EfficientNetBackbone
from efficientps.layers import InPlaceABN
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead, SemanticHead, SOLOv2Head, TwoWayFPN
from efficientps.structures import ImageBatch, InstanceTargets, TrainingBatch
from tests.sweep import sweep

NUM_STUFF, NUM_THINGS = 11, 8
SOLO = {"num_convs": 1, "channels": 32, "kernel_channels": 32, "mask_hidden": 32, "num_grids": [16, 12, 8, 6, 4]}


def network(variant: str = "b0", **options) -> EfficientPS:
    return EfficientPS(
        NUM_STUFF, NUM_THINGS, backbone=EfficientNetBackbone(variant=variant, pretrained=False),
        neck=partial(TwoWayFPN, out_channels=32), semantic_head=partial(SemanticHead, channels=16),
        instance_head=partial(MaskRCNNHead, box_hidden=32, mask_channels=16), min_stuff_area=20, **options,
    )  # fmt: skip


def image_batch(sizes: list[tuple[int, int]], canvas: tuple[int, int] = (64, 96)) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(sizes), 3, *canvas), dtype=torch.uint8, generator=generator)
    return ImageBatch(
        images=images, image_sizes=sizes, original_sizes=sizes, image_ids=[str(i) for i in range(len(sizes))]
    )


def training_batch(numbers: list[int], *, void: bool = False) -> TrainingBatch:
    batch = image_batch([(64, 96)] * len(numbers))
    semantic = torch.full((len(numbers), 64, 96), 255) if void else torch.randint(0, 19, (len(numbers), 64, 96))
    instances = []
    for number in numbers:
        boxes = torch.tensor([[10.0, 8.0, 50.0, 40.0]]).expand(number, 4).clone()
        masks = torch.zeros(number, 64, 96, dtype=torch.bool)
        masks[:, 8:40, 10:50] = True
        instances.append(InstanceTargets(labels=torch.arange(number) % NUM_THINGS, boxes=boxes, masks=masks))
    return TrainingBatch(
        **batch, segment_ids=[], segments=[], semantic=semantic, instances=instances
    )  # fmt: skip


def count(separable_output: bool, intermediate_norm: bool) -> int:
    norm = {"intermediate_norm": intermediate_norm}
    model = EfficientPS(
        NUM_STUFF, NUM_THINGS, backbone=EfficientNetBackbone(pretrained=False),
        neck=partial(TwoWayFPN, separable_output=separable_output, **norm),
        semantic_head=partial(SemanticHead, **norm), instance_head=partial(MaskRCNNHead, **norm),
    )  # fmt: skip
    return sum(p.numel() for p in model.parameters())


def test_norms_compute_as_chosen():
    # Oracle: the layers themselves.
    model = EfficientPS(
        NUM_STUFF, NUM_THINGS, backbone=EfficientNetBackbone(variant="b0", pretrained=False),
        instance_head=partial(MaskRCNNHead, box_hidden=32), norm_implementation="eager",
    )  # fmt: skip
    norms = [layer for layer in model.modules() if isinstance(layer, InPlaceABN)]
    assert len(norms) > 60 and {norm.implementation for norm in norms} == {"eager"}


def test_number_of_parameters_of_the_paper():
    """Oracle: 40.89 M in the paper; 40,891,080 counted layer by layer from its figures."""
    assert count(separable_output=True, intermediate_norm=False) == 40_891_080


def test_number_of_parameters_of_the_authors_code():
    """Oracle: 42.99 M, counted from the authors' sample configuration."""
    assert round(count(separable_output=False, intermediate_norm=True) / 1e6, 2) == 42.99


@sweep("numbers, void", [([2, 1], False), ([0, 0], False), ([0, 0], True)])
def test_losses_are_finite_and_reach_every_parameter(numbers, void):
    """Oracle: contract; images without an instance and all-void images included."""
    model = network()
    losses = model.loss(training_batch(numbers, void=void))
    assert set(losses) == {
        "loss_semantic", "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"
    }  # fmt: skip
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert (losses["loss_semantic"] == 0) == void


def test_predictions_have_the_valid_size_of_each_image():
    """Oracle: contract; every id in the map has its segment and the reverse."""
    model = network().eval()
    batch = image_batch([(64, 96), (50, 71)])
    with torch.no_grad():
        predictions = model.predict(batch)
    for prediction, size in zip(predictions, batch["image_sizes"], strict=True):
        assert tuple(prediction.panoptic.segment_ids.shape) == size
        assert tuple(prediction.semantic.shape) == size
        present = set(prediction.panoptic.segment_ids.unique().tolist()) - {0}
        assert present == {segment.id for segment in prediction.panoptic.segments}
        for segment in prediction.panoptic.segments:
            assert segment.is_thing == (segment.train_id >= NUM_STUFF)


def test_what_stands_in_the_padding_does_not_matter():
    """Oracle: invariance; the padding of the image tensor is overwritten before anything reads it."""
    model = network().eval()
    batch = image_batch([(50, 71)])
    other = ImageBatch(**{**batch, "images": batch["images"].clone()})
    other["images"][:, :, 50:] = 0
    other["images"][:, :, :, 71:] = 255
    with torch.no_grad():
        (first,), (second,) = model.predict(batch), model.predict(other)
    assert torch.equal(first.panoptic.segment_ids, second.panoptic.segment_ids)


def test_channels_last_changes_nothing():
    """Oracle: invariance, within rounding."""
    model = network().eval()
    batch = image_batch([(64, 96)])
    with torch.no_grad():
        expected = model.pyramid(batch["images"], batch["image_sizes"]).p8
        model.to(memory_format=torch.channels_last)
        actual = model.pyramid(batch["images"], batch["image_sizes"]).p8
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_normalisation_by_hand():
    """Oracle: (x - mean) / std of the red channel, and 0 in the padding."""
    x = network().normalize(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8), [(20, 32)])
    assert x[0, 0, 0, 0].item() == pytest.approx((200 - 123.675) / 58.395, rel=1e-6)
    assert x[0, :, 20:].abs().sum() == 0


def test_size_that_is_no_multiple_of_32():
    with pytest.raises(ValueError, match=r"The images are 64x80; EfficientPS needs .* multiples of 32"):
        network().predict(image_batch([(64, 80)], canvas=(64, 80)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_stay_finite_in_low_precision(dtype):
    """Oracle: the float32 losses, roughly."""
    torch.manual_seed(0)
    model, batch = network(), training_batch([2, 1])
    expected = model.loss(batch)["loss_semantic"]
    with torch.autocast("cpu", dtype):
        losses = model.loss(batch)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    torch.testing.assert_close(losses["loss_semantic"], expected, rtol=0.1, atol=0.1)


@sweep("numbers", [[2, 1], [0, 0]])
@sweep("head", [partial(MaskRCNNHead, box_hidden=32, mask_channels=16), partial(SOLOv2Head, **SOLO)])
def test_activation_checkpointing_changes_nothing(head, numbers):
    """Oracle: the network that keeps its activations: losses, gradients, statistics and later random numbers."""
    results = []
    for parts in ((), ("backbone", "neck", "semantic_head", "instance_head")):
        torch.manual_seed(0)
        model = EfficientPS(
            NUM_STUFF, NUM_THINGS, backbone=EfficientNetBackbone(variant="b0", pretrained=False, drop_path_rate=0.3),
            neck=partial(TwoWayFPN, out_channels=32), semantic_head=partial(SemanticHead, channels=16),
            instance_head=head, activation_checkpointing=parts,
        ).train()  # fmt: skip
        torch.manual_seed(1)
        batch = training_batch(numbers)
        for _ in range(2):
            losses = model.loss(batch)
            sum(losses.values()).backward()
        results.append([
            *losses.values(), *(p.grad for p in model.parameters()), *model.state_dict().values(), torch.rand(3)
        ])  # fmt: skip
    for once, twice in zip(*results, strict=True):
        torch.testing.assert_close(twice, once, rtol=0, atol=0)


@pytest.fixture
def traced(monkeypatch):
    """Compile by tracing alone, without generating code, which takes minutes; gives the counters of the tracer."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    yield counters
    torch._dynamo.reset()


def seeded(**options) -> EfficientPS:
    torch.manual_seed(0)
    return network(**options)


@pytest.mark.slow
def test_compiled_parts_compute_the_same(traced):
    """Oracle: the network that is not compiled: losses, gradients and statistics, with any number of objects."""
    parts = ["backbone", "neck", "semantic_head"]
    plain, compiled = seeded(norm_implementation="eager"), seeded(norm_implementation="eager", torch_compile=parts)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for numbers in ([2, 1], [0, 3], [0, 0]):
        results = []
        for model in (plain, compiled):
            torch.manual_seed(1)
            losses = model.train().loss(training_batch(numbers))
            model.zero_grad()
            sum(losses.values()).backward()
            results.append([*losses.values(), *(p.grad for p in model.parameters()), *model.state_dict().values()])
        for expected, value in zip(*results, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4)
    # Once for each part, not once for each step, and each part as a whole.
    assert traced["stats"]["unique_graphs"] == 3
    assert not traced["graph_break"]


def test_compiled_parts_predict_images_of_several_sizes(traced):
    """Oracle: the network that is not compiled; code is made once for each size."""
    plain, compiled = seeded().eval(), seeded(torch_compile=["neck"]).eval()
    graphs = []
    for size in ((64, 96), (96, 128), (64, 96)):
        with torch.no_grad():
            expected, predicted = (model.predict(image_batch([size], canvas=size))[0] for model in (plain, compiled))
        assert torch.equal(predicted.semantic, expected.semantic)
        assert torch.equal(predicted.panoptic.segment_ids, expected.panoptic.segment_ids)
        graphs.append(traced["stats"]["unique_graphs"])
    assert graphs == [1, 2, 2]


def test_a_part_is_compiled_or_checkpointed():
    with pytest.raises(ValueError, match="both name backbone: compiled code chooses itself what it keeps"):
        seeded(torch_compile=["backbone", "neck"], activation_checkpointing=["backbone"])
