"""The LightningModule around a network of two convolutions; the whole of it runs in ``tests/cli/test_train.py``."""

from copy import deepcopy
from functools import partial
from itertools import chain
from pickle import dumps, loads
from typing import ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader

from efficientps.data.loading.targets import training_batch
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead
from efficientps.structures import PanopticBatch, Segment
from efficientps.training.callbacks.throughput import ThroughputMonitor
from efficientps.training.module import PanopticModule
from efficientps.training.schedules import WarmupSteps
from tests.sweep import sweep
from tests.tiny_network import TinyNetwork


def batch(count=2):
    """Road in the lower half of 32x64 pixels, void above."""
    segment_ids = torch.zeros(32, 64, dtype=torch.int32)
    segment_ids[16:] = 7
    generator = torch.Generator().manual_seed(0)
    return PanopticBatch(
        images=torch.randint(0, 256, (count, 3, 32, 64), dtype=torch.uint8, generator=generator),
        image_sizes=[(32, 64)] * count,
        original_sizes=[(32, 64)] * count,
        image_ids=[f"image_{index}" for index in range(count)],
        segment_ids=[segment_ids] * count,
        segments=[[Segment(7, 0, is_thing=False)]] * count,
    )


def module(**options):
    torch.manual_seed(0)
    options = {"network": partial(TinyNetwork, width=4), "schedule": WarmupSteps(warmup_iterations=0)} | options
    return PanopticModule(categories=CITYSCAPES_CATEGORIES, **options)


def loader(batches):
    return DataLoader(batches, batch_size=None)


def trainer(tmp_path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(default_root_dir=tmp_path, enable_checkpointing=False, **quiet, **options)


def targets(count=2):
    return training_batch(batch(count), CITYSCAPES_CATEGORIES.num_stuff)


def test_two_steps_equal_a_loop_by_hand(tmp_path):
    # Oracle: the plain loop of torch with the same batches.
    expected = module().network
    optimizer = SGD(expected.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        sum(expected.loss(targets()).values()).backward()
        optimizer.step()
    trained = module(optimizer=lambda groups: SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-4))
    trainer(tmp_path, max_epochs=1).fit(trained, loader([targets(), targets()]))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trained.network.state_dict()[name], value, rtol=0, atol=0)


def test_logs_every_term_and_their_sum(tmp_path):
    # Oracle: the network's own loss, before the first step.
    terms = module().network.loss(targets())
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(module(), loader([targets()]))
    logged = fit.callback_metrics
    for name, value in terms.items():
        torch.testing.assert_close(logged[f"train/{name}"], value.detach())
    torch.testing.assert_close(logged["train/loss"], sum(terms.values()).detach())
    assert logged["train/lr"] == pytest.approx(0.07)


class OnAnotherDevice(pl.Callback):
    """Lets the module say that it lies on a device whose values nobody can read, and looks at what was logged."""

    def on_train_start(self, trainer, pl_module):
        pl_module._device = torch.device("meta")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        logged = trainer._results.values()
        self.devices = {metric.meta.name: metric._forward_cache.device.type for metric in logged}

    def on_train_epoch_end(self, trainer, pl_module):
        trainer._results.clear()
        trainer._logger_connector.reset_metrics()


def test_logging_a_step_waits_for_no_device(tmp_path, monkeypatch):
    """Oracle: PyTorch refuses to read values of the meta device; a number that Lightning moves there is found there."""
    monkeypatch.setattr(
        TinyNetwork, "loss", lambda network, batch: {"loss_a": torch.ones((), device="meta", requires_grad=True)}
    )
    watch = OnAnotherDevice()
    fit = trainer(
        tmp_path, max_epochs=1, limit_train_batches=5, log_every_n_steps=2, callbacks=[ThroughputMonitor(), watch]
    )
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda tensor: torch.full((), 2.5)
    )  # what is read on purpose, now and then
    fit.fit(module(), loader([targets()] * 5))
    on_host = {"train/lr", "train/images_per_s", "train/data_wait", "loss"}
    assert watch.devices == dict.fromkeys(["train/loss_a", "train/loss"], "meta") | dict.fromkeys(on_host, "cpu")


