"""SOLOv2 as the instance head of EfficientPS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from efficientps.layers.conv import ConvNormAct
from efficientps.layers.norm_act import GroupNormReLU, NormAct
from efficientps.networks.counts import check_counts, check_probabilities
from efficientps.networks.efficientps.branches import PassedOn, build_branch
from efficientps.networks.efficientps.instance_head import InstanceHead
from efficientps.networks.efficientps.solov2.coordinates import append_maps, is_channels_last
from efficientps.networks.efficientps.solov2.decoding import Candidates, decode_image
from efficientps.networks.efficientps.solov2.initial_weights import init_solov2
from efficientps.networks.efficientps.solov2.levels import (
    LEAST_AREAS,
    areas_of_cells,
    check_levels,
    five_levels,
    list_of_cells,
    maps_of_level,
    resize,
)
from efficientps.networks.efficientps.solov2.mask_features import MaskFeatureBranch
from efficientps.networks.efficientps.solov2.mask_losses import mask_loss_of_batch
from efficientps.networks.efficientps.solov2.points_nms import suppress_neighbours
from efficientps.networks.efficientps.solov2.targets import assign_cells_of_batch, default_scale_ranges
from efficientps.networks.efficientps.solov2.tensor_cache import TensorCache
from efficientps.networks.efficientps.solov2.widths import chosen_width
from efficientps.networks.loss_normalizer import NormalizerScope, normalizer
from efficientps.networks.losses import focal_loss
from efficientps.structures import FeaturePyramid, InstancePredictions, InstanceTargets


class SOLOv2Head(InstanceHead):
    """Segmenting Objects by Locations (Wang et al., "SOLOv2: Dynamic and Fast Instance Segmentation", NeurIPS 2020).

    Five grids of cells lie over the image, finer ones for smaller objects. Each cell says which class of object has
    its centre there, and gives a kernel; the kernel, convolved with the mask features at stride 4, is the mask of
    that object over the whole image. There are no boxes and no anchors.

    Args:
        num_things: number of thing classes.
        in_channels: channels of the pyramid.
        mask_features: builds the branch of the mask features for a number of pyramid channels and of its own (E).
        preset: ``full`` or ``light``: the values of ``num_convs``, ``channels`` and ``kernel_channels`` unless given.
        num_convs: convolutions in the tower of categories and in that of kernels (4; light 2).
        channels: channels of the towers (512; light 256).
        kernel_channels: E, length of a kernel and channels of the mask features (256; light 128).
        mask_hidden: ``mask_features.hidden``.
        kernel_scale: factor of the kernels. Published is 1, with SGD; under Adam, whose steps do not shrink with the
            gradient, one step can then move a mask logit by tens: masks turn empty, and the Dice loss of an empty
            mask has no gradient that would bring it back. A tenth prevents it.
        fourier_octaves: number of frequencies of the waves that kernels and mask features see beside the published
            linear coordinates: sines and cosines over rows and columns, each twice as fast as the one before. 0 as
            published; with six, a training tells neighbouring objects apart much earlier.
        num_grids: for each level, the number of cells along both sides, or (rows, columns). The published grids are
            square, with 40, 36, 24, 16 and 12 cells; the defaults are for images twice as wide as high.
        scale_ranges: for each level, the least and the greatest square root of an object's box area in pixels. By
            default those published for COCO, scaled to the short side of the images.
        sigma: size of an object's centre region as a share of its box (0.2).
        conflict: the object that a cell learns when several objects claim it: the one with the ``smaller`` mask, the
            ``last`` one, or ``all`` of them, as published.
        category_weight: weight of the focal loss (1).
        mask_weight: weight of the Dice loss (3).
        dice_smoothing: added to both sums of the Dice loss's denominator (0.001).
        focal_alpha: weight of the positives in the focal loss (0.25).
        focal_gamma: exponent of the focal loss (2).
        category_prior: category score of every cell before the training (0.01).
        norm_act: builds the normalisation with its activation in towers and mask features (``GroupNormReLU``).
        points_nms_window: side in cells of the square in which only the highest score of a class remains (2).
        detection_thresh: lowest category score of a cell (0.1).
        nms_pre: number of cells with the highest scores whose masks are drawn (500).
        mask_thresh: a mask holds the pixels with a higher probability (0.5).
        least_areas: for each level, the number of cells at stride 4 that a mask must exceed (8, 8, 16, 32, 32).
        nms_kernel: factor of a score that Matrix NMS computes from an overlap: exp(-sigma IoU^2) (``gaussian``) or 1 -
            IoU (``linear``).
        nms_sigma: sigma of the Gaussian kernel (2).
        update_thresh: lowest score after Matrix NMS (0.05).
        max_detections: largest number of instances of one image (100).
        score_thresh: lowest score in the panoptic fusion. It is lower than that of a classifier, because scores here
            are products of three factors.
        mask_logit_scale: factor of the mask logits in the panoptic fusion.
        mask_prob_margin: mask probabilities are kept this far from 0 and 1. The Dice loss drives them to the ends,
            where the semantic head would lose its vote in the fusion.
        normalizer_scope: the losses are divided by the number of samples of all processes (``global``) or of each
            process (``device``).

    Raises:
        ValueError: an option of the levels does not have five entries, a count is below 1, a probability is not between
            0 and 1, or ``mask_features`` gives another value for an option than the head.
    """

    def __init__(
        self,
        num_things: int,
        in_channels: int = 256,
        *,
        mask_features: Callable[[int, int], MaskFeatureBranch] = MaskFeatureBranch,
        preset: Literal["full", "light"] = "full",
        num_convs: int | None = None,
        channels: int | None = None,
        kernel_channels: int | None = None,
        mask_hidden: int | None = None,
        kernel_scale: float = 0.1,
        fourier_octaves: int = 0,
        num_grids: Sequence[int | tuple[int, int]] = ((40, 80), (36, 72), (24, 48), (16, 32), (12, 24)),
        scale_ranges: Sequence[tuple[float, float]] | None = None,
        sigma: float = 0.2,
        conflict: Literal["smaller", "last", "all"] = "smaller",
        category_weight: float = 1.0,
        mask_weight: float = 3.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        dice_smoothing: float = 1e-3,
        category_prior: float = 0.01,
        norm_act: NormAct | None = None,
        points_nms_window: int = 2,
        detection_thresh: float = 0.1,
        nms_pre: int = 500,
        mask_thresh: float = 0.5,
        least_areas: Sequence[int] = LEAST_AREAS,
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
        check_levels({"num_grids": num_grids, "scale_ranges": scale_ranges, "least_areas": least_areas})
        check_probabilities({"category_prior": category_prior, "mask_thresh": mask_thresh})
        check_probabilities({"mask_prob_margin": mask_prob_margin})
        num_convs, channels, kernel_channels = chosen_width(preset, num_convs, channels, kernel_channels)
        counts = {"points_nms_window": points_nms_window, "nms_pre": nms_pre, "max_detections": max_detections}
        check_counts("SOLOv2 head", counts)
        self.num_things = num_things
        self.grids = [(grid, grid) if isinstance(grid, int) else (grid[0], grid[1]) for grid in num_grids]
        check_counts("SOLOv2 head", {"the smallest number in num_grids": min(map(min, self.grids))})
        self.kernel_scale = kernel_scale
        self.fourier_octaves = fourier_octaves
        self.scale_ranges = scale_ranges
        self.sigma = sigma
        self.conflict: Literal["smaller", "last", "all"] = conflict
        self.category_weight = category_weight
        self.mask_weight = mask_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.dice_smoothing = dice_smoothing
        self.points_nms_window = points_nms_window
        self.detection_thresh = detection_thresh
        self.nms_pre = nms_pre
        self.mask_thresh = mask_thresh
        self.least_areas = tuple(least_areas)
        self.nms_kernel: Literal["gaussian", "linear"] = nms_kernel
        self.nms_sigma = nms_sigma
        self.update_thresh = update_thresh
        self.max_detections = max_detections
        self.score_thresh = score_thresh
        self.mask_logit_scale = mask_logit_scale
        self.normalizer_scope: NormalizerScope = normalizer_scope
        self.tensors = TensorCache()
        self.mask_logit_limit = math.log((1 - mask_prob_margin) / mask_prob_margin)

        def tower(first: int) -> nn.Sequential:
            return nn.Sequential(*(
                ConvNormAct(first if i == 0 else channels, channels, kernel_size=3, norm_act=norm_act or GroupNormReLU)
                for i in range(num_convs)
            ))  # fmt: skip

        self.category_tower = tower(in_channels)
        self.category = nn.Conv2d(channels, num_things, 3, padding=1)
        self.kernel_tower = tower(in_channels + 2 + 4 * fourier_octaves)
        self.kernel = nn.Conv2d(channels, kernel_channels, 3, padding=1)
        self.mask_features = build_branch(
            "mask_features",
            mask_features,
            in_channels,
            kernel_channels,
            options=[
                PassedOn("mask_hidden", "hidden", mask_hidden),
                PassedOn("fourier_octaves", "fourier_octaves", fourier_octaves or None),
                PassedOn("norm_act", "norm_act", norm_act),
            ],
        )
        assert self.category.bias is not None
        init_solov2(self, self.category.bias, category_prior=category_prior)

    def cells(self, pyramid: FeaturePyramid) -> tuple[list[Tensor], list[Tensor]]:
        """Return the category logits and the kernels of the cells of each level, finest level first.

        Returns:
            Category logits, each ``[B, num_things, rows, columns]``, and kernels, each ``[B, E, rows, columns]``.
        """
        logits, kernels = self._cells(pyramid)
        return logits, [self.kernel_scale * level for level in kernels]

    def _cells(self, pyramid: FeaturePyramid) -> tuple[list[Tensor], list[Tensor]]:
        """Return ``cells`` with kernels that are not scaled yet: once for all levels costs less."""
        logits, kernels = [], []
        for features, grid in zip(five_levels(pyramid, self.grids[0]), self.grids, strict=True):
            x = resize(features, grid)
            maps = self.tensors.get(
                maps_of_level,
                *features.shape[-2:],
                grid,
                self.fourier_octaves,
                (features.dtype, x.dtype),
                is_channels_last(x),
                device=x.device,
            )
            logits.append(self.category(self.category_tower(x)))
            kernels.append(self.kernel(self.kernel_tower(append_maps(x, maps))))
        return logits, kernels

    def loss(self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]) -> dict[str, Tensor]:
        """Return ``loss_category``, focal, and ``loss_mask``, Dice, with their weights.

        The focal loss is divided by the number of positive cells of the batch (where the original adds one to it), the
        Dice loss by that of pairs of a cell and an object (WXinlong/SOLO:mmdet/models/anchor_heads/solov2_head.py).
        """
        logits, kernels = (list_of_cells(levels) for levels in self._cells(pyramid))
        kernels = self.kernel_scale * kernels
        features = self.mask_features(pyramid)
        device = features.device
        assigned = assign_cells_of_batch(
            targets,
            num_things=self.num_things,
            grids=self.grids,
            scale_ranges=self.scale_ranges or default_scale_ranges(4 * min(features.shape[-2:])),
            sigma=self.sigma,
            conflict=self.conflict,
            tables=self.tensors,
        )
        categories = torch.stack([cells.categories for cells in assigned])
        is_category = categories[..., None] == torch.arange(self.num_things, device=device)
        positives = (categories < self.num_things).sum()
        mask_loss, number = mask_loss_of_batch(kernels, features, assigned, targets, dice_smoothing=self.dice_smoothing)
        pairs = torch.full((), float(number), device=device)  # filled on the device, so that the host need not wait
        category_loss = focal_loss(logits, is_category, alpha=self.focal_alpha, gamma=self.focal_gamma)
        cells, pairs = (normalizer(count, scope=self.normalizer_scope, device=device) for count in (positives, pairs))
        return {
            "loss_category": self.category_weight * category_loss / cells,
            "loss_mask": self.mask_weight * mask_loss / pairs,
        }

    def predict(self, pyramid: FeaturePyramid, image_sizes: Sequence[tuple[int, int]]) -> list[InstancePredictions]:
        """Return the instances of each image by falling score, with masks over the whole image at stride 4."""
        return self.decode(pyramid, self.dense(pyramid), image_sizes)

    def dense(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the part of a prediction whose shapes follow from those of the pyramid: the best cells of each image.

        Returns:
            Of the K best cells and classes their scores, float32 ``[B, K]`` by falling score, labels, int64 ``[B, K]``,
            kernels ``[B, K, E]`` and least areas of a mask, int64 ``[B, K]``; and the mask features
            ``[B, E, H/4, W/4]``.
        """
        logits, kernels = self._cells(pyramid)
        window = self.points_nms_window
        scores = list_of_cells([suppress_neighbours(level.float().sigmoid(), window) for level in logits]).flatten(1)
        scores, index = scores.topk(min(self.nms_pre, scores.shape[1]))
        cells, labels = index // self.num_things, index % self.num_things
        least_areas = self.tensors.get(areas_of_cells, tuple(self.grids), self.least_areas, device=cells.device)[cells]
        all_kernels = list_of_cells(kernels)
        best = all_kernels.gather(1, cells[..., None].expand(-1, -1, all_kernels.shape[2]))
        features = self.mask_features(pyramid)
        kind = features.device.type
        if torch.is_autocast_enabled(kind):  # once, and not in every multiplication with kernels
            features = features.to(torch.get_autocast_dtype(kind))
        return scores, labels, self.kernel_scale * best, least_areas, features

    def decode(
        self, pyramid: FeaturePyramid, dense: tuple[Tensor, ...], image_sizes: Sequence[tuple[int, int]]
    ) -> list[InstancePredictions]:
        """Return the instances of ``predict`` from the result of ``dense``."""
        scores, labels, kernels, least_areas, features = dense
        numbers = (scores > self.detection_thresh).sum(dim=1).tolist()
        return [
            decode_image(
                Candidates(scores[i, :n], labels[i, :n], kernels[i, :n], least_areas[i, :n]),
                features[i],
                image_size,
                nms_kernel=self.nms_kernel,
                nms_sigma=self.nms_sigma,
                update_thresh=self.update_thresh,
                max_detections=self.max_detections,
                mask_thresh=self.mask_thresh,
                mask_logit_limit=self.mask_logit_limit,
                tables=self.tensors,
            )
            for i, (n, image_size) in enumerate(zip(numbers, image_sizes, strict=True))
        ]
