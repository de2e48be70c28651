"""DETR panoptic as a network of the framework: what is trained, what is frozen, and what it predicts."""

from functools import partial

import pytest
import torch

from efficientps.backbones import ResNetBackbone
from efficientps.data.loading.targets import training_batch
from efficientps.networks.detr import Detector, DETRPanoptic
from efficientps.networks.queries.boxes import enclosing_boxes
from efficientps.networks.queries.chosen_queries import choose_queries
from efficientps.structures import IGNORE_INDEX, ImageBatch, Segment
from tests.sweep import sweep

NUM_STUFF, NUM_THINGS, HEIGHT, WIDTH = 2, 3, 64, 96


def small(step, *, queries=12, dropout=0.1, frozen_norms=False, **options):
    torch.manual_seed(0)
    return DETRPanoptic(
        NUM_STUFF,
        NUM_THINGS,
        backbone=ResNetBackbone(variant="resnet10t", pretrained=False, frozen_norms=frozen_norms),
        detector=partial(
            Detector, num_queries=queries, channels=32, encoder_layers=1, decoder_layers=2, feed_forward=32,
            dropout=dropout,
        ),
        step=step,
        **options,
    )  # fmt: skip


def batch_of(*things):
    """A batch whose images have a sky, a ground and so many things."""
    maps, segments = [], []
    for number in things:
        ids = torch.ones(HEIGHT, WIDTH, dtype=torch.int32)
        ids[HEIGHT // 2 :] = 2
        listed = [Segment(1, 0, False), Segment(2, 1, False)] if number is not None else []
        for i in range(number or 0):
            ids[20 + 3 * i : 40 + 3 * i, 10 * i : 10 * i + 8] = 3 + i
            listed.append(Segment(3 + i, NUM_STUFF + i % NUM_THINGS, True))
        maps.append(ids if number is not None else torch.zeros_like(ids))
        segments.append(listed)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (len(things), 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    sizes = [(HEIGHT, WIDTH)] * len(things)
    names = [f"image {i}" for i in range(len(things))]
    batch = {"images": images, "image_sizes": sizes, "original_sizes": sizes, "image_ids": names}
    return training_batch({**batch, "segment_ids": maps, "segments": segments}, NUM_STUFF)


def trainable(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@sweep("step", ["detector", "masks", "joint"])
@sweep("things", [(2, 3), (None, 1), (None, None)])
def test_gradients_reach_what_is_trained_and_nothing_else(step, things):
    network = small(step).train()
    losses = network.loss(batch_of(*things))
    expected = {"loss_class", "loss_box", "loss_giou", "loss_earlier_layers"} if step != "masks" else set()
    expected |= {"loss_mask", "loss_dice"} if step != "detector" else set()
    assert losses.keys() == expected
    assert all(v.shape == () and v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert {name for name, p in network.named_parameters() if p.grad is not None} == trainable(network)


def test_what_each_step_trains():
    # Oracle: the published recipe; stem and first stage never, the detector not in the second step.
    for frozen_norms in (True, False):
        detector, joint = (trainable(small(step, frozen_norms=frozen_norms)) for step in ("detector", "joint"))
        masks = trainable(small("masks", frozen_norms=frozen_norms))
        assert {name.split(".")[0] for name in masks} == {"mask_head"}
        assert {name.split(".")[0] for name in detector} == {"backbone", "detector"}
        assert joint == detector | masks
        stages = {name.split(".")[2] for name in detector if name.startswith("backbone.")}
        assert stages == {"layer2", "layer3", "layer4"}
        assert detector >= {n for n, _ in small("detector").named_parameters() if n.startswith("detector.")}


def test_parameters_of_the_published_network():
    # Oracle: 42.84 M with ResNet-50 and 20 classes, of which 1.33 M are the mask head's; 0.22 M of the backbone's
    # (stem and first stage) are not trained: 64 * 3 * 49, and 64 * 64 + 3 * 64 * 256 + 3 * 36864 + ... by hand.
    stem_and_first = 64 * 3 * 49 + 64 * 64 + 64 * 256 + 2 * 256 * 64 + 3 * 64 * 64 * 9 + 3 * 64 * 256
    counts = {}
    for step in ("detector", "masks", "joint"):
        with torch.device("meta"):
            network = DETRPanoptic(11, 9, backbone=ResNetBackbone(pretrained=False), step=step)
        every = sum(p.numel() for p in network.parameters())
        counts[step] = every, sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert round(counts["joint"][0] / 1e6, 2) == 42.84
    assert counts["masks"] == (counts["joint"][0], 1_333_657)
    assert counts["detector"][0] == counts["joint"][0] - 1_333_657
    assert counts["detector"][1] == counts["detector"][0] - stem_and_first
    assert counts["joint"][1] == counts["joint"][0] - stem_and_first


@pytest.mark.parametrize("frozen_dropout", [True, False])
def test_the_second_step_leaves_the_detector_alone(frozen_dropout):
    # Oracle: every bit of every tensor, running statistics of norms that could learn included.
    network = small("masks", frozen_dropout=frozen_dropout).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        sum(network.loss(batch_of(2, 3)).values()).backward()
        optimizer.step()
    for name, tensor in network.state_dict().items():
        if name.startswith("mask_head."):
            assert not torch.equal(tensor, before[name]), name
        else:
            assert torch.equal(tensor, before[name]), name


def test_dropout_of_the_frozen_detector():
    # Oracle: published, on; with frozen_dropout off two passes are the same.
    batch = batch_of(2)
    for frozen_dropout in (True, False):
        network = small("masks", dropout=0.5, frozen_dropout=frozen_dropout).train()
        with torch.no_grad():
            first, second = (network.detect(batch["images"], batch["image_sizes"])[0].memory for _ in range(2))
        assert torch.equal(first, second) is not frozen_dropout
        assert not network.eval().detector.training


def test_a_new_network_is_in_the_mode_that_it_is_trained_in():
    # Lightning does not call train().
    network = small("masks", frozen_dropout=False)
    assert [part.training for part in (network, network.backbone, network.detector)] == [True, False, False]
    assert small("masks").detector.training
    assert small("detector").backbone.training


def test_masks_have_nothing_to_do_with_the_matching():
    # Oracle: the losses of classes and boxes with and without masks.
    batch = batch_of(2, 3)
    with torch.no_grad():
        alone, together = small("detector", dropout=0.0), small("joint", dropout=0.0)
        together.load_state_dict(alone.state_dict(), strict=False)
        terms = together.loss(batch)
        for name, value in alone.loss(batch).items():
            torch.testing.assert_close(terms[name], value)


def test_as_many_segments_as_queries():
    network = small("joint", queries=4)
    network.check_data(3)
    with pytest.raises(ValueError, match=r"has 4 segments and the detector 4 queries.*num_queries to clearly more"):
        network.check_data(4)
    with pytest.raises(ValueError, match="Image 'image 1' has 5 segments and the detector 4 queries"):
        network.loss(batch_of(1, 3))


def predict(network, images, sizes, originals=None):
    names = [str(i) for i in range(len(sizes))]
    with torch.no_grad():
        return network.eval().predict(
            ImageBatch(images=images, image_sizes=sizes, original_sizes=originals or sizes, image_ids=names)
        )


class Says(torch.nn.Module):
    """A class head whose queries find stuff and things, surely and less surely, whatever the image."""

    def forward(self, states):
        logits = torch.zeros(12, NUM_STUFF + NUM_THINGS + 1)
        for query in range(12):
            logits[query, query % 6] = query % 4 * 1.5
        return logits.to(states.device).expand(*states.shape[:-1], -1)


@pytest.mark.parametrize("originals", [[(50, 90), (64, 96)], [(121, 203), (31, 64)]], ids=["own", "other"])
def test_predictions(originals):
    network = small("joint", score_thresh=0.5, detection_thresh=0.2)
    network.detector.class_head = Says()
    sizes = [(50, 90), (64, 96)]
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    for prediction, (height, width) in zip(predict(network, images, sizes, originals), originals, strict=True):
        panoptic, found, boxes = prediction.panoptic, prediction.instances, prediction.boxes
        assert panoptic.segment_ids.shape == prediction.semantic.shape == (height, width)
        assert panoptic.segments
        for segment in panoptic.segments:
            assert (prediction.semantic[panoptic.segment_ids == segment.id] == segment.train_id).all()
            assert 0.5 < segment.score <= 1
            assert segment.is_thing == (segment.train_id >= NUM_STUFF)
        assert len(boxes.scores) == 12
        assert (boxes.boxes.amin(dim=0) >= 0).all()
        assert (boxes.boxes <= torch.tensor([width, height, width, height])).all()
        assert len(found) > 0
        assert (found.scores.diff() <= 0).all()
        assert found.scores.min() > 0.2
        assert 0 <= found.labels.min() <= found.labels.max() < NUM_THINGS
        for index, (x0, y0, x1, y1) in enumerate(found.windows((height, width))):
            # Outside its box an instance has no pixel.
            inside = found.render(index, (0, 0, width, height)) > 0
            assert inside[y0:y1, x0:x1].sum() == inside.sum()


def test_boxes_around_masks():
    # Oracle: drawn by hand; a cell in the middle, one in the last corner of a cropped image, and an empty mask.
    logits = torch.full((3, 4, 5), -1.0)
    logits[0, 1, 2] = logits[1, 3, 4] = 1.0
    boxes = enclosing_boxes(logits, (14, 18))
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[6, 2, 14, 10], [14, 10, 18, 14], [0, 0, 0, 0]]
    assert enclosing_boxes(logits[:0], (14, 18)).shape == (0, 4)


def test_chosen_queries():
    # Oracle: by hand; query 1 is nothing, 0 and 3 are in the map, 2, 3 and 4 are things, of which two are as sure.
    scores, train_ids = torch.tensor([[0.9, 0.1, 0.4, 0.8, 0.8]]), torch.tensor([[0, 3, 2, 4, 3]])
    in_map = torch.tensor([[True, False, False, True, False]])
    is_thing = torch.tensor([[False, False, True, True, True]])
    (chosen,) = choose_queries(scores, train_ids, in_map, is_thing)
    assert chosen.queries.tolist() == [0, 2, 3, 4]
    assert chosen.in_map.tolist() == [0, 2]
    assert chosen.things.tolist() == [2, 3, 1]
    assert chosen.train_ids == [0, 4]
    assert chosen.scores == scores[0, [0, 3]].tolist()
    (nothing,) = choose_queries(scores, train_ids, in_map & False, is_thing & False)
    assert [len(part) for part in nothing] == [0] * 5


@pytest.mark.gpu
@pytest.mark.parametrize("merge", ["union", "first"])
def test_a_device_predicts_what_the_cpu_predicts(merge):
    # Oracle: the CPU, without TF32; an image with padding on its canvas and one without.
    network = small("joint", score_thresh=0.2, detection_thresh=0.1, frozen_norms=True, stuff_merge=merge)
    network.detector.class_head = Says()
    images, sizes = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), [(50, 90), (64, 96)]
    expected = predict(network, images, sizes)
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        found = predict(network.cuda(), images.cuda(), sizes)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed
    for there, here in zip(found, expected, strict=True):
        assert (there.panoptic.segment_ids.cpu() == here.panoptic.segment_ids).float().mean() > 0.98
        torch.testing.assert_close(there.instances.mask_logits.cpu(), here.instances.mask_logits, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(there.boxes.boxes.cpu(), here.boxes.boxes, rtol=1e-3, atol=1e-1)


def test_the_first_step_predicts_boxes_and_void():
    (prediction,) = predict(small("detector"), torch.zeros(1, 3, 64, 96, dtype=torch.uint8), [(64, 96)])
    assert not prediction.panoptic.segment_ids.any()
    assert (prediction.semantic == IGNORE_INDEX).all()
    assert len(prediction.instances) == 0
    assert len(prediction.boxes.boxes) == 12


def test_padding_and_other_images_change_nothing():
    # Oracle: the image alone on its own canvas.
    network = small("joint", score_thresh=0.5, detection_thresh=0.2)
    network.detector.class_head = Says()
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    images = torch.randint(0, 256, (2, 3, 96, 160), dtype=torch.uint8)
    images[1, :, :60, :90] = image
    (alone,) = predict(network, torch.nn.functional.pad(image, (0, 6, 0, 4))[None], [(60, 90)])
    _, beside = predict(network, images, [(96, 160), (60, 90)])
    torch.testing.assert_close(beside.boxes.boxes, alone.boxes.boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(beside.instances.mask_logits, alone.instances.mask_logits, rtol=1e-3, atol=1e-3)
    assert alone.panoptic.segments
    assert (beside.panoptic.segment_ids == alone.panoptic.segment_ids).float().mean() > 0.999


def test_losses_are_float32_under_bfloat16():
    network, batch = small("joint", dropout=0.0).train(), batch_of(2, 1)
    expected = network.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        losses = network.loss(batch)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected[name].item(), rel=0.1), name
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    with torch.autocast("cpu", torch.bfloat16):
        (prediction,) = predict(network, batch["images"][:1], [(64, 96)])
    assert prediction.boxes.boxes.isfinite().all()


def test_bad_values():
    with pytest.raises(ValueError, match="frozen_stages is 5; a ResNet has 0 to 4"):
        ResNetBackbone(pretrained=False, frozen_stages=5)
    with pytest.raises(ValueError, match="no_object_weight is 0; it must be above 0"):
        small("joint", no_object_weight=0)
    with pytest.raises(ValueError, match="The images are 60x96; DETR's mask head needs"):
        small("joint").detect(torch.zeros(1, 3, 60, 96, dtype=torch.uint8), [(60, 96)])
