"""Every configuration that is shipped, through fit, validate and predict on small synthetic data."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from efficientps.cli.train import main
from tests.sweep import sweep

ROOT = Path(__file__).parents[1]
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]

each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)

SMALL = [
    *("--data.image_size", "[64, 128]", "--data.batch_size", "2", "--data.num_workers", "0"),
    *("--model.network.backbone.pretrained", "false", "--model.scale_lr", "16"),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.precision", "32-true"),
    *("--trainer.fast_dev_run", "2", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
]
"""Two steps on two small images each, without weights from the net."""

SMALL_DETECTOR = {"channels": 32, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 60}

SMALL_HEADS = {
    "MaskRCNNHead": {
        "box_hidden": 64,
        "box_samples_per_image": 32,
        "mask_channels": 32,
        "rpn_proposals_train": 100,
        "rpn_proposals_test": 100,
    },
    "SOLOv2Head": {
        "channels": 32,
        "kernel_channels": 32,
        "mask_hidden": 32,
        "num_grids": [[10, 20], [8, 16], [6, 12], [4, 8], [2, 4]],
    },
}


def family(config):
    """Return the class of a configuration's network."""
    return yaml.safe_load(config.read_text())["model"]["network"].get("class_path", "EfficientPS")


def small_parts(config):
    """Return options that make what stands behind the backbone small."""
    if family(config) == "DETRPanoptic":
        parts = {f"detector.{name}": value for name, value in SMALL_DETECTOR.items()}
        return [*options_of(parts), "--model.init_from", "null"]
    head = yaml.safe_load(config.read_text())["model"]["network"]["instance_head"]
    small = SMALL_HEADS[head if isinstance(head, str) else head["class_path"]]
    return options_of({"neck.out_channels": 64, **{f"instance_head.{name}": value for name, value in small.items()}})


def options_of(parts):
    return [word for name, value in parts.items() for word in (f"--model.network.{name}", str(value))]


def fit_and_predict(config, roots, tmp_path, variant):
    """Train, with a validation, and predict; return the options."""
    root = roots[yaml.safe_load(config.read_text())["data"].get("class_path", "CityscapesDataModule")]
    options = ["--config", str(config), "--data.root", str(root), *SMALL, "--model.network.backbone.variant", variant]
    options += small_parts(config)
    fitted = main(["fit", *options])
    assert fitted.trainer.global_step == 2
    assert torch.isfinite(fitted.trainer.callback_metrics["train/loss"])
    assert all(torch.isfinite(value).all() for value in fitted.model.state_dict().values())
    assert 0 <= fitted.trainer.callback_metrics["val/PQ"] <= 1
    main(["predict", *options, "--predictions.output_dir", str(tmp_path / "out")])
    assert len(list((tmp_path / "out/panoptic").glob("*.png"))) == 2
    assert len(list((tmp_path / "out/overlays").glob("*.png"))) == 2
    return options


@pytest.fixture
def roots(synthetic_root, yard_root):
    """Synthetic data for each data module."""
    return {"CityscapesDataModule": synthetic_root, "CocoPanopticDataModule": yard_root}


@each_config
def test_runs_two_steps(config, roots, tmp_path):
    fit_and_predict(config, roots, tmp_path, "resnet10t" if family(config) == "DETRPanoptic" else "b0")


@pytest.mark.slow
@each_config
def test_runs_two_steps_with_its_own_backbone(config, roots, tmp_path):
    network = yaml.safe_load(config.read_text())["model"]["network"]
    options = fit_and_predict(config, roots, tmp_path, network.get("init_args", network)["backbone"]["variant"])
    assert 0 <= main(["validate", *options]).trainer.callback_metrics["val/PQ"] <= 1


@sweep("config", CONFIGS)
def test_explains_itself_and_names_no_folder_of_a_machine(config):
    text = config.read_text()
    assert text.startswith("# ")
    assert not re.search(r"/(home|tmp|work|mnt|data)/", text)


def network(config):
    """Return a preset's network at its full size, on no memory."""
    options = ["--model.network.backbone.pretrained", "false", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    modules = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "efficientps.cli.panoptic_cli.PanopticCLI.predict", lambda self, model, **_: modules.update(model=model)
        )
        quick = ["--trainer.fast_dev_run", "1", "--trainer.precision", "32-true"]
        with torch.device("meta"):
            main(["predict", "--config", str(config), *options, *quick])  # the one that needs no annotations
    return modules["model"].network


@pytest.mark.parametrize(
    ("name", "millions"),
    [("cityscapes_paper", 40.891080), ("cityscapes_official", 42.99)],
)
def test_parameters_of_the_presets(name, millions):
    # Oracle: the paper's 40.89 M, layer by layer 40,891,080; and 42.99 M of the authors' configuration.
    count = sum(parameter.numel() for parameter in network(ROOT / f"configs/{name}.yaml").parameters())
    if name == "cityscapes_paper":
        assert count == round(millions * 1e6)
    else:
        assert round(count / 1e6, 2) == millions
