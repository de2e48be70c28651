"""Complete the words of a command line before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efficientps.cli.presets import REFERENCE, find_config
from efficientps.inference.model_file import ModelDescription, NotSelfDescribedError, SavedNetwork, read_description
from efficientps.structures.construction import unknown_parts
from efficientps.training.checkpoints.resolve import resolve_checkpoint

DEFAULT_CONFIG = REFERENCE

RUNS = "runs"
"""Folder of the runs of every preset."""

CONFIG, CHECKPOINTS = "config.yaml", "checkpoints"
"""A file and a folder in the folder of each run."""


def with_default_config(arguments: Sequence[str], default: Path | None = None) -> list[str]:
    """Add ``fit`` to a command line without a subcommand, and a default configuration to one without ``--config``.

    The default is the configuration of the run that wrote the checkpoint in ``--ckpt_path``, where the checkpoint lies
    in the folder of a run; otherwise, to evaluate or predict, the network that the checkpoint describes. A
    ``config.yaml`` beside a checkpoint that lies elsewhere may be of another training: it is taken to train, and for a
    checkpoint that does not describe its network. Without a checkpoint the default is ``default``. To evaluate or
    predict without ``default``, the checkpoints ``last`` and ``best`` are those of all runs below
    ``--trainer.default_root_dir``.

    Configurations are moved to the front, because later options override earlier ones. One that is named and is not a
    file is the preset of that name.

    Args:
        arguments: words of the command line, without the name of the program.
        default: the user's configuration file; ``None`` is the reference configuration of the project.

    Raises:
        FileNotFoundError: there is neither a configuration nor the checkpoint.
        NotSelfDescribedError: there is no configuration, and the checkpoint does not say what network it is of.
        ValueError: the checkpoint cannot be read.

    >>> with_default_config(["validate", "--data.root", "here", "--config", "a.yaml"])
    ['validate', '--config', 'a.yaml', '--data.root', 'here']
    """
    arguments = list(arguments)
    if arguments and arguments[0] in ("-h", "--help"):
        return arguments
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, "fit")
    subcommand, *options = arguments
    configs: list[str] = []
    others: list[str] = []
    while options:
        option = options.pop(0)
        if option in ("-c", "--config") and options:
            configs += ["--config", find_config(options.pop(0))]
        elif option.startswith("--config="):
            configs.append(f"--config={find_config(option.partition('=')[2])}")
        else:
            others.append(option)
    if configs:
        return [subcommand, *configs, *others]
    if default is None and subcommand != "fit":
        others = _with_found_checkpoint(others)
    return [subcommand, *_default(subcommand, _checkpoint(others), default or DEFAULT_CONFIG), *others]


def _with_found_checkpoint(arguments: list[str]) -> list[str]:
    """Name the file of the checkpoint that a command line asks for, if it asks for one."""
    choice = _value("--ckpt_path", arguments)
    if choice is None:
        return arguments
    root = _value("--trainer.default_root_dir", arguments) or RUNS
    try:
        path = resolve_checkpoint(choice, root)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--ckpt_path {choice}: {error}") from None
    if path is None:
        raise FileNotFoundError(
            f"--ckpt_path {choice}: there is no such checkpoint below the folder {root}; give the path of a "
            "checkpoint, or the folder of the runs as --trainer.default_root_dir, or --config."
        )
    return [*arguments, f"--ckpt_path={path}"]  # the last of several counts


def _default(subcommand: str, checkpoint: Path | None, default: Path) -> list[str]:
    """Return the options that stand for a configuration where none is given."""
    if checkpoint is None:
        return ["--config", str(default)]
    candidates = (checkpoint.parent.parent / CONFIG, checkpoint.parent / CONFIG)
    beside = next((path for path in candidates if path.is_file()), None)
    if checkpoint.parent.name == CHECKPOINTS and beside == candidates[0]:
        print(f"Taking the configuration of that run, {beside}.")
        return ["--config", str(beside)]
    if subcommand == "fit":  # how to train is in no checkpoint
        return ["--config", str(beside or default)]
    described = _described(checkpoint) if beside is not None else read_description(checkpoint)
    if described is None:
        print(f"Taking the configuration beside that checkpoint, {beside}.")
        return ["--config", str(beside)]
    others = "" if beside is None else f" {beside} need not be of its training; --config takes it."
    print(f"Taking the network that {checkpoint} describes.{others}")
    network = ["--model.network", f"{SavedNetwork.__module__}.{SavedNetwork.__name__}"]
    network.append(f"--model.network.path={checkpoint}")
    for key, pair in (("eval_size", described.eval_size), ("grey_range", described.grey_range)):
        if pair is not None:
            network.append(f"--data.{key}={list(pair)}")
    return network


def _described(checkpoint: Path) -> ModelDescription | None:
    """Return what a checkpoint says of itself; None if that is not enough to build its network."""
    try:
        described = read_description(checkpoint)
    except NotSelfDescribedError:
        return None
    return None if unknown_parts(described.network) else described


def _checkpoint(arguments: Sequence[str]) -> Path | None:
    """Return the file that ``--ckpt_path`` names on a command line, if it is one."""
    path = _value("--ckpt_path", arguments)
    return Path(path) if path and Path(path).is_file() else None


def _value(option: str, arguments: Sequence[str]) -> str | None:
    """Return the value of an option on a command line, the last one of several; None where it is not given.

    >>> _value("--ckpt_path", ["--ckpt_path", "best", "--ckpt_path=last"])
    'last'
    """
    found = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=False):
        name, is_joined, value = word.partition("=")
        if name == option:
            found = value if is_joined else following
    return found
