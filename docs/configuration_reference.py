"""Writes the reference of the configuration from the constructors, as the command line reads them.

    python docs/configuration_reference.py FILE

``sphinx-build`` calls it, so that the reference cannot differ from the code. It asks the parser of ``train_net.py fit``
for its options, and jsonargparse for those of each class of this project that an option can name.
"""

from __future__ import annotations

import argparse
import collections.abc
import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Union, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace

from efficientps.cli import train

TITLES = {
    "model": "the network, its optimizer and its schedule",
    "data": "the data set, its augmentation and its loaders",
    "checkpoint": "the best checkpoints",
    "last_checkpoint": "the checkpoint to resume from",
    "non_finite": "losses and gradients that are not finite",
    "report": "the table that each evaluation prints",
    "overlays": "pictures of each validation",
    "html_report": "the page about an evaluation",
    "predictions": "what predict writes",
    "trainer": "the Trainer of Lightning",
}
"""Groups of options in the order of the page; groups that are not named here come last."""

OWN_DESCRIPTIONS = {
    "config": "Path of a configuration file. Several are read in order; later ones override earlier ones.",
    "data": "The data module, by `class_path` and `init_args`. The sections below list the options of each.",
    "ckpt_path": (
        "Path of the checkpoint to resume. `last` takes that of the newest run with this configuration. `auto` does "
        "the same, or begins a new run if there is none. `best` takes the checkpoint with the highest quality."
    ),
}
"""Descriptions that replace those of jsonargparse and Lightning, whose words mean something else or nothing here."""


class Option(NamedTuple):
    """One key of a configuration file."""

    key: str
    type: Any
    default: Any
    required: bool
    description: str


class Part(NamedTuple):
    """A class of this project that an option can name."""

    cls: type
    key: str
    given: int
    """How many of the first arguments of its constructor the program gives itself."""


class _ParserIsReady(Exception):
    """Carries the parser out of the constructor of the command line, before anything is parsed."""


class _ParserOnly(train.PanopticCLI):
    def parse_arguments(self, parser: ArgumentParser, args: object) -> NoReturn:
        raise _ParserIsReady(parser)


def fit_parser() -> ArgumentParser:
    """Return the parser of ``train_net.py fit``."""
    original = train.PanopticCLI
    train.PanopticCLI = _ParserOnly  # type: ignore[misc]
    try:
        train.main(["fit"])
    except _ParserIsReady as ready:
        parser: ArgumentParser = ready.args[0]
        return parser._subcommands_action.choices["fit"]
    finally:
        train.PanopticCLI = original  # type: ignore[misc]
    raise AssertionError("the command line was built without asking for its arguments")


def options(parser: ArgumentParser) -> Iterator[Option]:
    """Yield the keys of a parser that a file can set."""
    for action in parser._actions:
        hint = getattr(action, "_typehint", None)
        if action.dest.endswith("help") or action.dest == "print_config" or type(action).__name__ == "ActionLink":
            continue
        if hint is None and action.dest != "config":
            continue
        description = OWN_DESCRIPTIONS.get(action.dest) or ("" if action.help is argparse.SUPPRESS else action.help)
        yield Option(action.dest, hint or Path, action.default, action.required, description or "")


def parts(option: Option) -> Iterator[Part]:
    """Yield the classes of this project that an option can name, the default first."""
    for hint in _alternatives(option.type):
        given = 0
        if get_origin(hint) is collections.abc.Callable:
            arguments, hint = get_args(hint)
            given = len(arguments) if isinstance(arguments, list) else 0
        if inspect.isclass(hint) and hint.__module__.startswith("efficientps."):
            default = _value(option.default)
            for cls in sorted(_concrete(hint), key=lambda cls: f"class_path: {cls.__name__}" not in default):
                yield Part(cls, option.key, given)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or a type that is none as the only one."""
    return get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)


def _concrete(cls: type) -> list[type]:
    """Return a class and its subclasses in this project that can be built, each once, by name."""
    found = {cls}
    for subclass in cls.__subclasses__():
        found.update(_concrete(subclass))
    own = [c for c in found if not inspect.isabstract(c) and c.__module__.startswith("efficientps.")]
    return sorted(own, key=lambda c: c.__name__)


def part_options(part: Part) -> list[Option]:
    """Return the options of a class, with keys that start at the option that names it."""
    parser = ArgumentParser()
    skip = {part.given} if part.given else set()
    parser.add_class_arguments(part.cls, part.key, fail_untyped=False, skip=skip)
    return list(options(parser))


def page() -> str:
    """Return the reference as MyST Markdown."""
    groups: dict[str, list[Option]] = {name: [] for name in TITLES}
    alone: list[Option] = []
    for option in options(fit_parser()):
        group = option.key.partition(".")[0]
        if "." in option.key or group in groups:
            groups.setdefault(group, []).append(option)
        else:
            alone.append(option)
    lines = ["## Every run", "", *_definitions(alone)]
    described: set[tuple[type, str]] = set()
    for group, members in groups.items():
        if not members:
            continue
        lines += [f"## {group}: {TITLES[group]}" if group in TITLES else f"## {group}", "", *_definitions(members)]
        waiting = [part for option in members for part in parts(option)]
        while waiting:
            part = waiting.pop(0)
            if (part.cls, part.key) in described:
                continue
            described.add((part.cls, part.key))
            inner = part_options(part)
            lines += [f"### {part.key}: {part.cls.__name__}", "", _first_sentence(part.cls), "", *_definitions(inner)]
            waiting = [found for option in inner for found in parts(option)] + waiting
    return "\n".join(lines)


def _first_sentence(cls: type) -> str:
    return _markdown((inspect.getdoc(cls) or "").partition("\n\n")[0])


def _definitions(members: list[Option]) -> list[str]:
    """Return one definition for each option."""
    lines = []
    for option in members:
        default = "required" if option.required else f"default `{_value(option.default)}`"
        lines += [f"`{option.key}`", f": `{_type(option.type)}`, {default}"]
        lines += ["", f"  {_markdown(option.description)}", ""]
    return lines


def _type(hint: Any) -> str:
    """Return a type as a reader would write it, without modules; of a class to build, its kind."""
    if get_origin(hint) is collections.abc.Callable:
        hint = get_args(hint)[1]
    text = hint.__name__ if inspect.isclass(hint) and not get_args(hint) else str(hint)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text).replace("NoneType", "None")


def _value(value: Any) -> str:
    """Return a default as YAML would write it, in one line."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {_value(item)}" for key, item in value.items() if key != "dict_kwargs")
        return "{" + inner + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return value.rpartition(".")[2] if value.startswith(("efficientps.", "torch.")) else value or "''"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return type(value).__name__ if " at 0x" in repr(value) else str(value)


def _markdown(text: str) -> str:
    """Return a docstring's reStructuredText as one line of Markdown, without its notes and examples."""
    text = re.split(r"\.\. \w+::|\bExamples?::?", text)[0]
    text = " ".join(text.split())
    text = re.sub(r":\w+(?::\w+)?:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    text = text[:1].upper() + text[1:]
    return re.sub(r"<(?=[A-Za-z/])", "&lt;", text) if "`" not in text else text


def write(path: Path) -> None:
    """Write the page unless the file holds it already."""
    text = page()
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
