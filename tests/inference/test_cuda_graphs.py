"""When graphs are recorded, replayed, dropped and given up, with a recorder of Python; and on a card the real one."""

from collections.abc import Callable
from copy import deepcopy
from pickle import dumps, loads

import pytest
import torch
from torch.utils._pytree import tree_leaves

from efficientps.inference.cuda_graphs import CUDAGraphs
from efficientps.inference.inference_copy import inference_copy
from tests.inference.networks import HEADS, equal, ready_network
from tests.networks.efficientps.test_network import image_batch
from tests.sweep import sweep


class Recorder:
    """Does what a graph does: each replay runs the function again and writes into the tensors of its first result."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, function: Callable):
        self.recorded += 1
        result = function()

        def replay():
            self.replayed += 1
            for static, new in zip(tree_leaves(result), tree_leaves(function()), strict=True):
                static.copy_(new)

        return replay, result


class Doubling:
    """A function that counts its plain calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return 2 * x


def test_a_size_is_recorded_when_it_is_met_again():
    # Oracle: by hand; the third call of a size is a replay alone, and its result is right.
    recorder, double = Recorder(), Doubling()
    graphs = CUDAGraphs(recorder=recorder)
    assert graphs(double, torch.ones(2)).tolist() == [2, 2] and recorder.recorded == 0
    assert graphs(double, torch.ones(3)).tolist() == [2, 2, 2] and recorder.recorded == 0
    assert graphs(double, torch.full((2,), 3.0)).tolist() == [6, 6] and recorder.recorded == 1
    assert graphs(double, torch.full((2,), 5.0)).tolist() == [10, 10] and recorder.recorded == 1
    assert recorder.replayed == 2


def test_what_a_recording_hangs_on_is_told_apart():
    # Oracle: by hand; each of these launches other kernels.
    graphs = CUDAGraphs(recorder=(recorder := Recorder()))
    x = torch.ones(1, 2, 3, 3)

    def call(given):
        return graphs(torch.neg, given)

    for given in (x, x.double(), x.contiguous(memory_format=torch.channels_last), x[:, :1]):
        call(given), call(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call(x), call(x)
    with torch.inference_mode():
        call(x), call(x)
    # Four inputs fill the room; the fifth and the sixth are met as often as those, and run plainly.
    assert recorder.recorded == 4
    graphs.most = 6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call(x)
    with torch.inference_mode():
        call(x)
    assert recorder.recorded == 6


def test_few_graphs_are_kept_and_many_sizes_do_not_record_all_the_time():
    # Oracle: by hand; two graphs, each met twice; the third size takes a place at its fourth call.
    graphs, double = CUDAGraphs(most=2, recorder=(recorder := Recorder())), Doubling()
    for size in (1, 2, 3):
        for _ in range(2):
            graphs(double, torch.ones(size))
    graphs(double, torch.ones(2))  # met more often than the first
    assert recorder.recorded == 2
    for _ in range(2):
        graphs(double, torch.ones(3))
    assert recorder.recorded == 3 and len(graphs._recordings) == 2
    before = double.calls
    graphs(double, torch.ones(1))
    assert double.calls == before + 1 and recorder.recorded == 3
    # A hundred sizes in turns: fewer than one recording in ten calls.
    graphs = CUDAGraphs(most=2, recorder=(recorder := Recorder()))
    for index in range(2000):
        graphs(double, torch.ones(1 + 37 * index % 100))
    assert recorder.recorded < 20


def test_a_recording_that_fails_is_the_last():
    # Oracle: by hand; one warning, and plain results from then on.
    def broken(function):
        function()
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs, double = CUDAGraphs(recorder=broken), Doubling()
    graphs(double, torch.ones(2))
    with pytest.warns(UserWarning, match=r"No CUDA graph could be recorded for inputs of \[\(2,\)\].* capturing$"):
        assert graphs(double, torch.ones(2)).tolist() == [2, 2]
    assert graphs.failed
    graphs._recorder = lambda function: pytest.fail("recorded again")
    assert all(graphs(double, torch.ones(2)).tolist() == [2, 2] for _ in range(3))


def test_copies_and_pickles_have_no_graphs():
    # Oracle: by hand; a copy of a network has other weights.
    graphs = CUDAGraphs(recorder=Recorder())
    for _ in range(2):
        graphs(Doubling(), torch.ones(2))
    assert len(graphs._recordings) == 1
    assert not deepcopy(graphs)._recordings and not loads(dumps(graphs))._recordings


@sweep("head", HEADS)
def test_predictions_do_not_share_memory_with_the_graph(head):
    # Oracle: the network without graphs; predictions are compared after all images have gone through the same buffers.
    network = inference_copy(ready_network(head))
    batches = [image_batch([(64, 96)]) for _ in range(4)]
    for seed, batch in enumerate(batches):
        batch["images"] = torch.randint(256, batch["images"].shape, dtype=torch.uint8,
                                        generator=torch.Generator().manual_seed(seed))  # fmt: skip
    with torch.inference_mode():
        expected = [network.predict(batch)[0] for batch in batches]
        network.replay = CUDAGraphs(recorder=(recorder := Recorder()))
        found = [network.predict(batch)[0] for batch in batches]
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    assert len(expected[0].instances) > 0
    assert not equal(expected[0], expected[1])
    assert all(equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_graphs_predict_the_same_on_a_card(head, precision, recwarn):
    # Oracle: the same copy without graphs, exactly.
    network = inference_copy(ready_network(head).cuda(), dtype=precision)
    assert isinstance(network.replay, CUDAGraphs)
    batch = image_batch([(64, 96), (60, 90)])
    batch["images"] = batch["images"].cuda()
    with torch.inference_mode(), torch.autocast("cuda", dtype=precision, enabled=precision is not None):
        found = [network.predict(batch) for _ in range(4)]
        assert network.replay._recordings and not network.replay.failed
        network.replay = None
        expected = network.predict(batch)
    assert not recwarn.list
    for predictions in found:
        assert all(equal(a, b) for a, b in zip(expected, predictions, strict=True))


@pytest.mark.gpu
def test_a_function_that_waits_is_called_plainly_on_a_card():
    # Oracle: by hand; ``item`` cannot be recorded, and all goes on afterwards, on the same stream.
    graphs = CUDAGraphs()
    x, stream = torch.ones(3, device="cuda"), torch.cuda.current_stream()

    def waits(given):
        return given * given.sum().item()

    with pytest.warns(UserWarning, match="No CUDA graph could be recorded"):
        results = [graphs(waits, x) for _ in range(3)]
    assert all(result.tolist() == [3, 3, 3] for result in results)
    assert torch.cuda.current_stream() == stream
    assert CUDAGraphs()(lambda given: 2 * given, x).tolist() == [2, 2, 2]
