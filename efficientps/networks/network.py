"""The contract between training and any panoptic network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, TypeVar

from torch import Tensor, nn

from efficientps.backbones import Backbone
from efficientps.structures import ImageBatch, Prediction, TrainingBatch
from efficientps.structures.construction import Constructed

T = TypeVar("T")


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

    def compile_again(self) -> None:
        """Compile the same parts again, for a deep copy, which has no compiled code. By default no part is compiled."""

    def check_data(self, most_segments: int) -> None:
        """Refuse, before training, data that the network cannot learn; by default none is refused.

        Args:
            most_segments: segments of the image that has the most.

        Raises:
            ValueError: saying what to change.
        """
