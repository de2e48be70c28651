"""Windows that are rendered all at once."""

import torch

from efficientps.structures import InstancePredictions, pixel_windows
from efficientps.structures.packed_windows import pack, render
from tests.sweep import sweep

SIZE = (90, 130)


def random_instances(seed: int, frames: str) -> InstancePredictions:
    """Boxes that leave the image, boxes without a pixel, grids from 1x1 on in two precisions."""
    generator = torch.Generator().manual_seed(seed)
    number = seed % 9
    extents = torch.tensor([SIZE[1], SIZE[0]])
    low = torch.rand(number, 2, generator=generator) * extents - 10
    high = low + torch.rand(number, 2, generator=generator) ** 3 * extents
    boxes = torch.cat([low, high], dim=1)
    rows, columns = (int(torch.randint(1, 15, (), generator=generator)) for _ in range(2))
    logits = 5 * torch.randn(number, rows, columns, generator=generator)
    mask_frames = {
        "boxes": boxes,
        "canvas": torch.tensor([[0.0, 0.0, 160.0, 96.0]]).repeat(number, 1),
        "inside of boxes": torch.cat([low + 0.3 * (high - low), low + 0.6 * (high - low) + 0.1], dim=1),
    }
    return InstancePredictions(
        scores=torch.rand(number, generator=generator),
        labels=torch.zeros(number, dtype=torch.int64),
        boxes=boxes,
        mask_logits=logits.to((torch.float32, torch.bfloat16)[seed % 2]),
        mask_frames=mask_frames[frames],
    )


@sweep("frames", ["boxes", "canvas", "inside of boxes"])
@sweep("entries_at_once", [1, 3000, 10**9])
def test_to_the_last_bit_what_is_rendered_one_by_one(frames, entries_at_once):
    """Oracle: ``InstancePredictions.render``, and the pixels of a window counted row by row."""
    entries_seen = 0
    for seed in range(27):
        instances = random_instances(seed, frames)
        windows, order = pixel_windows(instances.boxes, SIZE), torch.arange(len(instances)).flip(0)
        packed = pack(
            windows[order],
            instances.mask_frames[order],
            order,
            instances.mask_logits.shape[1:],
            entries_at_once=entries_at_once,
        )
        packed, (other,) = packed.to(torch.device("cpu"), torch.tensor([0.1]))
        assert other.tolist() == torch.tensor([0.1]).tolist()
        groups = [render(instances.mask_logits, packed, group) for group in range(len(packed.sizes))]
        got = [tuple(torch.cat(field).tolist()) for field in zip(*groups, strict=True)] or [()] * 4
        expected = []
        for number, index in enumerate(order.tolist()):
            x0, y0, x1, y1 = windows[index].tolist()
            values = instances.render(index, (x0, y0, x1, y1)).flatten().tolist()
            pixels = [(x, y) for y in range(y0, y1) for x in range(x0, x1)]
            expected += [(number, x, y, value) for (x, y), value in zip(pixels, values, strict=True)]
        assert list(zip(*got, strict=True)) == expected
        areas = (windows[:, 2:] - windows[:, :2]).prod(dim=1).tolist()
        assert all(0 < size <= max(entries_at_once, *areas) for size in packed.sizes)
        entries_seen += len(expected)
    assert entries_seen > 30_000


def test_the_number_of_groups_follows_the_pixels():
    """Oracle: hand-worked; windows of 6, 0, 6, 4, 13 and 2 pixels in groups of at most 12."""
    windows = torch.tensor(
        [[0, 0, 2, 3], [5, 5, 5, 9], [1, 1, 4, 3], [0, 0, 2, 2], [0, 0, 13, 1], [3, 3, 4, 5]], dtype=torch.int64
    )
    packed = pack(windows, windows.float(), torch.arange(6), (4, 4), entries_at_once=12)
    assert packed.sizes == [12, 4, 13, 2]
    assert packed.bounds[0].tolist() == [[0, 6, 6, 12, 12, 12], [6, 6, 12, 12, 12, 12]]
