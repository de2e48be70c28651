"""Commands that the configuration leaves nothing to do."""

import pytest

from tests.command_line import refuse, run, write_config


@pytest.mark.parametrize(
    ("command", "option", "limit"),
    [
        ("validate", "limit_val_batches", "0"),
        ("validate", "limit_val_batches", "0.0"),
        ("test", "limit_test_batches", "0"),
        ("predict", "limit_predict_batches", "0"),
        ("fit", "limit_train_batches", "0"),
    ],
)
def test_no_batches_are_refused(shared_cityscapes_root, tmp_path, capfd, command, option, limit):
    """Oracle: definition; such a command would print nothing and succeed."""
    config = write_config(tmp_path, shared_cityscapes_root)
    sentence = refuse(capfd, command, "--config", config, f"--trainer.{option}", limit)
    assert f"trainer.{option} is {limit}, which leaves nothing to " in sentence
    assert not (tmp_path / "runs").exists()


def test_a_training_needs_no_validation(shared_cityscapes_root, tmp_path):
    """Oracle: definition; that limit is not one of training."""
    words = ("--trainer.limit_val_batches", 0, "--trainer.max_epochs", 1)
    outcome = run("fit", "--config", write_config(tmp_path, shared_cityscapes_root), *words)
    assert outcome.trainer.global_step == 3
