"""A LightningModule whose checkpoints describe their network, and which can be built from such a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from efficientps.inference.model_file import KEY, description_of, read_model_file
from efficientps.networks.network import PanopticNetwork
from efficientps.structures.categories import Categories
from efficientps.structures.construction import unknown_parts
from efficientps.training.checkpoints.states import check_state

M = TypeVar("M", bound="SelfDescribedModule")


class SelfDescribedModule(pl.LightningModule):
    """Writes what it is into its checkpoints, see ``efficientps.inference.model_file``.

    Attributes:
        network: the panoptic network.
        categories: the classes of the data.
        eval_size: (height, width) in pixels that images fit in for evaluation; ``None`` until the data tells.
        channels_last: whether the network is stored channels last.
        grey_range: the values of 16-bit grey images that become 0 and 255; ``None``: 0 and 65535.
    """

    network: PanopticNetwork
    categories: Categories
    eval_size: tuple[int, int] | None = None
    channels_last: bool = False
    grey_range: tuple[int, int] | None = None
    _said_unknown: bool = False

    def take_reading_of(self, data: object) -> None:
        """Take over how a data module reads images for evaluation, where it says so."""
        self.eval_size = getattr(data, "eval_size", self.eval_size)
        self.grey_range = getattr(data, "grey_range", self.grey_range)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of this model; warn once if a part of the network cannot be described."""
        described = description_of(
            self.network,
            self.categories,
            eval_size=self.eval_size,
            channels_last=self.channels_last,
            grey_range=self.grey_range,
        )
        unknown = unknown_parts(described["network"])
        if unknown and not self._said_unknown:
            self._said_unknown = True
            rank_zero_warn(
                f"The checkpoints of this network cannot be used without its code and configuration: {unknown[0]}; "
                "use a class or a function at the top of a module, or a functools.partial of one."
            )
        checkpoint[KEY] = described

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint belongs to this network.

        Raises:
            StateMismatchError: the keys of the state dict differ; the message names the first ones.
        """
        path = self._trainer.ckpt_path if self._trainer is not None else "that was given"
        check_state(self.state_dict(), checkpoint["state_dict"], path=str(path))

    @classmethod
    def load_from_checkpoint(  # type: ignore[override] # Lightning decorates its own
        cls: type[M],
        checkpoint_path: str | Path,
        map_location: torch.device | str | None = None,
        hparams_file: None = None,
        strict: bool = True,
        weights_only: bool = True,
        *,
        trust: Sequence[str] = (),
        **arguments: Any,
    ) -> M:
        """Return a module with the network, the weights and the classes of a checkpoint.

        Args:
            checkpoint_path: a checkpoint that says what it is; it is read as a file that is not trusted.
            map_location: device of the module; the CPU by default.
            hparams_file: not used: the checkpoint has everything.
            strict: not used: weights must fit.
            weights_only: not used: nothing else is ever read.
            trust: modules whose classes the file may name, see ``read_model_file``.
            **arguments: further arguments of the constructor, such as the optimizer.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as ``read_model_file``.
        """
        model = read_model_file(checkpoint_path, trust)
        given = {"channels_last": model.channels_last} | arguments
        module = cls(network=lambda _stuff, _things: model.network, categories=model.categories, **given)
        module.eval_size, module.grey_range = model.eval_size, model.grey_range
        module.train()
        return module if map_location is None else module.to(map_location)
