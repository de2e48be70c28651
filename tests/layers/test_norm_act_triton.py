"""The kernels of the in-place ABN against PyTorch's own layers: on a CUDA device, or read by Triton's interpreter.

``conftest.py`` asks for the interpreter where there is no device.
"""

import copy
import sys

import pytest
import torch
from torch import multiprocessing as mp

from efficientps.layers import norm_implementation
from efficientps.layers.norm_act import InPlaceABN, eager_abn, freeze_norms, set_norm_implementation
from tests.layers.test_norm_act import CASES, run_rank
from tests.sweep import sweep

triton = pytest.importorskip("triton")

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
SHAPES = [(2, 5, 7, 9), (3, 64, 1, 1), (1, 130, 40, 33), (2, 1, 100, 100), (7, 4), (1000, 33)]


@triton.jit
def count_kernel(counted, steps):
    """Add 1 to a number several times: the least that loops as the layer's kernels do."""
    for _ in range(0, steps):
        triton.language.store(counted, triton.language.load(counted) + 1)


def kernels_run():
    """Say whether a kernel of another kind runs here: some releases of NumPy break Triton's interpreter."""
    if CUDA:  # whatever fails there shall be seen
        return True
    counted = torch.zeros(1)
    try:
        count_kernel[(1,)](counted, 3)
    except Exception:
        return False
    return counted.item() == 3


needs_kernels = pytest.mark.skipif(not kernels_run(), reason="Triton's interpreter does not run with this NumPy")


def random_norm(channels, *, slope=0.01, eps=1e-5):
    """A norm with weights of both signs and running statistics away from their start."""
    generator = torch.Generator().manual_seed(channels)
    norm = InPlaceABN(channels, slope=slope, eps=eps)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
    set_norm_implementation(norm, "triton")
    return norm.to(DEVICE)


def random_map(shape, *, dtype=torch.float32, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + 20
    x = x.to(DEVICE, dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def expected(norm, x, grad, *, use_batch_statistics):
    """Return output, gradients and running statistics by PyTorch's own layers in double precision."""
    names = ("weight", "bias", "running_mean", "running_var")
    values = {name: getattr(norm, name).detach().double().clone() for name in names}
    x = x.detach().double().requires_grad_()
    for name in ("weight", "bias"):
        values[name].requires_grad_()
    y = eager_abn(x, **values, use_batch_statistics=use_batch_statistics, momentum=0.1, eps=norm.eps, slope=norm.slope)
    y.backward(grad.double())
    return [y.detach(), x.grad, *(values[name].grad for name in names[:2]), *(values[name] for name in names[2:])]


def ours(norm, x, grad):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(x)
    assert type(y.grad_fn).__name__ == "TritonABNFunctionBackward"
    y.backward(grad)
    assert y.dtype == x.grad.dtype == x.dtype and y.stride() == x.stride()
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


@needs_kernels
@sweep("mode", ["training", "evaluation", "frozen"])
@sweep("slope", [0.01, 1.0])
@sweep("shape", SHAPES)
def test_equals_batch_norm_and_leaky_relu(shape, slope, mode):
    """Oracle: torch's batch_norm with |weight| + eps and leaky_relu, in double precision; all results and gradients."""
    norm = random_norm(shape[1], slope=slope).train(mode != "evaluation")
    norm.frozen = mode == "frozen"
    x, grad = random_map(shape), random_map(shape, seed=1) - 20
    wanted = expected(norm, x, grad, use_batch_statistics=mode == "training")
    for mine, theirs in zip(ours(norm, x, grad), wanted, strict=True):
        # The weights' gradients are sums over all positions, and divided by what may be a small weight.
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-4 * max(1.0, float(theirs.abs().max())))


@needs_kernels
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)], ids=str)
def test_half_precision(dtype, tolerance):
    """Oracle: as above, within the precision of the input's type, near the weights that divide least."""
    norm = random_norm(16).train()
    with torch.no_grad():
        norm.weight.copy_(norm.weight.sign() * norm.weight.abs().clamp(min=0.3))
    x, grad = random_map((2, 16, 12, 10), dtype=dtype), random_map((2, 16, 12, 10), dtype=dtype, seed=1) - 20
    wanted = expected(norm, x, grad, use_batch_statistics=True)
    for mine, theirs in zip(ours(norm, x, grad), wanted, strict=True):
        torch.testing.assert_close(
            mine.double(), theirs, rtol=tolerance, atol=tolerance * max(1.0, float(theirs.abs().max()))
        )


