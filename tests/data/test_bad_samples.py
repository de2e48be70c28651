"""Training goes on without a few bad samples, in the same order whatever the workers, and never evaluates so."""

import errno
import pickle

import jsonargparse
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from efficientps.data.bad_samples import BadSamplePolicy, BadSamples, TooManyBadSamplesError
from efficientps.data.dataset import DatasetOptions
from efficientps.data.formats import image_file
from efficientps.data.loading.samplers import EvaluationSampler, SampleIndex, TrainingSampler
from efficientps.data.sources.cityscapes import CityscapesDataModule, CityscapesPanoptic
from tests.sweep import sweep


class Draw:
    """Keeps the image, and writes a random number into its corner."""

    def __call__(self, image, segment_ids, rng):
        image = image.clone()
        image[0, 0, 0] = int(rng.integers(0, 256))
        return image, segment_ids


def damage(root, number, split="train"):
    file = root / f"leftImg8bit/{split}/aachen/aachen_{number:06d}_000019_leftImg8bit.png"
    file.write_bytes(file.read_bytes()[:100])
    return file


def dataset(root, *, transform=None, seed=0, **choices):
    policy = BadSamplePolicy(**{"on_bad_sample": "skip", **choices})
    options = DatasetOptions(transform=transform or Draw(), seed=seed, bad_samples=policy)
    return CityscapesPanoptic(root=root, split="train", options=options)


def asked(data, epoch=0):
    return [data[SampleIndex(index, epoch)] for index in range(len(data))]


def same(one, other):
    return one["image_id"] == other["image_id"] and torch.equal(one["image"], other["image"])


def test_the_next_good_sample_takes_the_place(cityscapes_root):
    """Oracle: the undamaged data set; places 2, 3 (bad) show 4, place 6 (bad) shows 0, every other is as it was."""
    whole = asked(dataset(cityscapes_root))
    for number in (2, 3, 6):
        damage(cityscapes_root, number)
    data = dataset(cityscapes_root, max_bad_samples=3)
    found = asked(data)
    assert [sample["image_id"][10:13] for sample in found] == ["000", "001", "004", "004", "004", "005", "000"]
    assert all(same(found[place], whole[place]) for place in (0, 1, 4, 5))
    assert data.bad_samples.positions == [2, 3, 6]


def test_a_substitute_has_the_random_numbers_of_the_sample_asked_for(cityscapes_root):
    """Oracle: numpy's generator, seeded by hand. So one image is augmented differently in its two places."""
    damage(cityscapes_root, 2)
    data = dataset(cityscapes_root, seed=5)
    for index in (2, 3):
        expected = int(np.random.default_rng((5, 9, index)).integers(0, 256))
        sample = data[SampleIndex(index, 9)]
        assert sample["image_id"] == "aachen_000003_000019" and int(sample["image"][0, 0, 0]) == expected
        assert {segment.id for segment in sample["segments"]} == set(sample["segment_ids"].unique().tolist()) - {0}


def test_any_unreadable_part_makes_a_sample_bad(cityscapes_root, capfd):
    """A missing image, a damaged map, and a map that the JSON does not fit."""
    damage(cityscapes_root, 0).unlink()
    maps = sorted((cityscapes_root / "gtFine/cityscapes_panoptic_train").iterdir())
    maps[1].write_bytes(b"")
    data = dataset(cityscapes_root, max_bad_samples=3)
    entries = list(data.entries)
    entries[2] = entries[2]._replace(segments=())
    data.entries = entries
    assert [sample["image_id"][10:13] for sample in asked(data)][:3] == ["003"] * 3
    lines = capfd.readouterr().err.splitlines()
    opening = [line.split(": ")[0] for line in lines]
    assert opening == [f"Skipped a bad sample ({met} met so far, 3 allowed)" for met in (1, 3, 3)]
    for line, reason in zip(lines, ("does not exist", "is not a PNG", "do not list"), strict=True):
        assert reason in line


@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_are_named_once_whatever_the_workers(cityscapes_root, capfd, num_workers):
    """Oracle: the two files damaged by hand, in three epochs, and the batches of a loader without workers."""
    files = [damage(cityscapes_root, number) for number in (2, 5)]
    runs = []
    for workers in (0, num_workers):
        capfd.readouterr()
        data = dataset(cityscapes_root, max_bad_samples=2)
        sampler = TrainingSampler(data, batch_size=1, seed=3)
        loader = DataLoader(data, sampler=sampler, num_workers=workers, collate_fn=list, persistent_workers=workers > 0)
        samples = []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            samples += [sample for (sample,) in loader]
        runs.append(samples)
        assert data.bad_samples.positions == [2, 5]
    printed = capfd.readouterr().err
    assert [printed.count(str(file)) for file in files] == [1, 1] and printed.count("Skipped a bad sample") == 2
    assert all(same(*pair) for pair in zip(*runs, strict=True))


