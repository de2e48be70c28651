import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as v2

from efficientps.data.augmentation.geometry import (
    RandomHorizontalFlip,
    RandomScaleCrop,
    ResizeImage,
    crop_window,
    fit_within,
    resize_ids,
)
from efficientps.data.augmentation.transform import Compose
from tests.sweep import sweep


def sample(h, w, seed=0):
    """Return a smooth image and a map in which each id occurs once, so that every pixel can be traced."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, max(h // 8, 2), max(w // 8, 2))))
    image = interpolate(coarse, size=(h, w), mode="bicubic").clamp(0, 255)[0].to(torch.uint8)
    ids = torch.from_numpy(rng.permutation(h * w).astype(np.int32).reshape(h, w) + 20_000_000 - h * w)
    return image, ids


class Fixed:
    """A generator whose draws are given: the scale, and the position of the window."""

    def __init__(self, scale, position):
        self.scale, self.position = scale, position

    def uniform(self, low, high):
        assert low <= self.scale <= high
        return self.scale

    def random(self, size):
        return np.array(self.position)


@sweep("size", [(7, 9), (14, 18), (5, 30), (20, 27), (1, 1)])
def test_ids_are_resized_exactly(size):
    """Oracle: torch's nearest-exact on doubles, which hold every id."""
    _, ids = sample(10, 18)
    expected = interpolate(ids[None, None].double(), size=size, mode="nearest-exact")[0, 0].to(torch.int32)
    result = resize_ids(ids, size)
    assert result.dtype == torch.int32 and torch.equal(result, expected)


@sweep("scale, position", [(0.5, (0.5, 0.25)), (1.0, (0.0, 0.999)), (2.0, (0.3, 0.7))])
def test_cropping_first_equals_scaling_first(scale, position):
    """Oracle: the textbook order, scale the whole image and crop; borders of the image differ by the filter alone."""
    image, ids = sample(64, 128)
    transform = RandomScaleCrop(crop_size=(32, 32), scale_range=(0.5, 2.0))
    crop, crop_ids = transform(image, ids, Fixed(scale, position))
    scaled_size = [int(64 * scale), int(128 * scale)]
    top = int(position[0] * (64 - 32 / scale + 1)) * scale
    left = int(position[1] * (128 - 32 / scale + 1)) * scale
    window = (slice(int(top), int(top) + 32), slice(int(left), int(left) + 32))
    assert torch.equal(crop_ids, resize_ids(ids, tuple(scaled_size))[window])
    expected = v2.resize(image, scaled_size, antialias=True)[:, window[0], window[1]]
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert (crop[inner].int() - expected[inner].int()).abs().max() <= 1


@pytest.mark.parametrize("axis", [0, 1])
def test_image_and_map_stay_aligned(axis):
    """Oracle: a ramp that shows its own ids; nearest and bilinear differ by half a step, and not to one side."""
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.indices((80, 120))[axis].astype(np.int32) * 2)
    image = ids.to(torch.uint8).expand(3, -1, -1)
    transform = Compose([RandomScaleCrop(crop_size=(48, 64)), RandomHorizontalFlip()])
    shifts = []
    for _ in range(100):
        crop, crop_ids = transform(image, ids, rng)
        assert crop.shape[1:] == crop_ids.shape and crop.dtype == torch.uint8
        steps = (crop[0].float() - crop_ids) / 2
        assert steps.abs().max() <= 1.0
        shifts.append(float(steps.mean()))
    assert abs(np.mean(shifts)) < 0.1


def test_sizes_after_scaling_and_cropping():
    """Oracle: hand-worked; crops are full where the scaled image is large enough, else the whole scaled image."""
    image, ids = sample(60, 100)
    transform = RandomScaleCrop(crop_size=(64, 96), scale_range=(0.5, 2.0))
    for scale, expected in ((0.5, (30, 50)), (1.0, (60, 96)), (1.5, (64, 96)), (2.0, (64, 96))):
        crop, crop_ids = transform(image, ids, Fixed(scale, (0.5, 0.5)))
        assert tuple(crop.shape) == (3, *expected) and tuple(crop_ids.shape) == expected
    halved = RandomScaleCrop(crop_size=(64, 96), nominal_size=(30, 50))
    assert tuple(halved(image, ids, Fixed(1.0, (0.5, 0.5)))[0].shape) == (3, 30, 50)