@needs_kernels
def test_a_mean_far_from_zero_costs_no_digits():
    """Oracle: the variance in double precision; as a difference of two means of squares it would be lost."""
    from efficientps.layers.norm_act_kernels import mean_and_variance

    x = (torch.randn(4, 8, 30, 30) + 3000).to(DEVICE).contiguous(memory_format=torch.channels_last)
    mean, variance = mean_and_variance(x)
    wanted = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean.double(), wanted[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), wanted[0], rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore:The norm implementation 'triton' computes a map as 'in_place'")
def test_other_layouts_types_and_no_values_go_the_other_way():
    """Oracle: contract; what the kernels do not take has the same result by PyTorch's operators."""
    norm = random_norm(4).train()
    reference = copy.deepcopy(norm)
    reference.implementation = "in_place"
    for x in (torch.randn(2, 4, 5, 6), torch.zeros(0, 4, 5, 6), torch.randn(2, 4, 3)):
        x = x.to(DEVICE)
        y = norm(x.requires_grad_())
        assert type(y.grad_fn).__name__ == "InPlaceABNFunctionBackward"
        torch.testing.assert_close(y, reference(x))


@pytest.mark.parametrize("x", [torch.zeros(1, 4, 5, 6), torch.zeros(7, 4).double()], ids=["layout", "type"])
def test_one_sentence_says_what_the_kernels_do_not_take(x):
    norm_implementation._warn_once.cache_clear()
    norm = random_norm(4).to(x.dtype)
    with pytest.warns(
        UserWarning, match=r"takes? float32, bfloat16 or float16 in the channels last.* or choose"
    ) as said:
        norm(x.to(DEVICE))
        norm(x.to(DEVICE))
    assert len(said) == 1


def test_one_sentence_where_no_kernel_runs(monkeypatch):
    """Oracle: the words of Triton without a C compiler."""
    from efficientps.layers import norm_act_triton

    def launch(*arguments):
        raise RuntimeError("Failed to find C compiler.")

    norm_act_triton.check_launch.cache_clear()
    monkeypatch.setattr(norm_act_triton, "normalise", launch)
    sentence = r"do not run on (cpu|cuda:0) \(Failed to find C compiler\.\); choose the norm implementation 'in_place'"
    with pytest.raises(norm_act_triton.KernelLaunchError, match=sentence) as raised:
        random_norm(4)(random_map((2, 4, 5, 6)))
    assert isinstance(raised.value.__cause__, RuntimeError)


@needs_kernels
def test_an_input_without_gradient():
    norm = random_norm(4).train()
    norm(random_map((2, 4, 5, 6))).sum().backward()
    assert norm.weight.grad.abs().sum() > 0
    freeze_norms(norm)
    assert not norm(random_map((2, 4, 5, 6))).requires_grad


@needs_kernels
@pytest.mark.slow
@pytest.mark.skipif(CUDA, reason="two processes share no device")
def test_two_processes_equal_one_with_the_joint_batch(tmp_path):
    """Oracle: the joint batch in one process, however the images are spread; one without any sums as PyTorch does."""
    norm = random_norm(3).train()
    x, grad = random_map((4, 3, 5, 5)), random_map((4, 3, 5, 5), seed=1) - 20
    wanted = expected(norm, x, grad, use_batch_statistics=True)
    with mp.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        mp.spawn(run_rank, (2, str(tmp_path / "store"), norm, x, grad, shared), nprocs=2)
        results = dict(shared)
    for case in range(len(CASES)):
        pair = results[case, 0], results[case, 1]
        both = [torch.cat([of_rank[place] for of_rank in pair]) for place in (0, 1)]
        both += [pair[0][place] + pair[1][place] for place in (2, 3)]
        for mine, theirs in zip([*both, *pair[0][4:], *both, *pair[1][4:]], 2 * wanted, strict=True):
            torch.testing.assert_close(
                mine.double(), theirs, rtol=1e-3, atol=1e-4 * max(1.0, float(theirs.abs().max()))
            )


def test_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"'triton' needs Triton.*choose 'in_place'"):
        set_norm_implementation(InPlaceABN(1), "triton")


@pytest.mark.skipif(CUDA, reason="the kernels run there")
def test_a_map_on_the_cpu_goes_the_other_way(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setitem(sys.modules, "efficientps.layers.norm_act_triton", None)  # not even imported
    y = random_norm(4)(random_map((2, 4, 5, 6)).requires_grad_())
    assert type(y.grad_fn).__name__ == "InPlaceABNFunctionBackward"
