import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "datasets" / "prepare_cityscapes.py"


@pytest.fixture(scope="module")
def main():
    specification = importlib.util.spec_from_file_location("prepare_cityscapes", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.main


def test_prepares_both_splits_once(tmp_path, write_cityscapes, main, capsys):
    """Oracle: exit status, the files, and what the user reads."""
    write_cityscapes(tmp_path, "train", ["aachen_000000_000019", "aachen_000001_000019"])
    write_cityscapes(tmp_path, "val", ["munster_000000_000019"])
    assert main([str(tmp_path), "--workers", "1"]) == 0
    first = capsys.readouterr()
    assert first.out.count(": written") == 2 and first.err == ""  # a bar is drawn on terminals alone
    assert (tmp_path / "gtFine" / "cityscapes_panoptic_train.json").is_file()
    assert len(list((tmp_path / "gtFine" / "cityscapes_panoptic_val").iterdir())) == 1
    assert main([str(tmp_path), "--workers", "1"]) == 0
    assert capsys.readouterr().out.count(": complete already, nothing to do") == 2


def test_says_what_is_missing_before_it_makes_anything(tmp_path, write_cityscapes, main, capsys):
    write_cityscapes(tmp_path, "train", ["aachen_000000_000019"])
    assert main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.out == ""
    assert captured.err.startswith("error: ") and "lacks 'gtFine/val'; unpack gtFine_trainvaltest.zip" in captured.err
    assert sorted(path.name for path in (tmp_path / "gtFine").iterdir()) == ["train"]
    assert main([str(tmp_path), "--splits", "train", "--workers", "1"]) == 0
