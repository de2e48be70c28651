"""Find a wrong path of the data in the words of a training command, before PyTorch and Lightning are imported.

The imports take longer than all else that such a command does before it names a mistake. The words are not parsed here:
where more is given than options and configurations that need no parser, nothing is said, and the parser decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from efficientps.cli.presets import find_config
from efficientps.data.sources.split_files import check_coco_split, cityscapes_annotations

_SPLITS_OF = {"fit": ("train", "val"), "validate": ("val",), "test": ("val",)}
"""The splits that a command reads with their annotations."""

_OTHER_WAYS = ("-h", "--help", "--print_config", "--debug", "--ckpt_path", "--data.help")
"""Options with which a command does something else, or with which it may take the data of a checkpoint's run."""

_FOR_THE_PARSER = ("--data.class_path", "--data.init_args", "--data.train", "--data.val")
"""How options begin that say which data there are."""

_CITYSCAPES = "efficientps.data.sources.cityscapes.CityscapesDataModule"
_COCO = "efficientps.data.sources.coco_panoptic.CocoPanopticDataModule"


def missing_data(words: Sequence[str], default_config: Path) -> FileNotFoundError | None:
    """Return the error about a file or a folder of the data that does not exist.

    Args:
        words: those of the command line.
        default_config: the configuration of a command line that names none.

    Returns:
        What the data set would raise, with the keys that the training command would note on it; ``None`` where
        everything is there, or only the parser knows.
    """
    command, *options = words if words and not words[0].startswith("-") else ["fit", *words]
    if command not in _SPLITS_OF or any(word.partition("=")[0] in _OTHER_WAYS for word in options):
        return None
    try:
        section = _data_section(options, default_config)
        for split in _SPLITS_OF[command]:
            _check(section, split)
    except FileNotFoundError as error:
        if argument := getattr(error, "argument", None):
            error.add_note(f"in the configuration: data.{argument}")
        return error
    except _NeedsParserError:
        return None
    return None


class _NeedsParserError(Exception):
    """Only the parser knows what the words mean."""


def _data_section(options: Sequence[str], default_config: Path) -> Mapping[str, Any]:
    """Return the arguments of the data module, with its class under ``class_path``."""
    given = list(_pairs(options))
    configs = [value for name, value in given if name in ("-c", "--config")] or [str(default_config)]
    section: dict[str, Any] = {}
    for config in configs:
        read = _section_of(Path(find_config(config)))
        if {"class_path", "train", "val"} & section.keys() & read.keys():  # the parser merges them
            raise _NeedsParserError
        section |= read
    for name, value in given:
        if name in ("--data.root", "--data.init_args.root"):
            section["root"] = value
        elif name == "--data" or name.startswith(_FOR_THE_PARSER):
            raise _NeedsParserError
    return section


def _pairs(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option with its value."""
    for word, following in zip(options, [*options, ""][1:], strict=True):
        name, is_joined, value = word.partition("=")
        if word.startswith("-"):
            yield name, value if is_joined else following


def _section_of(config: Path) -> dict[str, Any]:
    """Return the arguments of the data module in a file."""
    if not config.is_file():  # a pipe can be read once
        raise _NeedsParserError
    try:
        section = yaml.safe_load(config.read_text(encoding="utf-8")).get("data", {})
        inner = section.pop("init_args", {}) if "class_path" in section else {}
        return {**section, **inner}
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        raise _NeedsParserError from None


def _check(section: Mapping[str, Any], split: str) -> None:
    """Look for the files of a split.

    Raises:
        FileNotFoundError: one does not exist.
    """
    chosen = str(section.get("class_path", _CITYSCAPES))
    if chosen in (_CITYSCAPES, _CITYSCAPES.rpartition(".")[2]):
        cityscapes_annotations(_text(section.get("root")), split)
    elif chosen in (_COCO, _COCO.rpartition(".")[2]):
        root, place = Path(_text(section.get("root", "."))), section.get(split)
        if not isinstance(place, dict):
            raise _NeedsParserError
        maps = root / _text(place["maps"]) if place.get("maps") else None
        check_coco_split(root / _text(place.get("annotations")), root / _text(place.get("images")), maps)
    else:
        raise _NeedsParserError


def _text(value: object) -> str:
    """Return a path; everything else is left to the parser."""
    if not isinstance(value, str) or not value:
        raise _NeedsParserError
    return value
