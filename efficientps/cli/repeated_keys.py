"""Refuse a configuration file that cannot be read, by its name, or in which a key stands twice or has no effect.

The parser does not say which file it cannot read. It drops the first of two keys in silence, and the value of a key
that the program sets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

_ENDINGS = (".yaml", ".yml", ".json")
_MOST_BYTES = 200_000
"""Larger files are annotations, whose own reader refuses repeated keys."""

_SET_BY = {
    "data.seed": "seed_everything",
    "data.init_args.seed": "seed_everything",
    "model.batch_size": "data.batch_size",
    "model.categories": "the classes of the data",
}
"""Keys that the program sets, each with what it takes them from."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_repeated_keys(arguments: Sequence[str]) -> None:
    """Check a command line: the files that its options name, those that are named in these files, and written values.

    A written value that is no YAML is left to the parser.

    Raises:
        ValueError: a key stands twice in one block, or a file is not a configuration.
    """
    for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, is_joined, value = option.partition("=")
        if source := _SET_BY.get(name.removeprefix("--")):
            raise ValueError(f"The option {name} has no effect: its value is that of {source}; leave it out.")
        value = value if is_joined else following
        if name in ("-c", "--config"):
            check_file(Path(value))
        elif _is_configuration(Path(value)):
            check_file(Path(value), is_whole=False)
        elif name.startswith("--") and value.lstrip().startswith(("{", "[")):
            _check(value, f"The value of {name}")


def check_file(path: Path, *, is_whole: bool = True) -> None:
    """Check a configuration file, and the files that it names; one that does not exist is left to the parser.

    Args:
        path: the file.
        is_whole: whether it is a whole configuration, which consists of keys, and not the value of one key.

    Raises:
        ValueError: a key stands twice in one block, or a file is not UTF-8, not YAML, or without keys.
    """
    waiting, known = [path], {path.resolve()}
    while waiting:
        path = waiting.pop()
        try:
            content = path.read_bytes()
        except (OSError, ValueError):
            continue
        text = _decoded(content, path)
        try:
            root = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ValueError(f"The file {path} is not valid YAML: {_yaml_reason(error, text)}.") from None
        if is_whole and not isinstance(root, yaml.MappingNode):
            what = "is empty" if root is None else "does not consist of keys and values"
            raise ValueError(f"The configuration {path} {what}; give one with sections such as 'model' and 'data'.")
        for key, line in _keys(root) if is_whole else ():
            if source := _SET_BY.get(key):
                raise ValueError(
                    f"The file {path}, line {line}: {key} has no effect: its value is that of {source}; leave it out."
                )
        is_whole = False  # files that a file names are values of its keys
        for name in _check(text, f"The file {path}"):
            named = path.parent / name
            if _is_configuration(named) and named.resolve() not in known:
                waiting.append(named)
                known.add(named.resolve())


def _yaml_reason(error: yaml.YAMLError, text: str) -> str:
    """Return why a text is not YAML, with the line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if line[: mark.column + 1].strip(" ").startswith("\t"):
        return f"line {mark.line + 1} is indented with a tab; use spaces"
    begin = getattr(error, "context_mark", None)
    context = f", {error.context} that begins in line {begin.line + 1}" if begin and error.context else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}"


def _decoded(content: bytes, path: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: it is not encoded in UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        found = "it is in UTF-16" if is_utf16 else f"line {line} has the byte 0x{content[error.start]:02x}"
        raise ValueError(f"The file {path} is not text in UTF-8: {found}; save it as UTF-8.") from None


def _is_configuration(path: Path) -> bool:
    return path.suffix in _ENDINGS and os.path.isfile(path) and path.stat().st_size <= _MOST_BYTES


def _check(text: str, where: str) -> list[str]:
    """Check YAML, and return its values that end like the name of a configuration file."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return []
    for key, first, second in repeated_keys(root):
        raise ValueError(f"{where} has the key '{key}' twice, in line {first} and in line {second}; keep one.")
    nodes = [node for _, node in _nodes(root) if isinstance(node, yaml.ScalarNode)]
    return [node.value for node in nodes if node.value.endswith(_ENDINGS)]


def repeated_keys(root: yaml.Node | None) -> Iterator[tuple[str, int, int]]:
    r"""Yield each key that stands twice in one block, by its dotted name, with both lines.

    >>> list(repeated_keys(yaml.compose("data: {root: a}\nmodel:\n  lr: 1\n  lr: 2\n")))
    [('model.lr', 3, 4)]
    """
    for prefix, node in _nodes(root):
        lines: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = f"{prefix}{key.value}", key.start_mark.line + 1
            if name in lines:
                yield name, lines[name], line
            lines[name] = line


def _keys(root: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Yield every key by its dotted name, with its line."""
    for prefix, node in _nodes(root):
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            yield f"{prefix}{key.value}", key.start_mark.line + 1


def _nodes(root: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    """Yield every node of a document with the dotted name of its block; once, however many aliases name it."""
    waiting, known = [("", root)] if root is not None else [], {id(root)}
    while waiting:
        prefix, node = waiting.pop()
        yield prefix, node
        pairs = [(prefix, item) for item in node.value] if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            pairs = [(f"{prefix}{key.value}.", value) for key, value in node.value]
        for pair in reversed(pairs):
            if id(pair[1]) not in known:
                known.add(id(pair[1]))
                waiting.append(pair)
