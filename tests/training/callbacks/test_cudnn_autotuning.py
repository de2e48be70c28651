"""When cuDNN tunes: by the sizes of the images, unless the user has said it."""

from typing import ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from efficientps.data.sources.cityscapes import CityscapesDataModule
from efficientps.data.sources.coco_panoptic import CocoPanopticDataModule, CocoPanopticSplit
from tests.command_line import run, write_config


class Witness(Callback):
    """Counts the batches in which the flag is set."""

    seen: ClassVar[dict] = {}

    def count(self, loop):
        Witness.seen[loop] = Witness.seen.get(loop, 0) + torch.backends.cudnn.benchmark

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.count("training")

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.count("evaluation")

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.count("prediction")


YARD = [
    *("--data", "CocoPanopticDataModule", "--data.image_size", "[512, 512]", "--data.num_workers", 0),
    *("--data.train.images", "images", "--data.train.annotations", "train.json", "--data.train.maps", "panoptic"),
    *("--data.val.images", "images", "--data.val.annotations", "val.json", "--data.val.maps", "panoptic"),
]


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        ("cityscapes", [], {"training": 4, "evaluation": 4}),
        ("yard", [], {"training": 4, "evaluation": 0}),
        ("cityscapes", ["--trainer.benchmark", "false"], {"training": 0, "evaluation": 0}),
        ("yard", ["--trainer.benchmark", "true"], {"training": 6, "evaluation": 6}),
        ("cityscapes", ["--trainer.deterministic", "warn"], {"training": 0, "evaluation": 0}),
    ],
)
def test_flag_in_each_loop(cityscapes_root, yard_root, tmp_path, monkeypatch, data, options, expected):
    """Oracle: hand-worked; two epochs of 3 batches each, scenes of one size, yards of many, and what the user says."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    Witness.seen = {}
    config = write_config(tmp_path, cityscapes_root)
    options = [*options, *([*YARD, "--data.root", yard_root] if data == "yard" else [])]
    options += [
        "--trainer.callbacks+=tests.training.callbacks.test_cudnn_autotuning.Witness",
        "--trainer.limit_train_batches",
        3,
    ]
    try:
        run("fit", "--config", config, *options, "--trainer.limit_val_batches", 3, "--trainer.num_sanity_val_steps", 0)
    finally:
        torch.use_deterministic_algorithms(False)
    assert Witness.seen == expected


def test_predictions_of_any_image_are_not_tuned_and_the_flag_is_given_back(cityscapes_root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    Witness.seen = {}
    config = write_config(tmp_path, cityscapes_root)
    run("predict", "--config", config, "--trainer.callbacks+=tests.training.callbacks.test_cudnn_autotuning.Witness")
    assert Witness.seen == {"prediction": 0}
    assert torch.backends.cudnn.benchmark


def test_sizes_are_counted_as_the_network_sees_them(cityscapes_root, yard_root):
    """Oracle: hand-worked for the scenes; for the yards, the sizes of the batches themselves."""
    scenes = CityscapesDataModule(root=str(cityscapes_root), image_size=(32, 64), num_workers=0)
    assert scenes.num_evaluation_sizes() is None
    scenes.setup("validate")
    assert scenes.num_evaluation_sizes() == 1
    places = [
        CocoPanopticSplit(images="images", annotations=f"{name}.json", maps="panoptic") for name in ("train", "val")
    ]
    yards = CocoPanopticDataModule(
        root=str(yard_root), train=places[0], val=places[1], image_size=(512, 512), num_workers=0
    )
    yards.setup("validate")
    canvases = {tuple(batch["images"].shape[-2:]) for batch in yards.val_dataloader()}
    assert yards.num_evaluation_sizes() == len(canvases) > 1
