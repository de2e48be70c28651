"""Complete the words of a command line before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from efficientps.cli.presets import REFERENCE, find_config

DEFAULT_CONFIG = REFERENCE


def with_default_config(arguments: Sequence[str], default: Path | None = None) -> list[str]:
    """Add ``fit`` to a command line without a subcommand, and a default configuration to one without ``--config``.

    The default is the configuration of the run that wrote the checkpoint in ``--ckpt_path``, where it is found beside
    the checkpoint; otherwise it is ``default``. Configurations are moved to the front, because later options override
    earlier ones. One that is named and is not a file is the preset of that name.

    Args:
        arguments: words of the command line, without the name of the program.
        default: a configuration file; ``None`` is the reference configuration of the project.

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
    return [subcommand, *(configs or ["--config", str(_run_config(others) or default or DEFAULT_CONFIG)]), *others]


def _run_config(arguments: Sequence[str]) -> Path | None:
    """Return the configuration beside the checkpoint of a command line, if there is one."""
    for index, option in enumerate(arguments):
        if option.startswith("--ckpt_path"):
            checkpoint = Path(option.partition("=")[2] or "".join(arguments[index + 1 : index + 2]))
            for folder in (checkpoint.parent, checkpoint.parent.parent):
                if checkpoint.is_file() and (folder / "config.yaml").is_file():
                    print(f"Taking the configuration of that run, {folder / 'config.yaml'}.")
                    return folder / "config.yaml"
    return None
