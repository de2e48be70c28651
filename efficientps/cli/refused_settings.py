"""Refuse settings of the trainer that this project cannot follow, or that leave a command nothing to do."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from efficientps.cli.suggestions import argument_types
from efficientps.cli.value_types import in_words

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
    if isinstance(trainer.accumulate_grad_batches, int) and trainer.accumulate_grad_batches < 1:
        raise ValueError(f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}; give 1 or more.")
    if isinstance(trainer.gradient_clip_val, int | float) and trainer.gradient_clip_val < 0:
        raise ValueError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}; give a positive number, or null to clip none."
        )
    option, deed = _LIMITS[str(command)]
    limit = getattr(trainer, option)
    if limit is not None and limit == 0 and not trainer.fast_dev_run:
        raise ValueError(
            f"trainer.{option} is {limit}, which leaves nothing to {deed}; leave it out, or give a number of batches "
            "or a fraction of them."
        )


def refuse_nulls(configuration: Any, sections: Mapping[str, type]) -> None:
    """Refuse null as the value of a key whose type does not have it, which the parser lets pass.

    Classes and functions are left to their owner, who says what else they may be.

    Args:
        configuration: the sections, with their values as attributes.
        sections: the class of each section, by its key.

    Raises:
        ValueError: there is one; the message names it.
    """
    for section, owner in sections.items():
        for key, annotation in _nulls(configuration.get(section), owner, section):
            raise ValueError(f"In the configuration, {key}: expected {in_words(annotation)}, got null.")


def _nulls(values: Any, owner: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield each key, with its type, that is null and must not be."""
    if isinstance(values, list):
        for value in values:
            yield from _nulls(value, None, key)
        return
    class_path = getattr(values, "class_path", None)
    if isinstance(class_path, str):
        module, _, name = class_path.rpartition(".")
        owner, values = getattr(importlib.import_module(module), name), getattr(values, "init_args", None)
    if values is None or not hasattr(values, "as_dict") or owner is None:
        return
    hints = argument_types(owner) if inspect.isclass(owner) else {}
    defaults = inspect.signature(owner).parameters
    for name, value in vars(values).items():
        hint = hints.get(name)
        if value is None and _refuses_null(hint) and name in defaults and defaults[name].default is not None:
            yield f"{key}.{name}", hint
        yield from _nulls(value, hint if inspect.isclass(hint) else None, f"{key}.{name}")


def _refuses_null(hint: Any) -> bool:
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = any(get_origin(member) is tuple or member in (int, float, bool, str) for member in members)
    return plain and type(None) not in members


def no_step(trainer: Any) -> str:
    """Say which of its limits kept a training from a single step."""
    ends = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
    reached = " and ".join(f"trainer.{key} {end}" for key, end in ends.items() if end not in (None, -1))
    return f"No step was made: {reached or 'its limit'} was reached at step {trainer.global_step}; give more to train."
