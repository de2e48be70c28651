"""Images to predict on: they have no maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils.data import Dataset

from efficientps.data.augmentation.geometry import resize_within
from efficientps.data.entries import Entry
from efficientps.data.formats.image_file import UnusableImageError
from efficientps.data.problems import Problem
from efficientps.structures import ImageSample, UnreadableImage

FAULTS = (UnusableImageError, FileNotFoundError, PermissionError)
"""What reading raises for one bad file; other errors are those of the disk or the machine, and end a prediction."""


class ImageDataset(Dataset[ImageSample | UnreadableImage]):
    """Images without maps.

    Attributes:
        entries: the images, in the order of the indices.
        left_out: images that were found beside these and are not read, for the summary of a prediction.
        text_ids: ids that are text where they come from, even if they are plain numbers.
        skipped: files that were found beside the images and are no images.
        keep_going: whether an image that cannot be read gives an ``UnreadableImage`` in its place, in place of an
            error.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        read_image: Callable[[Entry], Tensor],
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Store the choices; nothing is read yet.

        Args:
            entries: the images.
            read_image: returns the image of an entry, uint8 ``[3, h, w]``.
            size: (h, w) that each image is fitted in, with its aspect ratio kept; None leaves images as they are.
        """
        self.entries = entries
        self.left_out: Sequence[Problem] = ()
        self.skipped: Sequence[Problem] = ()
        self.keep_going = False
        self.text_ids: frozenset[str] = frozenset()
        self._read_image = read_image
        self._size = size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.entries)

    def __getitem__(self, index: int) -> ImageSample | UnreadableImage:
        """Read and resize one image.

        Raises:
            FileNotFoundError: if the file is gone.
            ValueError: if it is not an image, is damaged or too large.
            OSError: if disk, network or rights keep the file from being read.
        """
        entry = self.entries[index]
        try:
            image = self._read_image(entry)
        except FAULTS as error:
            if not self.keep_going:
                raise
            return UnreadableImage(entry.file_name, kind_of(error), str(error))
        return ImageSample(
            image=resize_within(image, self._size),
            image_id=entry.image_id,
            original_size=(image.shape[1], image.shape[2]),
            file_name=entry.file_name,
        )


def kind_of(error: Exception) -> str:
    """Return what is wrong with an image, in a few words that images with the same fault share."""
    if isinstance(error, UnusableImageError):
        return error.kind
    return "does not exist" if isinstance(error, FileNotFoundError) else "may not be read by this user"
