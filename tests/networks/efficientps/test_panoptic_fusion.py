"""Fusion against a naive reference that builds every full-size map, and against one on full canvases."""

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.full_canvas_fusion import full_canvas_fusion
from benchmarks.scenes import semantic_logits, street_instances
from efficientps.networks.efficientps.panoptic_fusion import fused_logits, panoptic_fusion
from efficientps.structures import InstancePredictions, PanopticSegmentation
from tests.sweep import sweep


def random_instances(
    generator: torch.Generator, number: int, height: int, width: int, things: int
) -> InstancePredictions:
    corners = torch.rand(number, 2, generator=generator) * torch.tensor([width * 0.8, height * 0.8])
    sizes = torch.rand(number, 2, generator=generator) * torch.tensor([width * 0.5, height * 0.5]) + 1
    boxes = torch.cat([corners, (corners + sizes).minimum(torch.tensor([width, height]))], dim=1)
    return InstancePredictions(
        scores=torch.rand(number, generator=generator),
        labels=torch.randint(0, things, (number,), generator=generator),
        boxes=boxes,
        mask_logits=torch.randn(number, 7, 7, generator=generator) * 4 + 1,
        mask_frames=boxes,
    )


def bilinear(grid: torch.Tensor, y: float, x: float) -> torch.Tensor:
    """The value of a grid at continuous cell coordinates, held constant beyond the outermost centres."""
    rows, columns = grid.shape
    y, x = min(max(y, 0.0), rows - 1.0), min(max(x, 0.0), columns - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
    top = grid[y0, x0] * (1 - (x - x0)) + grid[y0, x1] * (x - x0)
    bottom = grid[y1, x0] * (1 - (x - x0)) + grid[y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def naive_fusion(semantic, instances, *, num_stuff, score_thresh, overlap_thresh, min_stuff_area, scale):
    """The published steps on full-size maps, pixel by pixel; outside its box an instance has -inf."""
    height, width = semantic.shape[1:]
    order = sorted(
        (i for i in range(len(instances)) if instances.scores[i] > score_thresh), key=lambda i: -instances.scores[i]
    )
    occupied = torch.zeros(height, width, dtype=torch.bool)
    accepted, maps = [], []
    for i in order:
        left, top, right, bottom = instances.boxes[i].tolist()
        full = torch.full((height, width), -torch.inf)
        for y in range(height):
            for x in range(width):
                if left <= x + 0.5 < right and top <= y + 0.5 < bottom:
                    frame = instances.mask_frames[i].tolist()
                    gy = (y + 0.5 - frame[1]) / (frame[3] - frame[1]) * instances.mask_logits.shape[1] - 0.5
                    gx = (x + 0.5 - frame[0]) / (frame[2] - frame[0]) * instances.mask_logits.shape[2] - 0.5
                    full[y, x] = bilinear(instances.mask_logits[i], gy, gx)
        mask = full > 0
        if (mask & occupied).sum() > overlap_thresh * mask.sum():
            continue
        occupied |= mask
        inside = full > -torch.inf
        fused = full.clone()
        fused[inside] = fused_logits(scale * full[inside], semantic[num_stuff + instances.labels[i]][inside])
        accepted.append(i)
        maps.append(fused)
    winner = torch.cat([semantic[:num_stuff], torch.stack(maps)] if maps else [semantic[:num_stuff]]).argmax(0)
    result = torch.full((height, width), -1)  # -1 void, t stuff, 1000 + i instance
    argmax = semantic.argmax(0)
    result[argmax < num_stuff] = argmax[argmax < num_stuff]
    for position, i in enumerate(accepted):
        result[winner == num_stuff + position] = 1000 + i
    for train_id in range(num_stuff):
        if (result == train_id).sum() < min_stuff_area:
            result[result == train_id] = -1
    return result


def as_codes(panoptic: PanopticSegmentation, instances: InstancePredictions, num_stuff: int) -> torch.Tensor:
    """The map in the naive reference's codes; instances are recognised by their scores."""
    codes = torch.full(panoptic.segment_ids.shape, -1)
    for segment in panoptic.segments:
        where = panoptic.segment_ids == segment.id
        assert where.any()
        if segment.is_thing:
            index = int((instances.scores == segment.score).nonzero())
            assert segment.train_id == num_stuff + instances.labels[index]
            codes[where] = 1000 + index
        else:
            codes[where] = segment.train_id
    return codes


@sweep("fusion", [panoptic_fusion, full_canvas_fusion])
@sweep("seed", range(30))
def test_equals_the_naive_reference(seed, fusion):
    """Oracle: a per-pixel reference on random inputs with overlapping, tiny and clipped boxes."""
    generator = torch.Generator().manual_seed(seed)
    height, width, num_stuff, num_things = 24, 31, 3, 2
    semantic = torch.randn(num_stuff + num_things, height, width, generator=generator) * 3
    instances = random_instances(generator, seed % 9, height, width, num_things)
    options = {"num_stuff": num_stuff, "score_thresh": 0.2, "overlap_thresh": 0.5, "min_stuff_area": 60}
    scale = (1.0, 4.0)[seed % 2]
    panoptic = fusion(semantic, instances, mask_logit_scale=scale, **options)
    expected = naive_fusion(semantic, instances, scale=scale, **options)
    assert torch.equal(as_codes(panoptic, instances, num_stuff), expected)
    assert panoptic.segment_ids.dtype == torch.int32
    present = set(panoptic.segment_ids.unique().tolist()) - {0}
    assert present == {segment.id for segment in panoptic.segments}


def test_thing_logits_are_read_behind_the_stuff_channels():
    """Oracle: hand-worked; label 0 of two stuff classes reads channel 2, never channel 0."""
    semantic = torch.zeros(3, 4, 4)
    semantic[0], semantic[1], semantic[2] = 5.0, -9.0, 6.0
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    instance = InstancePredictions(torch.tensor([0.9]), torch.tensor([0]), box, torch.full((1, 2, 2), 3.0), box)
    panoptic = panoptic_fusion(semantic, instance, num_stuff=2, min_stuff_area=1)
    assert [s.train_id for s in panoptic.segments] == [2]


def test_outside_its_box_an_instance_cannot_win():
    """Oracle: hand-worked; every stuff logit is negative, where the literal formula's FL = 0 would win."""
    semantic = torch.full((2, 4, 8), -1.0)
    semantic[1] = -2.0
    box = torch.tensor([[0.0, 0.0, 2.0, 4.0]])
    instance = InstancePredictions(torch.tensor([0.9]), torch.tensor([0]), box, torch.full((1, 2, 2), 9.0), box)
    panoptic = panoptic_fusion(semantic, instance, num_stuff=1, min_stuff_area=1)
    assert panoptic.segment_ids.tolist() == [[2, 2, 1, 1, 1, 1, 1, 1]] * 4


def test_thing_pixels_without_an_instance_stay_void():
    """Oracle: definition; zero instances is a normal case."""
    semantic = torch.zeros(2, 4, 4)
    semantic[1, :2] = 1.0
    semantic[0, 2:] = 1.0
    panoptic = panoptic_fusion(semantic, random_instances(torch.Generator(), 0, 4, 4, 1), num_stuff=1, min_stuff_area=8)
    assert panoptic.segment_ids.tolist() == [[0] * 4] * 2 + [[1] * 4] * 2


def test_small_stuff_is_counted_after_the_instances_took_theirs():
    """Oracle: hand-worked; 16 stuff pixels, 10 left beside the instance."""
    semantic = torch.tensor([1.0, -5.0]).view(2, 1, 1).expand(2, 4, 4)
    box = torch.tensor([[0.0, 0.0, 3.0, 2.0]])
    instance = InstancePredictions(torch.tensor([0.9]), torch.tensor([0]), box, torch.full((1, 1, 1), 20.0), box)
    for area, is_kept in ((10, True), (11, False)):
        panoptic = panoptic_fusion(semantic, instance, num_stuff=1, min_stuff_area=area)
        assert any(not s.is_thing for s in panoptic.segments) == is_kept
        assert (panoptic.segment_ids > 0).sum() == (16 if is_kept else 6)


@sweep("number", [0, 1, 40])
def test_equals_the_fusion_on_full_canvases(number):
    """Oracle: the straightforward implementation, on more and larger instances than a loop over pixels can do."""
    logits, instances = semantic_logits((256, 512), seed=number), street_instances(number, (256, 512), seed=number)
    ours, theirs = (fuse(logits, instances, num_stuff=11) for fuse in (panoptic_fusion, full_canvas_fusion))
    assert torch.equal(ours.segment_ids, theirs.segment_ids)
    assert ours.segments == theirs.segments
    assert sum(segment.is_thing for segment in ours.segments) >= number // 2


class Operations(TorchDispatchMode):
    """Counts the calls of each operation."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.calls[name] = self.calls.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def test_no_instance_is_read_by_itself():
    """Oracle: by contract; what would wait for a device is called as often for 30 instances as for 3."""
    waiting = []
    for number in (3, 30):
        with Operations() as operations:
            panoptic_fusion(semantic_logits((128, 256)), street_instances(number, (128, 256)), num_stuff=11)
        names = ("_local_scalar_dense", "nonzero", "bincount", "is_nonzero", "unique", "_unique2")
        waiting.append({name: operations.calls.get(name, 0) for name in names})
        assert operations.calls["sigmoid"] >= 2 * number
    assert waiting[0] == waiting[1]


@pytest.mark.gpu
def test_a_device_is_waited_for_a_fixed_number_of_times():
    """Oracle: by contract, counted by CUDA's own debug mode; and the CPU's result."""
    counts = []
    for number in (3, 30):
        instances = street_instances(number, (256, 512), device="cuda")
        logits = semantic_logits((256, 512), device="cuda")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                panoptic = panoptic_fusion(logits, instances, num_stuff=11)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.append(len(caught))
        again = panoptic_fusion(logits, instances, num_stuff=11)
        assert torch.equal(again.segment_ids, panoptic.segment_ids) and again.segments == panoptic.segments
        expected = panoptic_fusion(logits.cpu(), street_instances(number, (256, 512)), num_stuff=11)
        assert (panoptic.segment_ids.cpu() == expected.segment_ids).float().mean() > 0.999
    assert counts[0] == counts[1]
