"""In-place ABN against PyTorch's own layers, finite differences, and one process with the joint batch."""

import copy
import sys

import pytest
import torch
from torch import multiprocessing as mp
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from efficientps.layers import norm_act, norm_implementation, norm_statistics
from efficientps.layers.norm_act import InPlaceABN, eager_abn, freeze_norms, prepared_scales, set_norm_implementation
from tests.sweep import sweep


def random_norm(channels: int, *, slope: float = 0.01, seed: int = 0) -> InPlaceABN:
    """A norm with weights of both signs and running statistics away from their start."""
    generator = torch.Generator().manual_seed(seed)
    norm = InPlaceABN(channels, slope=slope).double()
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
    return norm


@sweep("shape", [(3, 4, 5, 6), (7, 4)])
@sweep("memory_format", [torch.contiguous_format, torch.channels_last])
@sweep("training", [True, False])
@sweep("slope", [0.01, 1.0])
def test_equals_batch_norm_and_leaky_relu(slope, training, memory_format, shape):
    """Oracle: torch's batch_norm with |weight| + eps followed by leaky_relu, in outputs, gradients and statistics."""
    norm = random_norm(4, slope=slope).train(training)
    reference = copy.deepcopy(norm)
    x = torch.randn(shape, dtype=torch.double)
    if len(shape) == 4:
        x = x.to(memory_format=memory_format)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    grad = torch.randn(shape, dtype=torch.double)

    y = norm(ours)
    y.backward(grad)
    expected = F.batch_norm(
        theirs, reference.running_mean, reference.running_var, reference.weight.abs() + reference.eps, reference.bias,
        training, 0.1, reference.eps,
    )  # fmt: skip
    expected = F.leaky_relu(expected, slope)
    expected.backward(grad)

    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad)
    torch.testing.assert_close(norm.bias.grad, reference.bias.grad)
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    torch.testing.assert_close(norm.running_var, reference.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_derivative(training):
    """Oracle: finite differences (gradcheck)."""
    norm = random_norm(3).train(training)
    x = torch.randn(4, 3, 2, 2, dtype=torch.double, requires_grad=True)

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(
        function, (x, norm.weight.detach().requires_grad_(), norm.bias.detach().requires_grad_())
    )


def test_keeps_one_activation_where_eager_keeps_two():
    """Oracle: the tensors that autograd packs, counted by hooks, for conv -> norm -> conv."""

    def saved_bytes(implementation: str) -> int:
        network = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), InPlaceABN(8), nn.Conv2d(8, 8, 1, bias=False))
        set_norm_implementation(network, implementation)
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dim() == 4 and tensor.shape[0] == 2:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(torch.randn(2, 8, 16, 16))
        del output
        return sum(storages.values())

    one_activation = 2 * 8 * 16 * 16 * 4
    assert saved_bytes("in_place") == 2 * one_activation  # The input of the network and the output of the norm.
    assert saved_bytes("eager") == 4 * one_activation


class Operations(TorchDispatchMode):
    """Notes the names of the operations that are executed."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.append(function._schema.name.removeprefix("aten::"))
        return function(*arguments, **(options or {}))


def test_a_backward_pass_is_three_operations():
    """Oracle: the operations that PyTorch executes; on a GPU each has its price, however small the map."""
    norm = random_norm(3)
    y = norm(torch.randn(2, 3, 4, 4, dtype=torch.double, requires_grad=True))
    with Operations() as operations:
        torch.autograd.backward(y, torch.ones_like(y))
    assert [name for name in operations.names if name not in ("ones_like", "detach")] == [
        "leaky_relu", "leaky_relu_backward", "native_batch_norm_backward",
    ]  # fmt: skip


def test_prepared_scales_change_no_bit_and_save_operations():
    """Oracle: the same layers on their own."""
    network = nn.Sequential(*(random_norm(channels, slope=0.5) for channels in (3, 3, 3)), random_norm(3, slope=1))
    network[1].eps = 1e-3
    freeze_norms(network[2])
    plain = copy.deepcopy(network)
    x = torch.randn(2, 3, 4, 4, dtype=torch.double)
    with Operations() as alone:
        expected = plain(x)
    with prepared_scales(network), Operations() as prepared:
        y = network(x)
    for output in (expected, y):
        output.square().sum().backward()
    assert torch.equal(y, expected)
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        assert ours.grad is theirs.grad is None or torch.equal(ours.grad, theirs.grad)
    assert "abs" in alone.names and not {"abs", "copysign", "reciprocal"} & set(prepared.names)
    assert all(norm._scale is None for norm in network)  # weights may change from here on


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_input_keeps_its_dtype_and_is_near(dtype):
    """Oracle: the double-precision result, within the precision of the input's type."""
    norm = InPlaceABN(4)
    x = torch.randn(2, 4, 8, 8)
    y = norm(x.to(dtype).requires_grad_())
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), InPlaceABN(4)(x), atol=3e-2, rtol=3e-2)


