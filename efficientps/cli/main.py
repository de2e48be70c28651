"""The command ``efficientps``, which imports the module of a command when that command is chosen."""

from __future__ import annotations

import argparse
import difflib
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name

import efficientps
from efficientps.cli.imports import uncollected
from efficientps.cli.output_encoding import escape_what_cannot_be_encoded


@dataclass(frozen=True)
class Command:
    """What a command does, and the function that does it.

    Args:
        summary: what it does, in a few words.
        function: ``module:name`` of a function that takes the words of the command line and the name of the program,
            and returns the exit code.
        first: words that the function is given before those of the user.
    """

    summary: str
    function: str
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Commands under one name: what they do, and each by its own name."""

    summary: str
    commands: Mapping[str, Command | Group]


_TRAIN = "efficientps.cli.start:run"
_DATA = "efficientps.cli.data"

PROGRAM = Group(
    "Train, evaluate and run panoptic networks",
    {
        "fit": Command("train a network", _TRAIN, ("fit",)),
        "validate": Command("evaluate a network on the validation images", _TRAIN, ("validate",)),
        "test": Command("evaluate a network on the test images", _TRAIN, ("test",)),
        "predict": Command("predict on images; write maps and overlays", _TRAIN, ("predict",)),
        "evaluate": Command(
            "compare predictions with ground truth, both as COCO panoptic", "efficientps.cli.evaluate:main"
        ),
        "check": Command("check a data set before training on it", f"{_DATA}.check:main"),
        "split": Command("split a COCO panoptic file for training and validation", f"{_DATA}.split:main"),
        "cache": Command("decode a data set once, for faster reading", f"{_DATA}.cache:main"),
        "convert": Group(
            "make panoptic annotations from other ones",
            {
                "cityscapes": Command("those of Cityscapes, from its official packages", f"{_DATA}.cityscapes:main"),
                "instances": Command("from COCO instance annotations", f"{_DATA}.from_coco_instances:main"),
                "masks": Command("from masks of classes and instances", f"{_DATA}.from_masks:main"),
            },
        ),
        "draw": Group(
            "draw a data set that needs no download",
            {
                "streets": Command("street scenes, as a Cityscapes tree", f"{_DATA}.synthetic_streets:main"),
                "yards": Command("construction yards, in the COCO panoptic format", f"{_DATA}.synthetic_yard:main"),
            },
        ),
        "demo": Command("draw street scenes, train a small network, predict", "efficientps.cli.demo:main"),
        "checks": Command("look at this machine; try a small network on it", "efficientps.cli.checks:main"),
    },
)
"""The commands, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words of the command line; ``None`` takes the program's own.

    Returns:
        The exit code: that of the command, 2 where no command is named, or 130 if Ctrl-C ended it.
    """
    escape_what_cannot_be_encoded()
    return _run(PROGRAM, list(sys.argv[1:] if arguments is None else arguments), "efficientps")


def _run(group: Group, words: Sequence[str], prog: str) -> int:
    """Run the command of a group that the first word names."""
    if not words or words[0] not in group.commands:
        return _without_command(group, words, prog)
    chosen, prog = group.commands[words[0]], f"{prog} {words[0]}"
    if isinstance(chosen, Group):
        return _run(chosen, words[1:], prog)
    try:
        with uncollected():
            function = resolve_name(chosen.function)
        return int(function([*chosen.first, *words[1:]], prog))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT


def _without_command(group: Group, words: Sequence[str], prog: str) -> int:
    """Print the help if it is asked for or nothing is, else one sentence that says what a command line begins with."""
    if not words:
        _parser(group, prog).print_help(sys.stderr)
        return 2
    if words[0] in ("-h", "--help"):
        _parser(group, prog).print_help()
        return 0
    if words == ["--version"]:
        print(efficientps.__version__)
        return 0
    if not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0].lower(), group.commands, n=1)
        sentence = f"there is no command '{prog} {words[0]}'{f'; did you mean {near[0]}?' if near else '.'}"
    else:
        sentence = f"'{prog}' needs a command first."
    print(f"error: {sentence} Known: {', '.join(group.commands)}.", file=sys.stderr)
    return 2


def _parser(group: Group, prog: str) -> argparse.ArgumentParser:
    """Return a parser that has the help of a group."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{group.summary[0].upper()}{group.summary[1:]}.",
        epilog=f"'{prog} COMMAND --help' explains a command.",
    )
    if group is PROGRAM:
        parser.add_argument("--version", action="store_true", help="print the version of the package and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in group.commands.items():
        commands.add_parser(name, help=command.summary, add_help=False)
    return parser
