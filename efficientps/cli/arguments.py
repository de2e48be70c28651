"""Complete the words of a command line before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efficientps.cli.presets import REFERENCE, find_config
from efficientps.inference.model_file import SavedNetwork, read_description

DEFAULT_CONFIG = REFERENCE


def with_default_config(arguments: Sequence[str], default: Path | None = None) -> list[str]:
    """Add ``fit`` to a command line without a subcommand, and a default configuration to one without ``--config``.

    The default is the configuration of the run that wrote the checkpoint in ``--ckpt_path``, where it is found beside
    the checkpoint; otherwise, to evaluate or predict, the network that the checkpoint describes; without a checkpoint
    it is ``default``. Configurations are moved to the front, because later options override earlier ones. One that is
    named and is not a file is the preset of that name.

    Args:
        arguments: words of the command line, without the name of the program.
        default: a configuration file; ``None`` is the reference configuration of the project.

    Raises:
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
    return [subcommand, *(configs or _default(subcommand, _checkpoint(others), default or DEFAULT_CONFIG)), *others]


def _default(subcommand: str, checkpoint: Path | None, default: Path) -> list[str]:
    """Return the options that stand for a configuration where none is given."""
    if checkpoint is None:
        return ["--config", str(default)]
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / "config.yaml").is_file():
            print(f"Taking the configuration of that run, {folder / 'config.yaml'}.")
            return ["--config", str(folder / "config.yaml")]
    if subcommand == "fit":  # how to train is in no checkpoint
        return ["--config", str(default)]
    eval_size = read_description(checkpoint).eval_size
    print(f"Taking the network that {checkpoint} describes.")
    network = ["--model.network", f"{SavedNetwork.__module__}.{SavedNetwork.__name__}"]
    network.append(f"--model.network.path={checkpoint}")
    return network if eval_size is None else [*network, f"--data.eval_size={list(eval_size)}"]


def _checkpoint(arguments: Sequence[str]) -> Path | None:
    """Return the file that ``--ckpt_path`` names on a command line, if it is one."""
    for index, option in enumerate(arguments):
        if option.startswith("--ckpt_path"):
            checkpoint = Path(option.partition("=")[2] or "".join(arguments[index + 1 : index + 2]))
            if checkpoint.is_file():
                return checkpoint
    return None
