"""What the project asks of a CUDA device, counted on a CPU: the bars that keep a card from waiting for its host."""

import pytest
import torch

from efficientps.benchmarks import launches

PAPER, SOLOV2, DETR = launches.NAMES
FULL, HALF, SMALL = (1024, 2048), (512, 1024), (128, 256)


@pytest.fixture(autouse=True)
def same_network():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def paper():
    """The paper's preset with 30 instances at full size."""
    torch.manual_seed(0)
    return launches.prediction_count(PAPER, FULL, 30)


def within(count, *, most_launches, most_waits, most_copies):
    assert not count.device_mixes
    assert count.launches <= most_launches, count.places("launch")
    assert count.waits <= most_waits, count.places("wait")
    assert count.blocking_copies <= most_copies, count.places("blocking copy")


def test_a_prediction_of_the_paper_preset(paper):
    count, predictions = paper
    assert len(predictions[0].instances) == 30
    within(count, most_launches=900, most_waits=6, most_copies=3)


def test_more_instances_take_hardly_more_launches():
    # At half the size: the work on instances goes by their number and pixels, and is less than at full size.
    few, many = (launches.prediction_count(PAPER, HALF, number) for number in (30, 100))
    assert len(many[1][0].instances) == 100
    assert many[0].launches <= 1.1 * few[0].launches and many[0].waits <= few[0].waits + 1


def test_a_prediction_of_solov2():
    count, predictions = launches.prediction_count(SOLOV2, FULL, 60)
    assert len(predictions[0].instances) == 60
    within(count, most_launches=1000, most_waits=6, most_copies=3)


def test_a_prediction_of_detr():
    # In a small image: no number of operations hangs on the size of the maps.
    count, predictions = launches.prediction_count(DETR, SMALL, 60)
    assert len(predictions[0].boxes.scores) == 60
    within(count, most_launches=1200, most_waits=6, most_copies=3)


@pytest.mark.parametrize("name", [PAPER, SOLOV2])
def test_a_training_step(name):
    # In a small image: at 512x1024 it takes as many operations, within 1 %, and three times as long to count.
    within(launches.step_count(name, SMALL), most_launches=3000, most_waits=10, most_copies=3)


def test_an_update_of_the_evaluation(paper):
    count = launches.evaluation_count(paper[1][0], FULL)
    within(count, most_launches=150, most_waits=4, most_copies=3)
