import sys

import numpy as np
import pytest
import torch

from efficientps.data.augmentation.adapters import AlbumentationsTransform
from tests.sweep import sweep

A = pytest.importorskip("albumentations")


def save(tmp_path, *transforms, name="pipeline.yaml"):
    path = tmp_path / name
    A.save(A.Compose(list(transforms)), path, data_format="yaml" if name.endswith(("yaml", "yml")) else "json")
    return path


def sample(h=40, w=60, num_segments=30):
    """Return an image, and a map with ids over the whole range of the format."""
    rng = np.random.default_rng(0)
    table = np.array([0, *sorted(rng.choice(2**24 - 1, num_segments, replace=False) + 1)], dtype=np.int32)
    ids = table[rng.integers(0, len(table), (h, w))]
    image = torch.from_numpy(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).permute(2, 0, 1)
    return image, torch.from_numpy(ids)


@sweep("name", ["pipeline.yaml", "pipeline.yml", "pipeline.json"])
@sweep("num_segments", [0, 3, 300])
def test_a_flip_moves_image_and_ids(tmp_path, name, num_segments):
    """Oracle: reversing the columns; ids of any size and number stay exact."""
    transform = AlbumentationsTransform(path=save(tmp_path, A.HorizontalFlip(p=1), name=name))
    image, ids = sample(num_segments=num_segments)
    flipped, flipped_ids = transform(image, ids, np.random.default_rng(0))
    assert torch.equal(flipped, image.flip(-1)) and torch.equal(flipped_ids, ids.flip(-1))
    assert flipped_ids.dtype == torch.int32 and flipped.dtype == torch.uint8


@sweep("num_segments", [30, 300])
@sweep(
    "warp",
    [
        A.Affine(rotate=(20, 20), scale=(0.6, 0.6), p=1),
        A.Perspective(p=1),
        A.ElasticTransform(p=1),
        A.GridDistortion(p=1),
        A.Resize(height=20, width=33, p=1),
        A.RandomResizedCrop(size=(20, 30), p=1),
    ],
)
def test_warps_invent_no_id(tmp_path, warp, num_segments):
    """Oracle: nearest neighbour; every id afterwards is one from before, or void."""
    image, ids = sample(num_segments=num_segments)
    changed, changed_ids = AlbumentationsTransform(path=save(tmp_path, warp))(image, ids, np.random.default_rng(0))
    assert changed.shape[1:] == changed_ids.shape and changed_ids.dtype == torch.int32
    assert set(changed_ids.unique().tolist()) <= {0, *ids.unique().tolist()}


def test_pixels_from_outside_are_void(tmp_path):
    """Oracle: hand-worked; after a shift by a quarter, the quarter that was outside is void."""
    shift = A.Affine(translate_percent={"x": (0.25, 0.25), "y": (0, 0)}, scale=1, rotate=0, p=1)
    ids = torch.full((16, 16), 26001, dtype=torch.int32)
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    changed = AlbumentationsTransform(path=save(tmp_path, shift))(image, ids, np.random.default_rng(0))[1]
    assert not changed[:, :4].any() and (changed[:, 4:] == 26001).all()


def test_weather_leaves_the_ids(tmp_path):
    image, ids = sample()
    transform = AlbumentationsTransform(path=save(tmp_path, A.RandomFog(p=1), A.GaussNoise(p=1)))
    changed, same = transform(image, ids, np.random.default_rng(0))
    assert torch.equal(same, ids) and not torch.equal(changed, image)


def test_randomness_comes_from_the_generator(tmp_path):
    """Oracle: the same seed gives the same image, in whatever order; another seed another image."""
    image, ids = sample()
    transform = AlbumentationsTransform(path=save(tmp_path, A.OneOf([A.GaussNoise(p=1), A.RandomFog(p=1)], p=0.9)))
    results = [transform(image, ids, np.random.default_rng(seed))[0] for seed in (1, 2, 3, 1)]
    assert torch.equal(results[0], results[3])
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])


def test_a_single_transform_is_a_pipeline(tmp_path):
    A.save(A.HorizontalFlip(p=1), tmp_path / "flip.yaml", data_format="yaml")
    image, ids = sample()
    changed = AlbumentationsTransform(path=tmp_path / "flip.yaml")(image, ids, np.random.default_rng(0))
    assert torch.equal(changed[0], image.flip(-1))


def test_interpolated_masks_are_refused(tmp_path):
    path = save(tmp_path, A.OneOf([A.Affine(mask_interpolation=1, p=1)]))
    with pytest.raises(ValueError, match=r"Affine in .*pipeline\.yaml' interpolates masks; set its mask_interpolation"):
        AlbumentationsTransform(path=path)


def test_normalised_images_are_refused(tmp_path):
    transform = AlbumentationsTransform(path=save(tmp_path, A.Normalize()))
    with pytest.raises(ValueError, match=r"pipeline\.yaml' does not return an image of bytes in RGB; remove"):
        transform(*sample(), np.random.default_rng(0))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Albumentations pipeline '.*nowhere\.yaml' does not exist"):
        AlbumentationsTransform(path=tmp_path / "nowhere.yaml")


@sweep(
    "content",
    [
        "a: [",
        "3",
        "transform: {__class_fullname__: NoSuchTransform, p: 1}",
        "transform: {__class_fullname__: Compose, transforms: 3}",
        "!!python/object/apply:os.system ['false']",
    ],
)
def test_files_without_a_pipeline_are_named(tmp_path, content):
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"bad\.yaml' does not hold an Albumentations pipeline") as caught:
        AlbumentationsTransform(path=tmp_path / "bad.yaml")
    assert "\n" not in str(caught.value)


def test_without_albumentations_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ValueError, match=r"needs Albumentations; install it with: pip install albumentations"):
        AlbumentationsTransform(path=tmp_path / "pipeline.yaml")
