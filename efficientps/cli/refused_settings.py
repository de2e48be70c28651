"""Refuse settings of the trainer that this project cannot follow, or that leave a command nothing to do."""

from __future__ import annotations

from typing import Any

SHARDING_STRATEGIES = ("fsdp", "deepspeed", "model_parallel")
"""Strategies of Lightning that are refused."""

_LIMITS = {
    "fit": ("limit_train_batches", "train on"),
    "validate": ("limit_val_batches", "validate"),
    "test": ("limit_test_batches", "test"),
    "predict": ("limit_predict_batches", "predict on"),
}
"""For each command the option of the trainer that limits its batches, and what it does with them."""


def refuse_settings(command: object, trainer: Any) -> None:
    """Refuse a strategy that shards weights, and a limit of no batches for the command itself.

    A training without validation is a training.

    Args:
        command: name of the command.
        trainer: section of the configuration, with its values as attributes.

    Raises:
        ValueError: a setting is refused; the message names it.
    """
    if str(trainer.strategy).startswith(SHARDING_STRATEGIES):
        raise ValueError(
            f"trainer.strategy is {trainer.strategy}, which shards weights over GPUs; it is not supported, "
            "because activations fill the memory here, and it does not shard them. Use ddp, and "
            "model.network.activation_checkpointing where memory is short."
        )
    option, deed = _LIMITS[str(command)]
    limit = getattr(trainer, option)
    if limit is not None and limit == 0 and not trainer.fast_dev_run:
        raise ValueError(
            f"trainer.{option} is {limit}, which leaves nothing to {deed}; leave it out, or give a number of batches "
            "or a fraction of them."
        )
