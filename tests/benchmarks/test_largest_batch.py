import pytest

from benchmarks import largest_batch
from tests.sweep import sweep


@sweep("limit", [*range(20), 511, 512, 600])
def test_search_finds_the_limit_and_asks_seldom(limit):
    # Oracle: by definition, for every limit; each number is asked for once.
    asked = []

    def fits(number):
        asked.append(number)
        return number <= limit

    assert largest_batch.largest(fits) == min(limit, 512)
    assert len(asked) == len(set(asked)) <= 20


def test_needs_a_device():
    with pytest.raises(ValueError, match="on a CUDA device only; add --device cuda"):
        largest_batch.run(device="cpu")


@pytest.mark.gpu
def test_more_memory_holds_more_images():
    # Oracle: order; and the memory that is allowed is what decides.
    report = largest_batch.run(size=(128, 256), name="demo", memory_options=("in-place",), limits_gb=(1, 2))
    small, large = (row.figures["images"] for row in report.rows)
    assert 0 < small < large
