"""Runs of the command line on small trees, for tests of what a user sees."""

import csv
import os
import sys

import torch
import yaml

from efficientps.cli.train import main


def write_config(folder, root):
    """Write a configuration of the tiny network on the tree, with its runs in ``folder``."""
    content = {
        "model": {
            "network": {"class_path": "tests.tiny_network.TinyNetwork", "init_args": {"width": 4}},
            "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
            "schedule": {"class_path": "WarmupSteps", "init_args": {"warmup_iterations": 4, "milestones": [2]}},
        },
        "data": {"root": str(root), "image_size": [32, 64], "batch_size": 2, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "default_root_dir": str(folder / "runs"),
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def run_at(moment, *arguments, **environment):
    """Run as a process of its own, once all processes that share the barrier ``moment`` are there."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    if moment is not None:
        moment.wait(120)
    outcome = run(*arguments)
    sys.exit(outcome if isinstance(outcome, int) else 0)


def refuse(capfd, *arguments):
    """Run what must fail; return the one line that it says on stderr."""
    capfd.readouterr()
    assert run(*arguments) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def column(path, name):
    """Return the values of one column of a metrics.csv."""
    with path.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
