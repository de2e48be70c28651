"""The contract between training and any panoptic network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from efficientps.backbones import Backbone
from efficientps.structures import ImageBatch, Prediction, TrainingBatch
from efficientps.structures.construction import Constructed

T = TypeVar("T")


def check_dtype(name: str, dtype: torch.dtype) -> None:
    """Refuse to convert a network to a floating-point dtype of less than 32 bits.

    Raises:
        ValueError: saying which precisions there are.
    """
    if torch.finfo(dtype).bits < 32:
        raise ValueError(
            f"{name} cannot be converted to {str(dtype).removeprefix('torch.')}: its boxes, losses and running "
            "statistics need float32. Leave its weights as they are and compute in half precision: 16-mixed or "
            "bf16-mixed as the trainer's precision, torch.autocast in a loop of your own, or the precision of "
            "efficientps.load."
        )


class Replay(Protocol):
    """Calls a function of tensors, or repeats the recorded operations of an earlier call with tensors of that size."""

    def __call__(self, function: Callable[..., T], *inputs: Tensor) -> T:
        """Return ``function(*inputs)``; the next call may overwrite the tensors in it."""
        ...


class PanopticNetwork(Constructed, nn.Module, ABC):
    """A network that learns from panoptic ground truth and predicts panoptic maps.

    Training, data and metrics use a model family through these methods alone. Training and prediction are two methods,
    not two modes of one; the module's own ``train()`` and ``eval()`` decide about norms and dropout only.

    Attributes:
        replay: ``predict`` may call a part of itself through it, if the shapes and operations of that part follow from
            the size of its tensors alone and the host does not wait in it. No tensor of a prediction may share memory
            with the results. ``None``, which every network but an inference copy has (``efficientps.inference``), means
            a plain call.
        speed_options: names of constructor arguments that decide about time and memory alone. A model file leaves them
            out, because they belong to the machine of the training.
    """

    replay: Replay | None = None
    speed_options: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def loss(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the named loss terms, float32 scalars; their sum is what training minimises.

        Every trainable parameter takes part in every call, images without instances included, so that no rank waits
        for another's gradients.
        """

    @abstractmethod
    def predict(self, batch: ImageBatch) -> list[Prediction]:
        """Return one prediction for each image of the batch.

        It best has the size of the image file, which ``original_sizes`` gives. A prediction at the size of the image in
        the batch is right as well: whoever reads it resizes its maps by nearest neighbour, with coarser edges.
        """

    def backbones(self) -> list[nn.Module]:
        """Return the parts that ``backbone_lr_factor`` of ``PanopticModule`` is for.

        By default every ``Backbone`` of the network; if it has none, its attribute ``backbone``. A family whose
        backbone is another module overrides this.
        """
        backbones = [module for module in self.modules() if isinstance(module, Backbone)]
        attribute = getattr(self, "backbone", None)
        return list(backbones) or ([attribute] if isinstance(attribute, nn.Module) else [])

    def undecayed_parameters(self) -> set[str]:
        """Return the names of parameters without weight decay, for trainings that exempt norms and biases from it.

        By default those of at most one dimension; a ``Backbone`` names its own.
        """
        inside: dict[str, bool] = {}
        for prefix, module in self.named_modules():
            if isinstance(module, Backbone):
                undecayed = module.undecayed_parameters()
                inside |= {f"{prefix}.{name}": name in undecayed for name, _ in module.named_parameters()}
        return {name for name, parameter in self.named_parameters() if inside.get(name, parameter.ndim <= 1)}

    def adapt_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict with this network's keys; a family that can read other layouts renames their keys."""
        return dict(state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert every tensor; what would leave the network with wrong values is refused.

        Raises:
            ValueError: a dtype of less than 32 bits is asked for; or tensors that no state dict holds come from the
                meta device, where they had no values.
        """
        parameter = next(self.parameters(), None)
        if parameter is not None:
            check_dtype(type(self).__name__, fn(torch.empty(0, device=parameter.device)).dtype)
        before = self._without_values()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if lost := before - self._without_values():
            raise ValueError(
                f"{type(self).__name__} computes {min(lost)} when it is built, and no state dict holds it (nor "
                f"{len(lost) - 1} others like it): on the meta device its values are gone. Build the network anew, on "
                "the CPU, and load the state dict then."
            )
        return self

    def _without_values(self) -> set[str]:
        """Return the names of the buffers on the meta device that no state dict holds."""
        names = {name for name, buffer in self.named_buffers() if buffer.is_meta}
        return names - self.state_dict().keys() if names else names

    def compile_again(self) -> None:
        """Compile the same parts again, for a deep copy, which has no compiled code. By default no part is compiled."""

    def check_data(self, most_segments: int) -> None:
        """Refuse, before training, data that the network cannot learn; by default none is refused.

        Args:
            most_segments: segments of the image that has the most.

        Raises:
            ValueError: saying what to change.
        """
