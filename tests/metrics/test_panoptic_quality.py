import json

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official

from efficientps.metrics.panoptic_quality import PanopticQuality
from efficientps.structures import PanopticSegmentation

NUM_STUFF, NUM_THINGS = 4, 4


def test_equals_cityscapesscripts_over_many_images(random_pair, official_counts):
    # Oracle: cityscapesscripts' averages over the same images; one stuff class occurs in none of them.
    rng = np.random.default_rng(17)
    pairs = [random_pair(rng) for _ in range(60)]
    metric = PanopticQuality(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    total = official.PQStat()
    for (prediction, target), counts in zip(pairs, official_counts(pairs), strict=True):
        metric.update([prediction], [target])
        total += counts
    categories = {train_id: {"id": train_id, "isthing": int(train_id >= NUM_STUFF)} for train_id in range(8)}
    result, expected = metric.compute(), official.average_pq(total, categories)
    for name, average in (("All", result.all), ("Things", result.things), ("Stuff", result.stuff)):
        assert average._asdict() == pytest.approx(expected[name], abs=1e-12)
    for train_id in categories:
        ours = {key: getattr(result, key)[train_id] for key in ("pq", "sq", "rq")}
        assert ours == pytest.approx(expected["per_class"][train_id], abs=1e-12)
    assert result.stuff.n == NUM_STUFF - 1 and 0.1 < result.all.pq < 0.9


def test_two_ranks_count_what_one_counts(random_pair):
    # Oracle: invariance; the reduced sums of two metrics with half of the images each equal one metric with all.
    rng = np.random.default_rng(11)
    pairs = [random_pair(rng) for _ in range(10)]
    whole, first, second = (PanopticQuality(num_stuff=NUM_STUFF, num_things=NUM_THINGS) for _ in range(3))
    for metric, part in ((whole, pairs), (first, pairs[:4]), (second, pairs[4:])):
        metric.update([prediction for prediction, _ in part], [target for _, target in part])
    assert first.compute().all.pq != second.compute().all.pq
    first.reset()
    first.update([prediction for prediction, _ in pairs[:4]], [target for _, target in pairs[:4]])

    def gather(state, group=None):
        """Stand in for the gathering of two ranks: a state of the first metric, and the same one of the second."""
        name = next(name for name in ("iou_sum", "tp", "fp", "fn") if getattr(first, name) is state)
        return [state, getattr(second, name)]

    first.dist_sync_fn, first.distributed_available_fn = gather, lambda: True
    together, alone = first.compute(), whole.compute()
    for name in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))
    np.testing.assert_allclose(together.iou, alone.iou, rtol=0, atol=1e-12)


def test_states_keep_their_precision():
    # Oracle: by contract; a training in half precision does not turn the sums into halves.
    metric = torch.nn.ModuleDict({"pq": PanopticQuality(num_stuff=1, num_things=1)}).half()["pq"]
    assert metric.iou_sum.dtype == torch.float64
    assert metric.tp.dtype == torch.int64


def test_reset_forgets(random_pair):
    # Oracle: by contract; after a reset the metric is as new.
    metric = PanopticQuality(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    prediction, target = random_pair(np.random.default_rng(6))
    metric.update([prediction], [target])
    assert metric.compute().all.n > 0
    metric.reset()
    metric.update([], [])
    assert metric.compute().all == (0.0, 0.0, 0.0, 0)


def test_unequal_numbers_and_no_classes_are_refused():
    with pytest.raises(ValueError, match="There are 1 predictions for 0 targets"):
        PanopticQuality(num_stuff=1, num_things=0).update([PanopticSegmentation(torch.zeros(1, 1).int())], [])
    with pytest.raises(ValueError, match="must be a class to count"):
        PanopticQuality(num_stuff=0, num_things=0)


@pytest.mark.gpu
def test_device_counts_what_the_cpu_counts(random_pair):
    # Oracle: the CPU path.
    rng = np.random.default_rng(13)
    cpu, gpu = (PanopticQuality(num_stuff=NUM_STUFF, num_things=NUM_THINGS) for _ in range(2))
    gpu.cuda()
    for _ in range(10):
        prediction, target = random_pair(rng)
        cpu.update([prediction], [target])
        moved = [PanopticSegmentation(p.segment_ids.cuda(), p.segments) for p in (prediction, target)]
        gpu.update([moved[0]], [moved[1]])
    assert json.dumps(cpu.compute().as_dict()) == json.dumps(gpu.compute().as_dict())
