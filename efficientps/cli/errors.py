"""Turn an exception into the one sentence that a user needs.

The library names its own arguments; the keys of the configuration and the names of commands are added here.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from efficientps.cli.device_errors import explain_device, why_no_gpu
from efficientps.cli.input_errors import UNWRITABLE, explain_input, keys_of_place
from efficientps.cli.presets import suggestion
from efficientps.cli.suggestions import explain_class, explain_key, near_keys
from efficientps.data.cache import CacheError, MissingFromCacheError
from efficientps.data.sources.cityscapes import MissingCityscapesError, MissingMapsError
from efficientps.inference.building import UntrustedClassError
from efficientps.inference.model_file import NotSelfDescribedError
from efficientps.training.checkpoints.optimizer_states import ResumeMismatchError
from efficientps.training.checkpoints.read import NoTrainingStateError
from efficientps.training.checkpoints.states import StateMismatchError

USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, MisconfigurationException)
"""Types of errors about what a user gave or lacks: data, paths, settings, packages."""

_ADVICE: dict[type[BaseException], str] = {
    NotSelfDescribedError: "Its configuration is given with --config.",
    UntrustedClassError: "On the command line: --config FILE, or --model.network.trust=[{module}].",
    NoTrainingStateError: "Start from its weights with --model.init_from={path}.",
    ResumeMismatchError: (
        "Give the values that it was trained with, or start a new run from its weights with --model.init_from={path}."
    ),
    StateMismatchError: (
        "Give the --config that it was trained with, or start from those of its weights that fit with "
        "--model.init_from={path}."
    ),
    MissingCityscapesError: (
        "The page 'Data sets' of the documentation says how to get it; 'efficientps draw streets' draws scenes in its "
        "format that need no download."
    ),
    MissingMapsError: "Make them with: efficientps convert cityscapes {root}",
    CacheError: "The command is efficientps cache.",
    MissingFromCacheError: "The command is efficientps cache.",
}
"""What to do about an error of the library, in terms of commands and options; attributes of the error fill it in."""


_ONE_VALUE = (
    "A norm got one value for each channel, which has no variance: the batch has one image, and its coarsest features "
    "are one cell. Give data.batch_size 2 or more, or a larger data.image_size. model.network.norm_implementation "
    "in_place accepts such a batch, and model.network.backbone.frozen_norms true fixes the norms of a backbone."
)


def explain(error: BaseException, sections: Mapping[str, type] | None = None) -> str | None:
    r"""Return one sentence for an error that a user can correct, ``None`` for one that only a programmer can.

    An error of a data worker has the worker's traceback as its message; the worker's own message is taken out of it.

    Args:
        error: what was raised.
        sections: the class of each section of the configuration; with them, near and known names are suggested.

    >>> explain(ValueError("The folder a/b is empty;\n give another."))
    'The folder a/b is empty; give another.'
    >>> explain(TypeError("'NoneType' object is not callable")) is None
    True
    """
    error = _of_constructor(error)
    if isinstance(error, ArgumentError):
        return explain_configuration(str(error), sections)
    if isinstance(error, SyntaxError):
        line = f", line {error.lineno}" if error.lineno else ""
        return f"The file {error.filename}{line} is not valid Python: {error.msg}."
    if sentence := explain_device(error):
        return sentence
    if isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error):
        reasons = " NCCL_DEBUG=INFO makes NCCL name its reasons." if "NCCL" in str(error) else ""
        return (
            "The connection to another process of this run is gone; that process's own output says why. "
            f"--ckpt_path last continues from the last checkpoint.{reasons}"
        )
    if isinstance(error, OSError) and (error.strerror or isinstance(error, PermissionError)):
        return _with_advice(explain_input(error), error)
    if isinstance(error, MisconfigurationException) and (sentence := _explain_accelerator(str(error))):
        return sentence
    if "Expected more than 1 value per channel" in str(error):
        return _ONE_VALUE
    if isinstance(error, USER_ERRORS):
        sentence = _one_line(_from_worker(str(error), type(error).__name__)) or f"{type(error).__name__}."
        return _with_advice(sentence, error)
    return None


def _with_advice(sentence: str, error: BaseException) -> str:
    """Add the notes of an error and what to do about its type."""
    for note in getattr(error, "__notes__", ()):
        sentence = f"{sentence.removesuffix('.')} ({note})."
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), None)
    return f"{sentence} {advice.format(**vars(error))}" if advice else sentence


def note_keys(error: BaseException, configuration: Mapping[str, object]) -> None:
    """Note on an error which keys of the configuration hold the arguments that it is about.

    They are the argument in the error's attribute ``argument``, or else all names with an underscore in its message.

    Args:
        error: gets the note.
        configuration: every value by its dotted key.

    >>> error = ValueError("num_images is -1; give 0 or more.")
    >>> note_keys(error, {"overlays.num_images": -1})
    >>> explain(error)
    'num_images is -1; give 0 or more (in the configuration: overlays.num_images).'
    """
    error = _of_constructor(error)
    if not isinstance(error, USER_ERRORS):
        return
    text = _from_worker(str(error), type(error).__name__)
    argument = getattr(error, "argument", None)
    names = [argument] if argument else re.findall(r"(?<![\w./'\"-])[a-z]+(?:_[a-z0-9]+)+(?![\w./'\"-]*[\w/'\"])", text)
    keys = [key.replace(".init_args.", ".") for key in configuration]
    if argument:
        keys = [key.removesuffix(".class_path") for key in keys]
    found = [key for name in dict.fromkeys(names) for key in keys if key.rpartition(".")[2] == name and key not in text]
    if place := _unwritable(error, text):
        found += [key.replace(".init_args.", ".") for key in keys_of_place(place, configuration)]
    if found and not getattr(error, "__notes__", ()):
        error.add_note(f"in the configuration: {', '.join(found)}")


def _unwritable(error: BaseException, text: str) -> str | None:
    """Return the path that an error says cannot be written to, None for another error."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return str(error.filename)
    named = re.match(r"Cannot write [\w ]*'([^']+)'", text)
    return named[1] if named else None


