"""Transforms of torchvision as seeded transforms of an image and its map."""

import jsonargparse
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from efficientps.data.augmentation.adapters import TorchvisionTransform
from efficientps.data.sources.cityscapes import CityscapesDataModule


def sample(h=40, w=60):
    """An image, and a map with ids up to the largest of the format."""
    rng = np.random.default_rng(0)
    table = np.array([0, 1, 2**24 - 1, 2**24 - 2, 26001], dtype=np.int32)
    ids = table[rng.integers(0, len(table), (h // 4, w // 4))].repeat(4, 0).repeat(4, 1)
    image = torch.from_numpy(rng.integers(0, 256, (3, h, w), dtype=np.uint8))
    return image, torch.from_numpy(ids)


def test_image_and_map_move_together():
    """Oracle: torch.flip; the results are plain tensors."""
    image, ids = sample()
    changed, moved = TorchvisionTransform(v2.RandomHorizontalFlip(p=1.0))(image, ids, np.random.default_rng(0))
    assert torch.equal(changed, image.flip(-1)) and torch.equal(moved, ids.flip(-1))
    assert type(changed) is torch.Tensor and type(moved) is torch.Tensor and moved.dtype == torch.int32


@pytest.mark.parametrize(
    "transform", [v2.RandomRotation(30), v2.RandomAffine(20, scale=(0.5, 2)), v2.ElasticTransform()]
)
def test_ids_are_never_blended(transform):
    """Oracle: the ids of the map, and void."""
    image, ids = sample()
    _, warped = TorchvisionTransform(transform)(image, ids, np.random.default_rng(1))
    assert not torch.equal(warped, ids) and warped.dtype == torch.int32
    assert set(warped.unique().tolist()) <= set(ids.unique().tolist()) | {0}


def test_numbers_come_from_the_generator_that_is_handed_over():
    """Oracle: equal seeds, equal results; the state of torch's own generator."""
    image, ids = sample()
    transform, state = TorchvisionTransform(v2.RandomRotation(30)), torch.get_rng_state()
    one, same, other = (transform(image, ids, np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_that_are_no_bytes_are_refused():
    with pytest.raises(ValueError, match=r"ToDtype of torchvision returns torch\.float32 \[3, 40, 60\]"):
        TorchvisionTransform(v2.ToDtype(torch.float32))(*sample(), np.random.default_rng(0))


def test_a_configuration_lists_them_by_name():
    """Oracle: the transform itself, after a crop of the whole image."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(CityscapesDataModule, "data")
    choices = {
        "image_size": [64, 64],
        "scale_range": [1, 1],
        "flip_prob": 0,
        "transforms": [{"class_path": "GaussianBlur", "init_args": {"kernel_size": 5, "sigma": 2.0}}],
    }
    config = parser.parse_object({"data": {"class_path": "CityscapesDataModule", "init_args": choices}})
    image, ids = sample(64, 64)
    blurred, kept = parser.instantiate(config).data.train_transform(image, ids, np.random.default_rng(0))
    assert torch.equal(blurred, v2.GaussianBlur(kernel_size=5, sigma=2.0)(image)) and torch.equal(kept, ids)
