import pytest
import torch
from torch.utils.checkpoint import checkpoint

from benchmarks.python_backward import python_backward


class Doubled(torch.autograd.Function):
    """Two results, of which one may go unused, and an input that is no tensor."""

    @staticmethod
    def forward(ctx, x, factor, y):
        ctx.factor = factor
        return x * factor, y + 1

    @staticmethod
    def backward(ctx, first, second):
        return first * ctx.factor, None, second


def network(w, b):
    """Broadcasts, a value that is used twice, a function of ours, a checkpoint, half precision and a custom shape."""
    x = torch.linspace(-1, 1, 12).view(3, 4)
    y = torch.relu(x @ w + b)
    doubled, _ = Doubled.apply(y, 3, b)
    inner = checkpoint(lambda z: (z * w.sum()).tanh(), y, use_reentrant=False)
    return (y * doubled + inner).sum() + (y.half() @ w.half()).float().mean()


def gradients():
    w = torch.linspace(-1, 2, 16).view(4, 4).requires_grad_()
    b = torch.linspace(0, 1, 4).requires_grad_()
    for _ in range(2):  # the second pass adds to the gradients of the first
        network(w, b).backward()
    return w.grad, b.grad


def test_gradients_are_those_of_pytorch_bit_by_bit():
    # Oracle: PyTorch's own engine.
    expected = gradients()
    with python_backward():
        found = gradients()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.autograd.backward.__module__ == "torch.autograd"


def test_what_is_not_supported_is_refused():
    x = torch.ones(1, requires_grad=True)
    with python_backward(), pytest.raises(NotImplementedError, match="neither create_graph nor inputs"):
        (2 * x).backward(create_graph=True)
