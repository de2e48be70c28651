"""In-place activated batch normalisation (iABN), synchronised over ranks, with an exact eager equivalent.

Batch normalisation followed by a leaky ReLU normally keeps two activations for its backward pass: its input and the
activation's input. Both can be computed from the *output*, because the leaky ReLU is invertible and the normalisation
is affine per channel. Keeping the output alone is therefore enough (Rota Bulò et al., "In-Place Activated BatchNorm for
Memory-Optimized Training of DNNs", CVPR 2018, Sec. 3). The next convolution keeps this tensor anyway, as its input, so
the layer needs no memory for activations.

The scale is ``abs(weight) + eps``, never 0, because the backward pass divides by it
(mapillary/inplace_abn:src/inplace_abn.cpp).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from efficientps.layers.abn_scale import Scale, scales_of_layers
from efficientps.layers.in_place_abn_function import InPlaceABNFunction
from efficientps.layers.norm_implementation import (
    Implementation,
    check_installed,
    triton_function,
    warn_eager_is_not_synchronised,
)

NormAct = Callable[[int], nn.Module]
"""Builds a normalisation with its activation for a number of channels."""


class InPlaceABN(nn.Module):
    """Batch normalisation and leaky ReLU in one layer that keeps only its output for the backward pass.

    If the default process group has several ranks, the statistics are taken over all of them. The parameters and the
    state dict are those of the ``inplace-abn`` package.

    Args:
        num_features: channels C of the input ``[B, C, ...]``.
        eps: added to the variance and to the absolute weight. ImageNet weights ported from TensorFlow need 1e-3.
        momentum: weight of the newest batch in the running statistics (0.1, the default of PyTorch and inplace-abn).
        slope: negative slope of the leaky ReLU; 1 is the identity (0.01, DeepSceneSeg/EfficientPS:configs,
            ``activation_param``).

    Attributes:
        frozen: if true, the layer normalises by its running statistics and does not update them, even in training mode
            (set by ``freeze_norms``).
        implementation: how the layer computes (set by ``set_norm_implementation``). ``in_place`` uses PyTorch's
            operators. ``eager`` composes PyTorch's two layers; it does not synchronise, so with several ranks the layer
            computes as ``in_place`` and warns. ``compiled`` calls the ``inplace-abn`` package on CUDA tensors.
            ``triton`` runs this package's own kernels on channels-last CUDA tensors; for other tensors the layer
            computes as ``in_place`` and warns.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1, slope: float = 0.01) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.slope = slope
        self.frozen = False
        self.implementation: Implementation = "in_place"
        self._scale: Scale | None = None  # set by ``prepared_scales``
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate ``x`` ``[B, C, ...]``; the result has its shape, dtype and memory format."""
        use_batch_statistics = self.training and not self.frozen
        momentum = 0.0 if getattr(_recomputation, "active", False) else self.momentum
        world_size = _world_size() if use_batch_statistics else 1
        if self.implementation == "compiled" and x.is_cuda:
            return self._compiled(x, use_batch_statistics, momentum, synchronise=world_size > 1)
        if self.implementation == "eager" and world_size > 1 and not torch.compiler.is_compiling():
            warn_eager_is_not_synchronised(world_size)
        if self.implementation == "eager" and world_size == 1:
            return eager_abn(
                x, self.weight, self.bias, self.running_mean, self.running_var,
                use_batch_statistics=use_batch_statistics, momentum=momentum, eps=self.eps, slope=self.slope,
            )  # fmt: skip
        function = triton_function(x) if self.implementation == "triton" else None
        output: Tensor = (function or InPlaceABNFunction).apply(
            x, self.weight, self.bias, self.running_mean, self.running_var, self._scale,
            use_batch_statistics, momentum, self.eps, self.slope, world_size,
        )  # type: ignore[no-untyped-call] # fmt: skip
        return output

    def _compiled(self, x: Tensor, use_batch_statistics: bool, momentum: float, synchronise: bool) -> Tensor:
        from inplace_abn import functional as compiled

        activation = "identity" if self.slope == 1 else "leaky_relu"
        arguments = (
            x, self.weight, self.bias, self.running_mean, self.running_var,
            use_batch_statistics, momentum, self.eps, activation, self.slope,
        )  # fmt: skip
        function = compiled.inplace_abn_sync if synchronise else compiled.inplace_abn
        output: Tensor = function(*arguments)
        return output

    def extra_repr(self) -> str:
        """Describe the layer in ``repr(model)``."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, slope={self.slope}"


