"""Transforms of other libraries as seeded transforms of image and map: torchvision's and Albumentations' (an extra)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from efficientps.structures.segment_runs import present_ids

_NEAREST = (None, 0, 6)
"""Values of ``mask_interpolation`` that do not blend ids: not set, cv2.INTER_NEAREST and cv2.INTER_NEAREST_EXACT."""


class TorchvisionTransform:
    """Applies a transform of ``torchvision.transforms.v2`` to an image and its map.

    Maps are warped by nearest neighbour, as torchvision warps masks; pixels that geometry brings in from outside are
    void.
    """

    def __init__(self, transform: v2.Transform) -> None:
        """Store the transform."""
        self.transform = transform

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Apply the transform, seeded from ``rng``; the global generator of torch stays as it is.

        Raises:
            ValueError: if the transform returns anything but bytes in three channels.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            changed, ids = self.transform(tv_tensors.Image(image), tv_tensors.Mask(segment_ids))
        if changed.dtype != torch.uint8 or changed.dim() != 3 or len(changed) != 3:
            raise ValueError(
                f"{type(self.transform).__name__} of torchvision returns {changed.dtype} {list(changed.shape)}; "
                "training takes images as torch.uint8 [3, h, w]: leave out normalisation and conversion."
            )
        return changed.as_subclass(Tensor), ids.as_subclass(Tensor)


class AlbumentationsTransform:
    """Applies a pipeline that ``albumentations.save`` wrote, for instance with weather and sensor effects.

    Albumentations cannot warp 32-bit maps. Each id is therefore replaced by its index in the list of the map's ids, and
    restored afterwards. Pixels that geometry brings in from outside are void.
    """

    def __init__(self, *, path: str | os.PathLike[str]) -> None:
        """Load the pipeline.

        Args:
            path: YAML (``.yaml``, ``.yml``) or JSON file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if Albumentations is not installed, the file holds no pipeline, or a transform of it would blend
                ids by interpolating maps.
        """
        # Without this, importing Albumentations asks a server for its newest version.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        try:
            import albumentations
        except ImportError:
            raise ValueError(
                f"The pipeline '{path}' needs Albumentations; install it with: pip install albumentations"
            ) from None
        if not os.path.isfile(path):
            raise FileNotFoundError(f"Albumentations pipeline '{path}' does not exist.")
        data_format = "yaml" if os.fspath(path).endswith((".yaml", ".yml")) else "json"
        try:
            pipeline = albumentations.load(path, data_format=data_format)
        except Exception as error:  # the loader raises whatever its parser, its registry or a constructor raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"'{path}' does not hold an Albumentations pipeline ({reason}).") from None
        self.path = os.fspath(path)
        self.pipeline = albumentations.Compose([pipeline])
        _check_interpolation(self.pipeline, self.path)

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Apply the pipeline, seeded from ``rng``.

        Raises:
            ValueError: if the pipeline returns anything but bytes in three channels.
        """
        ids = segment_ids.numpy()
        table = np.array([0, *present_ids(ids)], dtype=np.int32)
        places = np.zeros(int(table[-1]) + 1, dtype=np.min_scalar_type(len(table)))
        places[table] = np.arange(len(table))
        self.pipeline.set_random_seed(int(rng.integers(2**31)))
        result = self.pipeline(image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()), mask=places[ids])
        changed: Any = result["image"]
        if not isinstance(changed, np.ndarray) or changed.dtype != np.uint8 or changed.shape[2:] != (3,):
            raise ValueError(
                f"Albumentations pipeline '{self.path}' does not return an image of bytes in RGB; "
                "remove its normalisation and its conversion to tensors."
            )
        return torch.from_numpy(changed).permute(2, 0, 1), torch.from_numpy(table[result["mask"]])


def _check_interpolation(transform: Any, path: str) -> None:
    """Refuse transforms that would interpolate between ids."""
    if getattr(transform, "mask_interpolation", None) not in _NEAREST:
        raise ValueError(
            f"{type(transform).__name__} in Albumentations pipeline '{path}' interpolates masks; "
            "set its mask_interpolation to 0 (nearest), because segment ids cannot be blended."
        )
    for child in getattr(transform, "transforms", ()):
        _check_interpolation(child, path)
