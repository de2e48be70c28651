"""The command ``efficientps``: which function each command runs, what its help loads, presets by name."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from efficientps.cli.arguments import with_default_config
from efficientps.cli.main import PROGRAM, Group, main
from efficientps.cli.presets import find_config, presets
from efficientps.cli.start import run
from efficientps.data.tools import split
from tests.command_line import write_config

ROOT = Path(__file__).parents[2]


def leaves(group):
    for command in group.commands.values():
        yield from leaves(command) if isinstance(command, Group) else [command]


def test_each_command_has_a_function():
    """Oracle: Python's import system."""
    found = list(leaves(PROGRAM))
    assert len(found) == 15
    assert all(callable(resolve_name(command.function)) for command in found)


def paths(group, before=()):
    """Yield the words of each command and each group of commands."""
    yield list(before)
    for name, command in group.commands.items():
        here = (*before, name)
        yield from paths(command, here) if isinstance(command, Group) else [list(here)]


def test_help_loads_no_heavy_package():
    """Oracle: the modules of a new interpreter. The commands of Lightning build their help from its classes."""
    helps = [
        [*words, "--help"]
        for words in paths(PROGRAM)
        if words[:1] not in (["fit"], ["validate"], ["test"], ["predict"])
    ]
    program = (
        "import json, sys\nfrom efficientps.cli.main import main\ncodes = []\n"
        "for words in json.loads(sys.argv[1]):\n    try:\n        codes.append(main(words))\n"
        "    except SystemExit as exit_:\n        codes.append(exit_.code)\n"
        "heavy = {'torch', 'pytorch_lightning', 'numpy', 'cv2', 'transformers', 'timm', 'matplotlib'}\n"
        "print('LOADED', *codes, *sorted(heavy & sys.modules.keys()))"
    )
    words = json.dumps([*helps, ["--version"]])
    done = subprocess.run([sys.executable, "-c", program, words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(helps) == 14
    assert done.stdout.count("usage: efficientps ") == 14
    assert "(default: 0.2)" in done.stdout
    assert not re.search(r"\(default:\s*(None|False|\[\])?\)", done.stdout)
    assert done.stdout.splitlines()[-1] == "LOADED" + 15 * " 0"


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "efficientps", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: efficientps [-h] [--version] COMMAND")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config", "x"], "error: 'efficientps' needs a command first. Known: fit, validate, "),
        (["Fit"], "error: there is no command 'efficientps Fit'; did you mean fit? Known: fit, "),
        (["validat"], "error: there is no command 'efficientps validat'; did you mean validate? Known: fit, "),
        (
            ["convert", "coco"],
            "error: there is no command 'efficientps convert coco'. Known: cityscapes, instances, masks.",
        ),
    ],
)
def test_without_a_command(words, sentence, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.parametrize("words", [[], ["convert"]])
def test_no_words_are_answered_with_the_help(words, capsys):
    """Oracle: the help on standard output."""
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert main(words) == 2
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["split", "x.json", "--sed=1"], "unrecognized arguments: --sed=1; did you mean --seed?\n"),
        (["split", "x.json", "--val-frac", "0.1"], "did you mean --val-fraction?\n"),  # no abbreviations
        (["evaluate", "a", "b", "c", "d", "--per-clas"], "did you mean --per-class?\n"),
        (["split", "x.json", "--zzz"], "unrecognized arguments: --zzz\n"),
        (["demo", "--num-trian=4", "--seed_everything=1"], "--num-trian=4; did you mean --num-train?\n"),
    ],
)
def test_a_misspelt_option(words, end, tmp_path, monkeypatch, capsys):
    """Oracle: by hand. The demo refuses it before it draws anything."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(end)
    assert not any(tmp_path.iterdir())


def test_a_command_gets_its_words_and_its_name(capsys):
    """Oracle: argparse, which prints the name of the program."""
    with pytest.raises(SystemExit) as stop:
        main(["convert", "instances", "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: efficientps convert instances [-h]")


@pytest.mark.parametrize("words", [["split", "none.json"], ["check", "--images", ".", "--annotations", "none.json"]])
def test_a_missing_file_is_one_sentence(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "none.json" in line
    assert "Errno" not in line


def test_an_error_of_the_system_is_one_sentence(monkeypatch, capsys):
    """Oracle: a full disk, whose message Python prints with a number."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device", "out/train.json")

    monkeypatch.setattr(split, "split_annotations", fail)
    assert main(["split", "x.json"]) == 1
    assert capsys.readouterr().err == "error: No space left on device: out/train.json.\n"


def test_presets_are_the_committed_configurations():
    """Oracle: the folder."""
    assert presets() == {path.stem: path for path in [ROOT / "config.yaml", *(ROOT / "configs").glob("*.yaml")]}


def test_a_preset_is_named_unless_there_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("demo") == str(ROOT / "configs/demo.yaml")
    words = ["fit", "--config=demo", "--config", "detr_panoptic_joint"]
    joint = str(ROOT / "configs/detr_panoptic_joint.yaml")
    assert with_default_config(words) == ["fit", f"--config={ROOT / 'configs/demo.yaml'}", "--config", joint]
    (tmp_path / "demo").touch()
    assert find_config("demo") == "demo"
    assert find_config("my_own.yaml") == "my_own.yaml"


@pytest.mark.parametrize("command", [["fit"], ["check"], ["cache", "--cache", "x"]], ids=" ".join)
@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("cityscapes_papr", "does not exist; did you mean the preset cityscapes_paper?\n"),
        ("coco", f"coco does not exist; the presets are {', '.join(sorted(presets()))}.\n"),
        ("mine.yaml", "mine.yaml does not exist.\n"),
    ],
)
def test_a_configuration_that_is_not_there(command, name, end, tmp_path, monkeypatch, capsys):
    """Oracle: by hand."""
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--config", name]) == 1
    assert capsys.readouterr().err.endswith(end)


def test_fit_takes_the_configuration_of_the_folder(tmp_path, monkeypatch, capsys):
    """Oracle: what --print_config shows, with and without a config.yaml in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["default_root_dir"] == "runs/cityscapes"
    shutil.copy(write_config(tmp_path, tmp_path), "config.yaml")
    assert main(["fit", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["default_root_dir"] == str(tmp_path / "runs")
    monkeypatch.setattr("sys.argv", ["train_net.py", "fit", "--print_config"])
    assert run() == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["default_root_dir"] == "runs/cityscapes"
