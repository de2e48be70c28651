import pickle
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import jsonargparse
import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torchvision.transforms import v2

from efficientps.data.augmentation.recipe import Augmentation
from efficientps.data.bad_samples import BadSamplePolicy
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.loading.loaders import Loading
from efficientps.data.loading.targets import training_batch
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES, CityscapesDataModule
from efficientps.structures import ImageBatch
from efficientps.training.process_group import leave_at_exit
from tests.sweep import sweep

SMALL = {"image_size": (32, 64), "batch_size": 2, "num_workers": 0}


def data_of(root, stage="fit", **overrides):
    data = CityscapesDataModule(root=str(root), **{**SMALL, **overrides})
    data.setup(stage)
    return data


def on_ranks(data, world_size):
    """Yield the data module once for each rank."""
    for rank in range(world_size):
        data._rank_and_world_size = lambda rank=rank: (rank, world_size)
        yield data


def equal(a, b):
    """Compare two batches, tensors by value."""
    return (
        torch.equal(a["images"], b["images"])
        and all(torch.equal(x, y) for x, y in zip(a["segment_ids"], b["segment_ids"], strict=True))
        and all(a[key] == b[key] for key in ("image_ids", "image_sizes", "original_sizes", "segments"))
    )


def epochs(loader, number):
    """Return the batches of the first epochs."""
    batches = []
    for epoch in range(number):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


class Recorder(LightningModule):
    """Trains one number, and writes down every batch that it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch)

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch)

    def predict_step(self, batch, batch_idx):
        self.seen["predict"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**overrides):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", **{**quiet, "max_epochs": 1, **overrides})


def test_training_batches_have_one_shape_and_their_maps(cityscapes_root):
    """Oracle: hand-worked; 7 images make 3 batches of 2, each on the canvas of the crop."""
    data = data_of(cityscapes_root)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 3
    for batch in batches:
        assert tuple(batch["images"].shape) == (2, 3, 32, 64) and batch["images"].dtype == torch.uint8
        for (h, w), ids, segments in zip(batch["image_sizes"], batch["segment_ids"], batch["segments"], strict=True):
            assert tuple(ids.shape) == (h, w) and h <= 32 and w <= 64
            assert {segment.id for segment in segments} == set(ids.unique().tolist()) - {0}
    assert data.categories is CITYSCAPES_CATEGORIES


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(cityscapes_root, num_workers):
    """Oracle: loading in this process; workers persist over two epochs, whose batches differ."""
    alone = epochs(data_of(cityscapes_root, photometric=True).train_dataloader(), 2)
    loader = data_of(cityscapes_root, photometric=True, num_workers=num_workers).train_dataloader()
    assert loader.persistent_workers
    for expected, found in zip(alone, epochs(loader, 2), strict=True):
        assert equal(expected, found)
    assert not equal(alone[0], alone[3])


def test_an_epoch_goes_on_where_it_stopped(cityscapes_root):
    """Oracle: the uninterrupted epoch."""
    loader = data_of(cityscapes_root).train_dataloader()
    whole = epochs(loader, 2)[3:]
    loader.sampler.resume(1, first_batch=2)
    (rest,) = list(loader)
    assert equal(rest, whole[2])


def test_seeds_differ_and_repeat(cityscapes_root):
    first, same, other = (epochs(data_of(cityscapes_root, seed=seed).train_dataloader(), 1) for seed in (1, 1, 2))
    assert all(equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(equal(a, b) for a, b in zip(first, other, strict=True))


def test_loading_leaves_the_global_generators_alone(cityscapes_root):
    """A resumed run replays torch's generator: the loaders must not advance it."""
    data = data_of(cityscapes_root, photometric=True)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(data.train_dataloader()), list(data.val_dataloader())
    assert torch.equal(state, torch.get_rng_state()) and np.array_equal(numpy_state, np.random.get_state()[1])


def test_ranks_share_the_batches_of_one_process(cityscapes_root):
    """Oracle: invariance; 3 ranks with batch 1 load what one rank loads with batch 3."""
    joint = list(data_of(cityscapes_root, batch_size=3).train_dataloader())
    data = data_of(cityscapes_root, batch_size=1)
    ranks = [list(each.train_dataloader()) for each in on_ranks(data, 3)]
    for step, batch in enumerate(joint):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part["images"] for part in parts]), batch["images"])
        assert [image_id for part in parts for image_id in part["image_ids"]] == batch["image_ids"]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_image_once(cityscapes_root, world_size):
    data = data_of(cityscapes_root, "validate")
    shares = [[batch["image_ids"] for batch in each.val_dataloader()] for each in on_ranks(data, world_size)]
    expected = {f"{city}_000000_000000" for city in ("frankfurt", "lindau", "munster")}
    seen = [image_id for share in shares for (image_id,) in share]
    assert len(seen) == 3 and set(seen) == expected


