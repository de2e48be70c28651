"""Backward passes in Python, for tensors on a simulated device, which PyTorch's own engine cannot differentiate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

_PASS = 1
"""Id of the backward pass; ``torch.utils.checkpoint`` uses it to recompute a part only once per pass."""


@contextlib.contextmanager
def python_backward() -> Iterator[None]:
    """Make ``Tensor.backward`` walk the graph in Python, in the calling thread, inside the context.

    As in PyTorch's engine, a node runs after all nodes that pass gradients to it. Gradients for one input are added up
    and converted to the shape and dtype of the forward pass. Hooks on tensors, ``inputs`` and ``create_graph`` are not
    supported.
    """
    with patch.object(torch.autograd, "backward", backward):
        yield


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: object = None,
    inputs: object = None,
) -> None:
    """Add the gradients of tensors to the leaves of their graph, as ``torch.autograd.backward`` does.

    Raises:
        NotImplementedError: if ``create_graph`` or ``inputs`` is given.
    """
    if create_graph or inputs is not None:
        raise NotImplementedError("A backward pass in Python supports neither create_graph nor inputs.")
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    given: list[Tensor | None] = (
        [grad_tensors] if grad_tensors is None or isinstance(grad_tensors, Tensor) else list(grad_tensors)
    )
    with torch.no_grad(), patch.object(torch._C, "_current_graph_task_id", lambda: _PASS):
        pending: dict[Any, dict[int, Tensor]] = {}
        for root, gradient in zip(roots, given * len(roots) if len(given) == 1 else given, strict=True):
            _hand_on(pending, root.grad_fn, root.output_nr, torch.ones_like(root) if gradient is None else gradient)
        for node in _in_order([root.grad_fn for root in roots]):
            arrived = pending.pop(node, {})
            if arrived:
                for (following, position), gradient in zip(node.next_functions, _run(node, arrived), strict=True):
                    if following is not None and gradient is not None:
                        _hand_on(pending, following, position, gradient)


def _run(node: Any, arrived: dict[int, Tensor]) -> list[Tensor | None]:
    """Return the gradients that a node computes, one for each of its ``next_functions``."""
    if type(node).__name__ == "AccumulateGrad":
        _accumulate(node.variable, arrived[0])
        return []
    metadata = node._input_metadata
    inputs = [arrived.get(position) for position in range(len(metadata))]
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        found = node(*inputs)
        return list(found) if isinstance(found, tuple) else [found]
    inputs = [  # an autograd.Function receives zeros instead of None, by default
        torch.zeros(tuple(m.shape), dtype=m.dtype, device=m.device) if gradient is None else gradient
        for gradient, m in zip(inputs, metadata, strict=True)
    ]
    found = node.apply(*inputs)  # type: ignore[no-untyped-call]
    needed = iter(
        [
            gradient
            for gradient, is_needed in zip(
                found if isinstance(found, tuple) else (found,), node.needs_input_grad, strict=True
            )
            if is_needed
        ]
    )
    return [None if following is None else next(needed) for following, _ in node.next_functions]


def _accumulate(leaf: Tensor, gradient: Tensor) -> None:
    """Add a gradient to the ``grad`` of a leaf; a first gradient with other strides than the leaf is copied."""
    if leaf.grad is not None:
        leaf.grad += gradient
    elif gradient.stride() == leaf.stride():
        leaf.grad = gradient.detach()
    else:
        leaf.grad = torch.empty_like(leaf).copy_(gradient)


def _hand_on(pending: dict[Any, dict[int, Tensor]], node: Any, position: int, gradient: Tensor) -> None:
    """Add a gradient to those that an input of a node has received, in the shape and dtype of the forward pass."""
    expected = node._input_metadata[position]
    if gradient.shape != (shape := tuple(expected.shape)):
        gradient = gradient.sum_to_size(shape)
    if gradient.dtype != expected.dtype:
        gradient = gradient.to(expected.dtype)
    arrived = pending.setdefault(node, {})
    arrived[position] = arrived[position] + gradient if position in arrived else gradient


def _in_order(roots: Sequence[Any]) -> list[Any]:
    """Return all nodes in topological order; among nodes that are ready, the last one of the forward pass is first."""
    waiting: dict[Any, int] = {}
    stack, seen = list(dict.fromkeys(roots)), set(roots)
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is None:
                continue
            waiting[following] = waiting.get(following, 0) + 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    ready = [root for root in dict.fromkeys(roots) if root not in waiting]
    order = []
    while ready:
        node = ready.pop(max(range(len(ready)), key=lambda index: _sequence_number(ready[index])))
        order.append(node)
        for following, _ in node.next_functions:
            if following is not None:
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
    return order


def _sequence_number(node: Any) -> int:
    """Return the position of a node in the forward pass; leaves count as last, as in PyTorch's engine."""
    return 2**62 if type(node).__name__ == "AccumulateGrad" else int(node._sequence_nr())
