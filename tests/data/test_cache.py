import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from efficientps.data.cache import CacheError, SampleCache
from efficientps.data.dataset import DatasetOptions
from efficientps.data.loading.samplers import SampleIndex
from efficientps.data.sources.cityscapes import CityscapesDataModule, CityscapesPanoptic
from efficientps.data.sources.coco_panoptic import CocoPanopticDataModule, CocoPanopticSplit
from tests.sweep import sweep

pytest.importorskip("blosc2")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def prepare():
    """``main`` of datasets/prepare_cache.py."""
    spec = importlib.util.spec_from_file_location("prepare_cache", ROOT / "datasets/prepare_cache.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def cached(cityscapes_root, tmp_path, prepare):
    """A tree and the cache of it."""
    cache = tmp_path / "cache"
    assert prepare([str(cityscapes_root), "--cache", str(cache), "--workers", "1"]) == 0
    return cityscapes_root, cache


def test_samples_are_the_same_bit_by_bit(cached):
    # Oracle: the PNG files; training samples with their augmentation, and evaluation samples.
    root, cache = cached
    modules = [
        CityscapesDataModule(root=str(root), image_size=(32, 64), num_workers=0, cache=path)
        for path in (None, str(cache))
    ]
    assert_same_samples(*modules, epochs=3)


def assert_same_samples(plain_module, fast_module, *, epochs):
    """Compare every training sample, with its augmentation of some epochs, and every evaluation sample."""
    for split in ("train", "val"):
        slow, quick = (module.dataset(split, module.options(split)) for module in (plain_module, fast_module))
        for index in range(len(slow)):
            for epoch in range(epochs if split == "train" else 1):
                plain, fast = slow[SampleIndex(index, epoch)], quick[SampleIndex(index, epoch)]
                assert torch.equal(plain["image"], fast["image"]) and plain["image"].dtype == fast["image"].dtype
                assert torch.equal(plain["segment_ids"], fast["segment_ids"])
                assert fast["segment_ids"].dtype == torch.int32
                for key in ("segments", "image_id", "original_size"):
                    assert plain[key] == fast[key]


def coco_panoptic(root, **choices):
    places = {
        split: CocoPanopticSplit(images="images", annotations=f"{split}.json", maps="panoptic")
        for split in ("train", "val")
    }
    return CocoPanopticDataModule(root=str(root), image_size=(64, 64), num_workers=0, **places, **choices)


@pytest.mark.parametrize("upright", [False, True])
def test_other_data_sets_are_the_same_bit_by_bit(yard_root, tmp_path, prepare, upright):
    # Oracle: the image files: JPEG, grey and RGBA, of many sizes.
    for split in ("train", "val"):
        paths = ["--annotations", f"{yard_root}/{split}.json", "--images", f"{yard_root}/images"]
        paths += ["--maps", f"{yard_root}/panoptic", "--cache", str(tmp_path / split), "--workers", "1"]
        assert prepare([*paths, *(["--upright"] if upright else [])]) == 0
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 16
    cached = coco_panoptic(yard_root, cache=str(tmp_path), upright=upright)
    assert_same_samples(coco_panoptic(yard_root, upright=upright), cached, epochs=1)


@pytest.mark.parametrize("upright", [False, True])
def test_samples_that_were_turned_otherwise_are_refused(tmp_path, upright):
    # Oracle: contract; the same files, read in the other of two ways.
    (tmp_path / "source").write_text("x")
    cache, image = SampleCache(root=tmp_path), torch.zeros(3, 2, 2, dtype=torch.uint8)
    cache.write("a", image, image[0].int(), [tmp_path / "source"], variant="" if upright else "upright")
    assert cache.has("a", [tmp_path / "source"], variant="" if upright else "upright")
    wrong = "'as stored', where they are read 'upright'" if upright else "'upright', where they are read 'as stored'"
    with pytest.raises(CacheError, match=f"was made of images {wrong}; make it again"):
        cache.read("a", [tmp_path / "source"], variant="upright" if upright else "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either the root of a Cityscapes tree, or --annotations and --images"),
        (["tree", "--annotations", "a.json"], "give either the root"),
        (["--annotations", "a.json"], "--annotations and --images belong together"),
        (["tree", "--upright"], "--maps and --upright belong to --annotations"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(prepare, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        prepare([*words, "--cache", "cache"])
    assert stop.value.code != 0
    assert message in capsys.readouterr().err


def test_nothing_is_decoded(cached, monkeypatch):
    # Oracle: by contract; a data set with a cache opens no image.
    root, cache = cached
    for name in ("read_image", "read_id_map"):
        monkeypatch.setattr(f"efficientps.data.sources.coco_panoptic.{name}", None)
    assert CityscapesPanoptic(root=root, split="train", options=DatasetOptions(cache=cache / "train"))[0][
        "image"
    ].shape == (
        3,
        32,
        64,
    )


def test_a_second_run_writes_what_is_missing_only(cached, prepare, capsys):
    # Oracle: by hand; one file is removed, another damaged.
    root, cache = cached
    files = sorted((cache / "train").iterdir())
    assert len(files) == 7
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-20])
    capsys.readouterr()
    assert prepare([str(root), "--cache", str(cache), "--splits", "train", "--workers", "1"]) == 0
    assert "2 of 7 samples written" in capsys.readouterr().out
    assert sorted((cache / "train").iterdir()) == files


def test_a_cache_goes_to_a_new_process(cached):
    """Oracle: the sample before; the processes of the command start anew, and are given the cache as bytes."""
    root, folder = cached
    entry = CityscapesPanoptic(root=root, split="val").entries[0]
    cache = SampleCache(root=folder / "val")
    image, segment_ids, _ = pickle.loads(pickle.dumps(cache)).read(entry.image_id, entry.files)
    expected = cache.read(entry.image_id, entry.files)
    assert torch.equal(image, expected.image) and torch.equal(segment_ids, expected.segment_ids)


@pytest.mark.slow
def test_several_processes_write_what_one_writes(cached, tmp_path):
    """Oracle: the arrays that one process wrote; the command runs as a program."""
    root, cache = cached
    words = [sys.executable, ROOT / "datasets/prepare_cache.py", root, "--cache", tmp_path / "two", "--workers", 2]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in words], check=True, env=environment, timeout=120)
    files = [path.relative_to(cache) for path in cache.glob("*/*.safetensors")]
    assert len(files) == 10
    for name in files:
        one, two = load_file(cache / name), load_file(tmp_path / "two" / name)
        assert one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


