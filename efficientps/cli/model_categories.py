"""Find the classes that the network of a command line is built for."""

from __future__ import annotations

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
