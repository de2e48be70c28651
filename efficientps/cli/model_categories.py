"""Find the classes that the network of a command line is built for."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.coco_panoptic import CocoPanopticDataModule
from efficientps.inference.model_file import NotSelfDescribedError, read_description
from efficientps.structures.categories import Categories


def categories_of_model(data: PanopticDataModule, command: str, checkpoint: str | Path | None) -> Categories:
    """Return the classes of the model: those of its checkpoint in evaluation, where it names them, or the data's.

    Prediction then opens no training annotations. The files of the data are looked for first: the network, which needs
    the classes, is built after this, and takes much longer than finding a wrong path.

    Args:
        data: the data of the command line.
        command: "fit", "validate", "test" or "predict".
        checkpoint: value of ``--ckpt_path``.

    Raises:
        FileNotFoundError: a file or a folder of the data does not exist.
        ValueError: the classes of the checkpoint are not those of the data.
    """
    data.check_files_of(command)
    if command == "fit" or checkpoint is None or not Path(checkpoint).is_file():
        return data.categories
    try:
        categories = read_description(checkpoint).categories
    except NotSelfDescribedError:
        return data.categories
    if isinstance(data, CocoPanopticDataModule):
        data.categories = categories
    elif command != "predict" and data.categories != categories:
        raise ValueError(
            f"The checkpoint {checkpoint} was trained on other classes than those of the data; choose its data "
            "with --data or --config."
        )
    return categories


def check_same_classes(checkpoint: Path, categories: Categories) -> None:
    """Refuse to go on with a run on other classes; a checkpoint that does not name its classes says nothing of them.

    Raises:
        ValueError: the classes differ.
    """
    try:
        trained = read_description(checkpoint).categories
    except NotSelfDescribedError:
        return
    if trained == categories:
        return
    pairs = zip_longest((item.name for item in trained), (item.name for item in categories), fillvalue="none")
    differing = next((f"{old} there and {new} here" for old, new in pairs if old != new), "with other ids or colours")
    raise ValueError(
        f"A run cannot go on from {checkpoint} on other classes than it was trained on: {len(trained)} there and "
        f"{len(categories)} here, the first that differs is {differing}. Give its data back, or start a new run from "
        f"its weights with --model.init_from={checkpoint}."
    )