@sweep("pixels", [1, 7 * 13, 64 * 100])
def test_any_ids_and_pixels_survive(tmp_path, pixels):
    # Oracle: the arrays that were written; noise, which does not compress, and the extremes of int32.
    rng = np.random.default_rng(pixels)
    image = torch.from_numpy(rng.integers(0, 256, (3, 1, pixels), dtype=np.uint8))
    ids = torch.from_numpy(rng.integers(-(2**31), 2**31, (1, pixels)).astype(np.int32))
    source = tmp_path / "source"
    source.write_text("x")
    cache = SampleCache(root=tmp_path / "cache")
    assert cache.write("a", image, ids, [source]) == cache.path("a").stat().st_size
    for got, expected in zip(cache.read("a", [source])[:2], (image, ids), strict=True):
        assert torch.equal(got, expected)


def test_a_sample_older_than_its_files_is_refused(cached):
    root, cache = cached
    dataset = CityscapesPanoptic(root=root, split="train", options=DatasetOptions(cache=cache / "train"))
    os.utime(dataset.entries[2].files[1], (0, 0))
    dataset[1]
    with pytest.raises(ValueError, match=r"was made from other files than '.*leftImg8bit.png' is now; make it again"):
        dataset[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"no such format"), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "is damaged"),
        (lambda path: save_file(load_file(path), path, {"height": "99999", "width": "99999"}), "at most 134217728"),
        (lambda path: save_file(load_file(path), path, {"height": "-1", "width": "2"}), "a size is '-1'"),
        (lambda path: save_file(load_file(path), path, {"height": "8", "width": "8"}), "bytes where 192 were expected"),
        (lambda path: save_file({"image": np.zeros(40, np.uint8)}, path), "is damaged"),
        (lambda path: path.unlink(), "make it whole, or read without a cache"),
    ],
)
def test_a_damaged_sample_is_named(cached, change, message):
    root, cache = cached
    dataset = CityscapesPanoptic(root=root, split="train", options=DatasetOptions(cache=cache / "train"))
    change(cache / "train" / "aachen_000003_000019.safetensors")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        dataset[3]
    assert "aachen_000003_000019" in str(error.value)


def test_missing_folders_and_packages_get_a_sentence(cached, prepare, capsys, monkeypatch):
    root, cache = cached
    with pytest.raises(FileNotFoundError, match=r"Folder '.*nowhere' of the cache does not exist"):
        CityscapesPanoptic(root=root, split="train", options=DatasetOptions(cache=cache / "nowhere"))
    monkeypatch.setitem(sys.modules, "blosc2", None)
    assert prepare([str(root), "--cache", str(cache)]) == 1
    assert "needs Blosc2; install it with: pip install blosc2" in capsys.readouterr().err


def test_names_do_not_leave_the_folder(tmp_path):
    # Oracle: contract; the name of an image comes from a JSON file.
    with pytest.raises(ValueError, match=r"\.\./elsewhere"):
        SampleCache(root=tmp_path).path("../elsewhere")
    assert SampleCache(root=tmp_path).path("city/a") == tmp_path / "city/a.safetensors"
