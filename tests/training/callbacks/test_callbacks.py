"""Tables, pictures, files and timing; most of it also runs in ``tests/cli/test_train.py``."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.structures import InstancePredictions, PanopticBatch, PanopticSegmentation, Prediction, Segment
from efficientps.training.callbacks import throughput
from efficientps.training.callbacks.comparison import compare, valid_image
from efficientps.training.callbacks.evaluation_report import write_json as write_evaluation
from efficientps.training.callbacks.overlays import ValidationOverlays, spread
from efficientps.training.callbacks.throughput import ThroughputMonitor


@pytest.mark.parametrize(("count", "total"), [(4, 500), (3, 10), (1, 1), (7, 3)])
def test_batches_to_paint_are_spread_evenly(count, total):
    # Oracle: as many different batches as there can be, from the first on, none beyond the last.
    chosen = spread(count, total)
    assert len(chosen) == min(count, total)
    assert min(chosen) == 0
    assert max(chosen) < total


def test_spread_of_nothing():
    assert spread(0, 5) == spread(3, 0) == set()


def panoptic_batch():
    ids = torch.full((8, 12), 5, dtype=torch.int32)
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[0, 0, :4, :6] = 200  # red in the valid part, black padding
    return PanopticBatch(
        images=images,
        image_sizes=[(4, 6)],
        original_sizes=[(8, 12)],
        image_ids=["a"],
        segment_ids=[ids],
        segments=[[Segment(5, 10, is_thing=False)]],
    )


def test_valid_image_has_no_padding():
    # Oracle: hand-made; the valid part is red, the padding black.
    picture = valid_image(panoptic_batch(), 0)
    assert picture.shape == (4, 6, 3)
    assert (picture == np.array([200, 0, 0], dtype=np.uint8)).all()


def test_compare_shows_three_views_of_the_networks_size():
    ids = torch.full((4, 6), 1, dtype=torch.int32)
    prediction = Prediction(PanopticSegmentation(ids, [Segment(1, 0, is_thing=False)]), ids.to(torch.uint8), None)
    picture = compare(panoptic_batch(), prediction, CITYSCAPES_CATEGORIES)
    assert picture.dtype == np.uint8
    assert picture.shape[1] >= 3 * 6


class Module:
    """Records what is logged."""

    def __init__(self):
        self.logged = []

    def log_dict(self, figures, **_):
        self.logged.append(figures)


@pytest.mark.parametrize(("window", "batches"), [(2, 100), (50, 2)])
def test_throughput_counts_images_and_waits(monkeypatch, window, batches):
    # Oracle: hand-worked clock: each of 4 batches of 3 images waits 1 s and works 2 s; windows of 2; two devices.
    now = iter([0, 1, 3, 4, 6, 7, 9, 10, 12])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: float(next(now)))
    trainer = SimpleNamespace(log_every_n_steps=window, num_training_batches=batches, world_size=2)
    monitor, module = ThroughputMonitor(), Module()
    monitor.on_train_epoch_start(trainer, module)
    for index in range(4):
        batch = {"image_ids": ["a", "b", "c"]}
        monitor.on_train_batch_start(trainer, module, batch, index)
        monitor.on_train_batch_end(trainer, module, None, batch, index)
    figures = {"train/images_per_s": 2.0, "train/data_wait": pytest.approx(1 / 3)}
    assert module.logged == [{}, figures, figures, figures]


def test_json_replaces_the_last_one_whole(tmp_path):
    path = tmp_path / "new/val.json"
    for quality in (0.1, 0.2):
        write_evaluation(path, SimpleNamespace(as_dict=lambda quality=quality: {"pq": quality}))
    assert json.loads(path.read_text()) == {"pq": 0.2}
    assert [child.name for child in path.parent.iterdir()] == ["val.json"]


def test_json_that_cannot_be_written_leaves_the_last_one(tmp_path):
    path = tmp_path / "val.json"
    write_evaluation(path, SimpleNamespace(as_dict=lambda: {"pq": 0.1}))
    with pytest.raises(ValueError, match="Out of range float"):
        write_evaluation(path, SimpleNamespace(as_dict=lambda: {"pq": float("nan")}))
    assert json.loads(path.read_text()) == {"pq": 0.1}


def test_number_of_overlays_is_checked():
    with pytest.raises(ValueError, match=r"num_images is -1; give 0 or more"):
        ValidationOverlays(num_images=-1)


@pytest.mark.parametrize(("truth", "painted"), [((64, 128), (64, 128)), ((1024, 2048), (512, 1024))])
def test_comparison_is_painted_at_the_size_of_the_ground_truth_within_limits(truth, painted):
    """Oracle: definition; three panels, whatever the size of the network's input."""
    batch = PanopticBatch(
        images=torch.zeros(1, 3, 32, 64, dtype=torch.uint8), image_sizes=[(32, 64)], original_sizes=[truth],
        image_ids=["a"], segment_ids=[torch.ones(truth, dtype=torch.int32)], segments=[[Segment(1, 0, False)]],
    )  # fmt: skip
    ones = PanopticSegmentation(torch.ones(32, 64, dtype=torch.int32), [Segment(1, 0, False)])
    none = InstancePredictions(
        torch.zeros(0), torch.zeros(0).long(), torch.zeros(0, 4), torch.zeros(0, 7, 7), torch.zeros(0, 4)
    )
    prediction = Prediction(ones, torch.zeros(32, 64, dtype=torch.uint8), none)
    height, width, _ = compare(batch, prediction, CITYSCAPES_CATEGORIES).shape
    assert 3 * painted[1] <= width < 3.2 * painted[1]
    assert painted[0] <= height < 1.5 * painted[0]


def test_throughput_of_a_run_that_goes_on_inside_an_epoch():
    """Oracle: Lightning, resuming from a checkpoint written by a validation, calls no on_train_epoch_start first."""
    logged = {}
    monitor = ThroughputMonitor()
    trainer = SimpleNamespace(log_every_n_steps=1, num_training_batches=5, world_size=1)
    module = SimpleNamespace(log_dict=lambda figures, **_: logged.update(figures))
    monitor.on_train_start(trainer, module)
    monitor.on_train_batch_start(trainer, module, {"image_ids": ["a"]}, 0)
    monitor.on_train_batch_end(trainer, module, None, {"image_ids": ["a"]}, 0)
    assert logged["train/images_per_s"] > 0
