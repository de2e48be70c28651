"""Whether the network of a configuration can train on its data, found out without a training.

The functions that a training calls before its first step are called here as well, so that both refuse the same.
"""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.cli import LightningArgumentParser

import efficientps.backbones
import efficientps.networks.detr
import efficientps.networks.efficientps  # noqa: F401 - a configuration can name their classes without a module
from efficientps.cli.data.data_section import section_of
from efficientps.cli.errors import explain, note_keys
from efficientps.cli.network_defaults import chosen_network
from efficientps.cli.presets import find_config
from efficientps.cli.suggestions import parameters
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.networks.efficientps import EfficientPS
from efficientps.training.module import PanopticModule


def check_first_step(config: Path, data: PanopticDataModule) -> None:
    """Open the data, make the order of a training, and build the network of a configuration, untrained.

    The cache is left out, because data are checked before it is made.

    Args:
        config: a YAML file, or the name of a preset; one without a network is left to the training.
        data: the data module that it describes.

    Raises:
        ValueError: a training would be refused; one sentence.
    """
    data.cache = None
    data.setup("fit")
    data.train_dataloader()
    data.val_dataloader()
    network = section_of(config, "model").get("network")
    if not network:
        return
    parser = LightningArgumentParser(exit_on_error=False)
    others = set(parameters(PanopticModule)) - {"network"}
    parser.add_class_arguments(
        PanopticModule, "model", skip=others, instantiate=False, fail_untyped=False, sub_configs=True
    )
    chosen = chosen_network(["--config", find_config(str(config))]) or EfficientPS.__name__
    parser.set_defaults({"model.network": {"class_path": chosen}})
    parsed = None
    try:
        parsed = parser.parse_object({"model": {"network": network}})
        built = parser.instantiate(parsed).model.network(data.categories.num_stuff, data.categories.num_things)
        most = data.train_dataset.largest_segment_count() if data.train_dataset is not None else None
        if most is not None:
            built.check_data(most)
    except Exception as error:
        if parsed is not None:
            note_keys(error, dict(parsed.items()))
        if (sentence := explain(error, {"model": PanopticModule})) is None:
            raise
        raise ValueError(sentence) from error
