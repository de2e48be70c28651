import numpy as np
import torch
from torchvision.transforms.v2 import functional as v2

from efficientps.data.augmentation.photometric import PhotometricJitter, adjust_colors
from tests.sweep import sweep


def picture(h, w):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, h, w), dtype=np.uint8))


@sweep(
    "name, factor",
    [
        ("brightness", 0.6),
        ("brightness", 1.4),
        ("contrast", 0.6),
        ("contrast", 1.4),
        ("saturation", 0.0),
        ("saturation", 1.4),
    ],
)
def test_adjustments_are_those_of_torchvision(name, factor):
    """Oracle: torchvision's function of the same name, within its rounding."""
    image = picture(24, 40)
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    result = adjust_colors(image, **{**neutral, name: factor})
    expected = getattr(v2, f"adjust_{name}")(image, factor)
    assert result.dtype == torch.uint8 and (result.int() - expected.int()).abs().max() <= 2


def test_a_third_of_a_turn_of_hue_moves_each_colour_to_the_next():
    """Oracle: symmetry; red becomes green, green blue, blue red, and grey stays."""
    image = picture(8, 9)
    for turn, order in ((1 / 3, [2, 0, 1]), (2 / 3, [1, 2, 0]), (1.0, [0, 1, 2])):
        result = adjust_colors(image, brightness=1.0, contrast=1.0, saturation=1.0, hue=turn)
        assert (result.int() - image[order].int()).abs().max() <= 1
    grey = torch.full((3, 4, 5), 77, dtype=torch.uint8)
    assert torch.equal(adjust_colors(grey, brightness=1.0, contrast=1.0, saturation=1.3, hue=0.2), grey)


def test_photometric_jitter_leaves_the_map():
    image, ids = picture(8, 9), torch.zeros(8, 9, dtype=torch.int32)
    jittered, same = PhotometricJitter()(image, ids, np.random.default_rng(0))
    assert same is ids and jittered.shape == image.shape and not torch.equal(jittered, image)
    still = PhotometricJitter(brightness=0, contrast=0, saturation=0, hue=0)(image, ids, np.random.default_rng(0))[0]
    assert (still.int() - image.int()).abs().max() <= 1


def test_jitter_repeats_with_its_generator():
    """Oracle: the same seed gives the same image, another one another."""
    image, ids = picture(8, 9), torch.zeros(8, 9, dtype=torch.int32)
    first, same, other = (PhotometricJitter()(image, ids, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
