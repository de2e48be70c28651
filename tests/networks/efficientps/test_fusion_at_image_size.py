"""Fusion at the size of the image file: scores are enlarged, not ids."""

from functools import partial

import torch

from efficientps.backbones import EfficientNetBackbone
from efficientps.networks import image_logits
from efficientps.networks.efficientps import (
    EfficientPS,
    MaskRCNNHead,
    SemanticHead,
    SOLOv2Head,
    TwoWayFPN,
    panoptic_fusion,
)
from efficientps.networks.efficientps.panoptic_fusion import panoptic_fusion as fuse
from efficientps.networks.efficientps.panoptic_fusion import semantic_maps
from efficientps.networks.image_logits import logits_of_image
from efficientps.structures import ImageBatch
from tests.networks.efficientps.test_panoptic_fusion import as_codes, naive_fusion, random_instances
from tests.networks.test_image_logits import CASES, naive
from tests.sweep import sweep

NUM_STUFF, NUM_THINGS = 3, 2
ENLARGED = ["twice as large", "odd sizes and padding", "one pixel high", "smaller than the network's"]
SOLO = {"num_convs": 1, "channels": 32, "kernel_channels": 32, "mask_hidden": 32, "num_grids": [16, 12, 8, 6, 4]}


@sweep("draws_at_once", [False, True])
@sweep("seed", range(3))
@sweep("case", ENLARGED)
def test_equals_a_naive_fusion_of_dense_logits(case, seed, draws_at_once, monkeypatch):
    """Oracle: logits interpolated whole, pixel by pixel in float64, and the published steps pixel by pixel."""
    monkeypatch.setattr(panoptic_fusion, "_draws_at_once", lambda device: draws_at_once)
    monkeypatch.setattr(panoptic_fusion, "_PIXELS_AT_ONCE", 50)
    monkeypatch.setattr(image_logits, "_VALUES_ON_CPU", 400)
    cells, canvas, image_size, size = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(NUM_STUFF + NUM_THINGS, *cells, generator=generator)
    instances = random_instances(generator, 4 * seed, *image_size, NUM_THINGS).resize(image_size, size)
    options = {"num_stuff": NUM_STUFF, "score_thresh": 0.2, "overlap_thresh": 0.5, "min_stuff_area": 40}
    read = logits_of_image(logits, canvas=canvas, image_size=image_size, size=size)
    dense = naive(logits, canvas, image_size, size)
    maps = semantic_maps(read, NUM_STUFF)
    assert torch.equal(maps.classes.long(), dense.argmax(dim=0))
    panoptic = fuse(read, instances, mask_logit_scale=4.0, maps=maps, **options)
    expected = naive_fusion(dense.float(), instances, scale=4.0, **options)
    assert panoptic.segment_ids.shape == size and panoptic.segment_ids.dtype == torch.int32
    assert torch.equal(as_codes(panoptic, instances, NUM_STUFF), expected)


def test_large_windows_are_drawn_in_parts(monkeypatch):
    """Oracle: the same windows drawn whole, and all at once, to the last bit; most masks lie on others."""
    generator = torch.Generator().manual_seed(0)
    semantic = torch.randn(NUM_STUFF + NUM_THINGS, 24, 31, generator=generator)
    instances = random_instances(generator, 12, 24, 31, NUM_THINGS)
    options = {"num_stuff": NUM_STUFF, "score_thresh": 0.0, "min_stuff_area": 1}
    expected = fuse(semantic, instances, **options)
    monkeypatch.setattr(panoptic_fusion, "_draws_at_once", lambda device: True)
    for pixels in (1, 40, 200):
        monkeypatch.setattr(panoptic_fusion, "_PIXELS_AT_ONCE", pixels)
        monkeypatch.setattr(panoptic_fusion, "_LARGEST_PACKED_WINDOW", pixels)
        got = fuse(semantic, instances, **options)
        assert torch.equal(got.segment_ids, expected.segment_ids) and got.segments == expected.segments
    assert 2 < sum(segment.is_thing for segment in expected.segments) < 12