def test_the_progress_bar_shows_the_loss_of_the_last_step_of_each_window(tmp_path):
    """Oracle: the loss that is logged in that step."""
    steps = []
    watch = pl.Callback()
    watch.on_train_batch_end = lambda trainer, *_: steps.append(
        (float(trainer.callback_metrics["train/loss"]), trainer.progress_bar_metrics.get("loss"))
    )
    fit = trainer(tmp_path, max_epochs=1, log_every_n_steps=2, callbacks=[watch])
    fit.fit(module(), loader([targets()] * 5))
    losses = [loss for loss, _ in steps]
    shown = [None, losses[1], losses[1], losses[3], losses[4]]
    assert len(set(losses)) == 5 and [step[1] for step in steps] == shown


def test_validation_and_test_are_one(tmp_path):
    tested = module()
    run = trainer(tmp_path)
    validated = run.validate(tested, loader([batch(), batch(1)]), verbose=False)[0]
    again = run.test(tested, loader([batch(), batch(1)]), verbose=False)[0]
    assert {name.removeprefix("val/"): value for name, value in validated.items()} == {
        name.removeprefix("test/"): value for name, value in again.items()
    }
    assert tested.evaluation.panoptic.fn[0] + tested.evaluation.panoptic.tp[0] == 3


def test_two_validations_do_not_add_up(tmp_path):
    validated = module()
    run = trainer(tmp_path)
    for _ in range(2):
        run.validate(validated, loader([batch()]), verbose=False)
        assert validated.evaluation.panoptic.fn[0] + validated.evaluation.panoptic.tp[0] == 2


def test_predicts_one_result_for_each_image(tmp_path):
    results = trainer(tmp_path).predict(module(), loader([batch(2), batch(1)]))
    assert [len(predictions) for predictions in results] == [2, 1]
    assert results[0][0].panoptic.segment_ids.shape == (32, 64)


def test_channels_last_changes_the_layout_and_nothing_else():
    plain, last = module(), module(channels_last=True)
    assert last.network.backbone[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.network.loss(targets()), plain.network.loss(targets()))


def test_optimizer_gets_its_groups(tmp_path):
    # Oracle: hand-worked; half of the reference batch, and a tenth of that for the backbone.
    fit = trainer(tmp_path, max_steps=1)
    tiny = module(scale_lr=4, batch_size=2, backbone_lr_factor=0.1, weight_decay_norms=False)
    fit.fit(tiny, loader([targets()]))
    groups = {group["name"]: (group["lr"], group["weight_decay"]) for group in fit.optimizers[0].param_groups}
    assert groups == {
        "backbone": pytest.approx((0.0035, 1e-4)),
        "backbone_norms": pytest.approx((0.0035, 0)),
        "network": pytest.approx((0.035, 1e-4)),
        "network_norms": pytest.approx((0.035, 0)),
    }


@pytest.mark.parametrize(("accumulate", "expected"), [(1, [1, 1, 1, 0.1, 0.1, 0.1]), (2, [1, 1, 0.1, 0.1])])
def test_milestones_count_epochs_of_optimizer_steps(tmp_path, accumulate, expected):
    # Oracle: hand-worked; an epoch of 3 batches has 3 steps, or 2 where two batches are accumulated.
    rates = []

    class Record(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"] / 0.07)

    tiny = module(schedule=WarmupSteps(warmup_iterations=0, milestones=(1,)))
    fit = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate, callbacks=[Record()])
    fit.fit(tiny, loader([targets()] * 3))
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_fused_optimizers_are_clipped_in_bfloat16(tmp_path, algorithm):
    # Oracle: the same optimizer as a loop over the parameters, which Lightning clips by itself.
    clip = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm}
    weights = []
    for fused in (True, False):
        model = module(optimizer=partial(SGD, lr=1.0, momentum=0.9, fused=fused))
        before = parameters_to_vector(model.network.parameters()).detach()
        trainer(tmp_path, precision="bf16-mixed", max_steps=2, **clip).fit(model, loader([targets()] * 2))
        weights.append(parameters_to_vector(model.network.parameters()).detach())
        largest = (weights[-1] - before).norm() if algorithm == "norm" else (weights[-1] - before).abs().max()
        assert 1e-3 < largest <= (1 + 1.9) * 1e-3 * 1.001  # two steps, the second with momentum
    torch.testing.assert_close(*weights)


