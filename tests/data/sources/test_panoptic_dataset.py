import numpy as np
import pytest
import torch
from PIL import Image

from efficientps.data.dataset import DatasetOptions
from efficientps.data.loading.samplers import SampleIndex
from efficientps.data.sources.coco_panoptic import CocoPanoptic
from efficientps.structures import Segment
from efficientps.structures.categories import Categories, Category
from tests.sweep import sweep

TABLE = Categories(
    [
        Category(7, "road", (128, 64, 128), is_thing=False),
        Category(24, "person", (220, 20, 60), is_thing=True),
        Category(26, "car", (0, 0, 142), is_thing=True),
    ]
)
IDS = [[7, 7, 0, 0], [26001, 26001, 24, 24]]
SEGMENTS = [
    {"id": 7, "category_id": 7, "iscrowd": 0},
    {"id": 24, "category_id": 24, "iscrowd": 1},
    {"id": 26001, "category_id": 26, "iscrowd": 0},
]


class Draw:
    """Writes random numbers into the image, and leaves the left half."""

    def __call__(self, image, segment_ids, rng):
        return torch.from_numpy(rng.integers(0, 256, (3, 2, 2), dtype=np.uint8)), segment_ids[:, :2]


def test_a_sample_is_what_its_files_say(tmp_path, write_panoptic_folder):
    """Oracle: hand-worked example; train ids are the places in the table, and crowd is kept."""
    dataset = CocoPanoptic(**write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS), categories=TABLE)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample["segment_ids"].tolist() == IDS and sample["segment_ids"].dtype == torch.int32
    assert sample["segments"] == [
        Segment(7, 0, False),
        Segment(24, 1, True, is_crowd=True),
        Segment(26001, 2, True),
    ]
    assert sample["image"].shape == (3, 2, 4) and sample["image"][:, 1, 3].tolist() == [10, 20, 30]
    assert (sample["image_id"], sample["original_size"]) == ("a", (2, 4))


def test_a_new_data_set_is_a_table_and_a_naming_rule(tmp_path, write_panoptic_folder):
    class Elsewhere(CocoPanoptic):
        def image_path(self, entry):
            return f"pictures/{entry.image_id}.bmp"

    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS)
    (tmp_path / "images" / "pictures").mkdir()
    Image.new("RGB", (4, 2), (1, 2, 3)).save(tmp_path / "images" / "pictures" / "a.bmp")
    assert Elsewhere(**arguments, categories=TABLE)[0]["image"][:, 0, 0].tolist() == [1, 2, 3]


def test_the_transform_is_seeded_by_seed_epoch_and_index(tmp_path, write_panoptic_folder):
    """Oracle: equal where all three are equal, different where one differs."""
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS)
    dataset = CocoPanoptic(**arguments, categories=TABLE, options=DatasetOptions(transform=Draw(), seed=1))
    other = CocoPanoptic(**arguments, categories=TABLE, options=DatasetOptions(transform=Draw(), seed=2))
    first = dataset[SampleIndex(0, epoch=3)]["image"]
    dataset[SampleIndex(0, epoch=4)]
    assert torch.equal(first, dataset[SampleIndex(0, epoch=3)]["image"])
    assert not torch.equal(first, dataset[SampleIndex(0, epoch=4)]["image"])
    assert not torch.equal(first, other[SampleIndex(0, epoch=3)]["image"])
    assert torch.equal(dataset[0]["image"], dataset[SampleIndex(0, epoch=0)]["image"])


def test_segments_that_a_transform_removed_are_not_listed(tmp_path, write_panoptic_folder):
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS)
    sample = CocoPanoptic(**arguments, categories=TABLE, options=DatasetOptions(transform=Draw()))[0]
    assert [segment.id for segment in sample["segments"]] == [7, 26001]
    assert sample["original_size"] == (2, 4)


def test_an_all_void_image_is_a_sample(tmp_path, write_panoptic_folder):
    arguments = write_panoptic_folder(tmp_path, ids=np.zeros((3, 5), dtype=int), segments=[])
    for transform in (None, Draw()):
        sample = CocoPanoptic(**arguments, categories=TABLE, options=DatasetOptions(transform=transform))[0]
        assert sample["segments"] == [] and not sample["segment_ids"].any()


