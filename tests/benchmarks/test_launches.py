"""What the project asks of a CUDA device, counted on a CPU: the bars that keep a card from waiting for its host."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks import launches

PAPER, SOLOV2, DETR = launches.NAMES
FULL, HALF, SMALL = (1024, 2048), (512, 1024), (128, 256)


@pytest.fixture(scope="module")
def counted():
    """A function that counts in a process of its own: the heap that it leaves would disturb tests of memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def paper(counted):
    """The paper's preset with 30 instances, at half its size, which takes as many operations as the full one."""
    return counted(launches.prediction_counts, PAPER, HALF, 30)


def within(count, *, most_launches, most_waits, most_copies):
    assert not count.device_mixes
    assert count.launches <= most_launches, count.places("launch")
    assert count.waits <= most_waits, count.places("wait")
    assert count.blocking_copies <= most_copies, count.places("blocking copy")


def test_a_prediction_of_the_paper_preset(paper):
    assert paper.instances == 30
    within(paper.prediction, most_launches=900, most_waits=6, most_copies=3)


@pytest.mark.slow
def test_predictions_at_full_size(paper, counted):
    full = counted(launches.prediction_counts, PAPER, FULL, 30)
    within(full.prediction, most_launches=900, most_waits=6, most_copies=3)
    within(full.evaluation, most_launches=150, most_waits=4, most_copies=3)
    assert full.prediction.launches == pytest.approx(paper.prediction.launches, rel=0.02)
    solov2 = counted(launches.prediction_counts, SOLOV2, FULL, 60)
    within(solov2.prediction, most_launches=1000, most_waits=6, most_copies=3)


def test_more_instances_take_hardly_more_launches(paper, counted):
    many = counted(launches.prediction_counts, PAPER, HALF, 100)
    assert many.instances == 100
    assert many.prediction.launches <= 1.1 * paper.prediction.launches
    assert many.prediction.waits <= paper.prediction.waits + 1


def test_a_prediction_of_solov2(counted):
    counts = counted(launches.prediction_counts, SOLOV2, HALF, 60)
    assert counts.instances == 60
    within(counts.prediction, most_launches=1000, most_waits=6, most_copies=3)


def test_a_prediction_of_detr(counted):
    # In a small image: no number of operations hangs on the size of the maps.
    counts = counted(launches.prediction_counts, DETR, SMALL, 60)
    assert counts.instances == 60
    within(counts.prediction, most_launches=1200, most_waits=6, most_copies=3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most_launches"), [(PAPER, 900), (DETR, 1200)])
def test_a_prediction_of_an_image_file_that_is_larger(name, most_launches, counted):
    # Scores are enlarged to the size of the file stripe by stripe, so that the launches grow with the file.
    counts = counted(launches.prediction_counts, name, SMALL, 30, FULL)
    within(counts.prediction, most_launches=most_launches, most_waits=6, most_copies=3)


@pytest.mark.parametrize("name", [PAPER, pytest.param(SOLOV2, marks=pytest.mark.slow)])
def test_a_training_step(name, counted):
    # In a small image: at 512x1024 it takes as many operations, within 1 %, and three times as long to count.
    within(counted(launches.step_count, name, SMALL), most_launches=3000, most_waits=10, most_copies=3)


def test_an_update_of_the_evaluation(paper):
    within(paper.evaluation, most_launches=150, most_waits=4, most_copies=3)
