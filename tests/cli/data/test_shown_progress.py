"""Progress of commands in a file."""

from efficientps.cli.data import shown_progress as module
from efficientps.cli.data.shown_progress import followed, shown_progress


def test_a_file_gets_a_line_every_ten_seconds(monkeypatch, capsys):
    """Oracle: hand-worked clock; an image each 4 s."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with shown_progress("train") as show:
        for done in range(1, 8):
            clock[0] += 4
            show(done, 7)
    assert capsys.readouterr().out.splitlines() == ["train: 3 of 7 images", "train: 6 of 7 images"]


def test_items_of_unknown_number_are_counted(monkeypatch, capsys):
    """Oracle: as above."""
    clock = iter(range(0, 100, 4))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert list(followed("abcdefg", "masks")) == list("abcdefg")
    assert capsys.readouterr().out.splitlines() == ["masks: 3 images", "masks: 6 images"]