@sweep("accumulate", [1, 2])
@sweep("algorithm", ["norm", "value"])
@sweep("optimizer", [SGD, Adam, AdamW])
def test_fused_optimizers_are_clipped_where_gradients_are_scaled(tmp_path, optimizer, algorithm, accumulate):
    # Oracle: the same optimizer as a loop over the parameters, which Lightning unscales and clips by itself. The first
    # two steps overflow and are left out.
    clip = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm, "accumulate_grad_batches": accumulate}
    found = []
    for fused in (True, False):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-24)
        model = module(optimizer=partial(optimizer, lr=0.1, fused=fused))
        before = parameters_to_vector(model.network.parameters()).detach()
        plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        trainer(tmp_path, plugins=[plugin], max_steps=4, **clip).fit(model, loader([targets()] * 4 * accumulate))
        found.append(parameters_to_vector(model.network.parameters()).detach())
        assert scaler.get_scale() == 2.0**12
        if optimizer is SGD:
            moved = (found[-1] - before).norm() if algorithm == "norm" else (found[-1] - before).abs().max()
            assert 1e-4 < moved <= 2 * 0.1 * 1e-3 * 1.001  # two steps of the learning rate times the limit
    torch.testing.assert_close(*found)


def test_endless_training_has_a_schedule(tmp_path):
    tiny = module(schedule=WarmupSteps(warmup_iterations=0, milestones=(1,)))
    fit = trainer(tmp_path, max_epochs=-1, max_steps=5)
    fit.fit(tiny, loader([targets()] * 3))
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.007)


def test_refuses_the_checkpoint_of_another_network(tmp_path):
    run = trainer(tmp_path)
    run.validate(module(), loader([batch()]), verbose=False)
    run.save_checkpoint(tmp_path / "tiny.ckpt")
    other = module(network=partial(TinyNetwork, width=5))
    with pytest.raises(ValueError, match=r"tiny\.ckpt is of another network .*'network\.backbone\.0\.bias' has"):
        trainer(tmp_path).validate(other, loader([batch()]), ckpt_path=tmp_path / "tiny.ckpt", weights_only=True)


class Watched(TinyNetwork):
    """Keeps, over all copies, what made each prediction: its norm's class and whether it was in training."""

    made_by: ClassVar[list] = []

    def predict(self, batch):
        self.made_by.append((self, type(self.backbone[1]).__name__, torch.is_autocast_enabled("cpu")))
        return super().predict(batch)


@pytest.fixture
def made_by():
    Watched.made_by.clear()
    return Watched.made_by


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_predictions_are_made_by_a_copy_that_is_gone_afterwards(tmp_path, stage, made_by):
    # Oracle: the network itself; its norm is folded in the copy, and what it finds is the same.
    model = module(network=Watched)
    run = trainer(tmp_path)
    options = {} if stage == "predict" else {"verbose": False}
    keys = set(model.state_dict())
    found = getattr(run, stage)(model, loader([batch(), batch(1)]), **options)
    names = [norm for _, norm, _ in made_by]
    assert names[-2:] == ["Identity", "Identity"] and model.copies._copy is None
    assert set(model.state_dict()) == keys and type(model.network.backbone[1]) is torch.nn.BatchNorm2d
    made_by.clear()
    plain = module(network=Watched, inference_copy=False)
    expected = getattr(run, stage)(plain, loader([batch(), batch(1)]), **options)
    assert [network for network, _, _ in made_by] == [plain.network] * 2
    if stage == "predict":
        for ours, theirs in zip(chain(*found), chain(*expected), strict=True):
            assert torch.equal(ours.panoptic.segment_ids, theirs.panoptic.segment_ids)
    else:
        assert found == expected