def test_indices_behave_as_those_of_a_list(tmp_path, write_panoptic_folder):
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS)
    dataset = CocoPanoptic(**arguments, categories=TABLE, options=DatasetOptions(transform=Draw()))
    assert torch.equal(dataset[-1]["image"], dataset[0]["image"])
    with pytest.raises(IndexError):
        dataset[1]


def test_a_segment_that_the_json_lacks_is_named(tmp_path, write_panoptic_folder):
    dataset = CocoPanoptic(**write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS[:2]), categories=TABLE)
    with pytest.raises(ValueError, match=r"a\.png' has pixels of segment 26001, which .* of image 'a' do not list"):
        dataset[0]


def test_a_segment_that_the_map_lacks_is_named(tmp_path, write_panoptic_folder):
    segments = [*SEGMENTS, {"id": 26002, "category_id": 26}]
    dataset = CocoPanoptic(**write_panoptic_folder(tmp_path, ids=IDS, segments=segments), categories=TABLE)
    with pytest.raises(ValueError, match=r"a\.png' has no pixel of segment 26002, which .* of image 'a' list"):
        dataset[0]


def test_an_image_of_another_size_is_named(tmp_path, write_panoptic_folder):
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS, image_size=(2, 5))
    with pytest.raises(ValueError, match=r"images/a\.png' is 2x5 pixels .* says 2x4; image and label must have one"):
        CocoPanoptic(**arguments, categories=TABLE)[0]


def test_a_map_of_another_size_is_named(tmp_path, write_panoptic_folder):
    images = [{"id": "a", "file_name": "a.png", "height": 2, "width": 5}]
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS, image_size=(2, 5), images=images)
    with pytest.raises(ValueError, match=r"maps/a\.png' is 2x4 pixels .* says 2x5; image and label must have one"):
        CocoPanoptic(**arguments, categories=TABLE)[0]


@pytest.mark.parametrize("folder", ["maps", "images"])
def test_missing_and_damaged_files_are_named(tmp_path, write_panoptic_folder, folder):
    dataset = CocoPanoptic(**write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS), categories=TABLE)
    file = tmp_path / folder / "a.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=rf"{folder}/a\.png' cannot be decoded"):
        dataset[0]
    file.write_text("no image")
    with pytest.raises(ValueError, match=rf"{folder}/a\.png' is not"):
        dataset[0]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}/a\.png' does not exist"):
        dataset[0]


@sweep("name", ["../secret.png", "/etc/passwd", "x/../../secret.png", "", "a\0.png", ".."])
@sweep("part", ["images", "annotations"])
def test_file_names_cannot_leave_the_data(tmp_path, write_panoptic_folder, name, part):
    entry = {
        "images": {"id": "a", "file_name": name, "height": 2, "width": 4},
        "annotations": {"image_id": "a", "file_name": name, "segments_info": SEGMENTS},
    }[part]
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS, **{part: [entry]})
    with pytest.raises(ValueError, match=r"a\.json' names the file .* not a relative path inside '.*(maps|images)'"):
        CocoPanoptic(**arguments, categories=TABLE)


def test_names_of_subfolders_stay_inside(tmp_path, write_panoptic_folder):
    images = [{"id": "a", "file_name": "x/../a.png", "height": 2, "width": 4}]
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS, images=images)
    assert CocoPanoptic(**arguments, categories=TABLE)[0]["image_id"] == "a"


@pytest.mark.parametrize("argument", ["map_root", "image_root"])
def test_missing_folders_are_named(tmp_path, write_panoptic_folder, argument):
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=SEGMENTS)
    arguments[argument] = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match=r"Folder '.*nowhere' does not exist; '.*a\.json' refers to it"):
        CocoPanoptic(**arguments, categories=TABLE)


def test_an_empty_annotation_file_is_named(tmp_path, write_panoptic_folder):
    arguments = write_panoptic_folder(tmp_path, ids=IDS, segments=[], images=[], annotations=[])
    with pytest.raises(ValueError, match=r"a\.json' holds no image"):
        CocoPanoptic(**arguments, categories=TABLE)


def test_an_unknown_category_is_named(tmp_path, write_panoptic_folder):
    arguments = write_panoptic_folder(tmp_path, ids=[[5]], segments=[{"id": 5, "category_id": 5}])
    with pytest.raises(ValueError, match=r"a\.json', image 'a': Category id 5 is not in the table of classes"):
        CocoPanoptic(**arguments, categories=TABLE)
