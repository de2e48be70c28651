"""Learning-rate schedules against hand-worked values and torch's own schedulers."""

import math

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from efficientps.training.schedules import Plateau, WarmupDecay, WarmupPlateau, WarmupSteps, cosine_decay, poly_decay
from tests.sweep import sweep


def optimizer(*rates):
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates], lr=1.0)


def run(scheduler, steps):
    """Return the learning rate that each of the next steps was made with."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_warmup_steps_of_the_published_recipe():
    # Oracle: hand-worked from "500 iterations from lr/3, x0.1 at 120 and 144 of 160 epochs" with 186 steps an epoch.
    factor = {
        step: WarmupSteps().factor(step, total_steps=160 * 186, steps_per_epoch=186)
        for step in (0, 250, 499, 500, 120 * 186 - 1, 120 * 186, 144 * 186 - 1, 144 * 186)
    }
    assert factor[0] == pytest.approx(1 / 3)
    assert factor[250] == pytest.approx(2 / 3)
    assert factor[499] == pytest.approx(1 - 2 / 3 / 500)
    assert factor[500] == factor[120 * 186 - 1] == 1
    assert factor[120 * 186] == factor[144 * 186 - 1] == pytest.approx(0.1)
    assert factor[144 * 186] == pytest.approx(0.01)


def test_scheduler_applies_the_factor_to_each_group():
    # Oracle: hand-worked; the second group has a tenth of the rate throughout.
    plan = WarmupSteps(warmup_iterations=2, warmup_factor=0.5, milestones=(2,), gamma=0.1)
    scheduler = plan.scheduler(optimizer(1.0, 0.1), total_steps=6, steps_per_epoch=2)
    assert scheduler.get_last_lr() == pytest.approx([0.5, 0.05])
    assert run(scheduler, 6) == pytest.approx([0.5, 0.75, 1.0, 1.0, 0.1, 0.1])
    assert scheduler.get_last_lr() == pytest.approx([0.1, 0.01])


@pytest.mark.parametrize("decay", ["cosine", "poly"])
def test_decay_matches_torch(decay):
    # Oracle: torch's CosineAnnealingLR and PolynomialLR.
    ours, theirs = optimizer(0.4), optimizer(0.4)
    scheduler = WarmupDecay(decay=decay, warmup_iterations=0).scheduler(ours, total_steps=20, steps_per_epoch=5)
    if decay == "cosine":
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20)
    else:
        reference = torch.optim.lr_scheduler.PolynomialLR(theirs, total_iters=20, power=0.9)
    assert run(scheduler, 20) == pytest.approx(run(reference, 20), abs=1e-9)


def test_decay_ends_where_it_should_and_stays_there():
    assert cosine_decay(10, total_steps=10, final_factor=0.1) == pytest.approx(0.1)
    assert cosine_decay(99, total_steps=10, final_factor=0.1) == pytest.approx(0.1)
    assert poly_decay(99, total_steps=10, power=0.9) == 0


def test_warmup_takes_at_most_a_tenth_of_a_short_run():
    # Oracle: hand-worked; of 40 steps the warm-up takes 4, whatever the 500 that are asked for.
    plan = WarmupDecay(warmup_iterations=500, warmup_factor=0.0)
    factors = [plan.factor(step, total_steps=40, steps_per_epoch=10) for step in range(5)]
    smooth = [0.5 * (1 + math.cos(math.pi * step / 40)) for step in range(5)]
    assert factors == pytest.approx([0.0, 0.25 * smooth[1], 0.5 * smooth[2], 0.75 * smooth[3], smooth[4]])


@sweep("seed", range(5))
def test_plateau_matches_torch(seed):
    # Oracle: torch's ReduceLROnPlateau on random qualities, with the same patience, factor and floor.
    values = torch.rand(60, generator=torch.Generator().manual_seed(seed)).cumsum(0).sqrt().fmod(2).tolist()
    ours, theirs = optimizer(1.3e-3, 1e-3, 5e-5), optimizer(1.3e-3, 1e-3, 5e-5)
    scheduler = WarmupPlateau(warmup_iterations=0, gamma=0.3).scheduler(ours, total_steps=60, steps_per_epoch=1)
    reference = ReduceLROnPlateau(theirs, mode="max", factor=0.3, patience=3, min_lr=1e-4)
    for value in values:
        scheduler.observe(value)
        scheduler.optimizer.step()
        scheduler.step()
        reference.step(value)
        expected = [group["lr"] for group in theirs.param_groups]
        assert [group["lr"] for group in ours.param_groups] == pytest.approx(expected)
    assert scheduler.plateau.reductions > 0


def test_plateau_of_a_run_that_never_finds_anything():
    # Oracle: hand-worked; four zeros after the first are one more than the patience of three.
    plateau = Plateau()
    for _ in range(5):
        plateau = plateau.observe(0.0, patience=3)
    assert plateau == Plateau(best=0.0, waits=0, reductions=1)


def test_plateau_cut_holds_during_the_warmup():
    # Oracle: hand-worked; the warm-up is half way (factor 0.75) when the cut to a tenth comes.
    plan = WarmupPlateau(warmup_iterations=4, warmup_factor=0.5, patience=0, min_lr=0.0)
    scheduler = plan.scheduler(optimizer(1.0), total_steps=10, steps_per_epoch=2)
    run(scheduler, 2)
    scheduler.observe(0.5)
    scheduler.observe(0.5)
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(0.075)
    assert run(scheduler, 3) == pytest.approx([0.075, 0.0875, 0.1])


@sweep(
    "plan",
    [
        WarmupSteps(warmup_iterations=5, milestones=(2,)),
        WarmupDecay(warmup_iterations=2),
        WarmupPlateau(warmup_iterations=5, patience=1, min_lr=0.0),
    ],
)
@sweep("stop", [3, 9])
def test_resumed_schedule_goes_on_exactly(plan, stop, tmp_path):
    # Oracle: the uninterrupted run; the state passes through a file that is read with weights_only=True.
    def go(scheduler, steps):
        rates = []
        for step in steps:
            rates += run(scheduler, 1)
            if step % 2:
                scheduler.observe(0.3)
        return rates

    whole = plan.scheduler(optimizer(0.7), total_steps=20, steps_per_epoch=4)
    expected = go(whole, range(20))
    first = plan.scheduler(optimizer(0.7), total_steps=20, steps_per_epoch=4)
    go(first, range(stop))
    torch.save((first.state_dict(), first.optimizer.state_dict()), tmp_path / "state.pt")
    second = plan.scheduler(optimizer(0.7), total_steps=20, steps_per_epoch=4)
    schedule_state, optimizer_state = torch.load(tmp_path / "state.pt", weights_only=True)
    second.load_state_dict(schedule_state)
    second.optimizer.load_state_dict(optimizer_state)
    assert go(second, range(stop, 20)) == expected[stop:]
