"""Data that tests of several folders share: a synthetic Cityscapes tree, and small trees drawn by hand."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Before PyTorch is imported, and for the processes that tests start: tensors as small as theirs gain nothing from
# several threads, which on a busy machine wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

# Before Triton is imported: kernels are read by its interpreter where there is no device to run them.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

_HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def former_signal_handlers():
    """No run leaves its handlers to the next test: a process that this one forks later would not heed SIGTERM."""
    yield
    for number, handler in _HANDLERS.items():
        signal.signal(number, handler)


# Label ids and instance ids of a hand-drawn scene; ids below 1000 of a thing class are crowd regions.
SKY, ROAD, OUT_OF_ROI, CROWD, CAR_1, CAR_2 = 23, 7, 3, 24, 26000, 26001


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory):
    """A synthetic Cityscapes tree: 8 training and 5 validation images of 128x256 pixels."""
    from efficientps.synthetic.streets import write_synthetic_cityscapes

    root = tmp_path_factory.mktemp("synthetic_cityscapes")
    write_synthetic_cityscapes(root, num_train=8, num_val=5, size=(128, 256), seed=0)
    return root


@pytest.fixture(scope="session")
def yard_root(tmp_path_factory):
    """A synthetic yard in the COCO panoptic format: 16 images of 72 to 160 pixels, split in 12 and 4 or so."""
    from efficientps.data.tools.split import split_annotations
    from efficientps.synthetic.yards import write_synthetic_yard

    root = tmp_path_factory.mktemp("yard")
    list(write_synthetic_yard(root, num_images=16, size=160, seed=0))
    split_annotations(root / "panoptic.json", root / "train.json", root / "val.json", val_fraction=0.25)
    return root


@pytest.fixture(scope="session")
def cityscapes_sample():
    """The folder with a few real Cityscapes images; tests that use it carry the mark ``cityscapes``."""
    folder = os.environ.get("EFFICIENTPS_CITYSCAPES_SAMPLE")
    if not folder:
        pytest.skip("EFFICIENTPS_CITYSCAPES_SAMPLE does not name a folder with Cityscapes images")
    return Path(folder)


@pytest.fixture(scope="session")
def hand_drawn_map():
    """A scene uint16 [32, 64] in Cityscapes' own encoding: two stuff classes, two cars, a crowd, void at the left."""
    ids = np.full((32, 64), ROAD, dtype=np.uint16)
    ids[:16] = SKY
    ids[20:28, 10:20] = CAR_1
    ids[18:26, 30:50] = CAR_2
    ids[12:20, 52:60] = CROWD
    ids[:, :4] = OUT_OF_ROI
    return ids


@pytest.fixture(scope="session")
def write_cityscapes(hand_drawn_map):
    """A function that writes scenes into a Cityscapes tree without the panoptic maps: (root, split, image_ids)."""

    def write(root, split, image_ids):
        for seed, image_id in enumerate(image_ids):
            city = image_id.split("_")[0]
            for part in ("leftImg8bit", "gtFine"):
                (root / part / split / city).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 256, (*hand_drawn_map.shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "leftImg8bit" / split / city / f"{image_id}_leftImg8bit.png")
            Image.fromarray(hand_drawn_map).save(root / "gtFine" / split / city / f"{image_id}_gtFine_instanceIds.png")

    return write


@pytest.fixture(scope="session")
def shared_cityscapes_root(tmp_path_factory, write_cityscapes):
    """A prepared Cityscapes tree of hand-drawn scenes, 7 for training and 3 for validation, that no test changes."""
    from efficientps.data.tools.cityscapes_conversion import prepare_split

    root = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes(root, "train", [f"aachen_{number:06d}_000019" for number in range(7)])
    write_cityscapes(root, "val", [f"{city}_000000_000000" for city in ("lindau", "munster", "frankfurt")])
    for split in ("train", "val"):
        prepare_split(root, split)
    return root


@pytest.fixture
def cityscapes_root(tmp_path, shared_cityscapes_root):
    """A copy of that tree, for a test to change."""
    return Path(shutil.copytree(shared_cityscapes_root, tmp_path / "cityscapes"))


@pytest.fixture
def write_panoptic_folder():
    """A function that writes a COCO panoptic folder of one image, "a", and returns arguments of ``PanopticDataset``."""

    def write(root, *, ids, segments, image_size=None, **overrides):
        ids = np.asarray(ids)
        (root / "maps").mkdir(parents=True)
        (root / "images").mkdir()
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(root / "maps" / "a.png")
        Image.new("RGB", (image_size or ids.shape)[::-1], (10, 20, 30)).save(root / "images" / "a.png")
        document = {
            "images": [{"id": "a", "file_name": "a.png", "height": ids.shape[0], "width": ids.shape[1]}],
            "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": segments}],
            "categories": [],
            **overrides,
        }
        (root / "a.json").write_text(json.dumps(document))
        return {"annotation_file": root / "a.json", "map_root": root / "maps", "image_root": root / "images"}

    return write


@pytest.fixture
def one_thread():
    """Compute with one thread, because sums of several threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
