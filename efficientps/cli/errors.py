"""From an exception to the one sentence that a user needs."""

from __future__ import annotations

import os
import re
from argparse import ArgumentError

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from efficientps.cli.device_errors import explain_device, why_no_gpu

USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, MisconfigurationException)
"""Types that the project and its libraries raise for what a user gave or lacks: data, paths, settings, packages."""


def explain(error: BaseException) -> str | None:
    r"""Return one sentence for an error that a user can mend, ``None`` for one that only a programmer can.

    An error of a data worker arrives with the worker's traceback as its message; its own message is dug out.

    >>> explain(ValueError("The folder a/b is empty;\n give another."))
    'The folder a/b is empty; give another.'
    >>> explain(TypeError("'NoneType' object is not callable")) is None
    True
    """
    if isinstance(error, ArgumentError):
        return explain_configuration(str(error))
    if sentence := explain_device(error):
        return sentence
    if isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error):
        reasons = " NCCL_DEBUG=INFO makes NCCL name its reasons." if "NCCL" in str(error) else ""
        return (
            "The connection to another process of this run is gone; that process's own output says why. "
            f"--ckpt_path last goes on from the last checkpoint.{reasons}"
        )
    if isinstance(error, PermissionError):
        return f"No permission for {error.filename or error}; check who owns it, or choose another path."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    if isinstance(error, MisconfigurationException) and (sentence := _explain_accelerator(str(error))):
        return sentence
    if isinstance(error, USER_ERRORS):
        return _one_line(_from_worker(str(error), type(error).__name__)) or f"{type(error).__name__}."
    return None


def _explain_accelerator(message: str) -> str | None:
    """Return one sentence for what Lightning says of GPUs that are not there."""
    if found := re.search(r"You requested gpu: (.+?)\s+But your machine only has: (.+)", message):
        asked, there = found.groups()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        of_those = f" of those in CUDA_VISIBLE_DEVICES={visible}" if visible else ""
        return f"trainer.devices asks for the GPUs {asked}, and there are {there}{of_those}; ask for these at most."
    if "No supported gpu backend found" in message or "CUDAAccelerator` can not run" in message:
        return f"trainer.accelerator asks for a GPU, and there is none to use: {why_no_gpu()}"
    return None


def _from_worker(message: str, name: str) -> str:
    """Return the message of an error that a data worker raised, the message itself if none did."""
    if not re.match(r"Caught \w+ in .*(worker|replica)", message):
        return message
    _, found, own = message.rpartition(f"\n{name}: ")
    own = own if found else message.strip().rpartition("\n")[2].partition(": ")[2]
    return re.sub(r"^\[Errno \d+\] ", "", own)


def _one_line(text: str) -> str:
    return " ".join(text.split())


_REASONS = (
    (r"Option '([^']+)' is not accepted", "there is no such key: '{}'"),
    (r"does not accept option '([^']+)'", "there is no such key: '{}'"),
    (r"unrecognized arguments: (.+)", "there is no such argument: {}"),
    (r"invalid choice: '([^']+)' \(choose from (.+)\)", "'{}' is not one of {}"),
    (r"the following arguments are required: ([\w., ]+?)(?:\. Got|$)", "it needs a value for {}"),
    (r"File does not exist: '?([^']+?)'?$", "the file {} does not exist"),
    (r"Problems parsing config: (.+)", "not valid YAML, {}"),
    (r"Expected a typing\.Literal\[(.+?)\]\. Got value: (\S+?)\.?(?: Got value|$)", "expected one of {}, got '{}'"),
    (r"Expected a <class '([\w.]+)'>\. Got value: (.+?)(?:\. Got value|$)", "expected {}, got '{}'"),
    (r"Expected a <class '([\w.]+)'>.*?Given value: (.+?)(?:\. Got value|$)", "expected {}, got '{}'"),
    (r"Expected a dot import path string: ([^\s.]+)", "there is no class '{}' of the kind that belongs here"),
    (r"Expected a ((?:tuple|list) .+?)\. Got value: (.+?)(?:\. Got value|$)", "expected a {}, got {}"),
)


def explain_configuration(message: str) -> str:
    r"""Return one sentence for a message of the argument parser, which nests keys, types and values in each other.

    >>> explain_configuration('Parser key "data.batch_size":\n  Expected a <class \'int\'>. Got value: two')
    "In the configuration, data.batch_size: expected int, got 'two'."
    """
    # An option whose class may be left out could also be None; what the class says against it is the reason.
    text = _one_line(message).partition(" - Expected a <class 'NoneType'>")[0]
    keys = re.findall(r'Parser key "([^"]+)"', text)
    place = f"In the configuration, {'.'.join(keys)}: " if keys else "In the configuration: "
    innermost = text.rpartition("Parser key ")[2]
    found = [(match, sentence) for pattern, sentence in _REASONS if (match := re.search(pattern, innermost))]
    if found:
        match, sentence = min(found, key=lambda pair: pair[0].start())
        return place + sentence.format(*(part.strip() for part in match.groups())) + "."
    reason = innermost.partition(": ")[2] if keys else innermost
    return place + (reason if len(reason) < 300 else reason[:300] + " ...")