def _explain_accelerator(message: str) -> str | None:
    """Return one sentence for Lightning's messages about GPUs that are missing."""
    if found := re.search(r"You requested gpu: (.+?)\s+But your machine only has: (.+)", message):
        asked, there = found.groups()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        of_those = f" of those in CUDA_VISIBLE_DEVICES={visible}" if visible else ""
        return f"trainer.devices asks for the GPUs {asked}, and there are {there}{of_those}; ask for these at most."
    if "No supported gpu backend found" in message or "CUDAAccelerator` can not run" in message:
        return f"trainer.accelerator asks for a GPU, and there is none to use: {why_no_gpu()}"
    return None


def _of_constructor(error: BaseException) -> BaseException:
    """Return what a constructor raised, where the parser has wrapped it because the key may also hold no object."""
    cause = error.__cause__
    is_wrapped = str(error).startswith("Does not validate against any of the Union subtypes")
    return cause if is_wrapped and isinstance(cause, USER_ERRORS) else error


def _from_worker(message: str, name: str) -> str:
    """Return the message of an error that a data worker raised, the message itself if none did."""
    if not re.match(r"Caught \w+ in .*(worker|replica)", message):
        return message
    _, found, own = message.rpartition(f"\n{name}: ")
    own = own if found else message.strip().rpartition("\n")[2].partition(": ")[2]
    return re.sub(r"^\[Errno \d+\] ", "", own)


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _Place(NamedTuple):
    """Where the parser met an error."""

    keys: list[str]  # the keys down to the place: ["model.network", "backbone"]
    message: str  # of the parser
    sections: Mapping[str, type]  # the class of each section of the configuration


def _unknown_class(place: _Place, name: str) -> str:
    return explain_class(name, *place)


def _unknown_key(place: _Place, key: str) -> str:
    return explain_key(key, *place)


def _unknown_argument(place: _Place, words: str) -> str:
    key = words.split()[0].partition("=")[0].removeprefix("--")
    near = near_keys(key, *place)
    return f"there is no such argument: {words}{f'; did you mean --{near[0]}?' if near else ''}"


def _missing_file(place: _Place, path: str) -> str:
    return f"the file {path} does not exist{suggestion(path)}"


