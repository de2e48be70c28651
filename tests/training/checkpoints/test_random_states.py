"""Stored generators give the same numbers again."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from efficientps.training.checkpoints.random_states import RandomStates, random_state, set_random_state


def draw():
    """Draw from every generator; normal numbers keep a second one in store in Python and NumPy."""
    return random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand(3).tolist(), torch.randn(9).tolist()


def test_the_same_numbers_come_again(tmp_path):
    """Oracle: the numbers that were drawn the first time; the state goes through a file, as in a checkpoint."""
    draw()
    torch.save(random_state(), tmp_path / "state.pt")
    first = draw()
    assert draw() != first
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == first


@pytest.fixture
def trainer():
    return SimpleNamespace(world_size=1, global_rank=0)


def test_states_are_set_when_training_starts(trainer):
    checkpoint = {}
    RandomStates().on_save_checkpoint(trainer, None, checkpoint)
    first = draw()
    callback = RandomStates()
    callback.on_load_checkpoint(trainer, None, checkpoint)
    draw()
    callback.on_train_start(trainer, None)
    assert draw() == first
    callback.on_train_start(trainer, None)  # a second fit of the same trainer goes on as it is
    assert draw() != first


def test_another_number_of_processes(trainer):
    callback = RandomStates()
    callback.on_load_checkpoint(trainer, None, {"random_states": [random_state()] * 2})
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="random states of 2 processes, and this run has 1"):
        callback.on_train_start(trainer, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_without_states_changes_no_generator(trainer):
    callback = RandomStates()
    before = random_state()
    callback.on_load_checkpoint(trainer, None, {})
    callback.on_train_start(trainer, None)
    found = draw()
    set_random_state(before)
    assert found == draw()
