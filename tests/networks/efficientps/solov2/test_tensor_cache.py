"""Tensors that are computed once."""

import copy
import pickle

import torch

from efficientps.networks.efficientps.solov2 import tensor_cache
from efficientps.networks.efficientps.solov2.tensor_cache import TensorCache

CPU, META = torch.device("cpu"), torch.device("meta")


def test_each_tensor_is_built_once_for_its_arguments():
    """Oracle: identity."""
    cache = TensorCache()
    three = cache.get(torch.arange, 3, device=CPU)
    assert cache.get(torch.arange, 4, device=CPU).tolist() == [0, 1, 2, 3]
    assert cache.get(torch.ones, 3, device=CPU).tolist() == [1, 1, 1]
    assert cache.get(torch.arange, 3, device=CPU) is three


def test_another_device_starts_anew():
    """Oracle: contract; nothing stays behind on the device that a network has left."""
    cache = TensorCache()
    before = cache.get(torch.arange, 3, device=CPU)
    assert cache.get(torch.arange, 3, device=META).device == META
    assert cache.get(torch.arange, 3, device=CPU) is not before


def test_a_full_cache_goes_on_without_keeping(monkeypatch):
    """Oracle: contract; and what is kept stays, because a CUDA graph may read it."""
    monkeypatch.setattr(tensor_cache, "MAX_BYTES", 30)
    cache = TensorCache()
    kept = cache.get(torch.arange, 3, device=CPU)  # 24 bytes
    first, second = (cache.get(torch.arange, 4, device=CPU) for _ in range(2))
    assert first is not second and torch.equal(first, second)
    assert cache.get(torch.arange, 3, device=CPU) is kept


def test_copies_and_pickles_begin_empty():
    """Oracle: contract."""
    cache = TensorCache()
    kept = cache.get(torch.arange, 3, device=CPU)
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.get(torch.arange, 3, device=CPU) is not kept
    assert cache.get(torch.arange, 3, device=CPU) is kept
    assert not cache.state_dict()


def test_what_validation_built_serves_training():
    """Oracle: autograd refuses to keep inference tensors."""
    cache = TensorCache()
    with torch.inference_mode():
        cache.get(torch.ones, 3, device=CPU)
    weight = torch.ones(3, requires_grad=True)
    (weight * cache.get(torch.ones, 3, device=CPU)).sum().backward()
    assert weight.grad.tolist() == [1, 1, 1]
