"""DETR panoptic: backbone, detector, mask head and post-processing put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from efficientps.backbones import Backbone, ResNetBackbone
from efficientps.backbones.backbone import build_backbone
from efficientps.networks.detr.criterion import detection_terms, mask_terms, scalar
from efficientps.networks.detr.detector import Detection, Detector
from efficientps.networks.detr.losses import PUBLISHED_WEIGHTS, LossWeights
from efficientps.networks.detr.mask_head import MaskFeatures, MaskHead
from efficientps.networks.detr.matcher import PUBLISHED_COSTS, MatchCosts, match
from efficientps.networks.detr.public_weights import to_own_keys
from efficientps.networks.image_normalization import ImageNormalization
from efficientps.networks.loss_normalizer import NormalizerScope, normalizer
from efficientps.networks.network import PanopticNetwork
from efficientps.networks.padding import predict_by_canvas
from efficientps.networks.queries.boxes import boxes_in_pixels, enclosing_boxes
from efficientps.networks.queries.chosen_queries import ChosenQueries, choose_queries
from efficientps.networks.queries.post_processing import MAX_DROPPED_AREA, StuffMerge, panoptic_map, semantic_map
from efficientps.networks.queries.targets import segment_targets
from efficientps.structures import (
    COARSEST_STRIDE,
    STRIDES,
    BoxPredictions,
    FeaturePyramid,
    ImageBatch,
    InstancePredictions,
    Prediction,
    TrainingBatch,
)

Step: TypeAlias = Literal["detector", "masks", "joint"]
"""Training step: the parts that are trained."""

_MASKS_AT_A_TIME = 16
"""Queries that the mask head processes together on a CPU."""

_CELLS_AT_A_TIME = 1 << 23
"""Cells of stride 4 that the mask head processes together on a CUDA device (about 2 GB), but at least 16 queries."""

_QUERIES = "detector.queries.weight"


class DETRPanoptic(PanopticNetwork):
    """DETR with a mask head (Carion et al., ECCV 2020, arXiv 2005.12872), trained in two steps or in one.

    Args:
        num_stuff: number of stuff classes; they are the first train ids.
        num_things: number of thing classes.
        backbone: a ``Backbone``, or a function that builds one: four levels, of which the coarsest has stride 32 or 16.
        detector: builds transformer and heads for the channels of the coarsest level and a number of classes.
        step: ``detector`` trains backbone and detector on the boxes of things and stuff; there are no masks yet, and
            panoptic maps are void. ``masks`` trains the mask head alone, on a frozen detector: start it from the first
            step's weights. ``joint`` trains everything.
        frozen_dropout: whether the frozen detector's dropout stays on in step ``masks``, as in the authors' code.
        match_costs: costs by which queries are assigned to segments.
        loss_weights: weights of the loss terms.
        no_object_weight: weight of the class of queries without a segment (0.1, facebookresearch/detr:main.py).
        score_thresh: lowest score of a query in the panoptic map (0.85, facebookresearch/detr:models/segmentation.py,
            PostProcessPanoptic).
        detection_thresh: lowest score of a thing whose mask is predicted for average precision; boxes have no lowest
            score.
        max_dropped_area: segments of at most this number of pixels are dropped from the panoptic map (4,
            PostProcessPanoptic).
        stuff_merge: treatment of several queries of one stuff class. ``union`` joins their pixels to one segment.
            ``first`` does so as well, unless a segment is dropped: then the pixels of the second and later queries go
            to other queries, as in the authors' code.
        normalizer_scope: the losses are divided by the number of segments of all processes (``global``, as in the
            authors' code) or of each process (``device``).
        image_mean: mean of the channels R, G, B in [0, 255]; ``None`` takes the mean that the backbone's weights
            expect.
        image_std: standard deviation of the channels R, G, B, for values in [0, 255]; ``None`` takes the one that the
            backbone's weights expect.
    """

    def __init__(
        self,
        num_stuff: int,
        num_things: int,
        *,
        backbone: Callable[[], Backbone] = ResNetBackbone,
        detector: Callable[[int, int], Detector] = Detector,
        step: Step = "joint",
        frozen_dropout: bool = True,
        match_costs: MatchCosts = PUBLISHED_COSTS,
        loss_weights: LossWeights = PUBLISHED_WEIGHTS,
        no_object_weight: float = 0.1,
        score_thresh: float = 0.85,
        detection_thresh: float = 0.05,
        max_dropped_area: int = MAX_DROPPED_AREA,
        stuff_merge: StuffMerge = "union",
        normalizer_scope: NormalizerScope = "global",
        image_mean: tuple[float, float, float] | None = None,
        image_std: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < no_object_weight <= 1:
            raise ValueError(f"no_object_weight is {no_object_weight}; it must be above 0 and at most 1.")
        self.num_stuff = num_stuff
        self.num_classes = num_stuff + num_things
        self.step = step
        self.frozen_dropout = frozen_dropout
        self.match_costs = match_costs
        self.loss_weights = loss_weights
        self.no_object_weight = no_object_weight
        self.score_thresh = score_thresh
        self.detection_thresh = detection_thresh
        self.max_dropped_area = max_dropped_area
        self.stuff_merge: StuffMerge = stuff_merge
        self.normalizer_scope: NormalizerScope = normalizer_scope
        self.backbone = build_backbone(backbone, strides=(STRIDES, (4, 8, 16, 16)))
        channels = self.backbone.channels
        self.detector = detector(channels[-1], self.num_classes)
        self.mask_head: MaskHead | None = None
        if step != "detector":
            self.mask_head = MaskHead(self.detector.channels, self.detector.num_heads, channels[:3])
        if step == "masks":
            self.backbone.requires_grad_(False)
            self.detector.requires_grad_(False)
        self.normalization = ImageNormalization(
            image_mean or self.backbone.image_mean, image_std or self.backbone.image_std
        )
        self.train()  # Lightning trains modules in the mode that it finds them in

    def train(self, mode: bool = True) -> DETRPanoptic:
        """Switch norms and dropout; what is frozen keeps its statistics, and its dropout only where it is wanted."""
        super().train(mode)
        if self.step == "masks":
            self.backbone.eval()
            self.detector.train(mode and self.frozen_dropout)
        return self

    def adapt_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of public DETR weights, the authors' and those of ``transformers``, to the network's.

        Where this network has more queries than the file, the file's are its first and the others stay as they are.
        """
        renamed = to_own_keys(state)
        given, own = renamed.get(_QUERIES), self.detector.queries.weight.detach()
        if given is not None and given.shape[1:] == own.shape[1:] and len(given) < len(own):
            renamed[_QUERIES] = torch.cat([given, own[len(given) :].to(given)])
        return renamed

    def check_data(self, most_segments: int) -> None:
        """Refuse data of which an image has as many segments as there are queries, or more.

        Raises:
            ValueError: there are too few queries.
        """
        if most_segments >= self.detector.num_queries:
            raise ValueError(
                f"An image of the data has {most_segments} segments and the detector {self.detector.num_queries} "
                "queries, each of which finds one at most; set num_queries to clearly more, "
                f"for instance {round(1.5 * most_segments)}."
            )

    def detect(self, images: Tensor, image_sizes: Sequence[tuple[int, int]]) -> tuple[Detection, FeaturePyramid]:
        """Return the detector's output for images uint8 ``[B, 3, H, W]``, and the backbone's four levels.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
            raise ValueError(
                f"The images are {height}x{width}; DETR's mask head needs a height and a width that are multiples of "
                f"{COARSEST_STRIDE}: pad them."
            )
        x = self.normalization(images, image_sizes, weights=next(self.parameters()).dtype)
        levels = self.backbone(x)
        rows, columns = levels[-1].shape[-2:]
        valid = torch.zeros(len(images), rows, columns, dtype=torch.bool)
        for of_image, (h, w) in zip(valid, image_sizes, strict=True):
            # A cell is valid where its first pixel is.
            of_image[: -(-h * rows // height), : -(-w * columns // width)] = True
        return self.detector(levels[-1], valid), levels

    # ---------------------------------------------------------------------------- training

    def loss(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the weighted loss terms of what is trained: classes and boxes, masks, or all of them.

        ``loss_earlier_layers`` sums the losses of classes and boxes over the decoder layers before the last.
        """
        targets = segment_targets(batch, self.num_stuff)
        for target, image_id in zip(targets, batch["image_ids"], strict=True):
            if len(target.labels) > self.detector.num_queries:
                raise ValueError(
                    f"Image '{image_id}' has {len(target.labels)} segments and the detector "
                    f"{self.detector.num_queries} queries; set num_queries to more."
                )
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.step != "masks"):
            detection, levels = self.detect(batch["images"], batch["image_sizes"])
        matches = match(detection.class_logits, detection.boxes, targets, self.match_costs)
        # Each segment has a query, in every layer: one count serves them all.
        segments = scalar(len(matches[-1].images), detection.boxes)
        number = normalizer(segments, scope=self.normalizer_scope, device=detection.boxes.device)
        terms: dict[str, Tensor] = {}
        if self.step != "masks":
            terms |= detection_terms(
                detection,
                matches,
                targets,
                number,
                no_object_weight=self.no_object_weight,
                weights=self.loss_weights,
                normalizer_scope=self.normalizer_scope,
            )
        if self.mask_head is not None:
            terms |= mask_terms(
                self.mask_head, detection, levels, matches[-1], targets, number, weights=self.loss_weights
            )
        return terms

    # -------------------------------------------------------------------------- prediction

    def predict(self, batch: ImageBatch) -> list[Prediction]:
        """Return the panoptic map, all queries' boxes and the masks of things of each image, at the image file's size.

        Images of one size, rounded up to multiples of 32, run together. A prediction does not depend on the other
        images of the batch. Mask logits are enlarged to the size of the image file.
        """
        return predict_by_canvas(batch, self._predict)

    def _predict(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        canvas = (images.shape[-2], images.shape[-1])
        detection, levels = self.detect(images, image_sizes)
        probs = detection.class_logits[-1].softmax(dim=-1)
        scores, train_ids = probs[..., :-1].max(dim=-1)
        in_map = (scores > self.score_thresh) & (scores >= probs[..., -1])
        is_thing = (train_ids >= self.num_stuff) & (scores > self.detection_thresh)
        if self.mask_head is None:
            in_map, is_thing = torch.zeros_like(in_map), torch.zeros_like(is_thing)
        chosen = choose_queries(scores, train_ids, in_map, is_thing)
        features = self.mask_head.features(detection, levels[:3]) if self.mask_head is not None else None
        predictions = []
        for image, (image_size, size) in enumerate(zip(image_sizes, sizes, strict=True)):
            boxes = BoxPredictions(scores[image], train_ids[image], boxes_in_pixels(detection.boxes[-1, image], size))
            masks = self._masks(features, levels[0], image, chosen[image].queries)
            predictions.append(self._prediction(boxes, chosen[image], masks, canvas, image_size, size))
        return predictions

    def _prediction(
        self,
        boxes: BoxPredictions,
        chosen: ChosenQueries,
        mask_logits: Tensor,
        canvas: tuple[int, int],
        image_size: tuple[int, int],
        size: tuple[int, int],
    ) -> Prediction:
        """Assemble the prediction of an image from its queries and their masks, at the size of the image file."""
        panoptic = panoptic_map(
            mask_logits[chosen.in_map],
            chosen.train_ids,
            chosen.scores,
            canvas=canvas,
            image_size=image_size,
            size=size,
            num_stuff=self.num_stuff,
            stuff_merge=self.stuff_merge,
            max_dropped_area=self.max_dropped_area,
        )
        of_things = mask_logits[chosen.things]
        frames = of_things.new_zeros(len(of_things), 4)
        frames[:, 2].fill_(canvas[1])
        frames[:, 3].fill_(canvas[0])
        things = chosen.queries[chosen.things]
        instances = InstancePredictions(
            scores=boxes.scores[things],
            labels=boxes.train_ids[things] - self.num_stuff,
            boxes=enclosing_boxes(of_things, image_size),
            mask_logits=of_things,
            mask_frames=frames,
        )
        if image_size != size:
            instances = instances.resize(image_size, size)
        return Prediction(panoptic, semantic_map(panoptic), instances, boxes=boxes)

    def _masks(self, features: MaskFeatures | None, finest: Tensor, image: int, queries: Tensor) -> Tensor:
        """Return the mask logits float32 ``[N, H/4, W/4]`` of N queries of an image, a few at a time."""
        height, width = finest.shape[-2:]
        if self.mask_head is None or features is None or len(queries) == 0:
            return finest.new_zeros((0, height, width), dtype=torch.float32)
        at_a_time = _MASKS_AT_A_TIME
        if queries.is_cuda:  # a GPU has memory for more masks, and idles with few
            at_a_time = max(at_a_time, _CELLS_AT_A_TIME // (height * width))
        parts = torch.split(queries, at_a_time)
        return torch.cat([self.mask_head.masks(features, image, part).float() for part in parts])