def test_windows_cover_the_image_and_stay_in_it():
    """Oracle: first and last position of the window, and every one between, for many sizes."""
    for stored in (1, 5, 64, 333):
        for scaled in (0.4, 3.3, 63.5, 64.0, 500.0):
            for crop in (1, 32, 400):
                windows = [crop_window(stored, scaled, crop, position) for position in (0.0, 0.37, 1 - 1e-9)]
                assert windows[0][0] == 0 and windows[-1][0] + windows[-1][1] == stored
                for first, length, result in windows:
                    assert 0 <= first and 1 <= length and first + length <= stored and 1 <= result <= crop
                    if round(scaled) <= crop:
                        assert (first, length) == (0, stored)


def test_scales_are_drawn_uniformly():
    """Oracle: mean and range of a uniform distribution over [0.5, 2] (mean 1.25)."""
    image, ids = torch.zeros(3, 100, 100, dtype=torch.uint8), torch.zeros(100, 100, dtype=torch.int32)
    transform, rng = RandomScaleCrop(crop_size=(1000, 1000)), np.random.default_rng(0)
    sizes = [transform(image, ids, rng)[0].shape[-1] for _ in range(300)]
    assert 50 <= min(sizes) < 55 and 195 < max(sizes) <= 200 and abs(np.mean(sizes) - 125) < 8


@pytest.mark.parametrize(("prob", "flipped"), [(0.0, False), (1.0, True)])
def test_image_and_ids_are_mirrored_together(prob, flipped):
    """Oracle: reversing the columns twice is the identity."""
    image, ids = sample(4, 6)
    flip_image, flip_ids = RandomHorizontalFlip(prob=prob)(image, ids, np.random.default_rng(0))
    order = slice(None, None, -1) if flipped else slice(None)
    assert np.array_equal(flip_image, image.numpy()[..., order]) and np.array_equal(flip_ids, ids.numpy()[..., order])


def test_transforms_repeat_with_their_generator_and_leave_the_global_one():
    """Oracle: the same seed gives the same sample, another one another; torch's and numpy's own states do not move."""
    image, ids = sample(40, 60)
    transform = Compose([RandomScaleCrop(crop_size=(32, 32)), RandomHorizontalFlip()])
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    results = [transform(image, ids, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])
    assert torch.equal(torch_state, torch.get_rng_state()) and np.array_equal(numpy_state, np.random.get_state()[1])


def test_evaluation_resizes_the_image_and_not_the_map():
    image, ids = sample(60, 90)
    resized, same = ResizeImage(size=(32, 64))(image, ids, np.random.default_rng(0))
    assert tuple(resized.shape) == (3, 32, 48) and same is ids
    assert torch.equal(ResizeImage(size=None)(image, ids, np.random.default_rng(0))[0], image)


def test_fitting_keeps_the_shape():
    """Oracle: hand-worked; one side meets its limit, the other stays within."""
    assert fit_within((100, 50), (32, 32)) == (32, 16)
    assert fit_within((50, 100), (320, 320)) == (160, 320)
    assert fit_within((1, 1000), (10, 100)) == (1, 100)
    assert fit_within((3, 4), None) == (3, 4)


@sweep("scale_range", [(0.0, 1.0), (2.0, 0.5), (-1.0, 1.0)])
def test_bad_scales_are_refused(scale_range):
    with pytest.raises(ValueError, match=r"scale_range is \(.*\); give two positive factors"):
        RandomScaleCrop(crop_size=(32, 32), scale_range=scale_range)


@pytest.mark.parametrize("prob", [-0.1, 1.5])
def test_bad_probabilities_are_refused(prob):
    with pytest.raises(ValueError, match=f"flip_prob is {prob}"):
        RandomHorizontalFlip(prob=prob)