def test_each_validation_sees_what_was_learned_and_the_sanity_check_makes_no_copy(tmp_path, made_by):
    # Oracle: by hand; the copy of each epoch has the network's classifier of that time.
    model = module(network=Watched, optimizer=lambda groups: SGD(groups, lr=0.05))
    learned = []

    class Note(pl.Callback):
        def on_validation_batch_start(self, trainer, pl_module, *_):
            learned.append(pl_module.network.head.weight.detach().clone())

    fit = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=1, callbacks=[Note()])
    fit.fit(model, loader([targets()]), loader([batch()]))
    real = [(network, norm) for network, norm, _ in made_by if network is model.network or norm == "Identity"]
    assert real[0][1] == "BatchNorm2d"
    copies = [network for network, norm in real if norm == "Identity"]
    for weight in learned[1:]:
        assert any(torch.equal(copy.head.weight, weight) for copy in copies)
    assert not torch.equal(learned[1], learned[2])


def test_copies_have_the_weights_that_autocast_would_cast(tmp_path, made_by):
    # Oracle: by hand; both convolutions run in bfloat16, the network keeps float32.
    model = module(network=Watched)
    trainer(tmp_path, precision="bf16-mixed").validate(model, loader([batch()]), verbose=False)
    copy, norm, autocasts = made_by[-1]
    assert norm == "Identity" and autocasts
    assert {p.dtype for p in copy.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}


def test_averaged_weights_are_copied_not_those_in_training(tmp_path, made_by):
    # Oracle: by hand; a callback that swaps weights in for the validation, as weight averaging does.
    class Swap(pl.Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            pl_module.network.head.bias.data.fill_(7.0)

    trainer(tmp_path, callbacks=[Swap()]).validate(module(network=Watched), loader([batch()]), verbose=False)
    assert set(made_by[-1][0].head.bias.tolist()) == {7.0}


def test_modules_are_copied_and_pickled(tmp_path):
    # Oracle: the weights; a default that is a lambda, or the trainer, would stand in the way.
    model = PanopticModule(network=TinyNetwork, categories=module().categories)
    trainer(tmp_path, max_epochs=1).fit(model, loader([targets()]))
    for copy in (deepcopy(model), loads(dumps(model))):
        torch.testing.assert_close(copy.state_dict(), model.state_dict(), rtol=0, atol=0)
        assert copy.network.construction == model.network.construction


def test_modules_are_copied_and_pickled_without_the_copy(tmp_path):
    # Oracle: by hand.
    model = module()
    model.copies.of(model.network)
    assert deepcopy(model).copies._copy is None
    assert loads(dumps(model.copies))._copy is None
    assert "copies" not in "".join(model.state_dict())


@sweep(
    "options, kind, message",
    [
        (
            {},
            TypeError,
            "^network is EfficientPS, which needs instance_head, too: give functools.partial(EfficientPS, ",
        ),
        ({"network": partial(EfficientPS, min_stuff_area=9)}, TypeError, "^network is EfficientPS, which needs inst"),
        ({"network": TinyNetwork(11, 8)}, TypeError, "^network is an object of TinyNetwork; give what builds it"),
        (
            {"network": TinyNetwork, "optimizer": SGD([torch.zeros(1)])},
            TypeError,
            "^optimizer is an object of SGD; give",
        ),
        ({"network": None}, ValueError, "^network is empty; give a class"),
        ({"network": TinyNetwork, "optimizer": None}, ValueError, "^optimizer is empty"),
        ({"network": TinyNetwork, "schedule": None}, ValueError, "^schedule is empty"),
    ],
)
def test_what_a_module_cannot_be_made_of(options, kind, message):
    # Oracle: by hand; the sentence names the argument and what to give.
    with pytest.raises(kind, match=message.replace("(", r"\(")):
        PanopticModule(categories=CITYSCAPES_CATEGORIES, **options)


def test_the_default_optimizer_is_the_same_from_python_and_from_the_command_line(monkeypatch):
    """Oracle: by hand, the authors' momentum and weight decay; a rate of one's own leaves both as they are."""
    module = PanopticModule(network=TinyNetwork, categories=CITYSCAPES_CATEGORIES)
    (group,) = module.optimizer_factory([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.07, 0.9, 1e-4)
    parser = LightningArgumentParser()
    parser.add_class_arguments(PanopticModule, "model", skip={"categories"}, fail_untyped=False)
    head = ["--model.network.instance_head", MaskRCNNHead.__name__]
    for rate in ([], ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.5"]):
        options = parser.parse_args([*head, *rate]).model.optimizer.init_args
        assert (options.lr, options.momentum, options.weight_decay) == (0.5 if rate else 0.07, 0.9, 1e-4)
