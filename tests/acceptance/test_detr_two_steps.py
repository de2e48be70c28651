"""DETR's two published steps through the command line, the second from the first's checkpoint."""

from pathlib import Path

import pytest
import torch

from efficientps.cli.train import main
from tests.command_line import refuse

ROOT = Path(__file__).parents[2]

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
