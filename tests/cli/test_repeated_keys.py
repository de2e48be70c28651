"""Keys that stand twice, wherever a command line takes YAML from; the lines of the messages are counted by hand."""

import re
from pathlib import Path

import pytest

from efficientps.cli.data.check import main as check_data
from efficientps.cli.repeated_keys import check_repeated_keys
from tests.command_line import refuse, write_config

TWICE = "batch_size: 2\nroot: here\nbatch_size: 4\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--config", "twice.yaml"],
            "The file twice.yaml has the key 'batch_size' twice, in line 1 and in line 3; keep",
        ),
        (["-c=whole.yaml"], "The file inner/twice.yml has the key 'batch_size' twice, in line 1 and in line 3"),
        (["--data", "twice.yaml"], "The file twice.yaml has the key 'batch_size' twice"),
        (["--data=twice.yaml"], "The file twice.yaml has the key 'batch_size' twice"),
        (["--data", "twice.json"], "The file twice.json has the key 'a.b' twice, in line 1 and in line 1"),
        (["--data", '{"a": {"b": 1, "b": 2}}'], "The value of --data has the key 'a.b' twice"),
        (
            ["--trainer.callbacks=[{class_path: A, class_path: B}]"],
            "callbacks has the key 'class_path' twice",
        ),
        (["--data", "lists.yaml"], r"The file lists.yaml has the key 'a' twice, in line 2 and in line 3"),
    ],
)
def test_a_key_twice(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("inner").mkdir()
    Path("whole.yaml").write_text("model: {a: 1}\ndata: inner/twice.yml\n")
    Path("inner/twice.yml").write_text(TWICE)
    Path("twice.yaml").write_text(TWICE)
    Path("twice.json").write_text('{"a": {"b": 1, "b": 2}}')
    Path("lists.yaml").write_text("- - b: 1\n- a: 1\n  a: 2\n")
    with pytest.raises(ValueError, match=message):
        check_repeated_keys(["fit", *words, "--x", "1"])


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\nb: {a: 1}\nc: {a: 2}\n",
        "0: &0 [x, x]\n" + "".join(f"{n}: &{n} [*{n - 1}, *{n - 1}]\n" for n in range(1, 60)),
        "data: other.yaml\n",
        "? [a, b]\n: 1\n? [a, c]\n: 2\n",
    ],
)
def test_what_is_no_repetition_passes(text, tmp_path, monkeypatch):
    """Aliases that are recursive or many, files that name each other, and values that the parser refuses."""
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text(text)
    Path("other.yaml").write_text("data: one.yaml\n")
    check_repeated_keys(["fit", "--config", "one.yaml", "--data", "gone.yaml", f"--x={'y' * 5000}.yaml", "--y", "{"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# Größe\ndata: {root: é}\n".encode("latin-1"), "is not text in UTF-8: line 1 has the byte 0xf6; save it"),
        ("data: {}\n".encode("utf-16"), "is not text in UTF-8: it is in UTF-16; save it"),
        (b"model: {}\ndata: \x80\n", "is not text in UTF-8: line 2 has the byte 0x80"),
        (b"", "is empty; give one with sections such as 'model'"),
        (b"# nothing\n---\n", "is empty; give one|does not consist of keys"),
        (b"- a\n", "does not consist of keys and values"),
        (b"word", "does not consist of keys and values"),
        (b"data: [1\n", r"is not valid YAML: .*line 2"),
        (b"data: \x00", r"is not valid YAML: "),
    ],
)
def test_a_file_that_is_no_configuration_is_named(content, message, tmp_path, capfd):
    """Oracle: hand-counted lines; the same for a training and for the check of a data set."""
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert re.search(f"(file|configuration) {re.escape(str(path))} ({message})", refuse(capfd, "fit", "--config", path))
    assert check_data(["--config", str(path)]) != 0
    assert re.search(f"(file|configuration) {re.escape(str(path))} ({message})", capfd.readouterr().err)


def test_a_file_that_another_names_is_named(tmp_path, monkeypatch):
    """Oracle: definition; the value of a key may be a list, and a byte-order mark is read over."""
    monkeypatch.chdir(tmp_path)
    Path("whole.yaml").write_bytes(b"\xef\xbb\xbfdata: inner.yaml\n")
    Path("inner.yaml").write_bytes(b"- a\n")
    check_repeated_keys(["fit", "--config", "whole.yaml"])
    Path("inner.yaml").write_bytes("root: é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"The file inner\.yaml is not text in UTF-8"):
        check_repeated_keys(["fit", "--config", "whole.yaml"])


def test_commands_refuse_a_key_twice(synthetic_root, tmp_path, capfd):
    config = write_config(tmp_path, synthetic_root)
    (tmp_path / "twice.yaml").write_text(TWICE)
    sentence = f"The file {tmp_path / 'twice.yaml'} has the key 'batch_size' twice, in line 1 and in line 3; keep one."
    assert sentence in refuse(capfd, "fit", "--config", config, "--data", tmp_path / "twice.yaml")
    config.write_text(config.read_text() + "data:\n  batch_size: 4\n")
    assert check_data(["--config", str(config)]) != 0
    assert "has the key 'data' twice, in line 1 and in line" in capfd.readouterr().err
