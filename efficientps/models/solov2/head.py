"""SOLOv2 as the instance head of EfficientPS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, one_hot
from torch.utils.checkpoint import checkpoint

from efficientps.layers.conv import ConvNormAct
from efficientps.layers.norm_act import GroupNormReLU, NormAct
from efficientps.models.instance_head import InstanceHead
from efficientps.models.losses import dice_loss, focal_loss
from efficientps.models.normalizer import NormalizerScope, normalizer
from efficientps.models.solov2.coordinates import with_coordinates, with_fourier_features
from efficientps.models.solov2.mask_features import MaskFeatureBranch
from efficientps.models.solov2.matrix_nms import matrix_nms
from efficientps.models.solov2.targets import CellTargets, assign_cells, default_scale_ranges, stride4_masks
from efficientps.structures import FeaturePyramid, InstancePredictions, InstanceTargets

LEVEL_STRIDES = (8, 8, 16, 32, 32)
"""Of the five levels of cells, as published; see ``five_levels``. A mask of fewer cells at stride 4 is noise."""

_PAIRS_AT_A_TIME = 64
_MASKS_AT_A_TIME = 64


class Width(NamedTuple):
    """The size of the head: convolutions of each tower, their channels, and the length of a kernel."""

    num_convs: int
    channels: int
    kernel_channels: int


WIDTHS = {"full": Width(4, 512, 256), "light": Width(2, 256, 128)}
"""WXinlong/SOLO:configs/solov2/solov2_r50_fpn_8gpu_3x.py and solov2_light_448_r50_fpn_8gpu_3x.py."""


class SOLOv2Head(InstanceHead):
    """Segmenting Objects by Locations (Wang et al., "SOLOv2: Dynamic and Fast Instance Segmentation", NeurIPS 2020).

    Five grids of cells lie over the image, finer ones for smaller objects. Each cell says which class of object has
    its centre there, and gives a kernel; the kernel, convolved with the mask features at stride 4, is the mask of
    that object over the whole image. There are no boxes and no anchors.

    Args:
        num_things: number of thing classes.
        in_channels: of the pyramid.
        preset: ``full`` or ``light``; the next three follow it unless they are given.
        num_convs: convolutions in the tower of categories and in that of kernels (4; light 2).
        channels: of the towers (512; light 256).
        kernel_channels: E, length of a kernel and channels of the mask features (256; light 128).
        mask_hidden: channels inside the branch of the mask features (128).
        kernel_scale: factor of the kernels. Published is 1, with SGD; under Adam, whose steps do not shrink with the
            gradient, one step can then move a mask logit by tens: masks turn empty, and the Dice loss of an empty
            mask has no gradient that would bring it back. A tenth prevents it.
        fourier_octaves: of the waves that the kernels and the mask features see beside the published linear
            coordinates, see ``with_fourier_features``; 0 as published. With six, a training tells neighbouring objects
            apart much earlier.
        num_grids: of each level, the cells along both sides or (rows, columns). The published grids are square, 40,
            36, 24, 16 and 12 cells; these are for images twice as wide as high.
        scale_ranges: of each level, the least and the greatest square root of an object's box area in pixels. They
            follow the short side of the images unless given, see ``default_scale_ranges``.
        sigma: size of an object's centre region as a share of its box (0.2).
        conflict: which object supervises a cell that several claim, see ``assign_cells``.
        category_weight: of the focal loss (1).
        mask_weight: of the Dice loss (3).
        norm_act: builds the normalisation with its activation.
        detection_thresh: lowest category score of a cell (0.1).
        nms_pre: best cells whose masks are drawn (500).
        nms_kernel: decay of Matrix NMS.
        nms_sigma: of the Gaussian decay (2).
        update_thresh: lowest score after Matrix NMS (0.05).
        max_detections: of one image (100).
        score_thresh: lowest score in the panoptic fusion. Scores here are products of three factors, hence lower than
            those of a classifier.
        mask_logit_scale: see ``InstanceHead``.
        mask_prob_margin: mask probabilities are kept this far from 0 and 1. The Dice loss drives them to the ends,
            where the semantic head would lose its vote in the fusion.
        normalizer_scope: what the losses are divided by in many processes, see ``normalizer``.

    Raises:
        ValueError: there are not five grids, or not as many ranges as grids.
    """

    def __init__(
        self,
        num_things: int,
        in_channels: int = 256,
        *,
        preset: Literal["full", "light"] = "full",
        num_convs: int | None = None,
        channels: int | None = None,
        kernel_channels: int | None = None,
        mask_hidden: int = 128,
        kernel_scale: float = 0.1,
        fourier_octaves: int = 0,
        num_grids: Sequence[int | tuple[int, int]] = ((40, 80), (36, 72), (24, 48), (16, 32), (12, 24)),
        scale_ranges: Sequence[tuple[float, float]] | None = None,
        sigma: float = 0.2,
        conflict: Literal["smaller", "last", "all"] = "smaller",
        category_weight: float = 1.0,
        mask_weight: float = 3.0,
        norm_act: NormAct = GroupNormReLU,
        detection_thresh: float = 0.1,
        nms_pre: int = 500,
        nms_kernel: Literal["gaussian", "linear"] = "gaussian",
        nms_sigma: float = 2.0,
        update_thresh: float = 0.05,
        max_detections: int = 100,
        score_thresh: float = 0.3,
        mask_logit_scale: float = 1.0,
        mask_prob_margin: float = 0.01,
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()
        levels = len(LEVEL_STRIDES)
        if len(num_grids) != levels or (scale_ranges is not None and len(scale_ranges) != levels):
            raise ValueError(
                f"SOLOv2Head takes one entry of num_grids and of scale_ranges for each of its {levels} levels; there "
                f"are {len(num_grids)} and {'none' if scale_ranges is None else len(scale_ranges)}."
            )
        width = WIDTHS[preset]
        num_convs = num_convs or width.num_convs
        channels = channels or width.channels
        kernel_channels = kernel_channels or width.kernel_channels
        self.num_things = num_things
        self.grids = [(grid, grid) if isinstance(grid, int) else (grid[0], grid[1]) for grid in num_grids]
        self.kernel_scale = kernel_scale
        self.fourier_octaves = fourier_octaves
        self.scale_ranges = scale_ranges
        self.sigma = sigma
        self.conflict: Literal["smaller", "last", "all"] = conflict
        self.category_weight = category_weight
        self.mask_weight = mask_weight
        self.detection_thresh = detection_thresh
        self.nms_pre = nms_pre
        self.nms_kernel: Literal["gaussian", "linear"] = nms_kernel
        self.nms_sigma = nms_sigma
        self.update_thresh = update_thresh
        self.max_detections = max_detections
        self.score_thresh = score_thresh
        self.mask_logit_scale = mask_logit_scale
        self.normalizer_scope: NormalizerScope = normalizer_scope
        self.mask_logit_limit = math.log((1 - mask_prob_margin) / mask_prob_margin)

        def tower(first: int) -> nn.Sequential:
            return nn.Sequential(*(
                ConvNormAct(first if i == 0 else channels, channels, kernel_size=3, norm_act=norm_act)
                for i in range(num_convs)
            ))  # fmt: skip

        self.category_tower = tower(in_channels)
        self.category = nn.Conv2d(channels, num_things, 3, padding=1)
        self.kernel_tower = tower(in_channels + 2 + 4 * fourier_octaves)
        self.kernel = nn.Conv2d(channels, kernel_channels, 3, padding=1)
        self.mask_features = MaskFeatureBranch(
            in_channels, kernel_channels, hidden=mask_hidden, norm_act=norm_act, fourier_octaves=fourier_octaves
        )
        self._init_weights()

    def _init_weights(self) -> None:
        """Initialise as all published implementations do: N(0, 0.01), and categories that begin at a score of 0.01."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        assert self.category.bias is not None
        nn.init.constant_(self.category.bias, -math.log((1 - 0.01) / 0.01))

    # ----------------------------------------------------------------------- cells

    def cells(self, pyramid: FeaturePyramid) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the cells of each level say, finest first.

        Returns:
            Category logits, each ``[B, num_things, rows, columns]``, and kernels, each ``[B, E, rows, columns]``.
        """
        logits, kernels = [], []
        for features, grid in zip(five_levels(pyramid, self.grids[0]), self.grids, strict=True):
            # Coordinates are those of the level, and are resized with it.
            x = interpolate(with_coordinates(features), size=grid, mode="bilinear")
            logits.append(self.category(self.category_tower(x[:, :-2])))
            kernels.append(
                self.kernel_scale * self.kernel(self.kernel_tower(with_fourier_features(x, self.fourier_octaves)))
            )
        return logits, kernels

    # -------------------------------------------------------------------- training

    def loss(self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]) -> dict[str, Tensor]:
        """Return ``loss_category``, focal, and ``loss_mask``, Dice, with their weights.

        The focal loss is divided by the number of positive cells of the batch (where the original adds one to it), the
        Dice loss by that of pairs of a cell and an object (WXinlong/SOLO:mmdet/models/anchor_heads/solov2_head.py).
        """
        logits, kernels = (_flat(levels) for levels in self.cells(pyramid))
        features = self.mask_features(pyramid)
        ranges = self.scale_ranges or default_scale_ranges(4 * min(features.shape[-2:]))
        assigned = [
            assign_cells(
                target,
                num_things=self.num_things,
                grids=self.grids,
                scale_ranges=ranges,
                sigma=self.sigma,
                conflict=self.conflict,
            )
            for target in targets
        ]
        categories = torch.stack([cells.categories for cells in assigned])
        goals = one_hot(categories, self.num_things + 1)[..., : self.num_things].float()
        positives = (categories < self.num_things).sum()
        mask_losses = torch.cat(
            [self._mask_losses(*image) for image in zip(kernels, features, assigned, targets, strict=True)]
        )
        # Without any pair the mask loss is zero, and still connected to every parameter.
        connection = 0.0 * (features.float().mean() + kernels.float().mean())
        scope, device = self.normalizer_scope, features.device
        cells, pairs = (normalizer(count, scope=scope, device=device) for count in (positives, len(mask_losses)))
        return {
            "loss_category": self.category_weight * focal_loss(logits, goals) / cells,
            "loss_mask": self.mask_weight * mask_losses.sum() / pairs + connection,
        }

    def _mask_losses(self, kernels: Tensor, features: Tensor, cells: CellTargets, target: InstanceTargets) -> Tensor:
        """Return the Dice loss of each pair of one image, ``[P]``; its masks are drawn anew in the backward pass."""
        goals = stride4_masks(target["masks"]).flatten(1)  # one for each object, not for each pair
        losses = [features.new_zeros(0, dtype=torch.float32)]
        for some in torch.split(torch.arange(len(cells.cells), device=kernels.device), _PAIRS_AT_A_TIME):
            chosen = kernels[cells.cells[some]]
            losses.append(checkpoint(_pair_losses, chosen, features, goals, cells.objects[some], use_reentrant=False))
        return torch.cat(losses)

    # ------------------------------------------------------------------ prediction

    def predict(self, pyramid: FeaturePyramid, image_sizes: Sequence[tuple[int, int]]) -> list[InstancePredictions]:
        """Return the instances of each image by falling score, with masks over the whole image at stride 4."""
        logits, kernels = self.cells(pyramid)
        scores = _flat([suppress_neighbours(level.float().sigmoid()) for level in logits])
        features = self.mask_features(pyramid)
        return [self._decode(*image) for image in zip(scores, _flat(kernels), features, image_sizes, strict=True)]

    def _decode(
        self, scores: Tensor, kernels: Tensor, features: Tensor, image_size: tuple[int, int]
    ) -> InstancePredictions:
        """Find the instances of one image.

        Args:
            scores: ``[cells, num_things]``.
            kernels: ``[cells, E]``.
            features: ``[E, H/4, W/4]``.
            image_size: valid ``(h, w)``; nothing beyond it is looked at.
        """
        features = features[:, : math.ceil(image_size[0] / 4), : math.ceil(image_size[1] / 4)]
        best, index = scores.flatten().topk(min(self.nms_pre, scores.numel()))
        index = index[best > self.detection_thresh]
        cells, labels = index // self.num_things, index % self.num_things
        kernels, found = kernels[cells], scores[cells, labels]

        masks, maskness = draw_masks(kernels, features)
        strides = self._cell_strides(scores.device)[cells]
        kept = masks.sum(dim=1) > strides
        masks, kernels, labels = masks[kept], kernels[kept], labels[kept]
        found = found[kept] * maskness[kept]

        found = matrix_nms(masks, labels, found, kernel=self.nms_kernel, sigma=self.nms_sigma)
        found, order = found.topk(min(self.max_detections, len(found)))
        order = order[found > self.update_thresh]
        found, labels, kernels = found[: len(order)], labels[order], kernels[order]

        limit = self.mask_logit_limit
        mask_logits = dynamic_convolution(kernels, features).clamp(-limit, limit)
        height, width = mask_logits.shape[-2:]
        frame = mask_logits.new_tensor([0, 0, 4 * width, 4 * height])
        boxes = tight_boxes(mask_logits, image_size)
        instances = InstancePredictions(found, labels, boxes, mask_logits, frame.expand(len(found), 4))
        return instances[boxes[:, 2] > boxes[:, 0]]

    def _cell_strides(self, device: torch.device) -> Tensor:
        """Return the stride of the level of each cell, int64 ``[cells]``: a smaller mask is noise."""
        return torch.cat(
            [
                torch.full((rows * columns,), stride, device=device)
                for (rows, columns), stride in zip(self.grids, LEVEL_STRIDES, strict=True)
            ]
        )


def five_levels(pyramid: FeaturePyramid, finest_grid: tuple[int, int]) -> list[Tensor]:
    """Return the maps that the grids are read from: P4 at the size of P8, P8, P16, P32, and P32 subsampled by two.

    The fifth is brought back to the size of P32 (WXinlong/SOLO:mmdet/models/anchor_heads/solov2_head.py,
    ``split_feats``). Of small images, for which the finest grid has more rows or columns than P8, P4 stays as it is:
    neighbouring cells would otherwise be read from the same place.
    """
    height, width = pyramid.p8.shape[-2:]
    p4 = pyramid.p4
    if finest_grid[0] <= height and finest_grid[1] <= width:
        p4 = interpolate(p4, size=(height, width), mode="bilinear")
    p64 = interpolate(pyramid.p32[..., ::2, ::2], size=pyramid.p32.shape[-2:], mode="bilinear")
    return [p4, pyramid.p8, pyramid.p16, pyramid.p32, p64]


def _flat(levels: Sequence[Tensor]) -> Tensor:
    """Return maps ``[B, K, rows, columns]`` as one list of cells, ``[B, cells, K]``."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def suppress_neighbours(scores: Tensor) -> Tensor:
    """Return scores ``[B, C, rows, columns]`` with 0 where a neighbour in the same class is higher ("points NMS").

    Windows of 2x2 as published: a cell yields to those above, to the left, and above to the left.

    >>> suppress_neighbours(torch.tensor([[[[0.9, 0.8], [0.7, 0.95]]]]))
    tensor([[[[0.9000, 0.0000],
              [0.0000, 0.9500]]]])
    """
    highest = max_pool2d(scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return scores * (highest == scores)


def dynamic_convolution(kernels: Tensor, features: Tensor) -> Tensor:
    """Return the mask logits of kernels ``[N, E]`` over features ``[E, h, w]``, float32 ``[N, h, w]``."""
    logits = kernels.to(features.dtype) @ features.flatten(1)
    return logits.float().view(len(kernels), *features.shape[1:])


def draw_masks(kernels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Draw masks, a chunk at a time so that their probabilities are never held together.

    Args:
        kernels: ``[N, E]``.
        features: ``[E, h, w]``.

    Returns:
        Masks, bool ``[N, h * w]``, where the probability is over a half; and the mean probability inside each,
        float32 ``[N]``, 0 for an empty one.
    """
    masks = [torch.empty(0, features[0].numel(), dtype=torch.bool, device=features.device)]
    maskness = [torch.empty(0, device=features.device)]
    for some in torch.split(kernels, _MASKS_AT_A_TIME):
        probs = dynamic_convolution(some, features).flatten(1).sigmoid()
        inside = probs > 0.5
        masks.append(inside)
        maskness.append((probs * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1))
    return torch.cat(masks), torch.cat(maskness)


def tight_boxes(mask_logits: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return the box around the positive logits of each mask at the size of the image.

    Args:
        mask_logits: float32 ``[N, h/4, w/4]``.
        image_size: ``(h, w)`` in pixels.

    Returns:
        float32 ``[N, 4]``, xyxy in pixels, half-open; zeros for a mask without a pixel.
    """
    height, width = image_size
    x0, x1, sure_x = _extent_of_rows(mask_logits.mT, width, height)
    y0, y1, sure_y = _extent_of_rows(mask_logits, height, width)
    boxes = torch.stack([x0, y0, x1, y1], dim=1)
    for index in (~(sure_x & sure_y)).nonzero().flatten().tolist():  # rare: drawn whole
        inside = interpolate(mask_logits[None, index : index + 1], scale_factor=4, mode="bilinear")[0] > 0
        inside = inside[:, :height, :width]
        (x0, x1), (y0, y1) = _extent(inside.any(dim=1)), _extent(inside.any(dim=2))
        boxes[index] = torch.cat([x0, y0, x1, y1])
    return boxes.to(mask_logits)


def _extent_of_rows(mask_logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first row with a positive pixel, the one after the last, and whether they are certain, each ``[N]``.

    Above the first row of cells with a positive one, and further than a cell from it, no pixel is positive; so three
    rows of cells are drawn at each end. There is hardly ever no positive pixel in them: then it is not certain.
    """
    cells, columns = mask_logits.shape[1:]
    first, after = _extent(mask_logits.amax(dim=2) > 0)
    is_empty = after == 0
    ends, found = [], []
    for cell, known in ((first, slice(0, 10)), ((after - 1).clamp(min=0), slice(2, 12))):
        around = cell[:, None] + torch.arange(-1, 2, device=cell.device)
        strip = mask_logits.gather(1, around.clamp(0, cells - 1)[..., None].expand(-1, -1, columns))
        pixels = interpolate(strip[:, None], scale_factor=4, mode="bilinear")[:, 0, known, :width]
        # The rows that are left out, beyond the centres of the outer cells, would need one cell more.
        place = (4 * around[:, :1] + torch.arange(12, device=cell.device))[:, known]
        begin, end = _extent((pixels.amax(dim=2) > 0) & (place >= 0) & (place < height))
        ends.append((place[:, 0] + (begin if known.start == 0 else end)).where(~is_empty, 0))
        found.append(end > 0)
    return ends[0], ends[1], (found[0] & found[1]) | is_empty


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first occupied place of each row of bool ``[N, L]`` and the one after the last; 0 and 0 if none."""
    length = occupied.shape[1]
    first = occupied.int().argmax(dim=1)
    last = length - occupied.flip(1).int().argmax(dim=1)
    return first, last * occupied.any(dim=1)


def _pair_losses(kernels: Tensor, features: Tensor, goals: Tensor, objects: Tensor) -> Tensor:
    return dice_loss(dynamic_convolution(kernels, features).flatten(1), goals[objects])
