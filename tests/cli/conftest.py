"""A run that tests of the command line share."""

import pytest

from tests.command_line import run, write_config


@pytest.fixture(scope="session")
def trained_run(shared_cityscapes_root, tmp_path_factory):
    """The folder of the runs after one epoch of the tiny network, for tests to copy."""
    folder = tmp_path_factory.mktemp("trained")
    run("fit", "--config", write_config(folder, shared_cityscapes_root), "--trainer.max_epochs", 1)
    return folder / "runs"