def test_a_diagonal_edge_has_no_steps():
    """Oracle: hand-worked; class 0 is where x >= y.

    The logits x - y and y - x at stride 4 of a 16x16 input are linear, so that interpolation is exact between the
    centres of the outermost cells: at pixels 8 to 55 of 64. Ids at 16x16 that are enlarged to 64x64 are wrong in the 6
    pixels below the diagonal of each block of 4x4 pixels, of which 12 lie there.
    """
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    logits = torch.stack([x - y, y - x])
    none = random_instances(torch.Generator(), 0, 16, 16, 1)

    def inner(size: tuple[int, int]) -> torch.Tensor:
        read = logits_of_image(logits, canvas=(16, 16), image_size=(16, 16), size=size)
        panoptic = fuse(read, none, num_stuff=2, min_stuff_area=1)
        assert [segment.train_id for segment in panoptic.segments] == [0, 1]
        return panoptic.resize((64, 64)).segment_ids[8:56, 8:56]

    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    truth = torch.where(x >= y, 1, 2).int()
    assert (inner((64, 64)) != truth).sum() == 0
    assert (inner((16, 16)) != truth).sum() == 12 * 6


def test_stuff_areas_are_counted_in_pixels_of_the_image_file():
    """Oracle: hand-worked; the left half of a 16x16 input is 128 of its pixels, and 512 of a 32x32 image file."""
    logits = torch.tensor([9.0, 9.0, -9.0, -9.0]).expand(4, 4)
    logits = torch.stack([logits, -logits])
    none = random_instances(torch.Generator(), 0, 16, 16, 1)
    read = logits_of_image(logits, canvas=(16, 16), image_size=(16, 16), size=(32, 32))
    for area, kept in ((512, 2), (513, 0)):
        assert len(fuse(read, none, num_stuff=2, min_stuff_area=area).segments) == kept


def batch(sizes: list[tuple[int, int]], original_sizes: list[tuple[int, int]] | None) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(sizes), 3, 64, 96), dtype=torch.uint8, generator=generator)
    made = {"images": images, "image_sizes": sizes, "image_ids": [str(i) for i in range(len(sizes))]}
    return made if original_sizes is None else ImageBatch(**made, original_sizes=original_sizes)


HEADS = {
    "Mask R-CNN": partial(MaskRCNNHead, box_hidden=32, mask_channels=16, score_thresh=0.06),
    "SOLOv2": partial(SOLOv2Head, score_thresh=0.01, detection_thresh=0.001, update_thresh=0.0, **SOLO),
}


@sweep("head", HEADS)
def test_a_network_fuses_at_the_size_of_the_image_file(head):
    """Oracle: both heads' outputs, brought to that size densely in float64, and fused by the tested function."""
    torch.manual_seed(0)
    network = EfficientPS(
        11, 8, backbone=EfficientNetBackbone(variant="b0", pretrained=False),
        neck=partial(TwoWayFPN, out_channels=32), semantic_head=partial(SemanticHead, channels=16),
        instance_head=HEADS[head], min_stuff_area=20,
    ).eval()  # fmt: skip
    sizes, originals = [(50, 71), (64, 96), (20, 40)], [(117, 201), (64, 96), (33, 35)]
    with torch.no_grad():
        small = network.predict(batch(sizes, None))
        found = network.predict(batch(sizes, originals))
        same = network.predict(batch(sizes, sizes))
        for index, (size, original) in enumerate(zip(sizes, originals, strict=True)):
            assert torch.equal(small[index].panoptic.segment_ids, same[index].panoptic.segment_ids)
            canvas = (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
            images = batch(sizes, sizes)["images"][index : index + 1, :, : canvas[0], : canvas[1]]
            logits = network.semantic_head(network.pyramid(images, [size]))[0]
            dense = naive(logits, canvas, size, original).float()
            expected = fuse(
                dense, small[index].instances.resize(size, original), num_stuff=11, min_stuff_area=20,
                score_thresh=network.instance_head.score_thresh,
            )  # fmt: skip
            prediction = found[index]
            assert tuple(prediction.semantic.shape) == tuple(prediction.panoptic.segment_ids.shape) == original
            assert (prediction.semantic == dense.argmax(dim=0)).float().mean() > 0.999
            assert (prediction.panoptic.segment_ids == expected.segment_ids).float().mean() > 0.999
            assert [s.train_id for s in prediction.panoptic.segments] == [s.train_id for s in expected.segments]
            assert (prediction.instances.boxes <= torch.tensor([*original[::-1], *original[::-1]])).all()
    assert torch.equal(found[1].panoptic.segment_ids, small[1].panoptic.segment_ids)  # the size is its own