def test_more_processes_than_images_are_refused(cityscapes_root):
    data = data_of(cityscapes_root, "validate")
    (*_, last) = on_ranks(data, 4)
    with pytest.raises(ValueError, match="has 3 images, fewer than the 4 processes; run at most 3"):
        last.val_dataloader()


def test_evaluation_images_are_resized_and_their_maps_are_not(cityscapes_root, hand_drawn_map):
    data = data_of(cityscapes_root, "validate", eval_size=(20, 44))
    batch = next(iter(data.val_dataloader()))
    assert batch["image_sizes"] == [(20, 40)] and tuple(batch["images"].shape) == (1, 3, 32, 64)
    assert batch["original_sizes"] == [(32, 64)] and not batch["images"][:, :, 20:].any()
    expected = np.where(hand_drawn_map == 3, 0, hand_drawn_map)
    assert np.array_equal(batch["segment_ids"][0], expected)


def test_sizes_follow_from_one_another():
    assert CityscapesDataModule().train_size == CityscapesDataModule().eval_size == (512, 1024)
    data = CityscapesDataModule(image_size=(512, 1024), train_size=(1024, 2048))
    assert data.eval_size == (1024, 2048)
    assert CityscapesDataModule(eval_size=(64, 64)).train_size == (512, 1024)


RENAMED = {"nominal_size": "train_size", "crop_size": "image_size"}
"""Fields of the option groups whose option in a configuration has another name."""


@pytest.mark.parametrize("group", [Augmentation, Loading, BadSamplePolicy])
def test_options_are_those_of_their_groups(group):
    """Oracle: the types and defaults of the groups. A list, or null, stands for a sequence in a configuration."""
    types, of_group = get_type_hints(PanopticDataModule), get_type_hints(group)
    defaults = {option.name: option.default for option in fields(PanopticDataModule)}
    assert types["transforms"] == list[v2.Transform] | None and defaults["transforms"] is None
    for option in fields(group):
        if option.name != "transforms":
            name = RENAMED.get(option.name, option.name)
            assert types[name] == of_group[option.name], name
            assert defaults[name] == option.default, name


def test_every_option_reaches_its_group(monkeypatch):
    """Oracle: the values that were given, each other than its default."""
    values = {"image_size": (96, 128), "train_size": (64, 96), "scale_range": (0.7, 1.5), "flip_prob": 0.25}
    values |= {"photometric": True, "transforms": [v2.RandomInvert()], "albumentations": "a.yaml"}
    values |= {"batch_size": 7, "eval_batch_size": 5, "num_workers": 2, "seed": 3}
    values |= {"on_bad_sample": "skip", "max_bad_samples": 4}
    monkeypatch.setattr(Augmentation, "transform", lambda self: None)  # which would read the file
    data = CityscapesDataModule(**values)
    for group in (data.augmentation, data.loading, data.bad_samples):
        for option in fields(group):
            given = values.pop(RENAMED.get(option.name, option.name))
            assert getattr(group, option.name) == given != option.default, option.name
    assert not values


def test_a_whole_run_under_lightning(cityscapes_root):
    """Oracle: the functions that derive targets; training batches have them, evaluation batches have not."""
    module, data = Recorder(), CityscapesDataModule(root=str(cityscapes_root), **SMALL)
    run = trainer(max_epochs=2)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    run.predict(module, datamodule=data, return_predictions=False)
    train = module.seen["train"]
    assert len(train) == 6 and len(module.seen["val"]) >= 2 * 3 and len(module.seen["test"]) == 3
    for batch in train:
        expected = training_batch(batch, CITYSCAPES_CATEGORIES.num_stuff)
        assert torch.equal(batch["semantic"], expected["semantic"]) and len(batch["instances"]) == 2
    orders = [
        [image_id for batch in train[part] for image_id in batch["image_ids"]] for part in (slice(3), slice(3, 6))
    ]
    assert orders[0] != orders[1], "Lightning hands the epoch to the sampler"
    for stage in ("val", "test", "predict"):
        assert all("semantic" not in batch for batch in module.seen[stage])
    predicted = [image_id for batch in module.seen["predict"] for image_id in batch["image_ids"]]
    assert predicted == ["frankfurt_000000_000000", "lindau_000000_000000", "munster_000000_000000"]


