"""What every instance head must fulfil, as checks that any head can be put through.

Each check takes ``make(finds=...)``: a function that builds the head for ``NUM_THINGS`` classes and ``CHANNELS``
pyramid channels, as one that finds something in noise or as one that finds nothing anywhere.
"""

from collections.abc import Callable
from functools import partial

import torch

from efficientps.backbones import EfficientNetBackbone
from efficientps.networks.efficientps import EfficientPS, InstanceHead, SemanticHead, TwoWayFPN
from efficientps.structures import FeaturePyramid, ImageBatch, InstancePredictions, InstanceTargets

HEIGHT, WIDTH, CHANNELS, NUM_THINGS = 64, 128, 32, 3

Make = Callable[..., InstanceHead]


def random_pyramid(batch: int = 2, seed: int = 0) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(seed)
    return FeaturePyramid(
        *(torch.randn(batch, CHANNELS, HEIGHT // s, WIDTH // s, generator=generator) for s in (4, 8, 16, 32))
    )


def random_targets(numbers: list[int], seed: int = 0) -> list[InstanceTargets]:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for number in numbers:
        corners = torch.randint(0, 40, (number, 2), generator=generator)
        boxes = torch.cat([corners, corners + torch.randint(6, 24, (number, 2), generator=generator)], dim=1)
        masks = torch.zeros(number, HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        labels = torch.randint(0, NUM_THINGS, (number,), generator=generator)
        targets.append(InstanceTargets(labels=labels, boxes=boxes.float(), masks=masks))
    return targets


def check_gradients_reach_every_parameter(make: Make, numbers: list[int]) -> None:
    """Losses are float32 scalars, finite, and connected to everything: a rank without instances must not hang DDP."""
    head = make(finds=True)
    losses = head.loss(random_pyramid(len(numbers)), random_targets(numbers))
    assert losses
    for name, value in losses.items():
        assert value.shape == (), name
        assert value.dtype == torch.float32, name
        assert value.isfinite(), name
    sum(losses.values()).backward()
    unreached = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert unreached == []


def check_training_improves(make: Make) -> None:
    """A few steps of gradient descent on one batch lower the loss: it is a function of the parameters to minimise."""
    torch.manual_seed(0)
    head, pyramid, targets = make(finds=False), random_pyramid(2), random_targets([2, 1])
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = sum(head.loss(pyramid, targets).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])


def check_predictions(make: Make) -> None:
    """Sorted by score; boxes inside the valid image; labels of things; logits that render, on the grid's own frame."""
    head = make(finds=True).eval()
    sizes = [(50, 99), (HEIGHT, WIDTH)]
    with torch.no_grad():
        predictions = head.predict(random_pyramid(2), sizes)
    assert len(predictions) == 2
    for found, (height, width) in zip(predictions, sizes, strict=True):
        number = len(found)
        assert number > 0
        assert found.labels.dtype == torch.int64
        assert 0 <= found.labels.min()
        assert found.labels.max() < NUM_THINGS
        assert 0 <= found.scores.min()
        assert found.scores.max() <= 1
        assert (found.scores.diff() <= 0).all()
        assert found.boxes.shape == found.mask_frames.shape == (number, 4)
        assert found.boxes.min() >= 0
        assert (found.boxes[:, 2] <= width).all()
        assert (found.boxes[:, 3] <= height).all()
        # Probabilities would all lie between 0 and 1.
        assert found.mask_logits.min() < 0 or found.mask_logits.max() > 1
        for index, window in enumerate(found.windows((height, width))):
            x0, y0, x1, y1 = window
            rendered = found.render(index, window)
            assert rendered.shape == (y1 - y0, x1 - x0)
            assert rendered.isfinite().all()


def check_nothing_found(make: Make) -> None:
    """N = 0 is a normal case: tensors of the right shape and type."""
    head = make(finds=False).eval()
    with torch.no_grad():
        predictions = head.predict(random_pyramid(2), [(HEIGHT, WIDTH), (50, 99)])
    for found in predictions:
        assert len(found) == 0
        assert found.boxes.shape == found.mask_frames.shape == (0, 4)
        assert found.mask_logits.dim() == 3
        assert found.labels.dtype == torch.int64
        assert found.windows((HEIGHT, WIDTH)) == []


def check_permuting_the_batch_permutes_the_result(make: Make) -> None:
    """No image looks at another."""
    head, pyramid, sizes = make(finds=True).eval(), random_pyramid(3), [(HEIGHT, WIDTH), (50, 99), (64, 70)]
    order = [2, 0, 1]
    with torch.no_grad():
        predictions = head.predict(pyramid, sizes)
        permuted = head.predict(FeaturePyramid(*(level[order] for level in pyramid)), [sizes[i] for i in order])
    for found, index in zip(permuted, order, strict=True):
        expected = predictions[index]
        torch.testing.assert_close(found.scores, expected.scores)
        torch.testing.assert_close(found.boxes, expected.boxes)
        torch.testing.assert_close(found.mask_logits, expected.mask_logits, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.labels, expected.labels)


def check_low_precision(make: Make, dtype: torch.dtype) -> None:
    """Losses, gradients and predictions under autocast are finite, and the losses near those of float32."""
    head, pyramid, targets = make(finds=True), random_pyramid(2), random_targets([3, 0])
    torch.manual_seed(0)
    expected = head.loss(pyramid, targets)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype):
        losses = head.loss(pyramid, targets)
    for name, value in losses.items():
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, expected[name], rtol=0.2, atol=0.2, msg=lambda m, name=name: f"{name}: {m}")
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    head.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype):
        for found in head.predict(pyramid, [(HEIGHT, WIDTH)] * 2):
            assert found.scores.isfinite().all()
            assert found.boxes.isfinite().all()
            assert found.mask_logits.isfinite().all()


