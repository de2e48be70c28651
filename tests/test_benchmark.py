"""The command line of the benchmarks."""

import json

import pytest

from scripts.benchmark import main


def test_a_benchmark_prints_a_table_and_writes_json(tmp_path, capsys):
    """Oracle: the figures of the table are those of the file."""
    path = tmp_path / "fusion.json"
    options = ["--size", "64", "128", "--instances", "3", "--rounds", "1", "--threads", "1", "--json", str(path)]
    assert main(["fusion", *options]) == 0
    written = json.loads(path.read_text())
    assert written["benchmark"] == "fusion" and written["options"]["size"] == [64, 128]
    assert [row["side"] for row in written["rows"]] == ["EfficientPS", "full canvases"]
    assert "full canvases" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["fusion", "--rounds", "0", "--size", "64", "128", "--instances", "1"], "error: rounds is 0; at least 1"),
        (["pq", "--json", "no/such/folder/a.json"], "error: The folder of 'no/such/folder/a.json' does not exist"),
    ],
)
def test_wrong_options_get_one_sentence(options, sentence, capsys):
    assert main(options) == 1
    assert capsys.readouterr().err.startswith(sentence)