def _missing_module(place: _Place, module: str) -> str:
    """Say which module is missing: that of a class, or another one which it imports."""
    named = re.search(r"Expected a path but (\S+) either|Got value: Namespace\(class_path='([\w.]+)'", place.message)
    class_path = (named[1] or named[2]) if named else module
    if f"{class_path}.".startswith(f"{module}."):
        return f"there is no module '{module}', neither in the working directory nor among the installed packages"
    return f"'{class_path}' cannot be imported: its module needs '{module}', which is not installed"


_REASONS: tuple[tuple[str, str | Callable[..., str]], ...] = (
    (r"Expected a dot import path string: ([^\s.]+)", _unknown_class),
    (r"Option '([^']+)' is not accepted", _unknown_key),
    (r"does not accept option '([^']+)'", _unknown_key),
    (r"unrecognized arguments: (.+)", _unknown_argument),
    (r"No module named '([\w.]+)'", _missing_module),
    (r"module '([\w.]+)' has no attribute '(\w+)'", "'{}' has no class '{}'"),
    (r"Expected '(\S+)' to be a subclass of <class '(\w+)'>", "{} is not a subclass of {}"),
    (r"Import path (\S+) does not correspond to a (.+?)(?:\. Got value|$)", "{} is not a {}"),
    (r"invalid choice: '([^']+)' \(choose from (.+)\)", "'{}' is not one of {}"),
    (r"the following arguments are required: ([\w., ]+?)(?:\. Got| Given|$)", "it needs a value for {}"),
    (r"File does not exist: '?([^']+?)'?$", _missing_file),
    (r"Problems parsing config: (.+)", "not valid YAML, {}"),
    (r"Expected a typing\.Literal\[(.+?)\]\. Got value: (\S+?)\.?(?: Got value|$)", "expected one of {}, got '{}'"),
    (r"Expected a <class '([\w.]+)'>\. Got value: (.+?)(?:\. Got value|$)", "expected {}, got '{}'"),
    (r"Expected a <class '([\w.]+)'>.*?Given value: (.+?)(?:\. Got value|$)", "expected {}, got '{}'"),
    (r"Expected a ((?:tuple|list) .+?)\. Got value: (.+?)(?:\. Got value|$)", "expected a {}, got {}"),
)
"""Patterns of the parser's messages, each with what the groups of the match fill in: a sentence or a function."""


def explain_configuration(message: str, sections: Mapping[str, type] | None = None) -> str:
    r"""Return one sentence for a message of the argument parser, in which keys, types and values are nested.

    Args:
        message: that of the parser.
        sections: the class of each section of the configuration; with them, near and known names are suggested.

    >>> explain_configuration('Parser key "data.batch_size":\n  Expected a <class \'int\'>. Got value: two')
    "In the configuration, data.batch_size: expected int, got 'two'."
    """
    # A key that takes a class or nothing also complains about None; what it says about the class is the reason.
    text = _one_line(message).partition(" - Expected a <class 'NoneType'>")[0]
    # Of a key that takes classes of two kinds, only what is said about the kind of the given class is the reason.
    text, found_other = re.subn(r"- Import path \S+ does not correspond to a subclass of \w+ - (?=Type )", "- ", text)
    if not found_other and "does not correspond to a" not in text:
        text = re.sub(r" - Type \S+Callable\[.*\] expects .*: Expected '[\w.]+' to be a subclass of .*", "", text)
    keys = re.findall(r'Parser key "([^"]+)"', text)
    place = f"In the configuration, {'.'.join(keys)}: " if keys else "In the configuration: "
    innermost = text.rpartition("Parser key ")[2]
    found = [(match, reason) for pattern, reason in _REASONS if (match := re.search(pattern, innermost))]
    if found:
        match, sentence = min(found, key=lambda pair: pair[0].start())
        values = [value.strip() for value in match.groups()]
        if callable(sentence):
            sentence = sentence(_Place(keys, text, sections or {}), *values)
        else:
            sentence = sentence.format(*values)
        return place + sentence if sentence.endswith((".", "?")) else f"{place}{sentence}."
    reason = innermost.partition(": ")[2] if keys else innermost
    return place + (reason if len(reason) < 300 else reason[:300] + " ...")
