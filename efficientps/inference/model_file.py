"""What a checkpoint says of itself, to be used alone: how it is written, read and built.

A checkpoint has one more key, ``model_file``, of plain types: the number of this format, the version of the package,
the network as the class and the arguments that it was built of (``efficientps.structures.construction``), the classes
of the data, and how images are read for evaluation. Whoever reads one treats it as an untrusted file: it never
decides which code runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import efficientps
from efficientps.backbones.weights import read_file, state_dict_in
from efficientps.data.formats.image_file import check_grey_range
from efficientps.inference.archive_limits import check_archive, is_archive
from efficientps.inference.authors_model import read_authors_model
from efficientps.inference.building import ModelFileError, build, check_description, excerpt
from efficientps.networks.network import PanopticNetwork
from efficientps.structures.categories import Categories, Category
from efficientps.structures.construction import Description, unknown_parts

KEY = "model_file"
"""The key of a checkpoint that holds what it says of itself."""

FORMAT = 1
"""Number of the format; a file with a higher one is refused."""

_PREFIX = "network."
"""Prefix of the names of the network's tensors in a checkpoint."""

_MOST_CATEGORIES = 255
_LONGEST_NAME = 200
_LARGEST_SIDE = 1 << 16

_NOT_DESCRIBED = (
    "The file {path} does not say what network its weights are of; give the configuration that it was trained with, or "
    "save a checkpoint with this version of the package."
)


class NotSelfDescribedError(ModelFileError):
    """A file holds weights, but does not say what network they are of."""


@dataclass(frozen=True)
class ModelFile:
    """A trained model, read from a checkpoint.

    Attributes:
        network: on the CPU, in evaluation mode, with the weights of the file.
        categories: the classes of the data that it was trained on.
        eval_size: (height, width) in pixels that images are fitted in for evaluation, with their aspect ratio kept;
            ``None``: unknown.
        version: version of the package that wrote the file.
        channels_last: whether the network is stored channels last, as it was in its training.
        grey_range: the values of 16-bit grey images that became 0 and 255 in its training; ``None``: 0 and 65535.
    """

    network: PanopticNetwork
    categories: Categories
    eval_size: tuple[int, int] | None
    version: str
    channels_last: bool = False
    grey_range: tuple[int, int] | None = None


@dataclass(frozen=True)
class ModelDescription:
    """What a checkpoint says of itself, checked, before anything is built of it.

    Attributes:
        network: how the network is constructed.
        categories: the classes of the data.
        eval_size: (height, width) in pixels that images fit in for evaluation; ``None``: unknown.
        channels_last: the memory format that the network was trained in.
        version: version of the package that wrote the file.
        grey_range: the values of 16-bit grey images that became 0 and 255; ``None``: 0 and 65535.
    """

    network: Description
    categories: Categories
    eval_size: tuple[int, int] | None
    channels_last: bool
    version: str
    grey_range: tuple[int, int] | None


class SavedNetwork(PanopticNetwork):
    """The network that a checkpoint describes, with its weights: constructing it gives an object of that class.

    Args:
        num_stuff: number of stuff classes, which must be the checkpoint's.
        num_things: number of thing classes, which must be the checkpoint's.
        path: path of the checkpoint.
        trust: modules or packages whose classes it may name, see ``read_model_file``.

    Raises:
        ValueError: as ``read_model_file``; or the numbers of classes are others.
    """

    def __new__(  # type: ignore[misc] # noqa: D102 - the object is of another class
        cls, num_stuff: int, num_things: int, *, path: str, trust: Sequence[str] = ()
    ) -> PanopticNetwork:
        model = read_model_file(path, trust)
        stuff, things = model.categories.num_stuff, model.categories.num_things
        if (stuff, things) != (num_stuff, num_things):
            raise ModelFileError(
                f"The checkpoint {path} has {stuff} classes of stuff and {things} of things; the data has {num_stuff} "
                f"and {num_things}."
            )
        return model.network


