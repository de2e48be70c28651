"""Skip training steps whose loss or gradient is not finite; too many of them are an error."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from efficientps.atomic_file import atomic_file
from efficientps.structures import TrainingBatch
from efficientps.training.module import PanopticModule

_Kind: TypeAlias = tuple[torch.dtype, torch.device]


class NonFiniteError(ValueError):
    """More steps than allowed had a loss or a gradient that is not finite."""


class NonFiniteGuard(Callback):
    """Skips the steps whose loss or gradient is not finite.

    Such a step changes nothing: neither weights nor optimizer, nor the running statistics of the norms. Each process
    says which loss terms and which images were in it. Beyond ``max_skipped`` the run ends, and the batch lies in the
    folder of the run as ``non_finite_batch.pt``. Under 16-mixed, gradients that overflow are the business of the loss
    scale, and only losses count.

    Args:
        max_skipped: number of steps that a run may skip.

    Raises:
        ValueError: the number is negative.
    """

    def __init__(self, *, max_skipped: int = 10) -> None:
        """Store the limit."""
        if max_skipped < 0:
            raise ValueError(f"max_skipped is {max_skipped}; give 0 or more.")
        self.max_skipped = max_skipped
        self.skipped = 0
        self._statistics = _Copies()
        self._batches: list[tuple[TrainingBatch, Mapping[str, Tensor]]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TrainingBatch, batch_idx: int
    ) -> None:
        """Copy the running statistics, which the forward passes of the step change."""
        if not self._batches:
            self._statistics.keep(pl_module.buffers())
        self._batches.append((batch, {}))

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss terms until all batches of the step have been seen."""
        assert isinstance(pl_module, PanopticModule)
        self._batches[-1] = (self._batches[-1][0], pl_module.loss_terms)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Check all losses and gradients of the step, and undo the step if one of them is not finite."""
        batches, self._batches = self._batches, []
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        values = [value for _, terms in batches for value in terms.values()]
        if not scaled:
            values += torch._foreach_norm(gradients)
        bad = (~torch.isfinite(torch.stack([value.float().reshape(()) for value in values]))).any().float()
        bad = torch.as_tensor(trainer.strategy.reduce(bad, reduce_op="sum"))  # all processes leave the same steps out
        if not bad:
            return
        optimizer.zero_grad(set_to_none=True)
        self._statistics.restore(pl_module.buffers())
        self.skipped += 1
        what = _explain(batches)
        if self.skipped > self.max_skipped:
            path = _save(batches, trainer)
            raise NonFiniteError(
                f"Step {trainer.global_step} has {what}; this is number {self.skipped}, and max_skipped is "
                f"{self.max_skipped}. The batch is in {path}. Lower the learning rate, or train in float32 to see "
                "whether the precision is the cause."
            )
        warnings.warn(f"Step {trainer.global_step} was left out, number {self.skipped}: it has {what}.", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of skipped steps, for a checkpoint."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count of the checkpoint."""
        self.skipped = int(state_dict["skipped"])


class _Copies:
    """Copies of tensors in reused memory; all tensors of one type and device are copied by one operation."""

    def __init__(self) -> None:
        self._copies: dict[_Kind, list[Tensor]] = {}

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Copy the current values of the tensors, in place of the copies before."""
        groups = _by_kind(tensors)
        for kind, group in groups.items():
            copies = self._copies.get(kind, [])
            if [copy.shape for copy in copies] != [tensor.shape for tensor in group]:
                copies = [torch.empty_like(tensor) for tensor in group]
            torch._foreach_copy_(copies, group)
            groups[kind] = copies
        self._copies = groups

    def restore(self, tensors: Iterable[Tensor]) -> None:
        """Write the copied values back; the tensors must be the same, in the same order."""
        for kind, group in _by_kind(tensors).items():
            torch._foreach_copy_(group, self._copies[kind])


def _by_kind(tensors: Iterable[Tensor]) -> dict[_Kind, list[Tensor]]:
    groups: dict[_Kind, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return groups


def _explain(batches: list[tuple[TrainingBatch, Mapping[str, Tensor]]]) -> str:
    """Name the loss terms that are not finite, or the gradient, and the images."""
    names: dict[str, None] = {}
    images: list[str] = []
    for batch, terms in batches:
        found = [name for name, value in terms.items() if not torch.isfinite(value)]
        names |= dict.fromkeys(found)
        if found:
            images += batch["image_ids"]
    if names:
        return f"{' and '.join(names)} that is not finite, with the images {', '.join(images)}"
    images = [image for batch, _ in batches for image in batch["image_ids"]]
    return f"a gradient that is not finite (or a loss on another process), with the images {', '.join(images)}"


def _save(batches: list[tuple[TrainingBatch, Mapping[str, Tensor]]], trainer: pl.Trainer) -> Path:
    """Write the batches of the step, as tensors and plain types, one file for each process."""
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    folder = Path(
        trainer.loggers[0].log_dir or trainer.default_root_dir if trainer.loggers else trainer.default_root_dir
    )
    path = folder / f"non_finite_batch{rank}.pt"
    kept = ("image_ids", "images", "image_sizes", "semantic")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [
        {key: batch[key] for key in kept}  # type: ignore[literal-required]
        | {"instances": [dict(instances) for instances in batch["instances"]], "loss_terms": dict(terms)}
        for batch, terms in batches
    ]
    with atomic_file(path) as temporary:
        torch.save(content, temporary)
    return path
