"""Store the states of the random number generators in checkpoints, so that a resumed run draws the same numbers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn

from efficientps.training.gathering import gather

_KEY = "random_states"


class RandomStates(Callback):
    """Stores the generators of every process in each checkpoint, and sets them where one is resumed.

    Samples do not depend on them (each is drawn from the seed, its epoch and its place); what the network draws does:
    the anchors and regions that a loss looks at, and the layers that stochastic depth leaves out.
    """

    def __init__(self) -> None:
        """Start without states to restore."""
        self._to_restore: list[dict[str, Any]] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Collect the states of all processes; all processes call this."""
        checkpoint[_KEY] = gather(random_state())

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until training begins, because the setup before it also draws numbers."""
        self._to_restore = checkpoint.get(_KEY)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the generators of this process."""
        states, self._to_restore = self._to_restore, None
        if states is None:
            return
        if len(states) != trainer.world_size:
            rank_zero_warn(
                f"The checkpoint holds the random states of {len(states)} processes, and this run has "
                f"{trainer.world_size}: it draws other random numbers than an uninterrupted run."
            )
            return
        set_random_state(states[trainer.global_rank])


def random_state() -> dict[str, Any]:
    """Return the state of this process' generators (Python, NumPy, torch, and the current CUDA device), plain types."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set this process' generators to what ``random_state`` returned.

    >>> state = random_state()
    >>> before = random.random(), np.random.rand(), float(torch.rand(()))
    >>> set_random_state(state)
    >>> before == (random.random(), np.random.rand(), float(torch.rand(())))
    True
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
