"""Refuse a configuration file in which a key stands twice: the parser would drop the first one in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml


def check_repeated_keys(arguments: Sequence[str]) -> None:
    """Check the files that ``--config`` names in a command line; what is no YAML is left to the parser.

    Raises:
        ValueError: a key stands twice in one block.
    """
    for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, is_joined, value = option.partition("=")
        if name not in ("-c", "--config"):
            continue
        path = Path(value if is_joined else following)
        try:
            root = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        for key, first, second in repeated_keys(root):
            raise ValueError(
                f"The file {path} has the key '{key}' twice, in line {first} and in line {second}; keep one."
            )


def repeated_keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int, int]]:
    r"""Yield each key that stands twice in one block, by its dotted name, with both lines.

    >>> list(repeated_keys(yaml.compose("data: {root: a}\nmodel:\n  lr: 1\n  lr: 2\n")))
    [('model.lr', 3, 4)]
    """
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated_keys(item, prefix)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if name in lines:
            yield name, lines[name], line
        lines[name] = line
        yield from repeated_keys(value, f"{name}.")
