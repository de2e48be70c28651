import time

import pytest
import torch

from benchmarks import hot_spots


def test_the_operation_that_takes_longest_comes_first():
    # Oracle: by hand; a product of large matrices beside a sum of a few numbers, three times each.
    a = torch.ones(400, 400)

    def call():
        for _ in range(3):
            (a @ a)[0, :2].cumsum(0)

    found = hot_spots.hottest(call, rounds=2, device="cpu", top=2)
    assert next(iter(found)) == "aten::mm" and len(found) == 2
    assert found["aten::mm"]["calls"] == 3
    begin = time.perf_counter()
    call()
    assert 0 < found["aten::mm"]["ms"] < 1e3 * 100 * (time.perf_counter() - begin)
    shares = [figures["share"] for figures in found.values()]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


def test_prediction_and_step():
    # Oracle: contract; both are named, and what a network is made of is among the first.
    report = hot_spots.run(size=(64, 128), name="demo", top=5)
    assert [row.case for row in report.rows] == ["prediction"] * 5 + ["training step"] * 5
    assert any("conv" in row.side for row in report.rows[:5])
    assert any("backward" in row.side for row in report.rows[5:])
    with pytest.raises(ValueError, match="memory option is 'none'"):
        hot_spots.run(size=(64, 128), name="demo", memory_option="none")
