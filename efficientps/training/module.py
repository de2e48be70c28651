"""The LightningModule of every panoptic network: training, validation and prediction steps, metrics, optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import SGD

from efficientps.data.dataset import PanopticDataset
from efficientps.inference.inference_copy import InferenceCopies
from efficientps.metrics.evaluator import Evaluation, Evaluator
from efficientps.metrics.panoptic_matching import PanopticCounts
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import ImageBatch, PanopticBatch, PanopticSegmentation, Prediction, TrainingBatch
from efficientps.structures.categories import Categories
from efficientps.structures.construction import EmptyArgumentError, check_factory
from efficientps.training.callback_checks import check_callbacks, check_resumed
from efficientps.training.initial_weights import start_network
from efficientps.training.mixed_precision import AUTOCAST_DTYPES
from efficientps.training.optimized_module import AUTHORS_OPTIMIZER, OptimizedModule, OptimizerFactory
from efficientps.training.precision import settle_precision
from efficientps.training.process_group import leave_at_exit
from efficientps.training.run_schedule import tell_metric
from efficientps.training.schedules import Schedule, WarmupSteps
from efficientps.training.torch_schedulers import Interval, TorchScheduler


class EvaluatedBatch(TypedDict):
    """Result of a validation step, for callbacks; each list has one entry per image of the batch."""

    predictions: list[Prediction]
    counts: list[PanopticCounts]


class PanopticModule(OptimizedModule):
    """Trains, evaluates and runs a panoptic network.

    Args:
        network: builds the network from the number of stuff classes and the number of thing classes. A configuration
            gives the other arguments of its constructor; in Python, bind them with ``functools.partial``.
        categories: the classes of the data.
        batch_size: images per device and step, equal to the batch size of the data module; ``scale_lr`` needs it.
        optimizer: builds the optimizer from parameter groups. The default is the recipe of the authors' code for a
            total batch of 16 images: SGD, learning rate 0.07, momentum 0.9, weight decay 1e-4.
        schedule: learning-rate schedule, or a class of ``torch.optim.lr_scheduler``; the default is that of the
            authors' code.
        schedule_interval: what a scheduler of PyTorch counts: optimizer steps or epochs. ``ReduceLROnPlateau`` steps
            at each validation, by ``val/PQ`` or its own ``monitor``.
        scale_lr: total batch size that the optimizer's learning rate is meant for. The rate is scaled linearly to the
            total batch size of this run (all devices, accumulated batches included). ``None`` does not scale it.
        weight_decay_norms: apply weight decay to norms and biases, too (authors' code).
        backbone_lr_factor: learning rate of the backbone, as a factor of the rate of the other parts.
        backbone_layer_decay: factor of the learning rate from one layer of the backbone to the one before it.
        init_from: file with weights that the network starts from, where name and shape agree, in place of pretrained
            ones of the backbone; a checkpoint in ``ckpt_path`` replaces them.
        channels_last: store the network channels last, which is faster on tensor cores and for depthwise convolutions.
        inference_copy: validate, test and predict with a faster copy of the network (``inference_copy`` in
            ``efficientps.inference``). Predictions are equal up to rounding; the copy takes the memory of a second set
            of weights. False uses the network itself.

    Attributes:
        loss_terms: loss terms of the last training batch of this process.
    """

    def __init__(
        self,
        *,
        network: Callable[[int, int], PanopticNetwork] = EfficientPS,  # type: ignore[assignment] # see above
        categories: Categories,
        batch_size: int = 1,
        optimizer: OptimizerFactory = lambda parameters: SGD(parameters, lr=0.07, momentum=0.9, weight_decay=1e-4),
        schedule: Schedule | TorchScheduler = WarmupSteps(),  # noqa: B008 - frozen
        schedule_interval: Interval = "step",
        scale_lr: int | None = None,
        weight_decay_norms: bool = True,
        backbone_lr_factor: float = 1.0,
        backbone_layer_decay: float = 1.0,
        init_from: str | None = None,
        channels_last: bool = False,
        inference_copy: bool = True,
    ) -> None:
        """Build the network and its metrics.

        Raises:
            EmptyArgumentError: the network, the optimizer or the schedule is ``None``.
            TypeError: network or optimizer is no class or function, or lacks arguments, see ``check_factory``.
        """
        super().__init__()
        check_factory("network", network)
        check_factory("optimizer", optimizer)
        if schedule is None:
            raise EmptyArgumentError("schedule")
        self.network = network(categories.num_stuff, categories.num_things)
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.categories = categories
        self.batch_size = batch_size
        # The parser reads the options of the default from its lambda, and a lambda cannot be pickled.
        is_default = optimizer is (PanopticModule.__init__.__kwdefaults__ or {}).get("optimizer")
        self.optimizer_factory = AUTHORS_OPTIMIZER if is_default else optimizer
        self.schedule = schedule
        self.schedule_interval: Interval = schedule_interval
        self.scale_lr = scale_lr
        self.group_options = (weight_decay_norms, backbone_lr_factor, backbone_layer_decay)
        self.init_from = init_from
        self.inference_copy = inference_copy
        self.copies = InferenceCopies()
        self._runs_copy = False
        self.evaluator = Evaluator(categories)
        self.evaluation: Evaluation | None = None
        self.loss_terms: dict[str, Tensor] = {}
        self._shown_loss: dict[str, Tensor] = {}

    def configure_callbacks(self) -> list[pl.Callback]:
        """Check the callbacks of a training before any of them begins; add none."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            validates = self.trainer.limit_val_batches != 0  # type: ignore[attr-defined] # set outside the class
            check_callbacks(self.trainer.callbacks, validates=validates)  # type: ignore[attr-defined]
        return []

    def setup(self, stage: str) -> None:
        """Check precision, network and data; for evaluation, load the weights of ``init_from``."""
        if self.trainer.world_size > 1:
            leave_at_exit()
        settle_precision(self.trainer.strategy)
        datamodule = getattr(self.trainer, "datamodule", None)
        self.take_reading_of(datamodule)
        data = getattr(datamodule, "train_dataset", None)
        if stage == "fit" and isinstance(data, PanopticDataset) and (most := data.largest_segment_count()) is not None:
            self.network.check_data(most)
        if stage != "fit" and self.init_from:
            start_network(self.network, self.trainer.strategy, file=self.init_from, pretrained=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Load the initial weights, and return the optimizer with its schedule.

        Nothing is loaded where a checkpoint is resumed, which Lightning knows from here on. Callbacks, such as the
        learning-rate finder, begin after this.
        """
        if self.trainer.ckpt_path:
            check_resumed(self.trainer.callbacks)  # type: ignore[attr-defined] # set outside the class
        else:
            start_network(self.network, self.trainer.strategy, file=self.init_from, pretrained=True)
            self.init_from = None
        return super().configure_optimizers()

    # -------------------------------------------------------------------- training

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return the sum of the network's loss terms."""
        terms = self.network.loss(batch)
        self.loss_terms = {name: value.detach() for name, value in terms.items()}
        values = torch.stack(list(terms.values()))
        total = values.sum()
        size = len(batch["image_ids"])
        # One reduction for all terms; the means over the processes are the terms of their joint batch.
        logged = self.trainer.strategy.reduce(values.detach().clone(), reduce_op="mean")
        assert isinstance(logged, Tensor)
        self.log_dict({f"train/{name}": value for name, value in zip(terms, logged, strict=True)}, batch_size=size)
        loss = logged.sum()
        self.log("train/loss", loss, batch_size=size)
        # A tensor, because Lightning copies a plain number to the device and waits for the copy.
        self.log("train/lr", torch.tensor(self.learning_rate), batch_size=size)
        self._show(loss, batch_idx)
        return total

    def _show(self, loss: Tensor, batch_idx: int) -> None:
        """Show the loss in the progress bar every ``log_every_n_steps`` batches.

        The progress bar reads its values in every step. A value on the device would make it wait, so it gets a copy.
        """
        every = max(1, self.trainer.log_every_n_steps)  # type: ignore[attr-defined] # set outside the class
        if (batch_idx + 1) % every == 0 or self.trainer.is_last_batch:
            self._shown_loss = {"loss": loss.cpu()}
        self.log_dict(self._shown_loss, prog_bar=True, logger=False, batch_size=1)

    # ------------------------------------------------------------------ evaluation

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics, which a sanity check or an interrupted validation may have updated."""
        self.evaluator.reset()
        self._begin_predictions()

    def validation_step(self, batch: PanopticBatch, batch_idx: int) -> EvaluatedBatch:
        """Predict and update the metrics; predictions and counts are returned for callbacks, such as the reports."""
        predictions = self._predict(batch)
        counts = [
            self.evaluator.update(prediction, PanopticSegmentation(segment_ids, segments))
            for prediction, segment_ids, segments in zip(
                predictions, batch["segment_ids"], batch["segments"], strict=True
            )
        ]
        return {"predictions": predictions, "counts": counts}

    def on_validation_epoch_end(self) -> None:
        """Compute and log all metrics, over all ranks."""
        self._end_predictions()
        self._evaluate("val")

    def on_test_epoch_start(self) -> None:
        """Reset the metrics, which an interrupted test may have updated."""
        self.evaluator.reset()
        self._begin_predictions()

    def test_step(self, batch: PanopticBatch, batch_idx: int) -> None:
        """Predict and update the metrics, as in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Compute and log all metrics of the test, over all ranks."""
        self._end_predictions()
        self._evaluate("test")

    def _evaluate(self, split: str) -> None:
        if self.trainer.sanity_checking:  # a few images of an untrained network: nothing to report
            self.evaluator.reset()
            return
        self.evaluation = self.evaluator.compute()
        self.evaluator.reset()
        # Every rank has the same values already, so nothing is synchronised.
        for name, value in self.evaluation.figures().items():
            self.log(f"{split}/{name}", value, prog_bar=name == "PQ", batch_size=1)
        if self.trainer.state.fn == TrainerFn.FITTING:
            figures = {f"val/{name}": value for name, value in self.evaluation.figures().items()}
            # Before the checkpoint of this validation is written, so that it contains this value of the schedule.
            tell_metric(self.lr_schedulers(), {**self.trainer.callback_metrics, **figures})

    # ------------------------------------------------------------------ prediction

    def on_predict_epoch_start(self) -> None:
        """Let the epoch use an inference copy."""
        self._begin_predictions()

    def predict_step(self, batch: PanopticBatch, batch_idx: int) -> list[Prediction]:
        """Return one prediction for each image of the batch, at the size of its image file."""
        return self._predict(batch) if batch["image_ids"] else []

    def on_predict_epoch_end(self) -> None:
        """Drop the inference copy."""
        self._end_predictions()

    # -------------------------------------------------------------- the inference copy

    def _predict(self, batch: ImageBatch) -> list[Prediction]:
        """Predict with the inference copy, or with the network if the step is called outside of a trainer's epoch.

        The copy is made at the first batch, when callbacks of weight averaging have put their weights into the network.
        """
        if not self._runs_copy:
            return self.network.predict(batch)
        dtype = AUTOCAST_DTYPES.get(str(self.trainer.precision))
        return self.copies.of(self.network, dtype=dtype).predict(batch)

    def _begin_predictions(self) -> None:
        """Let this epoch use an inference copy, except in two cases.

        A sanity check has too few images to need a copy. A strategy that splits weights over devices has no whole
        network to copy.
        """
        self.copies.drop()
        is_whole = isinstance(self.trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        self._runs_copy = self.inference_copy and is_whole and not self.trainer.sanity_checking

    def _end_predictions(self) -> None:
        """Free the memory of the copy; training changes the weights, so the copy would be out of date."""
        self.copies.drop()
        self._runs_copy = False
