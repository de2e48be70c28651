"""Mistakes that would change a training or its figures without a word are refused or said."""

import json

import pytest
import yaml

from efficientps.cli.evaluate import main as evaluate
from tests.command_line import refuse, run, write_config


@pytest.fixture
def config(tmp_path, shared_cityscapes_root):
    return write_config(tmp_path, shared_cityscapes_root)


def test_going_on_with_another_seed_or_on_other_classes(yard_root, tmp_path, capfd):
    """Oracle: the seed decides which images of an epoch are left; the fifth class gets another name."""
    places = {}
    for split in ("train", "val"):
        document = json.loads((yard_root / f"{split}.json").read_text())
        document["categories"] = sorted(document["categories"], key=lambda item: (item["isthing"], item["id"]))
        document["categories"][4]["name"] = "another name"
        (tmp_path / f"{split}.json").write_text(json.dumps(document))
        places[split] = {"images": "images", "annotations": f"{split}.json", "maps": "panoptic"}
    path = write_config(tmp_path, yard_root)
    content = yaml.safe_load(path.read_text())
    content["data"] = {"class_path": "CocoPanopticDataModule", "init_args": content["data"] | places}
    content["trainer"] |= {"limit_train_batches": 1, "limit_val_batches": 0, "max_epochs": 1}
    path.write_text(yaml.safe_dump(content))
    run("fit", "--config", path)
    last = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    words = ["fit", "--config", path, "--ckpt_path", last, "--trainer.max_epochs", 2]
    others = [f"--data.{split}.annotations={tmp_path / split}.json" for split in ("train", "val")]
    said = refuse(capfd, *words, *others)
    assert "cannot go on" in said and "another name here. Give its data back, or start a new run from" in said
    assert "seed_everything is 0 there and 7 here" in refuse(capfd, *words, "--seed_everything", 7)
    assert run(*words, "--trainer.max_epochs", 1).trainer.global_step == 1
    assert "No step was made: trainer.max_epochs 1 was reached at step 1; give more" in capfd.readouterr().err
    assert run(*words).trainer.global_step == 2
    assert "No step" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--trainer.gradient_clip_val=-1", "trainer.gradient_clip_val is -1; give a positive number, or null"),
        ("--model.backbone_lr_factor=-1", "backbone_lr_factor is -1.0; give 0 or more (in the configuration: model."),
        ("--model.backbone_layer_decay=3", "backbone_layer_decay is 3.0; give a factor above 0, at most 1 (in the"),
        ("--model.schedule.warmup_iterations=-3", "warmup_iterations is -3; give 0 or more (in the configuration: mod"),
    ],
)
def test_numbers_of_the_wrong_sign(option, sentence, config, capfd):
    """Oracle: by hand; PyTorch and Lightning take each of them."""
    assert sentence in refuse(capfd, "fit", "--config", config, option)


def test_predictions_that_do_not_count_are_said(yard_root, tmp_path, capsys):
    """Oracle: predictions that are the truth, and one of them twice, under the id of no image."""
    truth, maps = yard_root / "val.json", yard_root / "panoptic"
    document = json.loads(truth.read_text())
    document["annotations"].append(document["annotations"][0] | {"image_id": "ghost"})
    (tmp_path / "p.json").write_text(json.dumps(document))
    words = [str(word) for word in (truth, maps, tmp_path / "p.json", maps)]
    assert evaluate(words) == 0
    said = capsys.readouterr()
    assert "All     100.0" in said.out
    assert said.err.startswith("1 of the predictions are for images that the ground truth does not have, and do not")
    assert evaluate([*words[:2], *words[:2]]) == 0
    assert capsys.readouterr().err == ""
