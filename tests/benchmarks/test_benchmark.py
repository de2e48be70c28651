"""The command line of the benchmarks."""

import json
import subprocess
import sys

import pytest

from scripts.benchmark import ROOT, main


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


@pytest.mark.slow
def test_a_missing_package_affects_the_subcommands_that_need_it_alone(tmp_path):
    # Oracle: an interpreter in which jsonargparse cannot be imported.
    code = "import sys; sys.modules.update(jsonargparse=None); import scripts.benchmark as b; "
    fusion = ["fusion", "--size", "64", "128", "--instances", "3", "--rounds", "1", "--threads", "1"]
    profile = ["profile", "--size", "64", "128", "--preset", "demo", "--threads", "1"]
    script = code + f"sys.exit(10 * b.main({fusion!r}) + b.main({profile!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "full canvases" in done.stdout
    assert done.stderr.startswith("error: ") and "install what is missing" in done.stderr
