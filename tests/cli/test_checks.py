"""``efficientps checks``: a line for each thing, and an exit code that tells whether the networks work."""

import importlib.util

import pytest
import torch

from efficientps.cli import checks
from efficientps.cli.main import main
from efficientps.networks.efficientps import MaskRCNNHead


def states(text):
    return [line.split(maxsplit=1)[0] for line in text.splitlines()]


def test_trains_and_predicts_on_the_cpu(monkeypatch, capsys):
    """Oracle: the exit code, and the states that a line can begin with."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["checks"]) == 0
    text = capsys.readouterr().out
    assert set(states(text)) <= {"ok", "missing"}
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "missing  CUDA device: " in text
    assert text.count("ok       cpu: one training step and one prediction with ") == 2


def test_a_step_that_fails_is_said_and_is_the_exit_code(monkeypatch, capsys):
    def fail(device, head):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(checks, "step_and_predict", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["checks"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert len(lines) == 2
    assert all("This PyTorch" in line and "has no kernels for this GPU" in line for line in lines)


def test_what_is_missing_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    lines = [str(finding) for finding in checks.optional_parts() if finding.state == "missing"]
    assert lines[0] == "missing  blosc2, optional: data.cache needs it; pip install blosc2"
    assert lines[-1] == "missing  C compiler, optional: torch_compile and Triton need one; install gcc"
    assert len(lines) == 5


def test_a_network_that_does_not_learn_is_noticed(monkeypatch):
    """Oracle: a step that changes nothing."""
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)
    with pytest.raises(ArithmeticError, match="no weight has changed"):
        checks.step_and_predict(torch.device("cpu"), MaskRCNNHead)
