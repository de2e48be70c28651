"""EfficientPS: backbone, two-way FPN, semantic head, instance head and panoptic fusion put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor

from efficientps.backbones import Backbone, EfficientNetBackbone
from efficientps.backbones.backbone import build_backbone
from efficientps.layers.activation_checkpointing import checkpointed
from efficientps.layers.norm_act import prepared_scales, set_norm_implementation
from efficientps.layers.norm_implementation import Implementation
from efficientps.networks.efficientps.authors_weights import to_own_keys
from efficientps.networks.efficientps.instance_head import InstanceHead
from efficientps.networks.efficientps.panoptic_fusion import panoptic_fusion, semantic_maps
from efficientps.networks.efficientps.semantic_head import SemanticHead
from efficientps.networks.efficientps.two_way_fpn import TwoWayFPN
from efficientps.networks.image_logits import logits_of_image
from efficientps.networks.image_normalization import ImageNormalization
from efficientps.networks.network import PanopticNetwork
from efficientps.networks.padding import predict_by_canvas
from efficientps.structures import COARSEST_STRIDE, FeaturePyramid, ImageBatch, Prediction, TrainingBatch

P = ParamSpec("P")
R = TypeVar("R")

Part: TypeAlias = Literal["backbone", "neck", "semantic_head", "instance_head"]
"""A part of the network that activation checkpointing can be chosen for."""

CompiledPart: TypeAlias = Literal["backbone", "neck", "semantic_head"]
"""A part whose shapes follow from those of the images alone."""


class EfficientPS(PanopticNetwork):
    """Efficient Panoptic Segmentation (Mohan and Valada, IJCV 2021, arXiv 2004.02307).

    The defaults, here and in the parts, are the paper's; where the authors' code differs, the argument says so.

    Args:
        num_stuff: number of stuff classes; they are the first train ids.
        num_things: number of thing classes.
        backbone: a ``Backbone``, or a function that builds one: four levels at the strides 4, 8, 16 and 32.
        instance_head: builds the instance head for a number of thing classes and of pyramid channels.
        neck: builds the two-way FPN for the backbone's channels.
        semantic_head: builds the semantic head for a number of classes and of pyramid channels.
        overlap_thresh: an instance is dropped where more than this share of its mask is covered by instances of
            higher scores (0.5, DeepSceneSeg/EfficientPS:configs, ``test_cfg``).
        min_stuff_area: stuff classes with fewer pixels of the image file become void (2048, from the same
            ``test_cfg``).
        image_mean: mean of the channels R, G, B in [0, 255]; ``None`` takes the mean that the backbone's weights
            expect. The authors' code takes the mean of Mapillary Vistas, 106.433, 116.617, 119.559.
        image_std: standard deviation of the channels R, G, B, for values in [0, 255] (Mapillary Vistas: 65.496, 67.6,
            74.123); ``None`` takes the one that the backbone's weights expect.
        activation_checkpointing: parts whose inner activations are not kept: the backward pass computes them a second
            time, with the same result, which takes less memory and more time. Each block of the backbone is such a
            part.
        norm_implementation: how every in-place ABN computes: ``in_place`` by PyTorch's operators, ``eager`` by
            PyTorch's batch norm and leaky ReLU, ``compiled`` by the ``inplace-abn`` package, ``triton`` by this
            package's own kernels.
        torch_compile: parts that ``torch.compile`` turns into kernels when they first see a size of images, in training
            and in evaluation each, which takes minutes; from the ninth size on they run uncompiled. ``eager`` norms
            suit compilation best: the compiler fuses them with the layers around them, and chooses itself what the
            backward pass recomputes. In a training on several GPUs they become synchronised in-place norms, which the
            compiler cannot fuse.
    """

    speed_options = ("activation_checkpointing", "norm_implementation", "torch_compile")

    def __init__(
        self,
        num_stuff: int,
        num_things: int,
        *,
        backbone: Callable[[], Backbone] = EfficientNetBackbone,
        instance_head: Callable[[int, int], InstanceHead],
        neck: Callable[[Sequence[int]], TwoWayFPN] = TwoWayFPN,
        semantic_head: Callable[[int, int], SemanticHead] = SemanticHead,
        overlap_thresh: float = 0.5,
        min_stuff_area: int = 2048,
        image_mean: tuple[float, float, float] | None = None,
        image_std: tuple[float, float, float] | None = None,
        activation_checkpointing: Sequence[Part] = (),
        norm_implementation: Implementation = "in_place",
        torch_compile: Sequence[CompiledPart] = (),
    ) -> None:
        self.check_classes(num_stuff, num_things)
        if twice := sorted(set(activation_checkpointing) & set(torch_compile)):
            raise ValueError(
                f"torch_compile and activation_checkpointing both name {', '.join(twice)}: compiled code chooses "
                "itself what it keeps; leave one of them out."
            )
        super().__init__()
        self.activation_checkpointing = frozenset(activation_checkpointing)
        self.num_stuff = num_stuff
        self.overlap_thresh = overlap_thresh
        self.min_stuff_area = min_stuff_area
        self.backbone = build_backbone(backbone)
        self.neck = neck(self.backbone.channels)
        self.semantic_head = semantic_head(num_stuff + num_things, self.neck.out_channels)
        self.instance_head = instance_head(num_things, self.neck.out_channels)
        set_norm_implementation(self, norm_implementation)
        self.compile_parts(torch_compile)
        self.normalization = ImageNormalization(
            image_mean or self.backbone.image_mean, image_std or self.backbone.image_std
        )

    @staticmethod
    def check_classes(num_stuff: int, num_things: int) -> None:
        """Refuse numbers of classes that the two heads cannot learn.

        Raises:
            ValueError: there is no stuff class, or no thing class.
        """
        if min(num_stuff, num_things) < 1:
            raise ValueError(
                "EfficientPS needs stuff classes and thing classes, at least one of each; "
                f"the data has {num_stuff} and {num_things}."
            )

    def compile_parts(self, parts: Sequence[CompiledPart]) -> None:
        """Let ``torch.compile`` make code of parts when they next run; the state dict stays the same."""
        self.compiled_parts: tuple[CompiledPart, ...] = tuple(parts)
        for part in parts:
            # The SAME padding of the backbone depends on the image size, which makes code for any size slow to compile.
            self.get_submodule(part).compile(dynamic=False)

    def compile_again(self) -> None:
        """Compile the same parts as before."""
        self.compile_parts(self.compiled_parts)

    def adapt_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict with the keys of this network, if it has those of the authors' code."""
        return to_own_keys(state)

    def pyramid(self, images: Tensor, image_sizes: Sequence[tuple[int, int]]) -> FeaturePyramid:
        """Return the features P4 to P32 of images, uint8 ``[B, 3, H, W]`` with valid sizes ``(h, w)``.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        return self._pyramid(self.normalize(images, image_sizes))

    def _pyramid(self, x: Tensor) -> FeaturePyramid:
        """Return the pyramid of normalised images."""
        height, width = x.shape[-2:]
        if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
            raise ValueError(
                f"The images are {height}x{width}; EfficientPS needs a height and a width that are multiples of "
                f"{COARSEST_STRIDE}: pad them."
            )
        features = self.backbone(x, checkpoint_blocks="backbone" in self.activation_checkpointing)
        pyramid: FeaturePyramid = self._call("neck", self.neck, features)
        return pyramid

    def _call(self, part: Part, function: Callable[P, R], *inputs: P.args, **options: P.kwargs) -> R:
        """Call a part of the network, with its activations kept or not."""
        if part in self.activation_checkpointing:
            return checkpointed(function, *inputs, **options)
        return function(*inputs, **options)

    def normalize(self, images: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return float32 images, normalised by mean and standard deviation; padding becomes 0, the mean colour."""
        weight = next(p for p in self.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[-1] > 1)
        x = self.normalization(images, image_sizes, weights=weight.dtype)
        # Channels last: depthwise convolutions on a CPU are many times faster, and tensor cores need this layout.
        is_channels_last = weight.is_contiguous(memory_format=torch.channels_last)
        return x.contiguous(memory_format=torch.channels_last) if is_channels_last else x

    def loss(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the loss terms of both heads, with the heads' own weights (published is 1, EfficientPS, Sec. 3.4)."""
        with prepared_scales(self):
            pyramid = self.pyramid(batch["images"], batch["image_sizes"])
            return {
                **self._call("semantic_head", self.semantic_head.loss, pyramid, batch["semantic"]),
                **self._call("instance_head", self.instance_head.loss, pyramid, batch["instances"]),
            }

    def predict(self, batch: ImageBatch) -> list[Prediction]:
        """Return the panoptic map, the semantic map and the instances of each image, at the size of the image file.

        Images of one size, rounded up to multiples of 32, run together. A prediction does not depend on the other
        images of the batch, and no time goes into padding. The heads' logits are enlarged to the size of the image file
        before the fusion.
        """
        return predict_by_canvas(batch, self._predict)

    def _trunk(self, x: Tensor) -> tuple[FeaturePyramid, Tensor, tuple[Tensor, ...]]:
        """Return the part of a prediction whose operations follow from the size of the normalised images alone.

        Returns:
            The pyramid, semantic logits ``[B, C, H/4, W/4]`` and the result of ``InstanceHead.dense``.
        """
        pyramid = self._pyramid(x)
        return pyramid, self.semantic_head(pyramid), self.instance_head.dense(pyramid)

    def _predict(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        canvas = (images.shape[2], images.shape[3])
        x = self.normalize(images, image_sizes)
        pyramid, semantic_logits, dense = self._trunk(x) if self.replay is None else self.replay(self._trunk, x)
        by_image = self.instance_head.decode(pyramid, dense, image_sizes)
        del x, pyramid, dense
        predictions = []
        for logits, image_size, size, instances in zip(semantic_logits, image_sizes, sizes, by_image, strict=True):
            # Channels first: PyTorch does not recognise the layout of a view of one image, and takes several times as
            # long.
            logits = logits.float().contiguous()
            enlarged = logits_of_image(logits, canvas=canvas, image_size=image_size, size=size)
            if image_size != size:
                instances = instances.resize(image_size, size)
            maps = semantic_maps(enlarged, self.num_stuff)
            panoptic = panoptic_fusion(
                enlarged,
                instances,
                num_stuff=self.num_stuff,
                maps=maps,
                score_thresh=self.instance_head.score_thresh,
                overlap_thresh=self.overlap_thresh,
                min_stuff_area=self.min_stuff_area,
                mask_logit_scale=self.instance_head.mask_logit_scale,
                competes_everywhere=self.instance_head.competes_everywhere,
            )
            predictions.append(Prediction(panoptic, maps.classes, instances))
        return predictions
