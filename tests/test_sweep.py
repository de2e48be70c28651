"""The sweep over cases, on cases of which some fail."""

import os

import pytest

from tests.sweep import sweep


def test_every_case_that_fails_is_named(tmp_path, capsys):
    """Oracle: by hand; each case has an empty folder and sees what itself printed."""

    @sweep("low, high", [(1, 2), (2, 1), (3, 4), (5, 5)])
    def check(low, high, tmp_path, capsys):
        print(low)
        assert capsys.readouterr().out == f"{low}\n"
        assert not list(tmp_path.iterdir())
        (tmp_path / "left").touch()
        if low == high:
            raise ZeroDivisionError("equal")
        assert low < high
        print("left")

    with pytest.raises(pytest.fail.Exception, match="2 of 4 cases fail") as caught:
        check(tmp_path=tmp_path, capsys=capsys)
    message = str(caught.value)
    assert "{'low': 2, 'high': 1}" in message and "ZeroDivisionError: equal" in message and "'low': 3" not in message


@sweep("a", [1, 2])
@sweep("b", [3, 4])
def test_sweeps_nest_and_patches_are_undone(a, b, monkeypatch):
    monkeypatch.setenv("SWEEP", str(a * b), prepend=",")
    assert os.environ["SWEEP"] == str(a * b)