def eager_abn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    use_batch_statistics: bool,
    momentum: float,
    eps: float,
    slope: float,
) -> Tensor:
    """Compute in-place ABN by PyTorch's own layers; the running statistics are updated in place.

    Args:
        x: ``[B, C, ...]``.
        weight: ``[C]``; the scale is its absolute value + eps.
        bias: ``[C]``.
        running_mean: ``[C]``.
        running_var: ``[C]``.
        use_batch_statistics: normalise by the batch and update the running statistics.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance and to the absolute weight.
        slope: negative slope of the leaky ReLU; 1 is the identity.
    """
    normalised = F.batch_norm(
        x, running_mean, running_var, weight.abs() + eps, bias, use_batch_statistics, momentum, eps
    )
    return normalised if slope == 1 else F.leaky_relu(normalised, slope)


_recomputation = threading.local()


@contextmanager
def keep_statistics() -> Iterator[None]:
    """Do not update the running statistics of any ``InPlaceABN`` in this thread.

    Activation checkpointing uses it when it computes a batch for the second time.
    """
    before = getattr(_recomputation, "active", False)
    _recomputation.active = True
    try:
        yield
    finally:
        _recomputation.active = before


@contextmanager
def prepared_scales(module: nn.Module) -> Iterator[None]:
    """Compute the scales of every ``InPlaceABN`` inside a module together, for use while the context is open.

    Without it, each layer launches several operations on a few hundred numbers; on a GPU such an operation takes as
    long as one on a large map. The results are bit for bit the same. The weights must not change inside the context.
    """
    groups: dict[tuple[float, torch.dtype, torch.device], list[InPlaceABN]] = {}
    world_size = _world_size()
    for layer in module.modules():
        if not isinstance(layer, InPlaceABN):
            continue
        if layer.implementation == "eager" and world_size > 1:  # warn outside of compiled code
            warn_eager_is_not_synchronised(world_size)
        if layer.implementation in ("in_place", "triton"):
            groups.setdefault((layer.eps, layer.weight.dtype, layer.weight.device), []).append(layer)
    for (eps, _, _), layers in groups.items():
        scales = scales_of_layers([layer.weight.detach() for layer in layers], eps)
        for layer, scale in zip(layers, scales, strict=True):
            layer._scale = scale
    try:
        yield
    finally:
        for layers in groups.values():
            for layer in layers:
                layer._scale = None


class GroupNormReLU(nn.Sequential):
    """Group normalisation and ReLU; the result does not depend on the batch or on the training mode.

    Args:
        num_features: channels C of the input ``[B, C, ...]``, a multiple of ``num_groups``.
        num_groups: groups of channels that are normalised together (32, Wu and He, "Group Normalization", 2018).

    Raises:
        ValueError: the channels cannot be split into the groups.
    """

    def __init__(self, num_features: int, *, num_groups: int = 32) -> None:
        if num_groups < 1 or num_features % num_groups:
            raise ValueError(
                f"GroupNormReLU is to split {num_features} channels into {num_groups} groups; the number of channels "
                "must be a multiple of num_groups."
            )
        super().__init__(nn.GroupNorm(num_groups, num_features), nn.ReLU(inplace=True))


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def freeze_norms(module: nn.Module) -> None:
    """Freeze every norm with running statistics inside a module: ``InPlaceABN`` and the batch norms of PyTorch.

    A frozen layer normalises by its running statistics and does not update them; its weight and bias are not trained.
    The paper trains its last 10 epochs this way (DeepSceneSeg/EfficientPS issue 18). Lightning's ``sync_batchnorm``
    would replace frozen batch norms of PyTorch by new ones that are not frozen.
    """
    for layer in module.modules():
        if isinstance(layer, InPlaceABN):
            layer.frozen = True
        elif isinstance(layer, _BatchNorm) and layer.track_running_stats:
            layer.register_forward_pre_hook(_to_evaluation_mode)
        else:
            continue
        for parameter in layer.parameters():
            parameter.requires_grad_(False)


def _to_evaluation_mode(norm: nn.Module, _inputs: object) -> None:
    """Let a batch norm use its running statistics, whatever mode the network was put in."""
    norm.training = False


def set_norm_implementation(module: nn.Module, implementation: Implementation) -> None:
    """Choose how every ``InPlaceABN`` inside a module computes; results, parameters and state dict stay the same.

    Raises:
        ModuleNotFoundError: the package that ``implementation`` needs is not installed.
    """
    check_installed(implementation)
    for layer in module.modules():
        if isinstance(layer, InPlaceABN):
            layer.implementation = implementation
