"""Two processes with a batch of two train as one with a batch of four."""

import pytest
import torch

from tests.acceptance.kills import HEADS
from tests.acceptance.processes import train


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(HEADS))
def test_two_processes_are_one_with_the_joint_batch(head, synthetic_root, tmp_path):
    """Oracle: one process; how far 20 steps have moved each weight and running statistic, and the loss of each step.

    In double precision and in small steps: this network, at its random start, multiplies a difference in the last bit
    by hundreds in a step of ordinary size.
    """
    both = {"head": head, "root": synthetic_root}
    start = train(tmp_path / "start", lr=0.0, steps=1, **both).state
    joint, joint_losses, _ = train(tmp_path / "one", **both)
    shared, shared_losses, _ = train(tmp_path / "two", devices=2, **both)
    assert len(joint_losses) == len(shared_losses) == 20
    torch.testing.assert_close(shared_losses, joint_losses, rtol=1e-5, atol=0)
    moved = {name: float((value - start[name]).norm()) for name, value in joint.items()}
    # A bias before another norm has no gradient: it moves by rounding alone.
    moving = [name for name, distance in moved.items() if distance > 1e-9 * max(moved.values())]
    differences = {name: float((shared[name] - joint[name]).norm()) / moved[name] for name in moving}
    worst = max(differences, key=lambda name: differences[name])
    print(
        f"{head}: {len(moving)} of {len(joint)} tensors moved; {worst} differs by {differences[worst]:.1e} of its way"
    )
    assert len(moving) > 0.9 * len(joint)
    assert differences[worst] < 1e-5
    for name in joint.keys() - set(moving):
        torch.testing.assert_close(shared[name], joint[name], rtol=0, atol=1e-12)
