"""The data module that the section ``data`` of a configuration describes, built without a network or a trainer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser

import efficientps.data.sources.coco_panoptic  # noqa: F401 - a configuration names its class without the module
from efficientps.cli.errors import explain, note_keys
from efficientps.cli.presets import find_config, suggestion
from efficientps.cli.refused_settings import refuse_nulls
from efficientps.cli.repeated_keys import check_file
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.cityscapes import CityscapesDataModule


def configured_data(config: Path, choices: Mapping[str, Any] | None = None) -> PanopticDataModule:
    """Build the data module of a configuration, as the training command builds it.

    The class may be one of a file in the working directory. Without ``class_path`` it is ``CityscapesDataModule``.

    Args:
        config: a YAML file with a section ``data``, or the name of a preset; its other sections are not read.
        choices: arguments of the data module that replace those of the file.

    Raises:
        ValueError: one sentence: the file cannot be read, has no section ``data``, or describes no data module.
    """
    if os.getcwd() not in sys.path:  # a configuration can name classes of files in the working directory
        sys.path.append(os.getcwd())
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(PanopticDataModule, "data", subclass_mode=True)
    parser.set_defaults({"data": {"class_path": CityscapesDataModule.__name__}})
    section = section_of(config, "data")
    if not section:
        raise ValueError(f"'{config}' has no section 'data'; give the configuration of a training.")
    if choices:
        inner = section["init_args"] if "init_args" in section else {} if "class_path" in section else section
        section = {"class_path": section.get("class_path", CityscapesDataModule.__name__)}
        section["init_args"] = {**(inner or {}), **choices}
    try:
        parsed = parser.parse_object({"data": section})
        refuse_nulls(parsed, {"data": PanopticDataModule})
        try:
            data: PanopticDataModule = parser.instantiate(parsed).data
        except Exception as error:
            note_keys(error, dict(parsed.items()))
            raise
    except Exception as error:
        if (sentence := explain(error, {"data": PanopticDataModule})) is None:
            raise
        raise ValueError(sentence) from error
    return data


def section_of(config: Path, name: str) -> dict[str, Any]:
    """Return a section of a YAML file, or of the preset of that name; empty where the file has none.

    Raises:
        ValueError: the file cannot be read.
    """
    check_file(Path(find_config(str(config))))
    try:
        content = yaml.safe_load(Path(find_config(str(config))).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"The configuration {config} does not exist{suggestion(str(config))}") from None
    except OSError as error:
        raise ValueError(f"The configuration '{config}' cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"'{config}' is not valid YAML, {' '.join(str(error).split())}.") from None
    section = content.get(name) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}
