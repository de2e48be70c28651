"""``efficientps checks``: a line for each thing, and an exit code that tells whether the networks work."""

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from efficientps.cli import checks
from efficientps.cli.main import main
from efficientps.networks.efficientps import MaskRCNNHead

ROOT = Path(__file__).parents[2]


def test_trains_and_predicts_on_the_cpu(monkeypatch, capsys):
    """Oracle: the exit code, and the states that a line can begin with."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["checks"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert {line.split(maxsplit=1)[0] for line in lines[:-1]} <= {"ok", "missing"}
    assert lines[-1].startswith("Ready: this machine can train and predict.")
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "missing  CUDA device: " in text
    assert text.count("ok       cpu: one training step and one prediction with ") == 2


def test_a_step_that_fails_is_said_and_is_the_exit_code(monkeypatch, capsys):
    def fail(device, head):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(checks, "step_and_predict", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["checks"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if line.startswith("failed")]
    assert len(lines) == 2
    assert last == "Not ready: 2 of the lines above begin with 'failed' and say what to do."
    assert all("This PyTorch" in line and "has no kernels for this GPU" in line for line in lines)


def test_required_packages_are_those_of_the_installation():
    """Oracle: requirements.txt, from which setup.py takes what pip installs, and the import system."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = [re.match(r"[\w.-]+", line)[0] for line in lines if line and not line.startswith("#")]
    assert list(checks.REQUIRED) == names
    assert all(importlib.util.find_spec(module) for module in checks.REQUIRED.values())


def test_a_needed_package_that_is_missing_or_old(monkeypatch):
    """Oracle: the bounds of a distribution, written by hand."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else find(name))
    monkeypatch.setattr(
        checks, "requires", lambda name: ["timm>=1.0.15", "tqdm>=99", "rich>=13", "blosc2>=99; extra == 'cache'"]
    )
    failed = [str(finding) for finding in checks.packages() if finding.state == "failed"]
    assert failed == [
        "failed   timm is not installed, and it is needed; pip install 'timm>=1.0.15'",
        f"failed   tqdm {version('tqdm')} does not fit; pip install 'tqdm>=99'",
    ]


def test_what_is_missing_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    lines = [str(finding) for finding in checks.optional_parts() if finding.state == "missing"]
    assert lines[0] == "missing  blosc2, optional: data.cache needs it; pip install blosc2"
    assert lines[-1] == "missing  C compiler, optional: torch_compile and Triton need one; install gcc"
    assert len(lines) == 6


def test_a_network_that_does_not_learn_is_noticed(monkeypatch):
    """Oracle: a step that changes nothing."""
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)
    with pytest.raises(ArithmeticError, match="no weight has changed"):
        checks.step_and_predict(torch.device("cpu"), MaskRCNNHead)
