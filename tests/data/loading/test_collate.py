import numpy as np
import pytest
import torch

from efficientps.data.loading.collate import collate
from efficientps.structures import PanopticSample, Segment


def panoptic_sample(h, w, image_id, segments=()):
    rng = np.random.default_rng(h)
    image = torch.from_numpy(rng.integers(1, 256, (3, h, w), dtype=np.uint8))
    ids = torch.from_numpy(rng.integers(0, 40_000, (h, w), dtype=np.int32))
    return PanopticSample(
        image=image, segment_ids=ids, segments=list(segments), image_id=image_id, original_size=(2 * h, 2 * w)
    )


@pytest.mark.parametrize(("canvas", "expected"), [((64, 96), (64, 96)), (None, (64, 64))])
def test_collate_stacks_images_in_the_top_left_corner(canvas, expected):
    """Oracle: hand-worked; padding is zero, the valid part is the image, maps and sizes keep their own."""
    samples = [panoptic_sample(33, 40, "a", [Segment(7, 0, False)]), panoptic_sample(20, 64, "b")]
    batch = collate(samples, canvas=canvas)
    assert tuple(batch["images"].shape) == (2, 3, *expected) and batch["images"].dtype == torch.uint8
    assert batch["image_sizes"] == [(33, 40), (20, 64)] and batch["original_sizes"] == [(66, 80), (40, 128)]
    for slot, item, (h, w) in zip(batch["images"], samples, batch["image_sizes"], strict=True):
        assert torch.equal(slot[:, :h, :w], item["image"])
        assert not slot[:, h:].any() and not slot[:, :, w:].any()
    assert batch["segment_ids"] == [item["segment_ids"] for item in samples]
    assert batch["segments"] == [[Segment(7, 0, False)], []] and batch["image_ids"] == ["a", "b"]


def test_collate_pads_odd_sizes_to_the_stride():
    assert tuple(collate([panoptic_sample(333, 517, "a")])["images"].shape) == (1, 3, 352, 544)
    assert tuple(collate([panoptic_sample(64, 96, "a")])["images"].shape) == (1, 3, 64, 96)


def test_an_image_larger_than_the_canvas_is_named():
    with pytest.raises(ValueError, match=r"Image 'a' is 65x40 pixels .* does not fit the training size 64x64"):
        collate([panoptic_sample(65, 40, "a")], canvas=(64, 64))
