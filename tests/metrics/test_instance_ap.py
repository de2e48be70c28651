import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efficientps.metrics import instance_ap
from efficientps.metrics.instance_ap import InstanceAP
from efficientps.structures import InstancePredictions, PanopticSegmentation, Segment

NUM_STUFF, NUM_THINGS = 2, 4  # thing 3 is never true, thing 2 only as a crowd
SIZE = (40, 60)


def random_target(rng):
    ids = np.zeros(SIZE, dtype=np.int32)
    segments = []
    for number in range(1, rng.integers(2, 9)):
        top, left = rng.integers(0, SIZE[0] - 6), rng.integers(0, SIZE[1] - 6)
        ids[top : top + rng.integers(4, 18), left : left + rng.integers(4, 24)] = number
        thing_id = int(rng.integers(-1, 3))
        is_crowd = thing_id == 2 or (thing_id >= 0 and rng.random() < 0.2)
        segments.append(Segment(number, NUM_STUFF + thing_id, thing_id >= 0, is_crowd=is_crowd))
    present = set(np.unique(ids).tolist())
    return PanopticSegmentation(torch.from_numpy(ids), [s for s in segments if s.id in present])


def predictions_near(rng, target, dtype=torch.float32):
    """Boxes near the true ones and boxes of nothing; masks as random 7x7 logits in them, mostly positive."""
    boxes, labels = [], []
    for segment in target.segments:
        rows, columns = np.nonzero((target.segment_ids == segment.id).numpy())
        for _ in range(rng.integers(0, 3)):
            jitter = rng.normal(0, 1.0, 4)
            boxes.append(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) + jitter)
            labels.append(max(segment.train_id - NUM_STUFF, 0) if rng.random() < 0.9 else 3)
    boxes = torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32)
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return InstancePredictions(
        scores=torch.from_numpy(rng.random(len(boxes)).astype(np.float32)),
        labels=torch.tensor(labels, dtype=torch.int64),
        boxes=boxes,
        mask_logits=torch.from_numpy(rng.normal(1.5, 1.2, (len(boxes), 7, 7))).to(dtype),
        mask_frames=boxes.clone(),
    )