def same_order(instances: InstancePredictions, reference: InstancePredictions) -> torch.Tensor:
    """Return which instance is nearest to each of the reference: scores that differ by rounding have no order.

    All must be there, each once.
    """
    one, other = (
        torch.cat([x.boxes, 100 * x.scores[:, None], 1000 * x.labels[:, None]], dim=1) for x in (reference, instances)
    )
    nearest = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    assert sorted(nearest.tolist()) == list(range(len(instances)))
    return nearest


def check_padding_changes_nothing(make: Make) -> None:
    """An image gives the same alone, on a larger canvas, and beside a larger image."""
    torch.manual_seed(0)
    network = EfficientPS(
        2, NUM_THINGS, backbone=EfficientNetBackbone(variant="b0", pretrained=False),
        neck=partial(TwoWayFPN, out_channels=CHANNELS), semantic_head=partial(SemanticHead, channels=16),
        instance_head=lambda num_things, channels: make(finds=True), min_stuff_area=20,
    ).eval()  # fmt: skip
    image = torch.randint(0, 256, (3, 60, 100), dtype=torch.uint8)

    def predict(canvas: tuple[int, int], *others: tuple[int, int]):
        sizes = [(60, 100), *others]
        images = torch.randint(0, 256, (len(sizes), 3, *canvas), dtype=torch.uint8)
        images[0, :, :60, :100] = image
        names = [str(i) for i in range(len(sizes))]
        with torch.no_grad():
            batch = ImageBatch(images=images, image_sizes=sizes, original_sizes=sizes, image_ids=names)
            return network.predict(batch)[0]

    alone = predict((64, 128))
    assert len(alone.instances) > 0
    for other in (predict((96, 160)), predict((96, 160), (96, 160)), predict((64, 128), (64, 97))):
        found = other.instances[same_order(other.instances, alone.instances)]
        torch.testing.assert_close(found.scores, alone.instances.scores, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.boxes, alone.instances.boxes, rtol=1e-4, atol=1e-3)
        assert (other.panoptic.segment_ids == alone.panoptic.segment_ids).float().mean() > 0.999
        assert (other.semantic == alone.semantic).float().mean() > 0.999


CHECKS = {
    "gradients": partial(check_gradients_reach_every_parameter, numbers=[2, 1]),
    "gradients, no instance in an image": partial(check_gradients_reach_every_parameter, numbers=[0, 3]),
    "gradients, no instance at all": partial(check_gradients_reach_every_parameter, numbers=[0, 0]),
    "training": check_training_improves,
    "predictions": check_predictions,
    "nothing found": check_nothing_found,
    "permutation": check_permuting_the_batch_permutes_the_result,
    "bfloat16": partial(check_low_precision, dtype=torch.bfloat16),
    "float16": partial(check_low_precision, dtype=torch.float16),
    "padding": check_padding_changes_nothing,
}
