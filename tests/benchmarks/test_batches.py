import torch

from benchmarks.batches import autocast, street_batch


def test_batch_has_the_instances_that_were_asked_for():
    # Oracle: by hand; equal squares that do not touch, and targets that fit the map.
    for number in (1, 7, 40):
        batch = street_batch(2, (128, 256), num_instances=number)
        assert batch["images"].shape == (2, 3, 128, 256)
        for ids, segments, target in zip(batch["segment_ids"], batch["segments"], batch["instances"], strict=True):
            assert len(target["labels"]) == number and target["masks"].any(dim=(1, 2)).all()
            assert {segment.id for segment in segments} == set(ids.unique().tolist()) - {0}
            areas = target["masks"].sum(dim=(1, 2))
            assert (areas == areas[0]).all()


def test_autocast_changes_the_precision():
    # Oracle: by contract.
    x = torch.ones(4, 4)
    with autocast("bf16", "cpu"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("fp32", "cpu"):
        assert (x @ x).dtype == torch.float32
