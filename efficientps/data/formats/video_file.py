"""Read the frames of a video, and write pictures as a video; by PyAV, which is an optional package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from efficientps.data.formats.image_file import MAX_PIXELS, UnusableImageError

ENCODERS = ("libx264", "mpeg4")
"""Encoders of H.264, which every browser plays, and of MPEG-4, which every build of FFmpeg has; the first found is
taken."""


class MissingVideoPackageError(ModuleNotFoundError):
    """The package that reads and writes videos is not installed."""


class VideoLength(NamedTuple):
    """How long a video is.

    Attributes:
        frames: the number of frames.
        frames_per_second: how many it shows per second.
        announced: how many frames its header announces, by its duration; 0 if it says nothing.
    """

    frames: int
    frames_per_second: Fraction
    announced: int


def video_length(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> VideoLength:
    """Count the frames of a video; none is decoded.

    Raises:
        MissingVideoPackageError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        UnusableImageError: if it is no video, has no frame, or its frames are too large.
    """
    av = _library(path)
    with _opened(av, path) as container:
        stream = container.streams.video[0]
        if stream.width * stream.height > max_pixels:
            raise UnusableImageError(
                f"Video '{path}' has frames of {stream.height}x{stream.width} pixels where at most {max_pixels} are "
                "read."
            )
        rate = stream.average_rate or stream.guessed_rate
        try:
            frames = sum(packet.size > 0 for packet in container.demux(stream))
        except (av.error.FFmpegError, EOFError) as error:
            raise UnusableImageError(f"Video '{path}' cannot be read ({_reason(error)}); replace the file.") from None
        if not frames or not rate:
            raise UnusableImageError(f"Video '{path}' has no frames that can be counted; convert it to MP4.")
        announced = round(container.duration / av.time_base * rate) if container.duration else 0
        return VideoLength(frames, Fraction(rate), announced)


def read_frames(path: str | os.PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video in the order in which they are shown, upright, uint8 ``[h, w, 3]`` in RGB.

    Raises:
        MissingVideoPackageError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        UnusableImageError: if it is no video; where it is damaged, after the frames before.
    """
    av = _library(path)
    with _opened(av, path) as container:
        try:
            for frame in container.decode(video=0):
                picture = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(picture, round(getattr(frame, "rotation", 0) / 90)))
        except (av.error.FFmpegError, EOFError) as error:
            raise UnusableImageError(
                f"Video '{path}' cannot be decoded ({_reason(error)}); replace the file."
            ) from None


class VideoWriter:
    """Writes pictures of one size as an MP4 file, which appears when the writer is closed.

    Args:
        path: the file.
        frames_per_second: how many pictures are shown per second.

    Raises:
        MissingVideoPackageError: if PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], frames_per_second: Fraction | float) -> None:
        """Store the choices; the file is begun with the first picture, whose size it takes."""
        self.path = Path(path)
        self._av = _library(path)
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._container: Any = None
        self._stream: Any = None

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Add a picture, uint8 ``[h, w, 3]``; its size is made even, which the format asks for."""
        height, width = picture.shape[0], picture.shape[1]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._container is None:
            self._container = self._av.open(str(self._partial), mode="w", format="mp4")
            encoder = next(name for name in ENCODERS if name in self._av.codecs_available)
            self._stream = self._container.add_stream(encoder, rate=self._rate)
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """End the file, if there is a picture; what was written can be played also where an error ended it."""
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None
            self._partial.replace(self.path)


def _library(path: str | os.PathLike[str]) -> ModuleType:
    """Import PyAV."""
    try:
        import av
    except ImportError:
        raise MissingVideoPackageError(
            f"Video '{path}' needs the package av (PyAV), which is not installed; install it with: pip install av"
        ) from None
    return av


def _opened(av: Any, path: str | os.PathLike[str]) -> Any:
    """Open a video file; the caller closes it."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Video '{path}' does not exist.")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, EOFError, ValueError) as error:
        raise UnusableImageError(f"'{path}' is not a video that can be read ({_reason(error)}).") from None
    if not container.streams.video:
        container.close()
        raise UnusableImageError(f"'{path}' has sound and no video.")
    return container


def _reason(error: Exception) -> str:
    """Return what FFmpeg says, without the number and the file that Python adds."""
    return str(getattr(error, "strerror", None) or error)
