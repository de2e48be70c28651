"""Programs of a few operations, counted by hand."""

import pytest
import torch
from torchvision.ops import nms

from benchmarks.counting_device import counting_device, on_device
from efficientps.structures import FeaturePyramid
from tests.sweep import sweep


def write_scalar(x):
    x[x > 2] = 0.0


BOXES = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [4, 4, 6, 6]])

PROGRAMS = {
    # name: (program of x = [[0, 1, 2], [3, 4, 5]] on the device, launches, waits, blocking copies)
    "nonzero": (lambda x: x.nonzero(), 1, 1, 0),
    "boolean index": (lambda x: x[x > 2], 2, 1, 0),
    "number into a mask": (write_scalar, 2, 0, 0),
    "values into a mask": (lambda x: x.index_put_((x > 2,), x.sum()), 3, 1, 0),
    "index of the device": (lambda x: x[torch.zeros(2, dtype=torch.int64, device=x.device)], 2, 0, 0),
    "index of the host": (lambda x: x[[0, 1]], 2, 0, 1),
    "item": (lambda x: x.sum().item(), 1, 1, 0),
    "bool": (lambda x: bool(x.any()), 1, 1, 0),
    "tolist": (lambda x: x.tolist(), 0, 1, 0),
    "to the host": (lambda x: x.cpu(), 0, 1, 0),
    "unique": (lambda x: x.unique(), 1, 1, 0),
    "synchronize": (lambda x: torch.cuda.synchronize(), 0, 1, 0),
    "number to the device": (lambda x: torch.tensor(3.0, device=x.device), 1, 0, 1),
    "copy to the device": (lambda x: torch.ones(3).to(x.device), 1, 0, 1),
    "copy without a stop": (lambda x: torch.ones(3).to(x.device, non_blocking=True), 1, 0, 0),
    "made on the device": (lambda x: torch.arange(3, device="cuda"), 1, 0, 0),
    "numbers of the host": (lambda x: 2 * x + torch.tensor(1.0), 2, 0, 0),
    "views": (lambda x: x.t().view(3, 2)[0].unsqueeze(0).expand(4, 2).detach(), 0, 0, 0),
    "what needs no copy": (lambda x: x.contiguous().reshape(6).float().to(x.device), 0, 0, 0),
    "what needs one": (lambda x: x.t().reshape(6), 1, 0, 0),
    "in place": (lambda x: x.add_(1).mul_(2), 2, 0, 0),
    "suppression": (lambda x: nms(on_device(BOXES), x[0], 0.5), 1, 1, 0),
    "the host alone": (lambda x: torch.ones(3).nonzero().tolist(), 0, 0, 0),
}


@sweep("name", PROGRAMS)
def test_counts_of_single_operations(name):
    program, *expected = PROGRAMS[name]
    with counting_device() as count:
        program(on_device(torch.arange(6.0).view(2, 3)))
    assert [count.launches, count.waits, count.blocking_copies] == expected and not count.device_mixes


def test_values_are_those_of_the_cpu():
    x = torch.arange(6.0).view(2, 3)
    with counting_device():
        moved = on_device(x)
        result = (moved[moved > 1] * torch.tensor([2.0], device="cuda")).cumsum(0)
        assert result.is_cuda and result.device == torch.device("cuda:0")
        assert result.cpu().tolist() == (x[x > 1] * 2).cumsum(0).tolist()


def test_a_mix_of_devices_is_named_with_its_line():
    with counting_device() as count:
        on_device(torch.ones(3)) + torch.ones(3)
    (mix,) = count.device_mixes
    assert mix.startswith("add at ") and "test_counting_device.py:" in mix


def test_autocast_casts_by_its_rules_for_cuda_and_keeps_cast_weights():
    # Oracle: by hand; the first call casts input, weight and bias, the second the input alone; the softmax casts back.
    layer = on_device(torch.nn.Linear(3, 3))
    with counting_device() as count, torch.autocast("cuda", dtype=torch.bfloat16):
        first = layer(on_device(torch.ones(2, 3)))
        second = layer(on_device(torch.ones(2, 3)))
        assert first.dtype == second.dtype == torch.bfloat16
        assert second.softmax(0).dtype == torch.float32
    names = [event.operation for event in count.events if event.kind == "launch"]
    assert names[:6] == ["_to_copy"] * 3 + ["addmm", "_to_copy", "addmm"] and "_softmax" in names[6:]


def test_gradients_and_a_step():
    # Oracle: PyTorch on the CPU; launches by hand.
    def step(layer, x):
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
        layer(x).sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    copy = torch.nn.Linear(3, 2)
    copy.load_state_dict(layer.state_dict())
    step(layer, torch.ones(4, 3))
    on_device(copy)
    with counting_device() as count:
        step(copy, on_device(torch.ones(4, 3)))
    assert torch.equal(copy.weight.grad.host, layer.weight.grad)
    assert torch.equal(copy.weight.data.host, layer.weight)
    names = [event.operation for event in count.events if event.kind == "launch"]
    assert names[:5] == ["addmm", "sum", "ones_like", "mm", "sum"] and "_fused_adamw_" in names
    assert count.waits == count.blocking_copies == 0


def test_nothing_outlives_the_context():
    # Oracle: the same objects as before.
    names = ("_lazy_init", "is_available", "device_count", "current_device", "synchronize")
    before = [getattr(torch.cuda, name) for name in names], torch.autograd.backward, torch._C._only_lift_cpu_tensors()
    with pytest.raises(ZeroDivisionError), counting_device() as count:
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1
        1 / 0  # noqa: B018
    after = [getattr(torch.cuda, name) for name in names], torch.autograd.backward, torch._C._only_lift_cpu_tensors()
    assert before == after
    torch.ones(3).nonzero()
    on_device(torch.ones(3)) + 1
    assert count.launches == 0


def test_containers_are_moved_as_they_are():
    batch = {"images": torch.ones(1), "pyramid": FeaturePyramid(*torch.ones(4, 1)), "sizes": [(1, 2)], "names": ("a",)}
    moved = on_device(batch)
    assert moved["images"].is_cuda and moved["pyramid"].p8.is_cuda and type(moved["pyramid"]) is FeaturePyramid
    assert moved["sizes"] == [(1, 2)] and moved["names"] == ("a",)


def test_events_belong_to_the_outermost_line_that_has_a_part():
    # Oracle: by hand; FL takes two sigmoids, two sums and a product, the rest belongs to no part.
    from efficientps.networks.efficientps.panoptic_fusion import fused_logits

    with counting_device() as count:
        x = on_device(torch.ones(3))
        fused_logits(x, x + 1)
    parts = count.by_part(
        {
            "none": "networks/no_such",
            "fusion": ("networks/efficientps/panoptic_fusion", "networks/efficientps/fused_logits"),
        }
    )
    assert {name: part.launches for name, part in parts.items()} == {"none": 0, "fusion": 5, "other": 1}
    assert sum(count.places("launch").values()) == 6