def reference(pairs):
    """AP, AP50 and AP per class by pycocotools, with every mask built over the whole image."""

    def encode(mask):
        return pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))

    annotations, results = [], []
    for image_id, (predictions, target) in enumerate(pairs, start=1):
        for segment in target.segments:
            if segment.is_thing:
                mask = (target.segment_ids == segment.id).numpy()
                annotation = {"image_id": image_id, "id": len(annotations) + 1, "segmentation": encode(mask)}
                annotation |= {"category_id": segment.train_id - NUM_STUFF, "iscrowd": int(segment.is_crowd)}
                annotation |= {"area": int(mask.sum())}
                annotations.append(annotation)
        whole = (0, 0, SIZE[1], SIZE[0])
        for i in range(len(predictions)):
            x0, y0, x1, y1 = predictions.boxes[i].tolist()
            x, y = np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0])[:, None] + 0.5
            inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
            mask = (predictions.render(i, whole) > 0).numpy() & inside
            if mask.any():
                result = {"image_id": image_id, "category_id": int(predictions.labels[i])}
                results.append(result | {"score": float(predictions.scores[i]), "segmentation": encode(mask)})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1, "height": SIZE[0], "width": SIZE[1]} for i in range(len(pairs))],
        "categories": [{"id": i} for i in range(NUM_THINGS)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    per_class = [precision[:, :, k].mean() if precision[0, 0, k] > -1 else np.nan for k in range(NUM_THINGS)]
    return evaluation.stats[0], evaluation.stats[1], np.array(per_class)


def test_equals_pycocotools():
    # Oracle: pycocotools on masks of the whole image, with crowds, missed, doubled and wrongly named instances.
    rng = np.random.default_rng(0)
    pairs = [(predictions_near(rng, target), target) for target in (random_target(rng) for _ in range(15))]
    metric = InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    for predictions, target in pairs:
        metric.update([predictions], [target])
    result = metric.compute()
    ap, ap50, per_class = reference(pairs)
    assert 0.05 < ap < ap50 < 0.95  # neither trivial
    assert result.ap == pytest.approx(ap, abs=1e-12)
    assert result.ap50 == pytest.approx(ap50, abs=1e-12)
    np.testing.assert_allclose(result.per_class, per_class, atol=1e-12)
    assert np.isnan(result.per_class[2:]).all()


def perfect(target):
    """The predictions that are the true instances, each mask over the whole image."""
    things = [segment for segment in target.segments if segment.is_thing and not segment.is_crowd]
    masks = torch.stack([target.segment_ids == segment.id for segment in things])
    frame = torch.tensor([0.0, 0.0, SIZE[1], SIZE[0]]).repeat(len(things), 1)
    labels = torch.tensor([segment.train_id - NUM_STUFF for segment in things])
    return InstancePredictions(torch.ones(len(things)), labels, frame, masks.float() * 2 - 1, frame)


def test_perfect_predictions_score_one_at_another_size():
    # Oracle: by contract; instances found at half the size, scaled back to the size of the target, fit it again.
    target = random_target(np.random.default_rng(4))
    found = perfect(target).resize(SIZE, (SIZE[0] // 2, SIZE[1] // 2))
    assert found.boxes[0].tolist() == [0, 0, SIZE[1] / 2, SIZE[0] / 2]
    metric = InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    metric.update([found.resize((SIZE[0] // 2, SIZE[1] // 2), SIZE)], [target])
    assert metric.compute()[:2] == pytest.approx((1.0, 1.0))


def empty_predictions():
    return InstancePredictions(
        torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, 7, 7), torch.zeros(0, 4)
    )


def test_no_instances_anywhere():
    # Oracle: by contract; nothing true is 0 with no class, something true and nothing found is 0.
    metric = InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    metric.update([empty_predictions()], [PanopticSegmentation(torch.zeros(SIZE).int())])
    result = metric.compute()
    assert result[:2] == (0.0, 0.0) and np.isnan(result.per_class).all()
    metric.update([empty_predictions()], [random_target(np.random.default_rng(4))])
    assert metric.compute()[:2] == (0.0, 0.0)
    assert np.nanmax(metric.compute().per_class) == 0.0


@pytest.mark.parametrize("images_of_first", [0, 2])
def test_two_ranks_count_what_one_counts(images_of_first):
    # Oracle: invariance; the gathered records of two metrics give the figures of one, also if one has seen no image.
    rng = np.random.default_rng(1)
    pairs = [(predictions_near(rng, target), target) for target in (random_target(rng) for _ in range(5))]
    whole, first, second = (InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS) for _ in range(3))
    for metric, part in ((whole, pairs), (first, pairs[:images_of_first]), (second, pairs[images_of_first:])):
        metric.update([prediction for prediction, _ in part], [target for _, target in part])

    def gather(state, group=None):
        assert state.dtype == torch.uint8  # what every rank sends, whatever it has seen
        return [state, torch.cat(second.records)]

    first.dist_sync_fn, first.distributed_available_fn = gather, lambda: True
    together, alone = first.compute(), whole.compute()
    np.testing.assert_array_equal(together.per_class, alone.per_class)
    assert together[:2] == alone[:2] and alone.ap > 0
    assert sum(record.numel() for record in first.records) < sum(record.numel() for record in whole.records)  # unsynced


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_masks_at_once_are_those_of_one_after_the_other(dtype, monkeypatch):
    # Oracle: the loop over instances; boxes without a pixel and masks without one among them.
    rng = np.random.default_rng(2)
    pairs = [(predictions_near(rng, target, dtype), target) for target in (random_target(rng) for _ in range(15))]
    one_by_one, at_once = (InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS) for _ in range(2))
    for predictions, _ in pairs:
        predictions.boxes[::5] = torch.tensor([3.0, 3.0, 3.2, 9.0])
        predictions.mask_logits[::4] = -1.0
    one_by_one.update([found for found, _ in pairs], [target for _, target in pairs])
    monkeypatch.setattr(instance_ap, "_masks_one_by_one", instance_ap._masks_at_once)
    at_once.update(
        [*(found for found, _ in pairs), empty_predictions()], [*(target for _, target in pairs), pairs[0][1]]
    )
    assert len(at_once.records) == len(pairs) + 1
    assert all(torch.equal(a, b) for a, b in zip(one_by_one.records, at_once.records[:-1], strict=True))


@pytest.mark.gpu
def test_a_gpu_finds_the_masks_of_a_cpu():
    # Oracle: the CPU, with the true map in either memory; records stay in the host's.
    rng = np.random.default_rng(2)
    target = random_target(rng)
    found = predictions_near(rng, target)
    on_gpu = InstancePredictions(*(vars(found)[name].cuda() for name in vars(found)))
    results = []
    for predictions, ids in (
        (found, target.segment_ids),
        (on_gpu, target.segment_ids),
        (on_gpu, target.segment_ids.cuda()),
    ):
        metric = InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS).to(predictions.boxes.device)
        metric.update([predictions], [PanopticSegmentation(ids, target.segments)])
        assert metric.records[0].device.type == "cpu"
        results.append(metric.compute().ap)
    assert results[1] == results[2] == pytest.approx(results[0], abs=0.01)


def test_an_instance_without_a_pixel_is_left_out():
    # Oracle: by contract; of three instances one has no positive logit and one a box between the pixels' centres.
    boxes = torch.tensor([[2.0, 2.0, 9.0, 9.0], [2.0, 2.0, 9.0, 9.0], [3.0, 3.0, 3.2, 9.0]])
    logits = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)
    found = InstancePredictions(torch.tensor([0.7, 0.8, 0.9]), torch.zeros(3, dtype=torch.int64), boxes, logits, boxes)
    metric = InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    metric.update([found], [PanopticSegmentation(torch.zeros(SIZE).int())])
    (detection,) = json.loads(bytes(metric.records[0].tolist()))["predictions"]
    assert (detection["area"], detection["score"]) == (49, pytest.approx(0.7))


def test_remembers_codes_and_not_masks():
    # Oracle: by contract; what remains of an image is a fraction of one mask of its size.
    size = (512, 1024)
    frame = torch.tensor([[0.0, 0.0, 1024.0, 512.0]]).repeat(10, 1)
    logits = torch.randn(10, 8, 8, generator=torch.Generator().manual_seed(0))
    predictions = InstancePredictions(torch.rand(10), torch.zeros(10, dtype=torch.int64), frame, logits, frame)
    metric = InstanceAP(num_stuff=0, num_things=1)
    metric.update([predictions], [PanopticSegmentation(torch.zeros(size).int())])
    assert sum(record.numel() for record in metric.records) < size[0] * size[1] / 4


def test_bad_input_is_refused():
    predictions = predictions_near(np.random.default_rng(0), random_target(np.random.default_rng(4)))
    predictions.labels[:] = 4
    metric = InstanceAP(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    with pytest.raises(ValueError, match=r"An instance has the thing_id 4; it must be in 0\.\.3"):
        metric.update([predictions], [random_target(np.random.default_rng(4))])
    with pytest.raises(ValueError, match="There are 0 predictions for 1 targets"):
        metric.update([], [random_target(np.random.default_rng(4))])
