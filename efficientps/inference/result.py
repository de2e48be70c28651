"""The prediction for one image, with the class names and label ids of the data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from efficientps.data.formats.export import PanopticWriter
from efficientps.data.formats.instance_export import InstanceFormat
from efficientps.data.formats.segment_measures import areas_and_boxes
from efficientps.data.sources.image_ids import folded, free_id, image_id_of
from efficientps.structures import PanopticSegmentation, Prediction, Segment
from efficientps.structures.categories import Categories


@dataclass(frozen=True)
class PredictedSegment:
    """One segment of a prediction.

    Attributes:
        id: its id in the map of the result.
        name: name of its class.
        label_id: id of its class in the files of the data set.
        train_id: id of its class in the network, stuff first.
        is_thing: whether it is one instance of a thing, and not all of a stuff class.
        score: confidence within [0, 1].
        area: number of its pixels.
        box: ``(x0, y0, x1, y1)`` around its pixels; ``x1`` and ``y1`` are one past the last pixel.
    """

    id: int
    name: str
    label_id: int
    train_id: int
    is_thing: bool
    score: float
    area: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False, repr=False)
class PanopticResult:
    """The panoptic segmentation of one image, at the image's own size ``(h, w)`` and in CPU memory.

    Attributes:
        segment_ids: int32 ``[h, w]``, each pixel's segment id, or 0 where the pixel belongs to no segment (void).
        segments: one entry for each id of the map, void excepted.
        semantic: uint8 ``[h, w]``, train_id of each pixel before fusion.
        image: uint8 ``[3, h, w]``, the image as the network received it, before resizing.
        image_id: name of the file without its extension; without a file, the number of the image in the call.
        file_name: name of the file; None without a file.
        categories: the classes of the network.
        path: path of the file as it was given; None without a file.
    """

    segment_ids: Tensor
    segments: list[PredictedSegment]
    semantic: Tensor
    image: Tensor
    image_id: str
    file_name: str | None
    categories: Categories
    path: str | None = None

    def __repr__(self) -> str:
        """Show id, size and number of segments."""
        height, width = self.segment_ids.shape
        return f"PanopticResult({self.image_id!r}, {height}x{width} pixels, {len(self.segments)} segments)"

    @property
    def panoptic(self) -> PanopticSegmentation:
        """Map and segments as metrics take them."""
        segments = [Segment(item.id, item.train_id, item.is_thing, item.score) for item in self.segments]
        return PanopticSegmentation(self.segment_ids, segments)

    def overlay(self, *, alpha: float = 0.55, names: bool = True) -> Image.Image:
        """Paint the segments over the image.

        Args:
            alpha: weight of the colours, 0 shows the image alone.
            names: whether to write the names of the classes on the segments.
        """
        from efficientps.visualization import overlay  # loads OpenCV

        colors, class_names = zip(*((item.color, item.name) for item in self.categories), strict=True)
        image = np.ascontiguousarray(self.image.permute(1, 2, 0).numpy())
        return Image.fromarray(overlay(image, self.panoptic, colors, class_names if names else None, alpha=alpha))


def make_result(
    prediction: Prediction, *, image: Tensor, image_id: str, path: str | None, categories: Categories
) -> PanopticResult:
    """Name and measure the segments of a prediction.

    Args:
        prediction: on any device; of any size, maps of another size than the image's are resized.
        image: uint8 ``[3, h, w]``.
        image_id: id of the image.
        path: path of its file, if there is one.
        categories: the classes of the network.

    Raises:
        ValueError: if the network predicts a class that the table does not have.
    """
    prediction = prediction.resize((image.shape[-2], image.shape[-1]))
    # Copies, because tensors that were made in inference mode cannot be changed outside of it.
    segment_ids = prediction.panoptic.segment_ids.to("cpu", copy=True)
    segments = prediction.panoptic.segments
    if segments and (largest := max(segment.train_id for segment in segments)) >= len(categories):
        raise ValueError(
            f"The network predicts class {largest}, and there are {len(categories)} categories; "
            "give the categories that the network was trained with."
        )
    areas, boxes = areas_and_boxes(segment_ids.numpy(), [segment.id for segment in segments])
    named = [
        PredictedSegment(
            id=segment.id,
            name=categories[segment.train_id].name,
            label_id=categories[segment.train_id].label_id,
            train_id=segment.train_id,
            is_thing=segment.is_thing,
            score=float(segment.score),
            area=area,
            box=(x, y, x + width, y + height),
        )
        for segment, area, (x, y, width, height) in zip(segments, areas, boxes, strict=True)
    ]
    return PanopticResult(
        segment_ids=segment_ids,
        segments=named,
        semantic=prediction.semantic.to("cpu", copy=True),
        image=image,
        image_id=image_id,
        file_name=None if path is None else os.path.basename(path),
        categories=categories,
        path=path,
    )


def write_coco(
    results: Iterable[PanopticResult],
    folder: str | os.PathLike[str],
    *,
    image_ids: Sequence[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    instances: InstanceFormat | None = None,
) -> Path:
    """Write results in the COCO panoptic format: ``panoptic.json``, and one PNG for each image in ``panoptic/``.

    Results are written one by one, so that those of ``Predictor.stream`` need not be in memory together. The JSON gives
    each image the name of its file. Files of one name in several folders get the path that they were given by, and
    those that differ in their folder or ending alone get ids of their own.

    Args:
        results: results of one network.
        folder: made if it does not exist.
        image_ids: one id for each result, in place of the result's own.
        root: folder that the names of the images are relative to, so that the JSON has their subfolders.
        instances: also write the instances as a COCO instance JSON: "annotations" or "results" (``InstanceFormat``).

    Returns:
        The path of the JSON file.

    Raises:
        ValueError: if there is no result, an image occurs twice, an image id occurs twice or cannot be part of a file
            name, the numbers of results and ids differ, a file lies outside of ``root``, or the folder cannot be
            written to.
    """
    writer: PanopticWriter | None = None
    names = _Names(root)
    count = 0
    for count, result in enumerate(results, start=1):
        writer = writer or PanopticWriter(folder, result.categories, instances=instances)
        if image_ids is not None and count > len(image_ids):
            raise ValueError(f"There are more results than the {len(image_ids)} image_ids; give one for each.")
        image_id, file_name = names.of(result)
        image_id = image_id if image_ids is None else image_ids[count - 1]
        writer.write(image_id, result.panoptic, image_file_name=file_name)
    if writer is None:
        raise ValueError(f"There is no result to write to '{folder}'; give one at least.")
    if image_ids is not None and count < len(image_ids):
        raise ValueError(f"There are {count} results for {len(image_ids)} image_ids; give one for each.")
    writer.close()
    return writer.json_path


class _Names:
    """Gives each result an id and a name that no other has."""

    def __init__(self, root: str | os.PathLike[str] | None) -> None:
        """Begin with none."""
        self._root = root
        self._ids: set[str] = set()
        self._names: set[str] = set()
        self._known: dict[str, tuple[str, str]] = {}  # absolute path -> id and name

    def of(self, result: PanopticResult) -> tuple[str, str | None]:
        """Return the id and the name of a result; a file that was met before has the same ones again."""
        if result.path is None:
            self._ids.add(folded(result.image_id))
            return result.image_id, result.file_name
        absolute = os.path.abspath(result.path)
        if absolute not in self._known:
            self._known[absolute] = self._new(Path(result.path), result.image_id)
        return self._known[absolute]

    def _new(self, path: Path, image_id: str) -> tuple[str, str]:
        name = path.name
        if self._root is not None:
            relative = Path(os.path.relpath(path, self._root))
            if relative.parts[0] == "..":
                raise ValueError(f"Image '{path}' lies outside of '{self._root}'; names cannot be relative to it.")
            name, image_id = relative.as_posix(), image_id_of(relative)
        elif name in self._names:
            name = path.as_posix()
        if folded(image_id) in self._ids:
            ending = path.suffix[1:]
            image_id = free_id(f"{image_id}_{ending}" if ending else image_id, self._ids)
        self._ids.add(folded(image_id))
        self._names.add(name)
        return image_id, name
