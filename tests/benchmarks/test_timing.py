import time

import pytest

from benchmarks.timing import alternate


def test_sides_take_turns_and_every_second_round_goes_backwards():
    # Oracle: by hand; one untimed call each, then a b, b a, a b.
    calls = []
    alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"


def test_sleep_takes_time_of_the_clock_and_none_of_the_processor():
    # Oracle: the length of the sleep; a loop of the same length computes instead.
    def compute():
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass

    timings = alternate({"sleep": lambda: time.sleep(0.02), "compute": compute}, rounds=5)
    for timing in timings.values():
        assert timing.low <= timing.seconds <= timing.high
        assert timing.seconds >= 0.02 and timing.rounds == 5
    assert timings["sleep"].cpu_seconds < 0.01
    assert timings["compute"].cpu_seconds > timings["sleep"].cpu_seconds


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds is 0; at least 1"):
        alternate({"a": lambda: None}, rounds=0)
