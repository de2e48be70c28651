"""Stack samples to a batch on one canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, cast, overload

import torch

from efficientps.structures import ImageBatch, ImageSample, PanopticBatch, PanopticSample, UnreadableImage

Sample: TypeAlias = ImageSample | PanopticSample


def collate_readable(
    samples: Sequence[Sample | UnreadableImage], *, canvas: tuple[int, int] | None = None, multiple: int = 32
) -> ImageBatch | PanopticBatch:
    """Stack the images that could be read, as ``collate`` does, and list the others in ``unreadable``.

    The batch has no image where none could be read.
    """
    readable = [sample for sample in samples if not isinstance(sample, UnreadableImage)]
    unreadable = [sample for sample in samples if isinstance(sample, UnreadableImage)]
    if not unreadable:
        return collate(readable, canvas=canvas, multiple=multiple)
    if readable:
        batch = collate(readable, canvas=canvas, multiple=multiple)
    else:
        images = torch.zeros(0, 3, multiple, multiple, dtype=torch.uint8)
        batch = ImageBatch(images=images, image_sizes=[], original_sizes=[], image_ids=[], file_names=[])
    batch["unreadable"] = unreadable
    return batch


@overload
def collate(
    samples: Sequence[PanopticSample], *, canvas: tuple[int, int] | None = None, multiple: int = 32
) -> PanopticBatch: ...
@overload
def collate(
    samples: Sequence[Sample], *, canvas: tuple[int, int] | None = None, multiple: int = 32
) -> ImageBatch | PanopticBatch: ...
def collate(
    samples: Sequence[Sample], *, canvas: tuple[int, int] | None = None, multiple: int = 32
) -> ImageBatch | PanopticBatch:
    """Stack samples on one canvas, each image in its top-left corner, the rest zero.

    Args:
        samples: at least one; all with maps, or all without.
        canvas: (H, W), the same for every batch in training; None takes the smallest multiple of ``multiple`` that
            every image of the batch fits in.
        multiple: the greatest stride of the network.

    Returns:
        The batch; ``image_sizes`` says which part of the canvas is valid. Maps, where there are any, stay as they are.

    Raises:
        ValueError: if an image is larger than the canvas.
    """
    sizes = [(sample["image"].shape[-2], sample["image"].shape[-1]) for sample in samples]
    if canvas is None:
        height, width = (math.ceil(max(extent) / multiple) * multiple for extent in zip(*sizes, strict=True))
    else:
        height, width = canvas
    images = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
    for slot, sample, (h, w) in zip(images, samples, sizes, strict=True):
        if h > height or w > width:
            raise ValueError(
                f"Image '{sample['image_id']}' is {h}x{w} pixels after augmentation and does not fit the training size "
                f"{height}x{width}."
            )
        slot[:, :h, :w] = sample["image"]
    batch = ImageBatch(
        images=images,
        image_sizes=sizes,
        original_sizes=[sample["original_size"] for sample in samples],
        image_ids=[sample["image_id"] for sample in samples],
    )
    if "segment_ids" not in samples[0]:
        if all("file_name" in sample for sample in samples):
            batch["file_names"] = [sample["file_name"] for sample in samples]
        return batch
    annotated = cast(Sequence[PanopticSample], samples)
    return PanopticBatch(
        **batch,
        segment_ids=[sample["segment_ids"] for sample in annotated],
        segments=[sample["segments"] for sample in annotated],
    )
