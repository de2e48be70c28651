"""Make the panoptic maps of Cityscapes with the official converter, in parallel, either all or none.

Imports no torch: worker processes start in half a second.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from efficientps.data.hidden_files import visible
from efficientps.data.tools.in_order import in_order

IMAGE_PACKAGE = "leftImg8bit_trainvaltest.zip"
LABEL_PACKAGE = "gtFine_trainvaltest.zip"
DOWNLOADS = "https://www.cityscapes-dataset.com/downloads"

_ANNOTATION_SUFFIX = "_gtFine_instanceIds.png"
_IMAGE_SUFFIX = "_leftImg8bit.png"
_CHUNK = 16
"""Images that one task of a worker converts: small enough for an even load and a smooth progress bar."""


class _Chunk(NamedTuple):
    """One task: some annotation files of a split, and the folder for their results."""

    split: str
    files: list[Path]
    output: Path


def prepare_split(
    root: str | os.PathLike[str],
    split: str,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Make ``gtFine/cityscapes_panoptic_{split}`` and its JSON, unless they are there and complete.

    The files are those of ``cityscapesscripts.preparation.createPanopticImgs`` with label ids, byte for byte. The
    JSON file appears last, when every map is in place; an interrupted run leaves none.

    Args:
        root: folder with ``leftImg8bit`` and ``gtFine``.
        split: "train" or "val".
        workers: number of processes; 1 converts in this one.
        progress: called with (images done, images in all).

    Returns:
        Whether anything had to be made.

    Raises:
        FileNotFoundError: if a part of the tree is missing.
        PermissionError: if ``gtFine`` cannot be written to.
        ValueError: if an annotation file is damaged.
    """
    files = check_tree(root, split)
    if is_complete(root, split):
        return False
    label_root = Path(root, "gtFine")
    folder = label_root / f"cityscapes_panoptic_{split}"
    json_file = folder.with_suffix(".json")
    with _partial_folder(label_root / f".{folder.name}.partial") as partial:
        chunks = [
            _Chunk(split, files[first : first + _CHUNK], partial / f"{first:06d}")
            for first in range(0, len(files), _CHUNK)
        ]
        done = 0
        with closing(in_order(_convert, chunks, workers=workers, writes=True)) as converted:
            for chunk in converted:
                done += len(chunk.files)
                if progress is not None:
                    progress(done, len(files))
        whole = _merge([json.loads((chunk.output / json_file.name).read_text()) for chunk in chunks])
        merged = partial / json_file.name
        merged.write_text(json.dumps(whole, sort_keys=True, indent=4))
        json_file.unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        for chunk in chunks:
            for map_file in (chunk.output / folder.name).iterdir():
                os.replace(map_file, folder / map_file.name)
        os.replace(merged, json_file)
    return True


