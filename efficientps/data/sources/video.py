"""The frames of a video as images to predict on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efficientps.data.entries import Entry
from efficientps.data.formats.image_file import MAX_PIXELS, UnusableImageError
from efficientps.data.formats.video_file import read_frames, video_length
from efficientps.data.image_dataset import ImageDataset
from efficientps.data.problems import Problem
from efficientps.data.sources.image_ids import image_id_of

ENOUGH = 0.9
"""Share of the frames that the duration of a video makes; a video with fewer is reported."""


class Video(ImageDataset):
    """The frames of a video, in the order in which they are shown.

    The id of a frame is the name of the file with the number of the frame, from 0: ``clip_000017``. Frames are decoded
    one after the other; each process that loads data decodes those of the others, too, and drops them.

    Attributes:
        frames_per_second: how many frames the video shows per second.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], size: tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        """Count the frames; none is decoded yet.

        Args:
            path: the file.
            size: (h, w) that each frame is fitted in, with its aspect ratio kept; None leaves frames as they are.
            max_pixels: larger frames are refused.

        Raises:
            MissingVideoPackageError: if PyAV is not installed.
            FileNotFoundError: if there is no such file.
            UnusableImageError: if it is no video, or its frames are too large.
        """
        length, self.frames_per_second, announced = video_length(path, max_pixels=max_pixels)
        stem = image_id_of(PurePath(Path(path).name))
        names = [f"{stem}_{number:06d}" for number in range(length)]
        entries = [Entry(name, (str(path),), image_name=f"{name}.png") for name in names]
        self._numbers = {name: number for number, name in enumerate(names)}
        self._path = str(path)
        self._frames: Iterator[NDArray[np.uint8]] | None = None
        self._next = 0
        super().__init__(entries, self._read, size=size)
        if length < ENOUGH * announced:
            kind = (
                f"has {length} frames where its duration makes {announced}; it is cut off, damaged, or of varying rate"
            )
            self.left_out = [Problem(kind, str(path), "convert it to a constant rate if it plays to its end")]

    def _read(self, entry: Entry) -> Tensor:
        """Decode on to the frame of an entry, from the start if it was passed already."""
        number = self._numbers[entry.image_id]
        if self._frames is None or number < self._next:
            self._frames, self._next = read_frames(self._path), 0
        for frame in self._frames:
            self._next += 1
            if self._next > number:
                return torch.from_numpy(frame).permute(2, 0, 1)
        raise UnusableImageError(
            f"Frame {number} of the video '{self._path}' cannot be decoded; the file ends before it or is damaged.",
            kind="cannot be decoded",
        )
