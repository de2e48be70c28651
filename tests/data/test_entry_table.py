"""The entries of a data set in the memory that loading processes share."""

import gc
import json
import pickle
import re
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from efficientps.data.sources.coco_panoptic import CocoPanoptic
from efficientps.structures.categories import Categories, Category

IMAGES, SEGMENTS = 8_000, 10
"""Images, and segments of each: some megabytes as arrays."""


class Growth(Dataset):
    """Its one item: by how many bytes the memory of a process alone grows when it reads all entries."""

    def __init__(self, entries):
        self.entries = entries

    def __len__(self):
        return 1

    def __getitem__(self, _):
        gc.disable()  # it writes into every object that it looks at
        before = private_bytes()
        for entry in self.entries:
            segments = entry["segments"] if isinstance(entry, dict) else [item._asdict() for item in entry.segments]
            assert sum(segment["area"] for segment in segments) == 550
        return private_bytes() - before


def private_bytes():
    found = re.search(r"^Private_Dirty:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024


def growth(entries):
    """Read all entries in a loading process that is forked off."""
    loader = DataLoader(Growth(entries), batch_size=None, num_workers=1, multiprocessing_context="fork")
    return int(next(iter(loader)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which pages a process has for itself")
def test_loading_processes_copy_no_entry(tmp_path):
    """Oracle: a list of dicts with the same content, which grows because each use is counted in it."""
    names = [f"{number:012d}" for number in range(IMAGES)]
    segments = [{"id": id_, "category_id": 1, "iscrowd": 0, "area": 10 * id_} for id_ in range(1, SEGMENTS + 1)]
    document = {
        "images": [{"id": name, "file_name": f"{name}.jpg", "height": 8, "width": 8} for name in names],
        "annotations": [{"image_id": name, "file_name": f"{name}.png", "segments_info": segments} for name in names],
    }
    (tmp_path / "train.json").write_text(json.dumps(document))
    categories = Categories([Category(label_id=1, name="a", color=(1, 2, 3), is_thing=True)])
    entries = CocoPanoptic(
        annotation_file=tmp_path / "train.json", map_root=tmp_path, image_root=tmp_path, categories=categories
    ).entries
    size = len(pickle.dumps(entries))
    assert size > 1_500_000
    dicts = [{**entry._asdict(), "segments": [item._asdict() for item in entry.segments]} for entry in entries]
    assert growth(entries) < size / 3
    assert growth(dicts) > 2 * size