def test_a_resumed_epoch_shows_what_is_left_of_it(cityscapes_root):
    """Oracle: the second part of an epoch that ran through, though the resumed run has met no bad sample yet."""
    for number in (1, 4):
        damage(cityscapes_root, number)

    def samples(first_batch):
        data = dataset(cityscapes_root, max_bad_samples=2)
        sampler = TrainingSampler(data, batch_size=2, seed=0)
        sampler.resume(6, first_batch)
        return [data[index] for index in sampler]

    whole, rest = samples(0), samples(1)
    assert len(rest) == 4 and all(same(*pair) for pair in zip(whole[2:], rest, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_more_than_allowed_ends_the_run(cityscapes_root, num_workers):
    """Oracle: three damaged files, two allowed; the workers count together."""
    for number in (0, 2, 5):
        damage(cityscapes_root, number)
    data = dataset(cityscapes_root, max_bad_samples=2)
    loader = DataLoader(
        data, sampler=TrainingSampler(data, batch_size=1, seed=3), num_workers=num_workers, collate_fn=list
    )
    batches = iter(loader)
    message = r"3 of 7 samples cannot be read, more than the 2 that may be skipped \(max_bad_samples\); the last of .*"
    with pytest.raises(TooManyBadSamplesError, match=message + r"Image '.*_leftImg8bit\.png' cannot be decoded"):
        list(batches)
    if num_workers:
        batches._shutdown_workers()  # left to the garbage collector, torch waits 5 s for each


def test_a_data_set_of_bad_samples_is_no_endless_search(cityscapes_root):
    for number in range(7):
        damage(cityscapes_root, number)
    with pytest.raises(TooManyBadSamplesError, match=r"None of the 7 samples can be read"):
        dataset(cityscapes_root, max_bad_samples=7)[SampleIndex(3, 0)]


def test_evaluation_never_skips(cityscapes_root):
    """Its sampler asks with plain integers; another image in the place of a bad one would change the figure."""
    file = damage(cityscapes_root, 2)
    data = dataset(cityscapes_root)
    with pytest.raises(ValueError, match=rf"Image '{file}' cannot be decoded"):
        [data[index] for index in EvaluationSampler(data)]
    assert data.bad_samples.positions == []


def test_raising_is_the_default(cityscapes_root):
    file = damage(cityscapes_root, 2)
    data = CityscapesPanoptic(root=cityscapes_root, split="train")
    assert data.bad_samples is None
    with pytest.raises(ValueError, match=rf"Image '{file}' cannot be decoded"):
        data[SampleIndex(2, 0)]


def test_errors_of_the_machine_and_of_transforms_are_not_skipped(cityscapes_root, monkeypatch):
    """They would go away or come everywhere: neither is a property of the sample."""

    def transform(image, segment_ids, rng):
        raise ValueError("a mistake of the transform")

    data = dataset(cityscapes_root, transform=transform)
    with pytest.raises(ValueError, match="a mistake of the transform"):
        data[SampleIndex(0, 0)]

    def fail(path, noun):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(image_file, "_check_file", fail)
    with pytest.raises(OSError, match="Input/output error"):
        data[SampleIndex(0, 0)]
    assert data.bad_samples.positions == []


@sweep("length, limit, expected", [(1, None, 1), (250, None, 2), (2975, None, 29), (9, 0, 0)])
def test_default_limit_is_a_hundredth(length, limit, expected):
    assert BadSamples(length, limit=limit).limit == expected


def test_choices_are_checked():
    with pytest.raises(ValueError, match=r"max_bad_samples is -1; it must be at least 0"):
        BadSamplePolicy(max_bad_samples=-1)
    with pytest.raises(ValueError, match=r"on_bad_sample is 'ignore'; give 'raise' or 'skip'"):
        BadSamplePolicy(on_bad_sample="ignore")


@pytest.mark.slow
def test_a_data_set_that_skips_travels_to_spawned_processes(cityscapes_root):
    """Oracle: what the parent finds in the shared memory after a spawned worker met the bad file."""
    damage(cityscapes_root, 2)
    data = dataset(cityscapes_root)
    assert same(pickle.loads(pickle.dumps(data))[SampleIndex(2, 0)], dataset(cityscapes_root)[SampleIndex(2, 0)])
    loader = DataLoader(
        data,
        sampler=TrainingSampler(data, batch_size=1, seed=0),
        num_workers=1,
        collate_fn=list,
        multiprocessing_context="spawn",
    )
    assert len(list(loader)) == 7 and data.bad_samples.positions == [2]


def test_the_data_module_hands_the_choice_on(cityscapes_root):
    """Oracle: with a damaged file in each split, training has all its batches, and validation raises."""
    damage(cityscapes_root, 2)
    damaged = next((cityscapes_root / "leftImg8bit/val").rglob("*.png"))
    damaged.write_bytes(b"")
    data = CityscapesDataModule(
        root=str(cityscapes_root), image_size=(32, 64), batch_size=1, num_workers=0, on_bad_sample="skip"
    )
    data.setup("fit")
    assert len([batch["image_ids"] for batch in data.train_dataloader()]) == 7
    assert data.train_dataset.bad_samples.positions == [2]
    with pytest.raises(ValueError, match=rf"Image '{damaged}' is not an image"):
        list(data.val_dataloader())
    data = CityscapesDataModule(root=str(cityscapes_root), on_bad_sample="skip", max_bad_samples=5)
    data.setup("fit")
    assert data.train_dataset.bad_samples.limit == 5
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CityscapesDataModule, "data")
    assert parser.parse_args(["--data.on_bad_sample=skip"]).data.on_bad_sample == "skip"
    with pytest.raises(jsonargparse.ArgumentError, match="on_bad_sample"):
        parser.parse_args(["--data.on_bad_sample=ignore"])
