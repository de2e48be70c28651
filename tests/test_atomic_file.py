"""Files that appear whole or not at all. Oracle: what lies in the folder before, during and after."""

import pytest

from efficientps.atomic_file import atomic_file, write_text


@pytest.mark.parametrize("concurrent", [False, True])
def test_a_reader_meets_the_old_file_or_the_new_one(tmp_path, concurrent):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with atomic_file(path, concurrent=concurrent, durable=True) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old" and temporary.parent == tmp_path and temporary.suffix == ".partial"
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(error), atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    with atomic_file(tmp_path / "a", concurrent=True) as first:
        first.write_text("first")
        with atomic_file(tmp_path / "a", concurrent=True) as second:
            second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"


def test_the_remains_of_a_killed_writer_are_taken_over(tmp_path):
    (tmp_path / "a.partial").write_text("remains of a process that was killed")
    write_text(tmp_path / "a", "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/a'"):
        write_text(tmp_path / "none" / "a", "text")
