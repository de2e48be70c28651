"""A cache of tensors that depend on sizes alone, such as coordinates."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

MAX_BYTES = 1 << 26
"""64 MB: about ten sizes of images at 1024x2048 with Fourier features, hundreds without."""


class TensorCache(nn.Module):
    """Keeps tensors for the device that they were last asked for on.

    It is a module without parameters and buffers, and adds nothing to the state dict. A copy and an unpickled module
    start with an empty cache. A kept tensor is never moved or freed while the module stays on its device, so that a
    CUDA graph may read it. Once the cache is full, further tensors are computed in every call.

    >>> cache = TensorCache()
    >>> cache.get(torch.arange, 3, device=torch.device("cpu")) is cache.get(torch.arange, 3, device=torch.device("cpu"))
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self._device: torch.device | None = None
        self._kept: dict[Hashable, Tensor] = {}
        self._bytes = 0

    def get(self, build: Callable[..., Tensor], *arguments: Hashable, device: torch.device) -> Tensor:
        """Return ``build(*arguments, device=device)``, which has to be the same in every call; do not change it."""
        if device != self._device:
            self._device, self._kept, self._bytes = device, {}, 0
        key = (build, arguments)
        if key not in self._kept:
            with torch.inference_mode(False), torch.no_grad():  # training cannot use inference tensors
                tensor = build(*arguments, device=device)
            size = tensor.numel() * tensor.element_size()
            if self._bytes + size > MAX_BYTES:
                return tensor
            self._kept[key], self._bytes = tensor, self._bytes + size
        return self._kept[key]

    def __getstate__(self) -> dict[str, object]:
        """Return the state for a copy or a pickle: with an empty cache."""
        return {**self.__dict__, "_device": None, "_kept": {}, "_bytes": 0}
