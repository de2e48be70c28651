"""Read weight files, and describe the weights that training starts from."""

from __future__ import annotations

import importlib.util
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

_WRITTEN_BY_TORCH = (".pth", ".pt", ".ckpt", ".bin")
"""Endings of files of weights inside of an archive."""

_MOST_COMPRESSION = 50
"""Largest ratio of the size of weights to their size in an archive; that of trained ones is below 2."""

_REACHABLE_WITHIN = 3.0
"""Seconds in which the hub must answer before a download is tried."""


def read_file(path: str | Path, *, kind: str = "weight file") -> dict[str, Any]:
    """Read a checkpoint or a state dict: tensors and plain types only, on the CPU, mapped rather than copied.

    Args:
        path: a file in the ``.safetensors`` format, or written by ``torch.save``; or a ``.zip`` archive around one that
            ``torch.save`` wrote, as some are published.
        kind: what messages call the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, holds no dictionary, or holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {kind} {path}; check the path.")
    if path.suffix == ".safetensors":  # plain tensors by their format
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except Exception as error:
            raise ValueError(unreadable(path, kind)) from error
    try:
        is_zip = zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # a damaged directory of its parts
        raise ValueError(unreadable(path, kind)) from error
    packed = packed_weights(path, kind) if is_zip else None
    try:
        content = torch.load(packed or path, map_location="cpu", weights_only=True, mmap=is_zip and packed is None)
    except PermissionError:
        raise
    except pickle.UnpicklingError as error:
        if is_zip:
            raise ValueError(
                f"The {kind} {path} holds objects that are not tensors or plain types; it was refused, because "
                "loading it could run code. Save its tensors alone, with torch.save(model.state_dict(), ...)."
            ) from error
        raise ValueError(unreadable(path, kind)) from error
    except Exception as error:  # torch.load raises half a dozen types on damaged files, even KeyError
        raise ValueError(unreadable(path, kind)) from error
    if not isinstance(content, dict):
        raise ValueError(f"The file {path} holds a {type(content).__name__}, not a checkpoint or a state dict.")
    return content


def packed_weights(path: str | Path, kind: str) -> BytesIO | None:
    """Return the one file of weights in an archive; ``None`` if ``torch.save`` wrote the archive itself.

    Raises:
        ValueError: the archive is damaged, or does not hold one file of weights.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
    except Exception as error:  # zipfile raises half a dozen types on damaged files
        raise ValueError(unreadable(path, kind)) from error
    if any(entry.filename.endswith("data.pkl") for entry in files):
        return None
    weights = [entry for entry in files if Path(entry.filename).suffix in _WRITTEN_BY_TORCH]
    if len(weights) != 1:
        names = ", ".join(entry.filename for entry in files[:3])
        raise ValueError(
            f"The archive {path} holds {len(weights)} files of weights ({', '.join(_WRITTEN_BY_TORCH)}) among its "
            f"{len(files)} files ({names}); unpack it, and give the {kind} itself."
        )
    (entry,) = weights
    if entry.file_size > _MOST_COMPRESSION * max(entry.compress_size, 1):
        raise ValueError(
            f"The archive {path} holds {entry.filename}, which unpacks to {entry.file_size} bytes, more than "
            f"{_MOST_COMPRESSION} times its packed size; no file of weights does."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return BytesIO(archive.read(entry))
    except Exception as error:
        raise ValueError(unreadable(path, kind)) from error


def unreadable(path: str | Path, kind: str) -> str:
    """Return what is said of a damaged file, which messages call a ``kind``."""
    return (
        f"The {kind} {path} cannot be read: the file is truncated, damaged, or not a {kind}. "
        f"Take an earlier {kind}, or copy the file again."
    )


def state_dict_in(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint (under ``state_dict``), of DETR's files (``model``) or of a plain state dict.

    >>> state_dict_in({"epoch": 3, "state_dict": {"a": torch.tensor(1.0)}})
    {'a': tensor(1.)}
    """
    state = content.get("state_dict", content.get("model", content))
    if not isinstance(state, Mapping):
        return {}
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}


def load_matching(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load every tensor of a module from a state dict, which may hold more, such as a classifier.

    Args:
        module: changed in place. Batch counters that the state dict lacks keep their values.
        state: tensors by the module's keys.
        source: where they come from, for messages.

    Raises:
        ValueError: a tensor of the module is missing or has another shape; the module is then as before.
    """
    expected = module.state_dict()
    chosen = dict(expected)
    for key, value in expected.items():
        if key in state and state[key].shape == value.shape:
            chosen[key] = state[key]
        elif key in state or not key.endswith("num_batches_tracked"):
            found = f"of shape {list(state[key].shape)}" if key in state else "nowhere"
            raise ValueError(
                f"{source} has {key!r} {found}, the backbone wants it of shape {list(value.shape)}; choose the variant "
                "that the weights belong to."
            )
    module.load_state_dict(chosen)


@dataclass(frozen=True)
class WeightFile:
    """Weights in a local file.

    Attributes:
        path: ``.safetensors``, or written by ``torch.save``: a state dict, or a checkpoint with one in it.
    """

    path: str

    def __str__(self) -> str:
        """Return what messages call these weights."""
        return f"the weight file {self.path}"

    def read(self) -> dict[str, Tensor]:
        """Return the tensors.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file cannot be read, or holds no tensors.
        """
        state = state_dict_in(read_file(self.path))
        if not state:
            raise ValueError(f"The weight file {self.path} holds no tensors; give a state dict.")
        return state


@dataclass(frozen=True)
class HubWeights:
    """Weights in an installed Python package, in the local cache of the Hugging Face hub, or in the hub; in this order.

    Attributes:
        repository: name of the hub's repository, for instance ``timm/tf_efficientnet_b5.ra_in1k``.
        file: the file in it.
        package: importable name of a Python package with a folder ``models`` that holds the same weights in one file
            ``*.pth``; its code does not run. ``None``: there is none.
    """

    repository: str
    file: str = "model.safetensors"
    package: str | None = None

    def __str__(self) -> str:
        """Return what messages call these weights: where they are found now."""
        if self._installed() is not None:
            return f"the weight file of the installed package {self._distribution()}"
        if self._cached() is not None:
            return f"the local copy of the hub's weights {self.repository}"
        return f"the hub's weights {self.repository}"

    def read(self) -> dict[str, Tensor]:
        """Return the tensors; the hub is asked only for a file that is not on this machine, and downloaded once.

        Raises:
            UnreachableWeightsError: they are not on this machine, and the hub lacks them or does not answer in time.
            ValueError: the file cannot be read.
        """
        installed = self._installed()
        if installed is not None:
            return state_dict_in(read_file(installed))
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        try:
            cached = self._cached()
            if cached is None:
                # The hub's client retries a failed download for minutes; this request is made once.
                get_hf_file_metadata(hf_hub_url(self.repository, self.file), timeout=_REACHABLE_WITHIN)
                cached = hf_hub_download(self.repository, self.file)
        except Exception as error:  # of the hub's client and of the HTTP library under it
            install = f", or install {self._distribution()}" if self.package is not None else ""
            raise UnreachableWeightsError(
                f"The pretrained weights {self.repository} are not in the local cache and could not be downloaded "
                f"({type(error).__name__}); give a local file as weights, or set pretrained to false, or connect this "
                f"machine to the network once{install}."
            ) from error
        return state_dict_in(read_file(cached))

    def _installed(self) -> Path | None:
        """Return the file of the package, if it is installed."""
        spec = importlib.util.find_spec(self.package) if self.package is not None else None
        folders = spec.submodule_search_locations if spec is not None else None
        return next((file for folder in folders or () for file in sorted(Path(folder).glob("models/*.pth"))), None)

    def _distribution(self) -> str:
        """Return the name by which the package is installed."""
        return (self.package or "").replace("_", "-")

    def _cached(self) -> str | None:
        """Return the file in the hub's local cache, if it is there."""
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(self.repository, self.file)
        return cached if isinstance(cached, str) else None


class UnreachableWeightsError(OSError):
    """Weights are neither in the local cache nor can they be downloaded."""

    argument = "weights"  # which the constructors of backbones have


PretrainedWeights: TypeAlias = WeightFile | HubWeights
"""Description of the source of weights. Nothing is read or fetched before ``read`` is called."""