def description_of(
    network: PanopticNetwork,
    categories: Categories,
    *,
    eval_size: tuple[int, int] | None = None,
    channels_last: bool = False,
    grey_range: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return what a checkpoint of a network says of itself, in plain types, for the key ``KEY`` of the checkpoint."""
    construction = dict(network.construction)
    if "init_args" in construction:
        given = construction["init_args"].items()
        construction["init_args"] = {name: value for name, value in given if name not in network.speed_options}
    return {
        "format": FORMAT,
        "version": efficientps.__version__,
        "network": construction,
        "categories": [
            {"label_id": item.label_id, "name": item.name, "color": list(item.color), "is_thing": item.is_thing}
            for item in categories
        ],
        "eval_size": None if eval_size is None else list(eval_size),
        "channels_last": channels_last,
        "grey_range": None if grey_range is None else list(grey_range),
    }


def read_model_file(path: str | Path, trust: Sequence[str] = ()) -> ModelFile:
    """Read a checkpoint that says what it is, build its network on the CPU, and load its weights.

    Nothing is fetched, and no code runs but that of this package, of a few layers of PyTorch, and of the modules that
    are trusted.

    Args:
        path: a checkpoint of this package, or the file of the authors' released network.
        trust: modules or packages whose classes the file may name, for instance ``("my_heads",)``.

    Raises:
        FileNotFoundError: there is no such file.
        NotSelfDescribedError: the file does not say what network its weights are of.
        UntrustedClassError: the file names a class of another module.
        ModelFileError: the description is damaged, of a newer format, or does not fit the weights.
        ValueError: the file cannot be read.
    """
    content = _read(path)
    if KEY not in content and (theirs := read_authors_model(content, state_dict_in(content), path)):
        return ModelFile(*theirs, eval_size=None, version="unknown", channels_last=False, grey_range=None)
    described = _described(content, path)
    network = _network(described, content, path, trust)
    rest = (described.eval_size, described.version, described.channels_last, described.grey_range)
    return ModelFile(network, described.categories, *rest)


def read_description(path: str | Path) -> ModelDescription:
    """Read what a checkpoint says of itself; nothing is imported and nothing is built.

    Raises:
        FileNotFoundError: there is no such file.
        NotSelfDescribedError: the file does not say what network its weights are of.
        ModelFileError: the description is damaged, or of a newer format.
        ValueError: the file cannot be read.
    """
    return _described(_read(path), path)


def _read(path: str | Path) -> dict[str, Any]:
    if Path(path).is_file():
        if not is_archive(path):
            raise NotSelfDescribedError(_NOT_DESCRIBED.format(path=path))
        check_archive(path)
    return read_file(path, kind="checkpoint")


def _described(content: Mapping[str, Any], path: str | Path) -> ModelDescription:
    if KEY not in content:
        raise NotSelfDescribedError(_NOT_DESCRIBED.format(path=path))
    given = content[KEY]
    where = f"The checkpoint {path} has a damaged description of itself"
    if not isinstance(given, dict) or not _is_int(given.get("format")):
        raise ModelFileError(f"{where}: there is no number of its format.")
    if given["format"] > FORMAT:
        raise ModelFileError(
            f"The checkpoint {path} describes itself in format {excerpt(given['format'])}, and this version of the "
            f"package, {efficientps.__version__}, knows the formats up to {FORMAT}; install a newer version."
        )
    try:
        check_description(given.get("network"))
        categories = _categories(given.get("categories"))
        eval_size = _size(given.get("eval_size"))
        grey_range = _range(given.get("grey_range"))
    except ValueError as error:
        raise ModelFileError(f"{where}: {error}") from None
    version = given.get("version")
    return ModelDescription(
        network=given["network"],
        categories=categories,
        eval_size=eval_size,
        channels_last=given.get("channels_last") is True,
        grey_range=grey_range,
        version=version if isinstance(version, str) and len(version) <= _LONGEST_NAME else "unknown",
    )


def _network(
    described: ModelDescription, content: Mapping[str, Any], path: str | Path, trust: Sequence[str]
) -> PanopticNetwork:
    if unknown := unknown_parts(described.network):
        raise NotSelfDescribedError(
            f"The checkpoint {path} cannot say what its network is: {excerpt(unknown[0])}; give the configuration or "
            "the code that it was trained with."
        )
    tensors = state_dict_in(content).items()
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors if name.startswith(_PREFIX)}
    numbers = described.network["init_args"] if isinstance(described.network, dict) else {}
    categories = described.categories
    for name, number in (("num_stuff", categories.num_stuff), ("num_things", categories.num_things)):
        if numbers.get(name, number) != number:
            raise ModelFileError(
                f"The checkpoint {path} has a damaged description of itself: {name} is {excerpt(numbers[name])}, and "
                f"its classes have {number}."
            )
    network = build(described.network, tensors=len(state), path=path, trust=trust)
    if not isinstance(network, PanopticNetwork):
        raise ModelFileError(f"The checkpoint {path} describes a {type(network).__name__}, which is no network.")
    if described.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"The weights of the checkpoint {path} do not fit the network that it describes: {excerpt(reason)}"
        ) from error
    return network.eval()


def _categories(given: object) -> Categories:
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_CATEGORIES:
        number = f"{len(given)} classes" if isinstance(given, list) else "no list of classes"
        raise ValueError(f"it has {number}; a model has 1 to {_MOST_CATEGORIES}.")
    return Categories(_category(item) for item in given)


def _category(given: object) -> Category:
    if not isinstance(given, dict):
        raise ValueError("a class is no dictionary.")
    label_id, name, color, is_thing = (given.get(key) for key in ("label_id", "name", "color", "is_thing"))
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise ValueError(f"the name of a class is no text of at most {_LONGEST_NAME} characters.")
    if not isinstance(label_id, int) or not _is_int(label_id) or not isinstance(is_thing, bool):
        raise ValueError(f"the class {name!r} has no label id, or does not say whether it is a thing.")
    if not isinstance(color, list) or len(color) != 3 or not all(_is_int(channel) for channel in color):
        raise ValueError(f"the class {name!r} has no colour of three numbers.")
    red, green, blue = color
    return Category(label_id, name, (red, green, blue), is_thing)


def _size(given: object) -> tuple[int, int] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2 or not all(_is_int(side) for side in given):
        raise ValueError("the evaluation size is no pair of numbers.")
    if not all(1 <= side <= _LARGEST_SIDE for side in given):
        raise ValueError(f"the evaluation size is {excerpt(given)}; both are 1 to {_LARGEST_SIDE}.")
    return given[0], given[1]


def _range(given: object) -> tuple[int, int] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(_is_int(value) for value in given):
        raise ValueError("the range of grey values is no pair of numbers.")
    check_grey_range(given)
    return given[0], given[1]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62
