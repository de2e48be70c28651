"""Schedulers of PyTorch in a run, and schedules whose run has no known length."""

from functools import partial

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, OneCycleLR, ReduceLROnPlateau, StepLR

from efficientps.training.run_length import ENDLESS, lengths_of_run
from efficientps.training.schedules import WarmupDecay, WarmupSteps
from efficientps.training.torch_schedulers import torch_scheduler
from tests.training.test_module import loader, module, targets, trainer
from tests.training.test_schedules import optimizer, run

RUN = {"interval": "step", "total_steps": 12, "steps_per_epoch": 3, "scales_rates": False}


@pytest.mark.parametrize(
    ("factory", "interval"),
    [
        (partial(CosineAnnealingLR, T_max=12), "step"),
        (partial(OneCycleLR, max_lr=0.3, total_steps=12), "step"),
        (partial(StepLR, step_size=2), "epoch"),
        (partial(CosineAnnealingLR, T_max=4), "epoch"),
    ],
)
def test_rates_are_those_of_torch(factory, interval):
    """Oracle: the scheduler alone, stepped at each step or after every third."""
    reference = factory(optimizer(0.4, 0.1))
    expected = []
    for step in range(12):
        expected.append([group["lr"] for group in reference.optimizer.param_groups])
        reference.optimizer.step()
        if interval == "step" or step % 3 == 2:
            reference.step()
    scheduler = torch_scheduler(factory, optimizer(0.4, 0.1), **{**RUN, "interval": interval})
    assert run(scheduler, 12) == [rates[0] for rates in expected]


def test_plateau_of_torch_follows_the_validations():
    """Oracle: by hand; with a patience of 0, the value that does not rise cuts the rate."""
    factory = partial(ReduceLROnPlateau, mode="max", patience=0, factor=0.5)
    scheduler = torch_scheduler(factory, optimizer(0.4), **RUN)
    rates = []
    for value in (0.1, 0.2, 0.2, 0.3):
        scheduler.step()
        scheduler.observe(value)
        rates += scheduler.get_last_lr()
    assert rates == [0.4, 0.4, 0.2, 0.2]


@pytest.mark.parametrize(
    ("factory", "changes", "message"),
    [
        (partial(OneCycleLR, max_lr=1.0), {}, r"cannot be built: You must define .* The run has 12 steps\."),
        (partial(OneCycleLR, max_lr=1.0, total_steps=9), {}, "has total_steps 9, counted in steps, and the run has 12"),
        (partial(OneCycleLR, max_lr=1.0, total_steps=12), {"scales_rates": True}, "OneCycleLR sets the learning rates"),
        (partial(CyclicLR, base_lr=0.1, max_lr=1.0), {"scales_rates": True}, "CyclicLR sets the learning rates itself"),
        (partial(ReduceLROnPlateau), {}, "has mode min, and more of val/PQ is better; give it mode max"),
        (partial(pl.cli.ReduceLROnPlateau, monitor="val/QP"), {}, "waits for the metric val/QP, which is never logged"),
    ],
)
def test_schedulers_that_cannot_do_what_is_asked(factory, changes, message):
    with pytest.raises(ValueError, match=message):
        torch_scheduler(factory, optimizer(0.4, 0.1), **{**RUN, **changes})


def test_a_length_in_epochs_that_is_counted_in_steps_is_said():
    with pytest.warns(UserWarning, match="has T_max 4, counted in steps, and the run has 12 steps: the rate rises"):
        torch_scheduler(partial(CosineAnnealingLR, T_max=4), optimizer(0.4), **RUN)


def test_another_scheduler_does_not_take_a_stored_progress():
    build = partial(torch_scheduler, optimizer=optimizer(0.4), **RUN)
    state = build(partial(StepLR, step_size=2)).state_dict()
    assert build(partial(StepLR, step_size=2)).fits(state)
    assert not build(partial(StepLR, step_size=3)).fits(state)
    assert not build(partial(CosineAnnealingLR, T_max=12)).fits(state)


def fitted(tmp_path, *callbacks, batches=5, model=None, **options):
    """Train on five batches an epoch; return the trainer."""
    fit = trainer(tmp_path, callbacks=list(callbacks), **options)
    fit.fit(model or module(schedule=WarmupDecay(warmup_iterations=0)), loader([targets()] * batches))
    return fit


@pytest.mark.parametrize("scheduling", [{0: 2}, {0: 2, 1: 1}, {1: 5}])
def test_a_decay_ends_where_accumulation_ends(tmp_path, scheduling):
    """Oracle: by hand: the cosine is 0 after the last step; 3 steps with 2 batches each, 5 with 1, 1 with 5."""
    fit = fitted(tmp_path, GradientAccumulationScheduler(scheduling), max_epochs=2)
    steps = {2: 3, 1: 5, 5: 1}
    expected = sum(steps[scheduling.get(epoch, scheduling.get(0, 1))] for epoch in (0, 1))
    assert fit.global_step == lengths_of_run(fit)["total_steps"] == expected
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)


def test_epochs_of_different_lengths(tmp_path):
    changes = GradientAccumulationScheduler({0: 2, 1: 1})
    with pytest.raises(ValueError, match="counts epochs of equal length, and GradientAccumulationScheduler changes"):
        fitted(tmp_path, changes, model=module(schedule=WarmupSteps()), max_epochs=2)
    scaled = module(schedule=WarmupDecay(), scale_lr=4)
    with pytest.raises(ValueError, match="scale_lr needs one total batch size"):
        fitted(tmp_path, changes, model=scaled, max_epochs=2)


def test_the_scaled_rate_follows_the_accumulated_batches(tmp_path):
    """Oracle: by hand: one image a batch, two batches a step, a reference of 4 images: half of the rate."""
    model = module(scale_lr=4, optimizer=partial(SGD, lr=0.8))
    fit = fitted(tmp_path, GradientAccumulationScheduler({0: 2}), model=model, max_epochs=1)
    assert fit.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(0.4)


def test_a_decay_needs_a_last_step(tmp_path):
    with pytest.raises(ValueError, match="WarmupDecay decays over the whole run, and the run has no last step"):
        fitted(tmp_path, max_epochs=-1, max_time={"seconds": 5})
    with pytest.warns(UserWarning, match="If max_time ends the run before, the learning rate has not come to its end"):
        fitted(tmp_path, max_epochs=1, max_time={"hours": 5})
    endless = trainer(tmp_path, max_epochs=-1, max_time={"seconds": 0})
    endless.fit(module(), loader([targets()]))
    assert lengths_of_run(endless) == {"total_steps": ENDLESS, "steps_per_epoch": 1}


def test_epochs_are_counted_for_schedulers_of_torch_alone(tmp_path):
    with pytest.raises(ValueError, match="schedule_interval is epoch, and WarmupDecay has lengths of its own"):
        fitted(tmp_path, model=module(schedule=WarmupDecay(), schedule_interval="epoch"), max_epochs=1)
