"""Turn an exception into the one sentence that a user needs.

The library names its own arguments; the keys of the configuration and the names of commands are added here.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from efficientps.cli.configuration_errors import explain_configuration
from efficientps.cli.device_errors import explain_device, why_no_gpu
from efficientps.cli.input_errors import MISSING_DATA_ADVICE, UNWRITABLE, explain_input, keys_of_place, with_advice
from efficientps.data.cache import CacheError, MissingFromCacheError
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
    **MISSING_DATA_ADVICE,
    CacheError: "The command is efficientps cache.",
    MissingFromCacheError: "The command is efficientps cache.",
}
"""What to do about an error of the library, in terms of commands and options; attributes of the error fill it in."""


_WRAPPED = re.compile("Does not validate against any of the Union subtypes|Call to compute_fn of link")
"""How messages of the parser begin that wrap an error of the project or of a user's class."""

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
    error = raised_by_constructor(error)
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
        return with_advice(explain_input(error), error, _ADVICE)
    if isinstance(error, MisconfigurationException | ValueError) and (sentence := _explain_trainer(str(error))):
        return sentence
    if "Expected more than 1 value per channel" in str(error):
        return _ONE_VALUE
    if isinstance(error, USER_ERRORS):
        sentence = _one_line(_from_worker(str(error), type(error).__name__)) or f"{type(error).__name__}."
        return with_advice(sentence, error, _ADVICE)
    return None


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
    error = raised_by_constructor(error)
    if not isinstance(error, USER_ERRORS):
        return
    text = _from_worker(str(error), type(error).__name__)
    argument = getattr(error, "argument", None)
    names = [argument] if argument else _names(text)
    values = dict(_with_items(configuration))
    if argument:
        values = {key.removesuffix(".class_path"): value for key, value in values.items()}
    found = [
        key for name in dict.fromkeys(names) for key in values if key.rpartition(".")[2] == name and key not in text
    ]
    if len(found) > 1:  # of several keys of a name, those whose value the message has
        found = [key for key in found if re.search(rf"(got|is|=)\W*{re.escape(str(values[key]))}\b", text)] or found
    if place := _unwritable(error, text):
        found += [key.replace(".init_args.", ".") for key in keys_of_place(place, configuration)]
    if found and not getattr(error, "__notes__", ()):
        error.add_note(f"in the configuration: {', '.join(found)}")


def _with_items(values: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value by its key, with the arguments of the classes that stand in lists."""
    for key, value in values.items():
        name = above + key.replace(".init_args.", ".")
        yield name, value
        for item in value if isinstance(value, list) else ():
            if hasattr(item, "init_args"):
                yield from _with_items(dict(item.init_args.items()), f"{name}.")


def _names(text: str) -> list[str]:
    """Return the words of a message that may be arguments."""
    names = re.findall(r"(?<![\w./'\"-])[a-z]+(?:_[a-z0-9]+)+(?![\w./'\"-]*[\w/'\"])", text)
    names += re.findall(r"`(\w+)(?:=[^`]*)?`", text)  # as Lightning writes them
    if found := re.match(r"Invalid (learning rate|momentum|epsilon|beta|rho|alpha)\b", text):  # an optimizer of PyTorch
        names.append({"learning rate": "lr", "epsilon": "eps", "beta": "betas"}.get(found[1], found[1]))
    return names


def _unwritable(error: BaseException, text: str) -> str | None:
    """Return the path that an error says cannot be written to, None for another error."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return str(error.filename)
    named = re.match(r"Cannot write [\w ]*'([^']+)'", text)
    return named[1] if named else None


def _explain_trainer(message: str) -> str | None:
    """Return one sentence for Lightning's messages about GPUs that are missing, and about names that it lacks."""
    if found := re.search(
        r"You selected an invalid (\w+) name: `\w+=(.+?)`.*(?:names are|choices): ([\w, ]+\w)", message
    ):
        key, given, known = found.groups()
        return f"trainer.{key} is {given}, which there is not; give one of {known}."
    if found := re.search(r"You requested gpu: (.+?)\s+But your machine only has: (.+)", message):
        asked, there = found.groups()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        of_those = f" of those in CUDA_VISIBLE_DEVICES={visible}" if visible else ""
        return f"trainer.devices asks for the GPUs {asked}, and there are {there}{of_those}; ask for these at most."
    if "No supported gpu backend found" in message or "CUDAAccelerator` can not run" in message:
        return f"trainer.accelerator asks for a GPU, and there is none to use: {why_no_gpu()}"
    return None


def raised_by_constructor(error: BaseException) -> BaseException:
    """Return what a constructor, or a function that passes a value from one object to another, raised.

    The parser wraps it, because the key may also hold no object, or to name the function.
    """
    while _WRAPPED.match(str(error)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _from_worker(message: str, name: str) -> str:
    """Return the message of an error that a data worker raised, the message itself if none did."""
    if not re.match(r"Caught \w+ in .*(worker|replica)", message):
        return message
    _, found, own = message.rpartition(f"\n{name}: ")
    own = own if found else message.strip().rpartition("\n")[2].partition(": ")[2]
    return re.sub(r"^\[Errno \d+\] ", "", own)


def _one_line(text: str) -> str:
    return " ".join(text.split())
