"""Predictions from Python: a trained network, given images of any type and size."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import torch
from torch import Tensor

from efficientps.data.augmentation.geometry import resize_within
from efficientps.data.formats.image_file import check_grey_range
from efficientps.data.image_dataset import FAULTS, kind_of
from efficientps.data.loading.collate import collate
from efficientps.data.sources.image_ids import image_id_of
from efficientps.inference.image_inputs import ImageInput, check_input, is_one_image, read_input
from efficientps.inference.inference_copy import inference_copy
from efficientps.inference.model_file import read_model_file
from efficientps.inference.result import PanopticResult, make_result
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import COARSEST_STRIDE, ImageSample, UnreadableImage
from efficientps.structures.categories import Categories

Precision: TypeAlias = Literal["auto", "32", "bf16", "16"]

_DTYPES = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}

_READ_AHEAD = 8
"""Batches' worth of images that are read before they are grouped by size; more would fill memory."""


class Predictor:
    """Predicts panoptic segmentations with a trained network.

    The predictor works with an inference copy of the network (``inference_copy``): it is faster, and later changes of
    the network do not reach it. An image is resized to fit ``eval_size``, as in evaluation, and the result has the size
    of the image.

    >>> predictor = load("last.ckpt")  # doctest: +SKIP
    >>> result = predictor("street.jpg")  # doctest: +SKIP

    Attributes:
        categories: the classes.
        eval_size: (h, w) that images are fitted in.
        device: where the network runs.
        precision: "32", "bf16" or "16".
        batch_size: images per call of the network.
        grey_range: the values of 16-bit grey images that become 0 and 255; None: 0 and 65535.
    """

    def __init__(
        self,
        network: PanopticNetwork,
        categories: Categories,
        *,
        eval_size: tuple[int, int] | None = None,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        batch_size: int = 1,
        grey_range: tuple[int, int] | None = None,
    ) -> None:
        """Copy the network to the device.

        Args:
            network: a trained network; it is not changed.
            categories: the classes that it was trained with.
            eval_size: (h, w) that images are fitted in, with their aspect ratio kept; None leaves them as they are.
            device: "cpu", "cuda", "cuda:1"; "auto" takes CUDA if PyTorch finds a device, else the CPU.
            precision: "32", or the dtype of mixed precision: "bf16" or "16". "auto" takes "bf16" on a CUDA device with
                units for it, else "32".
            batch_size: images per call of the network; those of one call have one size of canvas. A larger number
                occupies a GPU better and takes more memory.
            grey_range: the values of 16-bit grey files and PIL images that become 0 and 255, as in the training of the
                network; None: 0 and 65535.

        Raises:
            ValueError: if the device is not there, or another argument is none of those above.
        """
        self.device = find_device(device)
        self.precision = _find_precision(precision, self.device)
        if eval_size is not None and (len(eval_size) != 2 or min(eval_size) < 1):
            raise ValueError(f"eval_size is {tuple(eval_size)}; give height and width, both positive.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more.")
        check_grey_range(grey_range)
        self.grey_range = grey_range
        self.categories = categories
        self.eval_size = eval_size
        self.batch_size = batch_size
        self._dtype = _DTYPES[self.precision]
        if any(parameter.device != self.device for parameter in network.parameters()):
            network = deepcopy(network).to(self.device)
        with _current(self.device):
            self._network = inference_copy(network, dtype=self._dtype)

    def __repr__(self) -> str:
        """Show the network's class and how it runs."""
        how = f"eval_size={self.eval_size}, device='{self.device}', precision='{self.precision}'"
        return f"Predictor({type(self._network).__name__}, {self.categories!r}, {how})"

    @overload
    def __call__(self, images: ImageInput) -> PanopticResult: ...  # type: ignore[overload-overlap] # str is iterable
    @overload
    def __call__(self, images: Iterable[ImageInput]) -> list[PanopticResult]: ...
    def __call__(self, images: ImageInput | Iterable[ImageInput]) -> PanopticResult | list[PanopticResult]:
        """Predict one image or several, of any sizes.

        Args:
            images: one of the types of ``ImageInput``, or a list of these. All images of a list are looked at before
                the first prediction, as far as that is possible without decoding them.

        Returns:
            One result for one image, and for a list the results in the order of the images.

        Raises:
            FileNotFoundError: if there is no file at a path.
            TypeError: if an image is none of the types of ``ImageInput``.
            ValueError: if a file is not an image, is damaged or too large; an array or tensor has another dtype, shape
                or range of values. The message names the image.
            OSError: if disk, network or rights keep a file from being read.
        """
        if is_one_image(images) or not isinstance(images, Iterable):
            return self._predict([self._read(images, image_id="0", name="The image")])[0]
        given = list(images)
        for number, image in enumerate(given):
            check_input(image, f"images[{number}]")
        return list(self.stream(given))

    def stream(
        self, images: Iterable[ImageInput], *, unreadable: list[UnreadableImage] | None = None
    ) -> Iterator[PanopticResult]:
        """Predict images one after the other, without holding all images or results in memory.

        Args:
            images: any iterable of images, such as a generator.
            unreadable: if given, an image that cannot be read is left out and added to this list.

        Yields:
            The result of each image, in order. Without ``unreadable``, an image that cannot be used ends the iteration
            with the errors of ``__call__``, after the results of the images before it.
        """
        numbered = enumerate(images)
        ahead = self.batch_size if self.batch_size == 1 else _READ_AHEAD * self.batch_size
        while window := list(islice(numbered, ahead)):
            items, error = [], None
            for number, image in window:
                name = f"images[{number}]"
                try:
                    items.append(self._read(image, image_id=str(number), name=name))
                except Exception as unusable:
                    if unreadable is None or not isinstance(unusable, FAULTS):
                        error = unusable
                        break
                    file_name = os.fspath(image) if isinstance(image, str | os.PathLike) else name
                    unreadable.append(UnreadableImage(file_name, kind_of(unusable), str(unusable)))
            yield from self._predict(items)
            if error is not None:
                raise error

    def _read(self, image: Any, *, image_id: str, name: str) -> _Item:
        """Read an image and resize it for the network; a file gives its own name as the id."""
        pixels = read_input(image, name, grey_range=self.grey_range)
        path = os.fspath(image) if isinstance(image, str | os.PathLike) else None
        if path is not None:
            image_id = image_id_of(Path(os.path.basename(path)))
        size = (pixels.shape[-2], pixels.shape[-1])
        resized = resize_within(pixels, self.eval_size)
        return _Item(ImageSample(image=resized, image_id=image_id, original_size=size), pixels, path)

    def _predict(self, items: Sequence[_Item]) -> list[PanopticResult]:
        """Predict images in batches of one size of canvas; return the results in the order of the images."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(items):
            canvas = tuple(math.ceil(extent / COARSEST_STRIDE) for extent in item.sample["image"].shape[-2:])
            groups.setdefault(canvas, []).append(index)
        results: dict[int, PanopticResult] = {}
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                chosen = group[start : start + self.batch_size]
                results |= zip(chosen, self._predict_batch([items[index] for index in chosen]), strict=True)
        return [results[index] for index in range(len(items))]

    def _predict_batch(self, items: Sequence[_Item]) -> list[PanopticResult]:
        batch = collate([item.sample for item in items], multiple=COARSEST_STRIDE)
        batch["images"] = batch["images"].to(self.device)
        autocast = torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None)
        with _current(self.device), torch.inference_mode(), autocast:
            predictions = self._network.predict(batch)
        return [
            make_result(
                prediction,
                image=item.image,
                image_id=item.sample["image_id"],
                path=item.path,
                categories=self.categories,
            )
            for prediction, item in zip(predictions, items, strict=True)
        ]


class _Item(NamedTuple):
    """An image on its way: resized for the network, and as it is."""

    sample: ImageSample
    image: Tensor
    path: str | None


def load(
    path: str | Path,
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    batch_size: int = 1,
    trust: Sequence[str] = (),
) -> Predictor:
    """Build the predictor of a trained model from a checkpoint, which says what it is.

    Args:
        path: a checkpoint of a training, such as ``last.ckpt``; nothing else is read.
        device: see ``Predictor``.
        precision: see ``Predictor``.
        batch_size: see ``Predictor``.
        trust: modules, beside this package, whose classes the file may name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not usable (see ``read_model_file``), or an argument is not (see ``Predictor``).
    """
    found = find_device(device)
    model = read_model_file(path, trust)
    return Predictor(
        model.network,
        model.categories,
        eval_size=model.eval_size,
        grey_range=model.grey_range,
        device=found,
        precision=precision,
        batch_size=batch_size,
    )


def find_device(device: str | torch.device) -> torch.device:
    """Return a device that is there.

    Args:
        device: as PyTorch spells it, or "auto": CUDA if PyTorch finds a device, else the CPU.

    Raises:
        ValueError: if there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device is {device!r}; give 'auto', 'cpu', 'cuda' or 'cuda:1'.") from None
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            sees = f"{count} CUDA {'device' if count == 1 else 'devices'}" if count else "no CUDA device"
            raise ValueError(f"device is '{found}', and PyTorch finds {sees} here; give 'auto' or 'cpu'.")
        return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)
    try:
        torch.empty(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device is '{found}', which PyTorch does not find here; give 'auto' or 'cpu'.") from None
    return torch.empty(0, device=found).device


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Make a CUDA device the current one, on which kernels of Triton are launched."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _find_precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return "bf16" if has_bfloat16 else "32"
    if precision not in _DTYPES:
        raise ValueError(f"precision is {precision!r}; give 'auto', '32', 'bf16' or '16'.")
    return precision
