"""The command line with a checkpoint and nothing beside it: the file says what the network and the classes are."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from efficientps.inference.model_file import KEY
from tests.command_line import refuse, run, write_config

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
DETR = {
    "class_path": "DETRPanoptic",
    "init_args": {
        "backbone": {"class_path": "ResNetBackbone", "init_args": {"variant": "resnet10t", "pretrained": False}},
        "detector": {"num_queries": 60, "channels": 32, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 1},
    },
}
SMALL = {
    "backbone": {"variant": "b0", "pretrained": False},
    "neck": {"out_channels": 32},
    "semantic_head": {"channels": 16},
    "instance_head": {"class_path": "MaskRCNNHead", "init_args": {"box_hidden": 32, "mask_channels": 16}},
    "min_stuff_area": 1,
}
CPU = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")


def moved(folder, root, network=None, *options):
    """Train a step and move the checkpoint into an empty folder."""
    config = write_config(folder, root)
    if network is not None:
        content = yaml.safe_load(config.read_text())
        content["model"]["network"] = network
        config.write_text(yaml.safe_dump(content))
    trained = run("fit", "--config", config, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, *options)
    empty = folder / "empty"
    empty.mkdir()
    shutil.move(f"{trained.trainer.log_dir}/checkpoints/last.ckpt", empty)
    return empty / "last.ckpt", config, trained


def test_a_moved_checkpoint_validates_and_predicts(synthetic_root, tmp_path, monkeypatch):
    """Oracle: the same with the configuration of the training; and no data of the training is there to predict."""
    checkpoint, config, _ = moved(tmp_path, synthetic_root, DETR)
    image = next((synthetic_root / "leftImg8bit/val").rglob("*.png"))
    with_config = run("validate", "--config", config, "--ckpt_path", checkpoint, *CPU)
    monkeypatch.chdir(checkpoint.parent)
    alone = run("validate", "--ckpt_path", "last.ckpt", "--data.root", synthetic_root, *CPU)
    assert alone.trainer.callback_metrics == with_config.trainer.callback_metrics
    assert alone.datamodule.eval_size == (32, 64)
    run("predict", "--ckpt_path", "last.ckpt", "--data.predict_path", image, "--predictions.output_dir", "out", *CPU)
    run("predict", "--config", config, "--ckpt_path", checkpoint, "--data.predict_path", image,
        "--predictions.output_dir", "whole", *CPU)  # fmt: skip
    found, expected = (
        {path.name: path.read_bytes() for path in (checkpoint.parent / name).rglob("*.png")}
        for name in ("out", "whole")
    )
    assert found
    assert found == expected


def test_classes_come_from_the_file_without_the_training_annotations(yard_root, tmp_path):
    """Oracle: the classes of the training. The configuration beside the run names annotations that are gone."""
    parts = {"images": "images", "maps": "panoptic"}
    places = {name: json.dumps(parts | {"annotations": f"{name}.json"}) for name in ("train", "val")}
    data = ["--data", "CocoPanopticDataModule", "--data.train", places["train"], "--data.val", places["val"]]
    checkpoint, config, trained = moved(tmp_path, yard_root, None, *data, "--data.image_size", "[32, 64]")
    image = next((yard_root / "images").iterdir())
    elsewhere = ["--data.root", tmp_path / "gone", "--data.predict_path", image, "--ckpt_path", checkpoint]
    out = ["--predictions.output_dir", tmp_path / "out"]
    predicted = run("predict", "--config", config, *data, *elsewhere, *out, *CPU)
    assert predicted.model.categories == trained.model.categories


def test_a_checkpoint_that_does_not_say_what_it_is(synthetic_root, tmp_path, capfd):
    checkpoint, _, _ = moved(tmp_path, synthetic_root)
    sentence = refuse(capfd, "predict", "--ckpt_path", checkpoint, *CPU)
    assert "names the class tests.tiny_network.TinyNetwork" in sentence
    assert "--model.network.trust=[tests]" in sentence
    trusted = run(
        "validate", "--ckpt_path", checkpoint, "--model.network.trust=[tests]", "--data.root", synthetic_root, *CPU
    )
    assert type(trusted.model.network).__name__ == "TinyNetwork"
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {KEY: content[KEY] | {"format": 2}}, checkpoint)
    sentence = refuse(capfd, "predict", "--ckpt_path", checkpoint, *CPU)
    assert "last.ckpt describes itself in format 2, and this version of the package" in sentence
    content.pop(KEY)
    torch.save(content, checkpoint)
    for subcommand in ("validate", "test", "predict"):
        sentence = refuse(capfd, subcommand, "--ckpt_path", checkpoint, *CPU)
        assert "does not say what network its weights are of" in sentence
        assert "--config" in sentence


def test_a_configuration_beside_a_bare_checkpoint_may_be_of_another_training(
    synthetic_root, tmp_path, monkeypatch, capfd
):
    """Oracle: the file alone. The two configurations fit its weights and not, and would change what is predicted."""
    checkpoint, config, _ = moved(tmp_path, synthetic_root, SMALL)
    image = next((synthetic_root / "leftImg8bit/val").rglob("*.png"))
    monkeypatch.chdir(checkpoint.parent)

    def predicted(folder):
        options = ["--data.predict_path", image, "--predictions.output_dir", folder]
        run("predict", "--ckpt_path", "last.ckpt", *options, *CPU)
        return json.loads((checkpoint.parent / folder / "panoptic.json").read_text())

    expected = predicted("alone")
    assert expected["annotations"][0]["segments_info"]
    content = yaml.safe_load(config.read_text())
    content["model"]["network"]["min_stuff_area"] = 10**6
    content["data"]["eval_size"] = [64, 128]
    (checkpoint.parent / "config.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(ROOT / "configs/demo.yaml", tmp_path / "config.yaml")
    assert predicted("beside") == expected
    assert "config.yaml need not be of its training; --config takes it." in capfd.readouterr().out

    plain = torch.load(checkpoint, weights_only=True)
    plain.pop(KEY)
    torch.save(plain, checkpoint)
    (tmp_path / "config.yaml").unlink()
    validated = run("validate", "--ckpt_path", "last.ckpt", *CPU)
    assert validated.datamodule.eval_size == (64, 128)
    shutil.copy(ROOT / "configs/demo.yaml", "config.yaml")
    sentence = refuse(capfd, "validate", "--ckpt_path", "last.ckpt", "--data.root", synthetic_root, *CPU)
    assert "last.ckpt has another instance_head, neck and semantic_head than this network" in sentence


def test_other_classes_than_those_of_the_data(synthetic_root, tmp_path, capfd):
    checkpoint, _, _ = moved(tmp_path, synthetic_root, DETR)
    content = torch.load(checkpoint, weights_only=True)
    content[KEY]["categories"][0]["name"] = "lava"
    torch.save(content, checkpoint)
    sentence = refuse(capfd, "validate", "--ckpt_path", checkpoint, "--data.root", synthetic_root, *CPU)
    assert "was trained on other classes than those of the data" in sentence
