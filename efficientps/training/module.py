"""The LightningModule of every panoptic network: steps, metrics and optimizers, and nothing of any architecture."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypedDict, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import GradClipAlgorithmType, rank_zero_info
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import SGD, Optimizer

from efficientps.data.sources.panoptic_dataset import PanopticDataset
from efficientps.inference.inference_copy import InferenceCopies
from efficientps.metrics.evaluator import Evaluation, Evaluator
from efficientps.metrics.panoptic_matching import PanopticCounts
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import ImageBatch, PanopticBatch, PanopticSegmentation, Prediction, TrainingBatch
from efficientps.structures.categories import Categories
from efficientps.training.checkpoints.read import explain_difference, init_from
from efficientps.training.parameter_groups import linear_scale, parameter_groups, scale_learning_rates
from efficientps.training.schedules import Schedule, ScheduledLR, WarmupSteps

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]

_AUTOCAST_TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What autocast casts to in each of the trainer's precisions that autocast."""


class EvaluatedBatch(TypedDict):
    """What a validation step returns, for callbacks: an entry of each list for each image of the batch."""

    predictions: list[Prediction]
    counts: list[PanopticCounts]


class PanopticModule(pl.LightningModule):
    """Trains, evaluates and runs a panoptic network.

    Args:
        network: builds the network for a number of stuff and of thing classes. The default is a family, whose parts
            the configuration gives; in Python, bind them with ``functools.partial``.
        categories: the classes of the data.
        batch_size: images per device and step, as the data has it; ``scale_lr`` counts with it.
        optimizer: builds the optimizer for groups of parameters. The default is the recipe of the authors' code, for a
            total batch of 16 images: SGD, learning rate 0.07, momentum 0.9, weight decay 1e-4.
        schedule: plan of the learning rate (see ``schedules``); the default is that of the authors' code.
        scale_lr: total batch that the optimizer's learning rate is for; the rate is then scaled linearly to the batch
            of this run, over all devices and accumulated batches. ``None`` takes the rate as it is.
        weight_decay_norms: whether norms and biases are decayed like everything else (authors' code).
        backbone_lr_factor: learning rate of the backbone as a factor of the others'.
        init_from: file whose fitting weights the network starts from; not read where a checkpoint is resumed.
        channels_last: memory layout of the network, faster on tensor cores and for depthwise convolutions.
        inference_copy: validate, test and predict with a copy of the network that is made when each of them begins,
            with norms folded and weights in the trainer's precision: the same predictions to rounding, in less time
            and for the memory of a second set of weights. False runs the network itself.

    Attributes:
        loss_terms: of the last training batch of this process.
    """

    def __init__(
        self,
        *,
        network: Callable[[int, int], PanopticNetwork] = EfficientPS,  # type: ignore[assignment] # see above
        categories: Categories,
        batch_size: int = 1,
        optimizer: OptimizerFactory = lambda parameters: SGD(parameters, lr=0.07, momentum=0.9, weight_decay=1e-4),
        schedule: Schedule = WarmupSteps(),  # noqa: B008 - frozen
        scale_lr: int | None = None,
        weight_decay_norms: bool = True,
        backbone_lr_factor: float = 1.0,
        init_from: str | None = None,
        channels_last: bool = False,
        inference_copy: bool = True,
    ) -> None:
        """Build the network and its metrics.

        Raises:
            ValueError: a configuration leaves the network, the optimizer or the schedule empty.
        """
        super().__init__()
        for name, given in (("network", network), ("optimizer", optimizer), ("schedule", schedule)):
            if given is None:
                raise ValueError(f"model.{name} is empty (null); name a class, or leave the key out.")
        self.network = network(categories.num_stuff, categories.num_things)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.categories = categories
        self.batch_size = batch_size
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.scale_lr = scale_lr
        self.weight_decay_norms = weight_decay_norms
        self.backbone_lr_factor = backbone_lr_factor
        self.init_from = init_from
        self.inference_copy = inference_copy
        self.copies = InferenceCopies()
        self._runs_copy = False
        self.evaluator = Evaluator(categories)
        self.evaluation: Evaluation | None = None
        self.loss_terms: dict[str, Tensor] = {}
        self._shown_loss: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        """Check that network and data fit; start from other weights, unless Lightning is about to load a checkpoint."""
        data = getattr(getattr(self.trainer, "datamodule", None), "train_dataset", None)
        if stage == "fit" and isinstance(data, PanopticDataset):
            self.network.check_data(max(sum(not s.is_crowd for s in entry.segments) for entry in data.entries))
        if self.init_from and not self.trainer.ckpt_path:
            rank_zero_info(init_from(self.network, self.init_from))
            self.init_from = None

    # -------------------------------------------------------------------- training

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return the sum of the network's loss terms."""
        terms = self.network.loss(batch)
        self.loss_terms = {name: value.detach() for name, value in terms.items()}
        values = torch.stack(list(terms.values()))
        total = values.sum()
        size = len(batch["image_ids"])
        # All at once: the means over the processes, which are the terms of their joint batch.
        logged = self.trainer.strategy.reduce(values.detach().clone(), reduce_op="mean")
        assert isinstance(logged, Tensor)
        self.log_dict({f"train/{name}": value for name, value in zip(terms, logged, strict=True)}, batch_size=size)
        loss = logged.sum()
        self.log("train/loss", loss, batch_size=size)
        # Lightning puts a plain number on the device, and the program waits for the copy.
        self.log("train/lr", torch.tensor(self.learning_rate), batch_size=size)
        self._show(loss, batch_idx)
        return total

    def _show(self, loss: Tensor, batch_idx: int) -> None:
        """Give the progress bar a loss now and then: it reads a value in every step, and waits for the device."""
        every = max(1, self.trainer.log_every_n_steps)  # type: ignore[attr-defined] # set outside the class
        if (batch_idx + 1) % every == 0 or self.trainer.is_last_batch:
            self._shown_loss = {"loss": loss.cpu()}
        self.log_dict(self._shown_loss, prog_bar=True, logger=False, batch_size=1)

    @property
    def learning_rate(self) -> float:
        """The highest learning rate of the optimizer's groups."""
        optimizer = cast(Optimizer, self.optimizers())
        return max(float(group["lr"]) for group in optimizer.param_groups)

    # ------------------------------------------------------------------ evaluation

    def on_validation_epoch_start(self) -> None:
        """Forget what a sanity check or an interrupted validation left."""
        self.evaluator.reset()
        self._begin_predictions()

    def validation_step(self, batch: PanopticBatch, batch_idx: int) -> EvaluatedBatch:
        """Predict and count, one image after the other; the predictions live on until the next batch, for pictures."""
        predictions = self._predict(batch)
        counts = [
            self.evaluator.update(prediction, PanopticSegmentation(segment_ids, segments))
            for prediction, segment_ids, segments in zip(
                predictions, batch["segment_ids"], batch["segments"], strict=True
            )
        ]
        return {"predictions": predictions, "counts": counts}

    def on_validation_epoch_end(self) -> None:
        """Compute and log all figures, over all ranks."""
        self._end_predictions()
        self._evaluate("val")

    def on_test_epoch_start(self) -> None:
        """Forget what an interrupted test left."""
        self.evaluator.reset()
        self._begin_predictions()

    def test_step(self, batch: PanopticBatch, batch_idx: int) -> None:
        """Predict and count, as in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Compute and log all figures of the test, over all ranks."""
        self._end_predictions()
        self._evaluate("test")

    def _evaluate(self, split: str) -> None:
        if self.trainer.sanity_checking:  # a few images of an untrained network: nothing to report
            self.evaluator.reset()
            return
        self.evaluation = self.evaluator.compute()
        self.evaluator.reset()
        # Every rank has the same figures already.
        for name, value in self.evaluation.figures().items():
            self.log(f"{split}/{name}", value, prog_bar=name == "PQ", batch_size=1)
        if self.trainer.state.fn == TrainerFn.FITTING:
            scheduler = self.lr_schedulers()
            assert isinstance(scheduler, ScheduledLR)
            # Here, before the checkpoint of this validation is written, so that it holds what the schedule has seen.
            scheduler.observe(self.evaluation.panoptic.all.pq)

    # ------------------------------------------------------------------ prediction

    def on_predict_epoch_start(self) -> None:
        """Allow the inference copy from here on."""
        self._begin_predictions()

    def predict_step(self, batch: PanopticBatch, batch_idx: int) -> list[Prediction]:
        """Return one prediction for each image of the batch, at its valid size."""
        return self._predict(batch)

    def on_predict_epoch_end(self) -> None:
        """Drop the inference copy."""
        self._end_predictions()

    # -------------------------------------------------------------- the inference copy

    def _predict(self, batch: ImageBatch) -> list[Prediction]:
        """Predict with the copy, which is made at the first batch: callbacks have put averaged weights in place then.

        A step that is called by itself, outside of an epoch of the trainer, runs the network.
        """
        if not self._runs_copy:
            return self.network.predict(batch)
        dtype = _AUTOCAST_TYPES.get(str(self.trainer.precision))
        return self.copies.of(self.network, dtype=dtype).predict(batch)

    def _begin_predictions(self) -> None:
        """Have a copy made for this epoch.

        The images of a sanity check are too few for one, and strategies that split weights over devices have no whole
        network to copy.
        """
        self.copies.drop()
        is_whole = isinstance(self.trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        self._runs_copy = self.inference_copy and is_whole and not self.trainer.sanity_checking

    def _end_predictions(self) -> None:
        """Free the memory of the copy, which training would soon leave behind."""
        self.copies.drop()
        self._runs_copy = False

    # ------------------------------------------------------------------ optimizers

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer over the parameter groups, and its schedule, stepped after each optimizer step."""
        groups = parameter_groups(
            self.network.named_parameters(),
            weight_decay_norms=self.weight_decay_norms,
            backbone_lr_factor=self.backbone_lr_factor,
        )
        optimizer = self.optimizer_factory(groups)
        total_batch = self.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        scale_learning_rates(optimizer, linear_scale(total_batch=total_batch, reference_batch=self.scale_lr))
        scheduler = self.schedule.scheduler(optimizer, **self._lengths())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make an optimizer step; under a loss scale, a fused optimizer finds its gradients unscaled.

        By itself it unscales them inside its step, after they were clipped. Lightning unscales those of every other
        optimizer between backward pass and clipping; here those of a fused one are, at the same place: the step is then
        told of an overflow alone, and leaves it out on the device, without a wait of the host.
        """
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        plugin = self.trainer.precision_plugin
        scaler = plugin.scaler if isinstance(plugin, MixedPrecision) else None
        closure = optimizer_closure
        if scaler is not None:
            # A resumed optimizer is fused where its checkpoint's was, while PyTorch has set this when it was built.
            fused = any(group.get("fused") for group in inner.param_groups)
            inner._step_supports_amp_scaling = fused  # type: ignore[attr-defined]
            if fused and optimizer_closure is not None:

                def closure() -> Any:
                    loss = optimizer_closure()
                    if loss is not None:
                        scaler.unscale_(inner)
                    return loss

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients; those of a fused optimizer as well, which Lightning refuses in 16 bits.

        Lightning cannot know that they are unscaled: in bfloat16 nothing scales them, and ``optimizer_step`` has
        unscaled those of float16.
        """
        plugin = self.trainer.precision_plugin
        if gradient_clip_val and isinstance(plugin, MixedPrecision):
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _lengths(self) -> dict[str, int]:
        """Return the optimizer steps of the run and of an epoch; without an end, more than any run has."""
        if self.trainer.train_dataloader is None:
            self.trainer.fit_loop.setup_data()
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        lengths = {"total_steps": self.trainer.estimated_stepping_batches, "steps_per_epoch": batches}
        return {name: math.ceil(steps) if steps < sys.maxsize else sys.maxsize for name, steps in lengths.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another network with a sentence.

        Raises:
            ValueError: naming the first keys that differ.
        """
        problem = explain_difference(self.state_dict(), checkpoint["state_dict"], path=str(self.trainer.ckpt_path))
        if problem:
            raise ValueError(problem)