def check_tree(root: str | os.PathLike[str], split: str) -> list[Path]:
    """Return the annotation files of a split, sorted, after checking that each has its image and the reverse.

    Raises:
        FileNotFoundError: if anything is missing; the message says what, and which package holds it.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(
            f"Cityscapes folder '{root}' does not exist; create it and unpack {IMAGE_PACKAGE} and {LABEL_PACKAGE} "
            f"from {DOWNLOADS} there."
        )
    for part, package in (("gtFine", LABEL_PACKAGE), ("leftImg8bit", IMAGE_PACKAGE)):
        if not Path(root, part, split).is_dir():
            raise FileNotFoundError(
                f"Cityscapes folder '{root}' lacks '{part}/{split}'; unpack {package} from {DOWNLOADS} there."
            )
    files = sorted(_files(root, "gtFine", split, _ANNOTATION_SUFFIX))
    if not files:
        raise FileNotFoundError(
            f"Folder '{Path(root, 'gtFine', split)}' holds no '*/*{_ANNOTATION_SUFFIX}'; "
            f"unpack {LABEL_PACKAGE} from {DOWNLOADS} in '{root}'."
        )
    annotated = {f"{file.parent.name}/{_image_id(file)}" for file in files}
    images = {
        f"{file.parent.name}/{file.name.removesuffix(_IMAGE_SUFFIX)}"
        for file in _files(root, "leftImg8bit", split, _IMAGE_SUFFIX)
    }
    for present, wanted, part, suffix, package in (
        (images, annotated, "leftImg8bit", _IMAGE_SUFFIX, IMAGE_PACKAGE),
        (annotated, images, "gtFine", _ANNOTATION_SUFFIX, LABEL_PACKAGE),
    ):
        if missing := sorted(wanted - present):
            raise FileNotFoundError(
                f"Cityscapes folder '{root}' lacks {len(missing)} of {len(wanted)} files of '{part}/{split}', the "
                f"first is '{missing[0]}{suffix}'; unpack {package} from {DOWNLOADS} again."
            )
    return files


def is_complete(root: str | os.PathLike[str], split: str) -> bool:
    """Return whether the panoptic JSON of a split is whole, covers every annotation file, and has all its maps."""
    folder = Path(root, "gtFine", f"cityscapes_panoptic_{split}")
    try:
        document = json.loads(folder.with_suffix(".json").read_text())
        maps = {annotation["image_id"]: folder / annotation["file_name"] for annotation in document["annotations"]}
        images = {image["id"] for image in document["images"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = {_image_id(file) for file in _files(root, "gtFine", split, _ANNOTATION_SUFFIX)}
    return wanted == maps.keys() == images and all(file.is_file() and file.stat().st_size for file in maps.values())


def _files(root: str | os.PathLike[str], part: str, split: str, suffix: str) -> Iterator[Path]:
    """Yield the files of the cities of a split; names that begin with a dot are none of Cityscapes."""
    folder = Path(root, part, split)
    return visible(folder.glob(f"*/*{suffix}"), folder)


def _image_id(annotation_file: Path) -> str:
    return annotation_file.name.removesuffix(_ANNOTATION_SUFFIX)


@contextmanager
def _partial_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder that never outlives the block; one left by a killed run is cleared first."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir()
    except PermissionError:
        raise PermissionError(
            f"Cannot write into '{path.parent}', where the panoptic maps belong; make the folder writable."
        ) from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _convert(chunk: _Chunk) -> _Chunk:
    """Run the official converter on a tree that holds nothing but links to the files of the chunk."""
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    chunk.output.mkdir()
    with tempfile.TemporaryDirectory() as labels:
        for file in chunk.files:
            city = Path(labels, chunk.split, file.parent.name)
            city.mkdir(parents=True, exist_ok=True)
            _link(file, city / file.name)
        try:
            for file in chunk.files:
                _refuse_colors(file)
            with redirect_stdout(io.StringIO()):
                convert2panoptic(labels, str(chunk.output), useTrainId=False, setNames=[chunk.split])
        except _ColorsError:
            raise
        except (ValueError, LookupError, SyntaxError, OSError, SystemExit) as error:
            raise _culprit(chunk.files, error) from None
    return chunk


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where links are not to be had."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


class _ColorsError(ValueError):
    """An annotation with several numbers for each pixel, which the official converter would take for ids."""


def _refuse_colors(file: Path) -> None:
    with Image.open(file) as image:
        if len(image.getbands()) > 1:
            raise _ColorsError(
                f"Annotation '{file}' has '{image.mode}' pixels, which are colours; one number for each pixel is read."
            )


def _culprit(files: list[Path], error: BaseException) -> Exception:
    """Return an error that names the file that made the converter fail."""
    import numpy as np
    from cityscapesscripts.helpers.labels import id2label

    for file in files:
        try:
            with Image.open(file) as image:
                values = np.unique(np.asarray(image))
        except (OSError, SyntaxError) as reason:
            return ValueError(
                f"Annotation '{file}' cannot be decoded ({reason}); unpack {LABEL_PACKAGE} from {DOWNLOADS} again."
            )
        for value in values.tolist():
            label = value if value < 1000 else value // 1000
            if label not in id2label:
                return ValueError(
                    f"Annotation '{file}' has the value {value}, whose label {label} is none of Cityscapes' "
                    f"(0 to {max(id2label)}); convert masks of other classes by their own table of classes."
                )
    if isinstance(error, OSError):
        return error
    return ValueError(f"One of the annotations '{files[0]}' to '{files[-1]}' cannot be converted ({error!r}).")


def _merge(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the JSON files of consecutive chunks to that of the split."""
    return {
        "images": [image for document in documents for image in document["images"]],
        "annotations": [annotation for document in documents for annotation in document["annotations"]],
        "categories": documents[0]["categories"],
    }