@pytest.mark.parametrize(("training", "maps"), [(True, "meta"), (False, "cpu")])
def test_true_maps_stay_on_the_host_in_evaluation(cityscapes_root, training, maps):
    """Oracle: the contract with the evaluation; any device that is not the CPU shows what moves."""
    data = data_of(cityscapes_root)
    batch = next(iter(data.train_dataloader()))
    data.trainer = SimpleNamespace(training=training)
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["images"].device.type == "meta"
    assert {ids.device.type for ids in moved["segment_ids"]} == {maps}


class Witness(Recorder):
    """Writes the ids that each rank sees to a folder."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_fit_end(self):
        leave_at_exit()
        for stage in ("train", "val"):
            ids = [image_id for batch in self.seen[stage] for image_id in batch["image_ids"]]
            (self.folder / f"{stage}{self.trainer.global_rank}.txt").write_text("\n".join(ids))


@pytest.mark.slow
@pytest.mark.parametrize("use_distributed_sampler", [True, False])
def test_two_processes_share_the_data(tmp_path, cityscapes_root, use_distributed_sampler):
    """Oracle: one process; whether Lightning may replace samplers or not, it does not."""
    data = CityscapesDataModule(root=str(cityscapes_root), **{**SMALL, "batch_size": 3})
    trainer(
        strategy="ddp_spawn", devices=2, use_distributed_sampler=use_distributed_sampler, num_sanity_val_steps=0
    ).fit(Witness(tmp_path), datamodule=data)
    joint = data_of(cityscapes_root, batch_size=6).train_dataloader()
    expected = [image_id for batch in joint for image_id in batch["image_ids"]]
    shares = [(tmp_path / f"train{rank}.txt").read_text().split("\n") for rank in range(2)]
    assert shares[0] + shares[1] == expected
    shares = [(tmp_path / f"val{rank}.txt").read_text().split("\n") for rank in range(2)]
    assert [len(share) for share in shares] == [2, 1] and len({*shares[0], *shares[1]}) == 3


@pytest.mark.parametrize("source", ["image", "folder", "train"])
def test_predicts_on_an_image_a_folder_or_a_split(tmp_path, cityscapes_root, source):
    (tmp_path / "images").mkdir()
    for name in ("b", "a"):
        Image.new("RGB", (517, 333)).save(tmp_path / "images" / f"{name}.jpg")
    path = {"image": tmp_path / "images" / "b.jpg", "folder": tmp_path / "images", "train": "train"}[source]
    data = data_of(cityscapes_root, "predict", predict_path=str(path))
    batches = list(data.predict_dataloader())
    ids = [image_id for batch in batches for image_id in batch["image_ids"]]
    expected = {"image": ["b"], "folder": ["a", "b"], "train": [f"aachen_{i:06d}_000019" for i in range(7)]}[source]
    assert ids == expected
    if source != "train":
        assert batches[0]["image_sizes"] == [(32, 50)] and tuple(batches[0]["images"].shape) == (1, 3, 32, 64)
        assert batches[0]["original_sizes"] == [(333, 517)]
    assert all(batch.keys() == ImageBatch.__annotations__.keys() - {"unreadable"} for batch in batches)


def test_prediction_needs_no_prepared_tree(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    data = data_of(tmp_path / "nowhere", "predict", predict_path=str(tmp_path))
    assert len(list(data.predict_dataloader())) == 1


def test_a_bad_predict_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="predict_path is 'nowhere', which is neither an image nor a folder"):
        data_of(tmp_path, "predict", predict_path="nowhere")


@sweep("stage", ["fit", "validate", "test"])
def test_a_missing_root_is_named_before_anything_runs(tmp_path, stage):
    with pytest.raises(FileNotFoundError, match=r"Cityscapes folder '.*nowhere' does not exist"):
        data_of(tmp_path / "nowhere", stage)


def test_a_missing_split_is_named_before_training(cityscapes_root):
    (cityscapes_root / "gtFine" / "cityscapes_panoptic_val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"cityscapes_panoptic_val\.json' do not exist"):
        data_of(cityscapes_root)


@sweep(
    "choice, message",
    [
        ({"image_size": (500, 1000)}, "image_size is 500x1000; .* multiples of 32, for instance 512x992"),
        ({"image_size": (10, 64)}, "image_size is 10x64; .* for instance 32x64"),
        ({"image_size": (0, 64)}, r"image_size is \(0, 64\); give height and width, both positive"),
        ({"eval_size": (-1, 64)}, r"eval_size is \(-1, 64\)"),
        ({"train_size": (0, 64)}, r"train_size is \(0, 64\)"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1; it must be at least 0"),
        ({"seed": -1}, "seed is -1"),
        ({"flip_prob": 2.0}, "flip_prob is 2.0"),
        ({"scale_range": (0.0, 1.0)}, "scale_range is"),
    ],
)
def test_bad_choices_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        CityscapesDataModule(**choice)


def test_a_missing_albumentations_file_is_named():
    pytest.importorskip("albumentations")
    with pytest.raises(FileNotFoundError, match=r"Albumentations pipeline 'nowhere\.yaml' does not exist"):
        CityscapesDataModule(albumentations="nowhere.yaml")


def test_an_albumentations_pipeline_is_the_same_in_workers(tmp_path, cityscapes_root):
    """Oracle: loading in this process."""
    albumentations = pytest.importorskip("albumentations")
    pipeline = albumentations.Compose([albumentations.GaussNoise(p=0.5), albumentations.VerticalFlip(p=0.5)])
    albumentations.save(pipeline, tmp_path / "pipeline.yaml", data_format="yaml")
    choices = {"albumentations": str(tmp_path / "pipeline.yaml")}
    alone = epochs(data_of(cityscapes_root, **choices).train_dataloader(), 2)
    workers = epochs(data_of(cityscapes_root, **choices, num_workers=2).train_dataloader(), 2)
    assert all(equal(a, b) for a, b in zip(alone, workers, strict=True))
    assert not equal(alone[0], epochs(data_of(cityscapes_root).train_dataloader(), 1)[0])


def test_a_damaged_image_is_named_through_workers(cityscapes_root):
    file = next((cityscapes_root / "leftImg8bit" / "val").rglob("*.png"))
    file.write_bytes(file.read_bytes()[:100])
    data = data_of(cityscapes_root, "validate", num_workers=1)
    with pytest.raises(ValueError, match=rf"Image '{file}' cannot be decoded .*; replace the file"):
        list(data.val_dataloader())


def test_sizes_that_pinning_made_lists_become_tuples_again(cityscapes_root):
    data = data_of(cityscapes_root, "validate")
    batch = next(iter(data.val_dataloader()))
    batch["image_sizes"], batch["original_sizes"] = [[32, 64]], [[64, 128]]
    result = data.on_after_batch_transfer(batch, 0)
    assert result["image_sizes"] == [(32, 64)] and result["original_sizes"] == [(64, 128)]


def test_pinning_visits_the_tensors_alone(cityscapes_root, monkeypatch):
    """Oracle: the batch that was not pinned; and the tensors, counted where PyTorch pins them."""
    from torch.utils.data._utils.pin_memory import pin_memory

    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *device: pinned.append(tensor) or tensor.clone())
    batch = next(iter(data_of(cityscapes_root).train_dataloader()))
    found = pin_memory(batch)
    assert equal(found, batch)
    assert [id(tensor) for tensor in pinned] == [id(batch["images"]), *map(id, batch["segment_ids"])]
    assert found["images"] is not batch["images"]
    assert isinstance(found["image_sizes"][0], tuple) and found["segments"][0] is batch["segments"][0]


@pytest.mark.slow
def test_loaders_travel_to_spawned_processes(cityscapes_root):
    """Systems that do not fork pickle data set, collation and worker set-up."""
    data = data_of(cityscapes_root, photometric=True)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        parts = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn, loader.sampler)))
        assert parts[1]([parts[0][0]])["image_ids"] == [loader.dataset.entries[0].image_id]


def test_choices_can_be_written_on_the_command_line():
    """Oracle: jsonargparse, which types the command line from the constructor."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CityscapesDataModule, "data")
    choices = parser.parse_args(["--data.image_size=[64, 128]", "--data.eval_size=null", "--data.photometric=true"])
    assert choices.data.image_size == (64, 128) and choices.data.photometric is True
    assert Path(choices.data.root) == Path("datasets/cityscapes")
    with pytest.raises(jsonargparse.ArgumentError, match="batch_size"):
        parser.parse_args(["--data.batch_size=many"])


def test_reads_synthetic_data(synthetic_root):
    """The self-made tree is read as Cityscapes is: same files, same classes."""
    data = data_of(synthetic_root, image_size=(64, 128))
    (batch, *_) = list(data.train_dataloader())
    assert tuple(batch["images"].shape) == (2, 3, 64, 128)
    assert len(list(data.val_dataloader())) == 5