@sweep("dtype", [torch.float32, torch.bfloat16])
@sweep("memory_format", [torch.contiguous_format, torch.channels_last])
def test_statistics_of_large_maps_are_exact(memory_format, dtype):
    """Oracle: torch's variance in double precision; means far from 0, where a single pass would lose digits."""
    spread, level = torch.linspace(0.1, 5, 8).view(-1, 1, 1), torch.linspace(-30, 30, 8).view(-1, 1, 1)
    x = torch.randn(2, 8, 128, 256) * spread + level
    x = x.to(dtype, memory_format=memory_format)
    expected_var, expected_mean = torch.var_mean(x.double(), dim=(0, 2, 3))
    norm = InPlaceABN(8, momentum=1.0)
    norm(x)
    for ours, expected in ((norm.running_mean, expected_mean), (norm.running_var, expected_var)):
        torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=0)


def test_no_values_at_all():
    """Oracle: definition; an empty batch changes no statistics and gives gradients of zero."""
    norm = InPlaceABN(4)
    before = copy.deepcopy(norm.state_dict())
    x = torch.zeros(0, 4, 3, 3, requires_grad=True)
    norm(x * 1).sum().backward()
    assert x.grad.shape == x.shape
    assert norm.weight.grad.abs().sum() == norm.bias.grad.abs().sum() == 0
    for key, value in norm.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_state_dict_has_the_keys_of_the_compiled_package():
    """Oracle: the parameters and buffers of mapillary/inplace_abn:inplace_abn/abn.py."""
    assert set(InPlaceABN(2).state_dict()) == {"weight", "bias", "running_mean", "running_var"}


def test_frozen_norm_keeps_its_statistics_in_training():
    """Oracle: the evaluation-mode result of the same layer."""
    norm = random_norm(3)
    expected = copy.deepcopy(norm).eval()
    freeze_norms(norm.train())
    x = torch.randn(2, 3, 4, 4, dtype=torch.double)
    torch.testing.assert_close(norm(x), expected(x))
    torch.testing.assert_close(norm.running_mean, expected.running_mean)
    assert not norm.weight.requires_grad


def test_eager_norms_of_several_processes_are_said_to_be_in_place(monkeypatch):
    """Oracle: contract; here the other process has the same values."""
    norm_implementation._warn_once.cache_clear()
    monkeypatch.setattr(norm_act, "_world_size", lambda: 2)
    monkeypatch.setattr(norm_statistics.dist, "all_gather", lambda gathered, local: [g.copy_(local) for g in gathered])
    norm, x = random_norm(3), torch.randn(2, 3, 4, 4, dtype=torch.double)
    set_norm_implementation(norm, "eager")
    with pytest.warns(
        UserWarning, match="statistics of one process alone.* over 2 processes. Choose 'in_place'"
    ) as said:
        y = norm(x)
        norm(x)
    assert len(said) == 1
    torch.testing.assert_close(y, random_norm(3)(x))


def test_compiled_implementation_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "inplace_abn", None)
    with pytest.raises(ModuleNotFoundError, match="install the extra 'inplace-abn'"):
        set_norm_implementation(InPlaceABN(1), "compiled")


CASES = ([2, 2], [3, 1], [4, 0])


def run_rank(rank: int, world_size: int, store: str, norm: InPlaceABN, x, grad, results) -> None:
    """Note what the rank's share of a batch gives, for each case of how the images are spread."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    for case, sizes in enumerate(CASES):
        layer = copy.deepcopy(norm)  # What was sent is shared between the processes.
        mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        local = x[mine].clone().requires_grad_()
        y = layer(local)
        y.backward(grad[mine])
        results[case, rank] = (
            y.detach(), local.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var,
        )  # fmt: skip
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_with_the_joint_batch(tmp_path):
    """Oracle: the eager layers on the joint batch in one process, however the images are spread."""
    norm = random_norm(3)
    reference = copy.deepcopy(norm)
    x, grad = torch.randn(2, 4, 3, 5, 5, dtype=torch.double)
    joint = x.clone().requires_grad_()
    expected = eager_abn(
        joint, reference.weight, reference.bias, reference.running_mean, reference.running_var,
        use_batch_statistics=True, momentum=0.1, eps=reference.eps, slope=0.01,
    )  # fmt: skip
    expected.backward(grad)

    with mp.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        mp.spawn(run_rank, (2, str(tmp_path / "store"), norm, x, grad, shared), nprocs=2)
        results = dict(shared)

    for case in range(len(CASES)):
        first, second = results[case, 0], results[case, 1]
        torch.testing.assert_close(torch.cat([first[0], second[0]]), expected.detach())
        torch.testing.assert_close(torch.cat([first[1], second[1]]), joint.grad)
        torch.testing.assert_close(first[2] + second[2], reference.weight.grad)
        torch.testing.assert_close(first[3] + second[3], reference.bias.grad)
        for mean, var in (first[4:], second[4:]):
            torch.testing.assert_close(mean, reference.running_mean)
            torch.testing.assert_close(var, reference.running_var)
