"""The images that a path names, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path

from efficientps.data.image_dataset import ImageDataset
from efficientps.data.sources.image_folder import VIDEO_EXTENSIONS, ImageFolder
from efficientps.data.sources.listed_images import ListedImages
from efficientps.data.sources.video import Video


def images_at(
    path: str,
    *,
    image_root: str | None = None,
    size: tuple[int, int] | None = None,
    grey_range: tuple[int, int] | None = None,
    not_split_of: str | None = None,
) -> ImageDataset:
    """Return the images of a file, a folder, a COCO JSON (``ListedImages``) or a video (``Video``).

    Args:
        path: the file or folder.
        image_root: folder of the images that a JSON lists; by default that of the JSON.
        size: (h, w) that each image is fitted in, with its aspect ratio kept; None leaves images as they are.
        grey_range: the values of 16-bit grey images that become black and white, as ``read_image`` has it.
        not_split_of: folder of a data set that has no split of this name, for the message.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if a JSON or a video is not usable, or the folder of images is given without a JSON.
    """
    if not Path(path).exists():
        split = "" if not_split_of is None else f" nor a split of '{not_split_of}'"
        raise FileNotFoundError(f"predict_path is '{path}', which is neither an image nor a folder{split}.")
    suffix = Path(path).suffix.lower()
    if suffix == ".json" and Path(path).is_file():
        return ListedImages(path=path, image_root=image_root, size=size, grey_range=grey_range)
    if image_root is not None:
        raise ValueError(f"predict_images is '{image_root}', and '{path}' is no JSON that lists images of that folder.")
    if suffix in VIDEO_EXTENSIONS and Path(path).is_file():
        return Video(path=path, size=size)
    return ImageFolder(path=path, size=size, grey_range=grey_range)
