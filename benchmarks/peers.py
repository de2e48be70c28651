"""Networks of other projects with the two calls that are timed: prediction of images, and loss of a batch.

All have random weights, the 19 classes of Cityscapes and the layer sizes of their publications. Images are not resized
to the sizes that the authors of a network prefer.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.structures import IGNORE_INDEX, TrainingBatch

NUM_CLASSES = len(CITYSCAPES_CATEGORIES)
NUM_STUFF, NUM_THINGS = CITYSCAPES_CATEGORIES.num_stuff, CITYSCAPES_CATEGORIES.num_things


class Peer(nn.Module, ABC):
    """A network of another project.

    Attributes:
        network: the network.
    """

    network: nn.Module

    @abstractmethod
    def predict(self, images: Tensor) -> Any:
        """Predict images, uint8 ``[B, 3, H, W]``; the result is panoptic maps if the network can produce them."""

    @abstractmethod
    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the sum of the loss terms of a batch."""


class _TransformersPeer(Peer):
    """A network of Hugging Face ``transformers`` with the package's own panoptic post-processing."""

    _processor: Any

    def predict(self, images: Tensor) -> Any:
        """Return panoptic maps, by the package's own post-processing."""
        outputs = self.network(pixel_values=_normalise(images))
        sizes = [tuple(images.shape[-2:])] * len(images)
        with _silence():
            return self._processor.post_process_panoptic_segmentation(
                outputs, target_sizes=sizes, label_ids_to_fuse=set(range(NUM_STUFF))
            )


class Mask2Former(_TransformersPeer):
    """Mask2Former with Swin-T, from Hugging Face ``transformers`` (arXiv 2112.01527)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import (
            Mask2FormerConfig,
            Mask2FormerForUniversalSegmentation,
            Mask2FormerImageProcessor,
            SwinConfig,
        )

        backbone = SwinConfig(
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        with _silence():
            config = Mask2FormerConfig(backbone_config=backbone, num_labels=NUM_CLASSES)
            self.network = Mask2FormerForUniversalSegmentation(config)
            self._processor = Mask2FormerImageProcessor(ignore_index=IGNORE_INDEX)

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the package's loss, with one target mask per segment."""
        masks, labels = zip(*(_masks(batch, image) for image in range(len(batch["images"]))), strict=True)
        with _silence():
            outputs = self.network(
                pixel_values=_normalise(batch["images"]), mask_labels=list(masks), class_labels=list(labels)
            )
        loss: Tensor = outputs.loss
        return loss.sum()


class DETRPanoptic(_TransformersPeer):
    """DETR-R50-panoptic, from Hugging Face ``transformers`` (arXiv 2005.12872); timed in prediction only."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import DetrConfig, DetrForSegmentation, DetrImageProcessor, ResNetConfig

        with _silence():
            backbone = ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
            self.network = DetrForSegmentation(DetrConfig(backbone_config=backbone, num_labels=NUM_CLASSES))
            self._processor = DetrImageProcessor()

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Raise an error: DETR's mask head is trained on a frozen detector, so its step cannot be compared."""
        raise NotImplementedError("DETR-R50-panoptic is timed in prediction only.")


class TorchvisionMaskRCNN(Peer):
    """Mask R-CNN with ResNet-50 and FPN, from torchvision; it predicts instances only, without a panoptic map."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=1 + NUM_THINGS,
            min_size=min(size),
            max_size=max(size),
        )

    def predict(self, images: Tensor) -> Any:
        """Return the instances with masks of the size of the image."""
        return self.network(list(images.float() / 255))

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the sum of torchvision's five loss terms."""
        targets = [
            {"boxes": target["boxes"], "labels": target["labels"] + 1, "masks": target["masks"].to(torch.uint8)}
            for target in batch["instances"]
        ]
        terms = self.network(list(batch["images"].float() / 255), targets)
        return torch.stack(list(terms.values())).sum()


def builders(size: tuple[int, int], *, training: bool) -> dict[str, Callable[[], Peer]]:
    """Return a builder of each peer for an image size; a builder raises ImportError if its package is missing."""
    found: dict[str, Callable[[], Peer]] = {
        "Mask2Former Swin-T": Mask2Former,
        "Mask R-CNN R50-FPN": lambda: TorchvisionMaskRCNN(size),
    }
    return found if training else found | {"DETR-R50-panoptic": DETRPanoptic}


def _normalise(images: Tensor) -> Tensor:
    mean = images.new_tensor([123.675, 116.28, 103.53], dtype=torch.float32).view(3, 1, 1)
    deviation = images.new_tensor([58.395, 57.12, 57.375], dtype=torch.float32).view(3, 1, 1)
    return (images - mean) / deviation


def _masks(batch: TrainingBatch, image: int) -> tuple[Tensor, Tensor]:
    """Return the masks float32 ``[N, H, W]`` and the classes int64 ``[N]`` of all segments except crowd regions."""
    segments = [segment for segment in batch["segments"][image] if not segment.is_crowd]
    ids = batch["segment_ids"][image]
    masks = torch.stack([ids == segment.id for segment in segments]).float()
    return masks, torch.tensor([segment.train_id for segment in segments], device=ids.device)


@contextlib.contextmanager
def _silence() -> Any:
    """Suppress warnings about deprecated arguments and about a random network's missing scores."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
