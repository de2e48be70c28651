"""Images to predict on: they have no maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils.data import Dataset

from efficientps.data.augmentation.geometry import resize_within
from efficientps.data.entries import Entry
from efficientps.structures import ImageSample


class ImageDataset(Dataset[ImageSample]):
    """Images without maps. Prediction leaves no image out: one that cannot be read is an error.

    Attributes:
        entries: the images, in the order of the indices.
    """

    def __init__(
        self, entries: Sequence[Entry], read_image: Callable[[Entry], Tensor], *, size: tuple[int, int] | None = None
    ) -> None:
        """Store the choices; nothing is read yet.

        Args:
            entries: the images.
            read_image: returns the image of an entry, uint8 ``[3, h, w]``.
            size: (h, w) that each image is fitted in, with its aspect ratio kept; None leaves images as they are.
        """
        self.entries = entries
        self._read_image = read_image
        self._size = size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.entries)

    def __getitem__(self, index: int) -> ImageSample:
        """Read and resize one image.

        Raises:
            FileNotFoundError: if the file is gone.
            ValueError: if it is not an image, is damaged or too large.
        """
        entry = self.entries[index]
        image = self._read_image(entry)
        original_size = (image.shape[1], image.shape[2])
        return ImageSample(image=resize_within(image, self._size), image_id=entry.image_id, original_size=original_size)
