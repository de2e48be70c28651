"""Go on from a checkpoint at the batch that follows the last one it has been trained on."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class ExactPosition(Callback):
    """Sets Lightning's counters to the place that the data module stores, whatever ended the run before.

    A stop by ``max_steps`` or ``max_time`` ends Lightning's loops inside an epoch as if the epoch were over, and a run
    with ``max_steps`` that goes on after a whole epoch leaves the next one out. The data module stores what was trained
    on (``PanopticDataModule.state_dict``), and this callback brings Lightning's counters into agreement with it.
    """

    def __init__(self) -> None:
        """Start at the beginning of a run."""
        self._batch: int | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the place into the counters of the checkpoint, before Lightning reads them."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        place = checkpoint.get(type(datamodule).__qualname__)
        if place is None or "loops" not in checkpoint:
            return
        counters = checkpoint["loops"]["fit_loop"]
        place = _corrected(place, counters)
        datamodule.load_state_dict(place)
        set_counters(counters, epoch=int(place["epoch"]), batch=int(place["batch"]))
        self._batch = int(place["batch"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new epoch, or continue inside one; by now Lightning has read the counters."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        loop = trainer.fit_loop
        if batch == 0:
            type(loop.epoch_loop).restarting.fset(loop, False)  # type: ignore[attr-defined] # a property
            return
        fetcher = loop._data_fetcher
        assert fetcher is not None
        if loop.epoch_loop._should_check_val_fx(fetcher):
            # Lightning passes over the validation at this place, which has been made, and counts a step for it.
            loop.epoch_loop._batches_that_stepped -= 1


def set_counters(counters: dict[str, Any], *, epoch: int, batch: int) -> None:
    """Let the counters of a checkpoint say that so many epochs, and so many batches of the next one, are complete.

    Args:
        counters: ``checkpoint["loops"]["fit_loop"]``, changed in place.
        epoch: number of whole epochs.
        batch: number of batches of the epoch that follows them.
    """
    begun = epoch + (batch > 0)
    for count in counters["epoch_progress"].values():
        count.update(ready=begun, started=begun, processed=epoch, completed=epoch)
    batches = counters["epoch_loop.batch_progress"]
    for name, count in (("total", batches["total"]), ("current", batches["current"])):
        done = batch if name == "current" and batch else count["processed"]
        count.update(ready=done, started=done, processed=done, completed=done)
    batches["is_last_batch"] = False
    steps = counters["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    counters["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
    validation = counters["epoch_loop.val_loop.batch_progress"]
    for count in (validation["total"], validation["current"]):
        count.update(ready=0, started=0, processed=0, completed=0)


def _corrected(place: dict[str, Any], counters: dict[str, Any]) -> dict[str, Any]:
    """Return the place of a checkpoint; that of the first edition took an epoch that was cut short for a whole one."""
    batches = counters["epoch_loop.batch_progress"]
    done = int(batches["current"]["processed"])
    if place["batch"] or batches["is_last_batch"] or not done:
        return place
    return {**place, "epoch": int(place["epoch"]) - 1, "batch": done}
