"""A data set in a format of its own: an index of scenes, and one .npz file for each with its image and its map."""

import json
from pathlib import Path

import numpy as np
import torch

from efficientps.data.dataset import PanopticDataset
from efficientps.data.entries import Entry, Reading, SegmentEntry
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.structures.categories import Categories, Category


class Scenes(PanopticDataset):
    def read(self, entry):
        scene = np.load(entry.files[0])
        image, segment_ids = torch.from_numpy(scene["image"]), torch.from_numpy(scene["segment_ids"])
        return Reading(image.permute(2, 0, 1), segment_ids, entry.segments)


class ScenesDataModule(PanopticDataModule):
    categories = Categories([Category(1, "ground", (90, 90, 90), False), Category(2, "ball", (200, 0, 0), True)])

    def dataset(self, split, options):
        index = json.loads(Path(self.root, f"{split}.json").read_text())  # name: [[segment id, category id], ...]
        segments = {name: tuple(SegmentEntry(*pair) for pair in pairs) for name, pairs in index.items()}
        entries = [Entry(name, (f"{self.root}/{name}.npz",), segments[name]) for name in index]
        return Scenes(entries, categories=self.categories, options=options)
