"""DETR's two published steps through the command line, the second from the first's checkpoint."""

import shutil
from pathlib import Path

import pytest
import torch

from efficientps.data.synthetic import write_synthetic_cityscapes
from tests.command_line import refuse
from train_net import main

ROOT = Path(__file__).parents[1]

SMALL = [
    *("--model.network.backbone.variant", "resnet10t", "--model.network.backbone.pretrained", "false"),
    # From random weights: everything learns, norms too.
    *("--model.network.backbone.frozen_stages", "0", "--model.network.backbone.frozen_norms", "false"),
    *("--model.network.detector.channels", "128", "--model.network.detector.feed_forward", "256"),
    *("--model.network.detector.encoder_layers", "1", "--model.network.detector.decoder_layers", "3"),
    *("--model.network.detector.num_queries", "40", "--model.network.detector.dropout", "0"),
    *("--model.optimizer.lr", "1e-3", "--model.schedule", "WarmupDecay", "--model.schedule.warmup_iterations", "50"),
    *("--data.scale_range", "[1, 1]", "--data.flip_prob", "0", "--data.batch_size", "4", "--data.num_workers", "0"),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.gradient_clip_val", "1"),
    *("--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
]


def fit(step, root, runs, size, epochs, *options):
    """Train one step; return what ran and its last checkpoint."""
    runs = runs / step
    words = ["fit", "--config", ROOT / f"configs/detr_panoptic_{step}.yaml", "--data.root", root, *SMALL, *options]
    words += ["--data.image_size", size, "--trainer.default_root_dir", runs, "--trainer.max_epochs", epochs]
    cli = main([str(word) for word in [*words, "--trainer.check_val_every_n_epoch", epochs]])
    (last,) = runs.rglob("last.ckpt")
    return cli, last


def figure(cli, name):
    return cli.trainer.callback_metrics[f"val/{name}"].item()


def assert_the_detector_is_as_it_was(first, second):
    """Oracle: every bit of every tensor in the two checkpoints; and the mask head is all that is new."""
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (first, second))
    assert before.keys() == {key for key in after if not key.startswith("network.mask_head.")}
    for key, tensor in before.items():
        assert torch.equal(tensor, after[key]), key


def test_the_second_step_starts_from_the_first(synthetic_root, tmp_path):
    first, detector = fit("detector", synthetic_root, tmp_path, "[64, 128]", 1)
    rates = {group["name"]: group["initial_lr"] for group in first.trainer.optimizers[0].param_groups}
    assert rates == pytest.approx({"backbone": 1e-4, "network": 1e-3})
    assert 0 <= figure(first, "box_AP") <= 1
    assert figure(first, "PQ") == 0
    assert [path.name for path in detector.parent.glob("*boxAP*")]

    second, masks = fit("masks", synthetic_root, tmp_path, "[64, 128]", 1, "--model.init_from", detector)
    (group,) = second.trainer.optimizers[0].param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in second.model.network.mask_head.parameters()}
    assert figure(second, "box_AP") == figure(first, "box_AP")
    assert_the_detector_is_as_it_was(detector, masks)


def test_more_segments_than_queries_are_refused_before_training(synthetic_root, capfd):
    options = ["--data.root", synthetic_root, *SMALL, "--data.image_size", "[64, 128]"]
    options += ["--model.network.detector.num_queries", "5", "--trainer.fast_dev_run", "true"]
    line = refuse(capfd, "fit", "--config", ROOT / "configs/detr_panoptic_joint.yaml", *options)
    assert "An image of the data has" in line
    assert "segments and the detector 5 queries" in line


@pytest.fixture
def eight_scenes(tmp_path):
    """A tree whose validation images are its eight training images."""
    root = tmp_path / "eight"
    write_synthetic_cityscapes(root, num_train=8, num_val=1, size=(128, 256), seed=0)
    for path in [*root.rglob("val"), *root.rglob("*_val"), *root.rglob("*_val.json")]:
        source = path.with_name(path.name.replace("val", "train"))
        if path.is_dir():
            shutil.rmtree(path)
            shutil.copytree(source, path)
        else:
            shutil.copy(source, path)
    return root


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_eight_scenes_are_learnt_by_heart(eight_scenes, tmp_path):
    # Oracle: the scenes themselves; box AP >= 0.5, then PQ >= 40.
    size = "[128, 256]"
    first, detector = fit("detector", eight_scenes, tmp_path, size, 300, "--model.backbone_lr_factor", "1")
    print(f"\nfirst step: box AP {figure(first, 'box_AP'):.3f} after {first.trainer.global_step} steps")
    assert figure(first, "box_AP") >= 0.5
    second, masks = fit("masks", eight_scenes, tmp_path, size, 150, "--model.init_from", detector)
    print(f"second step: PQ {100 * figure(second, 'PQ'):.1f} after {second.trainer.global_step} steps")
    assert figure(second, "PQ") >= 0.40
    assert figure(second, "box_AP") == figure(first, "box_AP")
    assert_the_detector_is_as_it_was(detector, masks)
