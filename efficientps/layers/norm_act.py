"""In-place activated batch normalisation (iABN), synchronised over ranks, with an exact eager equivalent.

Batch normalisation followed by a leaky ReLU normally keeps two activations for its backward pass: its input and the
activation's input. Both are functions of the *output*, because the leaky ReLU is invertible and the normalisation is
affine per channel, so that keeping the output alone is enough (Rota Bulò et al., "In-Place Activated BatchNorm for
Memory-Optimized Training of DNNs", CVPR 2018, Sec. 3). The next convolution keeps that same tensor as its input: the
layer costs no memory of its own.

The scale is ``abs(weight) + eps``, never 0, because the backward pass divides by it
(mapillary/inplace_abn:src/inplace_abn.cpp).
"""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from efficientps.layers.abn_scale import Scale, absolute_scale, scales_at_once, signed_scale
from efficientps.layers.norm_statistics import follow, in_format_of, means_over_ranks, over_ranks, statistics

NormAct = Callable[[int], nn.Module]
"""Builds a normalisation with its activation for a number of channels."""

Implementation = Literal["in_place", "eager", "compiled", "triton"]


class InPlaceABN(nn.Module):
    """Batch normalisation and leaky ReLU in one layer that keeps only its output for the backward pass.

    Statistics are taken over all ranks of the default process group where one with several ranks is running. The
    parameters and the state dict are those of the ``inplace-abn`` package.

    Args:
        num_features: channels C of the input ``[B, C, ...]``.
        eps: added to the variance and to the absolute weight. ImageNet weights ported from TensorFlow need 1e-3.
        momentum: weight of the newest batch in the running statistics (0.1, the default of PyTorch and inplace-abn).
        slope: negative slope of the leaky ReLU; 1 is the identity (0.01, DeepSceneSeg/EfficientPS:configs,
            ``activation_param``).

    Attributes:
        frozen: while true, the running statistics are used and kept even in training mode (see ``freeze_norms``).
        implementation: ``in_place``; ``eager`` composes PyTorch's own two layers, which know one process alone: where
            statistics are taken over several, it is ``in_place``, with a warning; ``compiled`` calls the
            ``inplace-abn`` package on CUDA tensors; ``triton`` runs this project's own kernels on CUDA tensors that are
            channels last, and is ``in_place`` for others, with a warning (see ``set_norm_implementation``).
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
        self._scale: Scale | None = None  # given while ``prepared_scales`` lasts
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate ``x`` ``[B, C, ...]``; the result has its shape, dtype and memory format."""
        use_batch_statistics = self.training and not self.frozen
        momentum = 0.0 if getattr(_second_look, "active", False) else self.momentum
        world_size = _world_size() if use_batch_statistics else 1
        if self.implementation == "compiled" and x.is_cuda:
            return self._compiled(x, use_batch_statistics, momentum, synchronise=world_size > 1)
        if self.implementation == "eager" and world_size > 1 and not torch.compiler.is_compiling():
            _warn_of_processes(world_size)
        if self.implementation == "eager" and world_size == 1:
            return eager_abn(
                x, self.weight, self.bias, self.running_mean, self.running_var,
                use_batch_statistics=use_batch_statistics, momentum=momentum, eps=self.eps, slope=self.slope,
            )  # fmt: skip
        function = _triton_function(x) if self.implementation == "triton" else None
        output: Tensor = (function or _InPlaceABNFunction).apply(
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
    """Compute the same function by PyTorch's own layers; the running statistics are updated in place.

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


class _InPlaceABNFunction(torch.autograd.Function):
    """Keeps the output and three vectors: bias, inverse of the signed scale, and gain (see ``backward``)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        scale: Scale | None,
        use_batch_statistics: bool,
        momentum: float,
        eps: float,
        slope: float,
        world_size: int,
    ) -> Tensor:
        absolute = scale.absolute if scale else absolute_scale(weight, eps)
        mean, var, inverse_std = running_mean, running_var, None
        count: Tensor | int = x.numel() // x.shape[1]
        if use_batch_statistics and world_size == 1 and x.is_cuda and x.numel() > 0:  # in one kernel
            y, _, inverse_std = torch.native_batch_norm(
                x, absolute, bias, running_mean, running_var, True, momentum, eps
            )
        else:
            if use_batch_statistics:
                mean, var = statistics(x, absolute.dtype)
                if world_size > 1:
                    mean, var, count = over_ranks(mean, var, x.numel() // x.shape[1], world_size)
                follow(running_mean, running_var, mean, var, count, momentum)
            # The operator refuses a map without values on CUDA.
            y = torch.native_batch_norm(x, absolute, bias, mean, var, False, 0.0, eps)[0] if x.numel() else x.clone()
        if slope != 1:
            y = F.leaky_relu_(y, slope)
        if any(ctx.needs_input_grad):
            if inverse_std is None:
                inverse_std = (var + eps).rsqrt()
            if use_batch_statistics:
                inverse, square = scale.signed if scale else signed_scale(weight, absolute)
                totals = [count] if isinstance(count, Tensor) else []
                ctx.save_for_backward(y, bias, inverse, square * inverse_std, *totals)
            else:
                square = absolute.square()
                ctx.save_for_backward(y, bias, square - eps, square * inverse_std, weight)
        ctx.use_batch_statistics, ctx.eps, ctx.slope = use_batch_statistics, eps, slope
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        y, bias, *vectors = ctx.saved_tensors
        grad_y = in_format_of(grad_y, y)
        # z, the activation's input, and the gradient with respect to it.
        z, grad_z = y, grad_y
        if ctx.slope != 1:
            z = F.leaky_relu(y, 1 / ctx.slope)
            grad_z = torch.ops.aten.leaky_relu_backward(grad_y, y, ctx.slope, True)
        gradients = _through_batch if ctx.use_batch_statistics else _through_running
        return *gradients(grad_z, z, bias, *vectors, eps=ctx.eps, needs=list(ctx.needs_input_grad[:3])), *[None] * 8


# z is itself a batch-normalised tensor, of mean ``bias`` and standard deviation ``scale``, and its normalisation is
# that of x: the fused kernel, told these two as its statistics, computes every sum that is needed.


def _through_batch(
    grad_z: Tensor,
    z: Tensor,
    bias: Tensor,
    inverse: Tensor,
    gain: Tensor,
    total: Tensor | None = None,
    *,
    eps: float,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight and bias through the statistics of the batch.

    Args:
        grad_z: gradient with respect to the activation's input z.
        z: ``[B, C, ...]``.
        bias: ``[C]``.
        inverse: of the signed scale, ``[C]``.
        gain: square of the signed scale times the inverse standard deviation of x, ``[C]``.
        total: number of values over all ranks where they share their statistics.
        eps: of the layer.
        needs: which of the three are wanted.
    """
    if z.numel() == 0:  # the kernel divides by the number of values
        grad_x, grad_weight, grad_bias = torch.empty_like(z), torch.zeros_like(bias), torch.zeros_like(bias)
    else:
        mask = needs if total is None else [False, True, True]
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_z, z, gain, None, None, bias, inverse, True, eps, mask
        )
    if total is not None and needs[0]:
        mean_grad_bias, mean_grad_weight = means_over_ranks(torch.stack([grad_bias, grad_weight]), total)
        shape = [1, -1] + [1] * (z.dim() - 2)
        factor = gain * inverse
        of_z = -factor * inverse * mean_grad_weight
        offset = -factor * mean_grad_bias - of_z * bias
        grad_x = (grad_z * factor.view(shape) + z * of_z.view(shape) + offset.view(shape)).to(z.dtype)
    return grad_x, grad_weight, grad_bias


def _through_running(
    grad_z: Tensor, z: Tensor, bias: Tensor, var: Tensor, gain: Tensor, weight: Tensor, *, eps: float, needs: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight and bias where the statistics are constants.

    Args:
        grad_z: gradient with respect to the activation's input z.
        z: ``[B, C, ...]``.
        bias: ``[C]``.
        var: square of the scale less eps, ``[C]``.
        gain: square of the scale times the inverse standard deviation of x, ``[C]``.
        weight: whose sign the gradient of the scale gets, ``[C]``.
        eps: of the layer.
        needs: which of the three are wanted.
    """
    if z.numel() == 0:  # the kernel divides by the number of values
        return torch.empty_like(z), torch.zeros_like(bias), torch.zeros_like(bias)
    grad_x, grad_scale, grad_bias = torch.ops.aten.native_batch_norm_backward(
        grad_z, z, gain, bias, var, None, None, False, eps, needs
    )
    grad_weight = torch.where(weight < 0, -grad_scale, grad_scale) if needs[1] else None
    return grad_x, grad_weight, grad_bias


def _triton_function(x: Tensor) -> type[torch.autograd.Function] | None:
    """Return the function by Triton's kernels where they take such a map: on CUDA, or in Triton's interpreter.

    Raises:
        KernelLaunchError: Triton cannot run on this machine.
    """
    if not (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return None
    from efficientps.layers import norm_act_triton

    if norm_act_triton.fits(x):
        if not torch.compiler.is_compiling():
            norm_act_triton.check_launch(x.device)
        return norm_act_triton.TritonABNFunction
    if x.numel() > 0:
        _warn_once(
            "The norm implementation 'triton' computes a map as 'in_place' does: its kernels take float32, bfloat16 or "
            "float16 in the channels last memory format. Set the channels last memory format for the network, or "
            "choose 'in_place'."
        )
    return None


@cache
def _warn_once(sentence: str) -> None:
    """Warn, the first time in this process."""
    warnings.warn(sentence, stacklevel=2)


def _warn_of_processes(world_size: int) -> None:
    _warn_once(
        "The norm implementation 'eager' takes the statistics of one process alone; the norms compute as 'in_place' "
        f"does, over {world_size} processes. Choose 'in_place' or 'triton', which synchronise."
    )


_second_look = threading.local()


@contextmanager
def keep_statistics() -> Iterator[None]:
    """Leave the running statistics of every ``InPlaceABN`` as they are, in this thread: the batch is seen again."""
    before = getattr(_second_look, "active", False)
    _second_look.active = True
    try:
        yield
    finally:
        _second_look.active = before


@contextmanager
def prepared_scales(module: nn.Module) -> Iterator[None]:
    """Compute the scales of every ``InPlaceABN`` inside a module at once, and keep them while the context lasts.

    Each layer would start several operations on a few hundred numbers, which on a GPU take as long as large ones. The
    weights must not change meanwhile. Results are the same.
    """
    groups: dict[tuple[float, torch.dtype, torch.device], list[InPlaceABN]] = {}
    world_size = _world_size()
    for layer in module.modules():
        if not isinstance(layer, InPlaceABN):
            continue
        if layer.implementation == "eager" and world_size > 1:  # said here, where no part of a network is compiled
            _warn_of_processes(world_size)
        if layer.implementation in ("in_place", "triton"):
            groups.setdefault((layer.eps, layer.weight.dtype, layer.weight.device), []).append(layer)
    for (eps, _, _), layers in groups.items():
        scales = scales_at_once([layer.weight.detach() for layer in layers], eps)
        for layer, scale in zip(layers, scales, strict=True):
            layer._scale = scale
    try:
        yield
    finally:
        for layers in groups.values():
            for layer in layers:
                layer._scale = None


class GroupNormReLU(nn.Sequential):
    """Group normalisation and ReLU: the same in training and prediction, and independent of the batch.

    Args:
        num_features: channels C of the input ``[B, C, ...]``, a multiple of ``num_groups``.
        num_groups: groups of channels that are normalised together (32, Wu and He, "Group Normalization", 2018).
    """

    def __init__(self, num_features: int, *, num_groups: int = 32) -> None:
        super().__init__(nn.GroupNorm(num_groups, num_features), nn.ReLU(inplace=True))


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def freeze_norms(module: nn.Module) -> None:
    """Fix every ``InPlaceABN`` inside a module: running statistics in use and kept, weight and bias not trained.

    The paper trains its last 10 epochs so (DeepSceneSeg/EfficientPS issue 18).
    """
    for layer in module.modules():
        if isinstance(layer, InPlaceABN):
            layer.frozen = True
            layer.weight.requires_grad_(False)
            layer.bias.requires_grad_(False)


def set_norm_implementation(module: nn.Module, implementation: Implementation) -> None:
    """Choose how every ``InPlaceABN`` inside a module computes; the function, parameters and state dict stay the same.

    Raises:
        ModuleNotFoundError: ``compiled`` was asked for and the ``inplace-abn`` package is not installed, or ``triton``
            and Triton is not, which comes with PyTorch for CUDA.
    """
    if implementation == "triton" and importlib.util.find_spec("triton") is None:
        raise ModuleNotFoundError(
            "The norm implementation 'triton' needs Triton, which PyTorch brings where it is built for CUDA; choose "
            "'in_place'."
        )
    if implementation == "compiled":
        try:
            import inplace_abn  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError(
                "The norm implementation 'compiled' needs the inplace-abn package; install the extra 'inplace-abn' "
                "or choose 'in_place'."
            ) from error
    for layer in module.modules():
        if isinstance(layer, InPlaceABN):
            layer.implementation = implementation
