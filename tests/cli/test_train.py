"""The command line, run through its real entry point on small trees and a network of two convolutions."""

import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from efficientps.cli import arguments as command_words
from efficientps.cli import main as command
from efficientps.cli.arguments import with_default_config
from efficientps.cli.train import main
from efficientps.data.formats.coco_json import read_panoptic_json
from efficientps.training.run_files import RunConfig
from tests.command_line import column, refuse, run, write_config
from tests.tiny_network import TinyNetwork


@pytest.fixture(scope="module")
def root(shared_cityscapes_root):
    """The prepared tree of hand-drawn scenes of 32x64 pixels, which no test changes."""
    return shared_cityscapes_root


@pytest.fixture
def config(root, tmp_path):
    return write_config(tmp_path, root)


# ------------------------------------------------------------------------------------------------ what must work


def test_fit_leaves_a_whole_run(config, tmp_path, capfd):
    cli = run("fit", "--config", config)
    assert cli.trainer.global_step == 6
    folder = tmp_path / "runs/version_0"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir())[-1] == "last.ckpt"
    assert len(list((folder / "checkpoints").glob("epoch00?_PQ*.ckpt"))) == 2
    assert len(list((folder / "overlays").rglob("*.jpg"))) == 2 * (3 + 1)
    assert list(folder.glob("events.out.tfevents.*"))
    # One value for each of 6 steps; hand-worked learning rates: warm-up from a third over 4 steps.
    rates = column(folder / "metrics.csv", "train/lr")
    assert rates == pytest.approx([0.1 * (1 / 3 + 2 / 3 * min(step, 4) / 4) for step in range(6)])
    total = column(folder / "metrics.csv", "train/loss")
    terms = [column(folder / "metrics.csv", f"train/{name}") for name in ("loss_semantic", "loss_weight")]
    assert total == pytest.approx([sum(pair) for pair in zip(*terms, strict=True)])
    assert all(rate > 0 for rate in column(folder / "metrics.csv", "train/images_per_s"))
    output = capfd.readouterr().out
    assert output.count("All ") == 2
    assert output.count("Things ") == output.count("Stuff ") == 2


def test_report_agrees_with_the_log(config, tmp_path):
    # Oracle: the JSON file, the CSV log and the checkpoint's name are three ways to the same figures.
    run("fit", "--config", config)
    folder = tmp_path / "runs/version_0"
    figures = json.loads((folder / "evaluation/val_epoch001.json").read_text())
    logged = column(folder / "metrics.csv", "val/PQ")[1]
    assert figures["panoptic_quality"]["All"]["pq"] == pytest.approx(logged, abs=1e-6)
    assert (folder / f"checkpoints/epoch001_PQ{logged:.4f}.ckpt").is_file()
    assert figures["AP"] == pytest.approx(column(folder / "metrics.csv", "val/AP")[1], abs=1e-6)
    assert figures["AP50"] > 0  # the box of the tiny network is one of the two cars
    assert set(figures["IoU"]) == set(figures["panoptic_quality"]["per_class"])


def test_no_arguments_mean_fit_with_config_yaml(monkeypatch, config, tmp_path):
    # Oracle: the run that the file describes, in the place of the project's own.
    monkeypatch.setattr(command_words, "DEFAULT_CONFIG", config)
    monkeypatch.setattr("sys.argv", ["train_net.py"])
    cli = main()
    assert cli.subcommand == "fit"
    assert cli.trainer.global_step == 6


def test_default_config_is_the_projects_own():
    assert with_default_config([]) == ["fit", "--config", str(command_words.DEFAULT_CONFIG)]
    assert command_words.DEFAULT_CONFIG.is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-h"], ["-h"]),
        (["--data.root", "x"], ["fit", "--config", "D", "--data.root", "x"]),
        (["test", "--a=1", "--config=b.yaml"], ["test", "--config=b.yaml", "--a=1"]),
        (["fit", "-c", "a", "--x", "1", "-c", "b"], ["fit", "--config", "a", "--config", "b", "--x", "1"]),
        (["fit", "--config"], ["fit", "--config", "D", "--config"]),
        (["fit", "--ckpt_path", "none.ckpt"], ["fit", "--config", "D", "--ckpt_path", "none.ckpt"]),
    ],
)  # fmt: skip
def test_completed_command_lines(arguments, expected, monkeypatch):
    monkeypatch.setattr(command_words, "DEFAULT_CONFIG", "D")
    assert with_default_config(arguments) == expected


def test_validate_and_test_an_untrained_network(config, capfd):
    validated = run("validate", "--config", config, "--report.per_class", "true")
    tested = run("test", "--config", config)
    # Both look at "val", with the same seed.
    assert validated.trainer.callback_metrics["val/PQ"] == tested.trainer.callback_metrics["test/PQ"]
    assert "traffic sign" in capfd.readouterr().out


def test_resumed_run_equals_an_uninterrupted_one(config, tmp_path):
    # Oracle: the run that was not interrupted: weights, optimizer, learning rates and steps.
    whole = run("fit", "--config", config, "--trainer.max_epochs", 4, "--trainer.default_root_dir", tmp_path / "whole")
    run("fit", "--config", config)
    resumed = run("fit", "--ckpt_path", "last", "--config", config, "--trainer.max_epochs", 4)
    assert resumed.trainer.global_step == whole.trainer.global_step == 12
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)
    rates = column(tmp_path / "whole/version_0/metrics.csv", "train/lr")
    assert len(rates) == 12
    assert rates[-1] == pytest.approx(0.01)
    assert column(tmp_path / "runs/version_0/metrics.csv", "train/lr") == rates


def test_resumed_plateau_equals_an_uninterrupted_one(config, tmp_path):
    # Oracle: the uninterrupted run, in which a figure without gain cuts the learning rate in every epoch.
    options = [
        *("--model.schedule", "WarmupPlateau", "--model.schedule.patience", 0, "--model.schedule.min_lr", 0),
        *("--model.schedule.warmup_iterations", 2, "--model.optimizer.lr", 1e-9),
    ]
    whole = tmp_path / "whole"
    run("fit", "--config", config, *options, "--trainer.max_epochs", 4, "--trainer.default_root_dir", whole)
    run("fit", "--config", config, *options)
    run("fit", "--config", config, *options, "--ckpt_path", "last", "--trainer.max_epochs", 4)
    rates = column(whole / "version_0/metrics.csv", "train/lr")
    assert rates[3::3] == pytest.approx([1e-9, 1e-10, 1e-11])
    assert column(tmp_path / "runs/version_0/metrics.csv", "train/lr") == rates


def test_last_without_any_run_starts_anew(config, capfd):
    assert run("fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", 1).trainer.global_step == 3
    assert "training from the start" in capfd.readouterr().out


@pytest.fixture
def trained(trained_run, config, tmp_path):
    """The last checkpoint of a copy of that run, whose configuration writes into the copy."""
    shutil.copytree(trained_run, tmp_path / "runs")
    saved = tmp_path / "runs/version_0/config.yaml"
    saved.write_text(saved.read_text().replace(str(trained_run), str(tmp_path / "runs")))
    return tmp_path / "runs/version_0/checkpoints/last.ckpt"


def test_predict_one_image_of_odd_size(trained, tmp_path, capfd):
    # The configuration is the one beside the checkpoint: the command line names checkpoint and image alone.
    image = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (333, 517, 3), dtype=np.uint8)).save(image)
    run("predict", "--ckpt_path", trained, "--data.predict_path", image, "--predictions.output_dir", tmp_path / "out")
    document = json.loads((tmp_path / "out/panoptic.json").read_text())
    assert [entry["image_id"] for entry in document["annotations"]] == ["photo"]
    with Image.open(tmp_path / "out/panoptic" / document["annotations"][0]["file_name"]) as picture:
        assert picture.size == (517, 333)
    assert (tmp_path / "out/overlays/photo.png").is_file()
    assert "1 predictions written to" in capfd.readouterr().out


def test_predictions_before_a_bad_image_can_be_used(trained, tmp_path, capfd):
    """Oracle: the reader of predictions, and the names of the images; the last one is none, which ends a strict run."""
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.new("RGB", (90, 60), (90, 60, 30)).save(tmp_path / f"images/{name}.jpg")
    (tmp_path / "images/c.jpg").write_text("no image")
    options = ["--data.predict_path", tmp_path / "images", "--predictions.output_dir", tmp_path / "out"]
    sentence = refuse(capfd, "predict", "--ckpt_path", trained, *options, "--predictions.strict=true")
    assert sentence == f"error: Image '{tmp_path / 'images/c.jpg'}' is not an image file of a known kind."
    entries = read_panoptic_json(tmp_path / "out/panoptic.json")
    assert [entry.image_id for entry in entries] == ["a", "b"]
    assert all((tmp_path / "out/panoptic" / entry.map_file_name).is_file() for entry in entries)


@pytest.mark.parametrize("choice", ["last", "best"])
def test_the_checkpoint_of_a_run_without_a_configuration(choice, trained, tmp_path, monkeypatch, capfd):
    """Oracle: the checkpoint that is named by its file. The folder has no config.yaml; the run is below runs/."""
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)).save(image)
    (best,) = trained.parent.glob("epoch*.ckpt")
    words = ["predict", "--data.predict_path", str(image), "--predictions.output_dir"]
    assert command.main([*words, "named", "--ckpt_path", str(trained if choice == "last" else best)]) == 0
    assert command.main([*words, "chosen", "--ckpt_path", choice]) == 0
    assert capfd.readouterr().out.count("Taking the configuration of that run, ") == 2
    named, chosen = (json.loads((tmp_path / name / "panoptic.json").read_text()) for name in ("named", "chosen"))
    assert named == chosen
    assert named["annotations"][0]["segments_info"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["last"],
            "last: there is no such checkpoint below the folder runs; give the path of a checkpoint, or the folder of "
            "the runs as --trainer.default_root_dir, or --config.",
        ),
        (["best", "--trainer.default_root_dir=here"], "best: there is no such checkpoint below the folder here; give"),
        (["a.ckpt"], "a.ckpt: There is no checkpoint a.ckpt; give the path of a file, or 'last' or 'best' of the runs"),
    ],
)
def test_a_checkpoint_without_a_configuration_that_is_not_there(words, sentence, tmp_path, monkeypatch, capsys):
    """Oracle: by hand."""
    monkeypatch.chdir(tmp_path)
    assert command.main(["predict", "--ckpt_path", *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: --ckpt_path {sentence}")
    assert not any(tmp_path.iterdir())


def test_predictions_of_a_split_score_as_its_validation(trained, root, tmp_path):
    # Oracle: cityscapesscripts on the exported files against our own table.
    validated = run("validate", "--ckpt_path", trained)
    run("predict", "--ckpt_path", trained, "--predictions.output_dir", tmp_path / "out")
    shutil.copytree(root / "gtFine/cityscapes_panoptic_val", tmp_path / "gt")
    gt = json.loads((root / "gtFine/cityscapes_panoptic_val.json").read_text())
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    words = {
        "--gt-json-file": "gt.json",
        "--gt-folder": "gt",
        "--prediction-json-file": "out/panoptic.json",
        "--prediction-folder": "out/panoptic",
        "--results_file": "result.json",
    }
    # In a process of its own: the official script forks others, which does not suit one with threads and handlers.
    script = [sys.executable, "-m", "cityscapesscripts.evaluation.evalPanopticSemanticLabeling"]
    subprocess.run([*script, *itertools.chain(*words.items())], cwd=tmp_path, check=True)
    official = json.loads((tmp_path / "result.json").read_text())
    ours = validated.trainer.callback_metrics
    assert official["All"]["pq"] == pytest.approx(float(ours["val/PQ"]), abs=1e-6)
    assert official["Stuff"]["sq"] == pytest.approx(float(ours["val/SQ_stuff"]), abs=1e-6)


def test_predict_writes_no_overlays_on_request(trained, tmp_path):
    run("predict", "--ckpt_path", trained, "--predictions.output_dir", tmp_path / "out", "--predictions.overlays=false")
    assert not (tmp_path / "out/overlays").exists()
    assert len(list((tmp_path / "out/panoptic").glob("*.png"))) == 3


def test_saved_configuration_starts_a_new_run(trained, config, tmp_path):
    # Oracle: the first run; its resolved configuration gives the same weights again.
    first = torch.load(trained, weights_only=True)
    resumed = run("fit", "--ckpt_path", trained, "--trainer.max_epochs", 2)
    assert resumed.trainer.global_step == 6
    saved = yaml.safe_load((tmp_path / "runs/version_0/config.yaml").read_text())
    assert saved["ckpt_path"] is None
    assert saved["trainer"]["max_epochs"] == 2
    again = run("fit", "--config", tmp_path / "runs/version_0/config.yaml", "--trainer.max_epochs", 1)
    for name, value in first["state_dict"].items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)


def test_init_from_takes_weights_and_nothing_else(trained, config, capfd):
    # Oracle: the checkpoint's weights, before the first step; the run begins at step 0.
    cli = run("validate", "--config", config, "--model.init_from", trained)
    state = torch.load(trained, weights_only=True)["state_dict"]
    for name, value in cli.model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    started = run("fit", "--config", config, "--model.init_from", trained, "--trainer.max_epochs", 1)
    assert started.trainer.global_step == 3


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_fast_dev_run_leaves_no_run(config, tmp_path, subcommand):
    options = ["--predictions.output_dir", tmp_path / "out"] if subcommand == "predict" else []
    run(subcommand, "--config", config, "--trainer.fast_dev_run", 2, *options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "option", ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.limit_val_batches=0"]
)
def test_trainer_without_some_of_its_parts(config, option):
    assert run("fit", "--config", config, "--trainer.max_epochs", 1, option).trainer.global_step == 3


def test_sanity_check_leaves_no_trace(config, tmp_path):
    # Oracle: the same run without a sanity check.
    figures = []
    for steps in (0, 2):
        folder = tmp_path / f"sanity_{steps}"
        options = ["--trainer.num_sanity_val_steps", steps, "--trainer.default_root_dir", folder]
        run("fit", "--config", config, "--trainer.max_epochs", 1, *options)
        assert len(list((folder / "version_0/evaluation").iterdir())) == 1
        figures.append(json.loads((folder / "version_0/evaluation/val_epoch000.json").read_text()))
    assert figures[0] == figures[1]


def test_learning_rate_follows_the_batch(config, tmp_path):
    # Oracle: hand-worked; 0.1 is for 8 images, a step takes 2 x 3.
    options = ["--model.scale_lr", 8, "--trainer.accumulate_grad_batches", 3, "--model.schedule.warmup_iterations", 0]
    run("fit", "--config", config, *options)
    assert column(tmp_path / "runs/version_0/metrics.csv", "train/lr") == pytest.approx([0.075] * 2)


def test_seed_decides(config):
    def weights(seed):
        return run("validate", "--config", config, "--seed_everything", seed).model.network.head.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_dictionary_as_arguments(config):
    content = yaml.safe_load(config.read_text())
    assert main({"subcommand": "validate", "validate": content}).subcommand == "validate"


def test_the_help_lists_the_options_of_a_class(capfd):
    assert main(["fit", "--help"]) == 0
    assert "--data.help" in capfd.readouterr().out
    for data, option in (("CityscapesDataModule", "--data.root"), ("CocoPanopticDataModule", "--data.train.maps")):
        assert main(["fit", "--data.help", data]) == 0
        assert option in capfd.readouterr().out


@pytest.mark.slow
def test_many_processes_count_and_write_every_image_once(trained, synthetic_root, tmp_path):
    # Oracle: one process; 5 images are divisible neither by 2 nor by 3.
    environment = os.environ | {"PYTHONPATH": str(command_words.DEFAULT_CONFIG.parent), "OMP_NUM_THREADS": "1"}

    def run_processes(count, subcommand, *options):
        strategy = ["--trainer.devices", str(count), "--trainer.strategy", "ddp" if count > 1 else "auto"]
        words = [
            sys.executable,
            str(command_words.DEFAULT_CONFIG.with_name("train_net.py")),
            subcommand,
            "--ckpt_path",
            str(trained),
            *strategy,
            *options,
        ]
        words += ["--data.root", str(synthetic_root)]
        subprocess.run(words, env=environment, check=True, timeout=300)

    figures, predictions = [], []
    for count in (1, 2, 3):
        root = tmp_path / f"validated_by_{count}"
        run_processes(count, "validate", "--trainer.default_root_dir", str(root))
        figures.append(json.loads((root / "version_0/evaluation/val.json").read_text()))
        log = (root / "version_0/output.log").read_text()
        assert log.count(" UTC: validate ") == log.count("\nThings ") == 1  # the first process alone writes it
        run_processes(count, "predict", "--predictions.output_dir", str(tmp_path / f"predicted_by_{count}"))
        predictions.append(json.loads((tmp_path / f"predicted_by_{count}/panoptic.json").read_text()))
    assert figures[0] == figures[1] == figures[2]
    assert predictions[0] == predictions[1] == predictions[2]
    assert len(predictions[2]["annotations"]) == 5


SMALL_NETWORK = [
    *("--data.image_size", "[64, 128]", "--data.num_workers", 0, "--trainer.accelerator", "cpu"),
    *("--trainer.max_steps", 2, "--trainer.limit_val_batches", 1, "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.val_check_interval", 2, "--overlays.num_images", 0),
]


def test_swapping_the_instance_head(synthetic_root, tmp_path, capfd, caplog):
    """Oracle: the sentence names the part; and what fits, all but the head, is loaded by ``model.init_from``."""
    config = command_words.DEFAULT_CONFIG.parent / "configs/demo.yaml"
    options = [*("--config", config, "--data.root", synthetic_root, *SMALL_NETWORK)]
    options += ["--trainer.default_root_dir", tmp_path / "runs"]
    first = run("fit", *options)
    checkpoint = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    head = ["--model.network.instance_head=SOLOv2Head", "--model.network.instance_head.channels", 32]
    head += ["--model.network.instance_head.kernel_channels", 32]
    sentence = refuse(capfd, "fit", *options, *head, "--ckpt_path", checkpoint)
    assert "another instance_head than this network, while backbone, neck and semantic_head fit" in sentence
    assert f"--model.init_from={checkpoint}" in sentence
    caplog.set_level("INFO", logger="pytorch_lightning")
    second = run("fit", *options, *head, "--model.init_from", checkpoint, "--trainer.max_steps", 0)
    state, expected = second.model.network.state_dict(), first.model.network.state_dict()
    trunk = [key for key in state if not key.startswith("instance_head.")]
    assert len(trunk) > 300
    assert all(torch.equal(state[key], expected[key]) for key in trunk)
    line = next(message for message in caplog.messages if message.startswith("Started from"))
    of_head = sum(key.startswith("instance_head.") for key in state)
    assert f"instance_head 0 of {of_head})" in line
    assert "of the file unused" in line


# ---------------------------------------------------------------------------------------------- what must be refused


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.foo", "3"], "there is no such argument: --model.foo 3."),
        (["--data.batch_size", "two"], "data.batch_size: expected int, got 'two'"),
        (["--data.image_size", "[100, 64]"], "error: image_size is 100x64; height and width must be multiples of 32"),
        (["--data.root", "/nowhere/at/all"], "Cityscapes folder '/nowhere/at/all' does not exist"),
        (["--model.network.instance_head=YoloHead"], "model.network: there is no such key: 'instance_head'"),
        (
            ["--model.network", "YoloNetwork"],
            "model.network: 'YoloNetwork' is no PanopticNetwork. Known: DETR",
        ),
        (["--model.schedule", "WarmupDecay", "--model.schedule.decay", "linear"], "expected one of 'cosine', 'poly'"),
        (["--trainer.max_epoch", "3"], "argument: --trainer.max_epoch 3; did you mean --trainer.max_epochs?"),
        (["--config", "/nowhere.yaml"], "config: the file /nowhere.yaml does not exist"),
        (
            ["--ckpt_path", "/nowhere.ckpt"],
            "--ckpt_path /nowhere.ckpt: There is no checkpoint /nowhere.ckpt; give",
        ),
        (["--model.init_from", "/nowhere.pt"], "There is no checkpoint /nowhere.pt; check the path."),
        (
            ["--overlays.num_images", "-1"],
            "num_images is -1; give 0 or more (in the configuration: overlays.",
        ),
        (["--trainer.devices", "0"], "value is not a valid input using cpu accelerator"),
    ],
)
def test_bad_options(config, capfd, tmp_path, options, sentence):
    assert sentence in refuse(capfd, "fit", "--config", config, *options)
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"modl": {"a": 1}}, "there is no such key: 'modl.a'; did you mean model?"),
        ({"trainer": {"max_epoch": 3}}, "no such key: 'trainer.max_epoch'; did you mean trainer.max_epochs"),
        ({"data": {"batch_sise": 3}}, "data: there is no such key: 'batch_sise'; did you mean batch_size"),
        ({"model": {"network": {"class_path": "TinyNetwork", "init_args": {"depth": 3}}}}, "no such key: 'depth'"),
        ({"model": {"network": {"class_path": "TinyNetwork", "init_args": {"width": "x"}}}}, "width: expected int"),
        ({"trainer": {"callbacks": [{"class_path": "EarlyStoping"}]}}, "is no Callback; did you mean EarlyStopping?"),
    ],
)
def test_bad_configurations(config, capfd, tmp_path, change, sentence):
    content = yaml.safe_load(config.read_text())
    for key, value in change.items():
        content[key] = content.get(key, {}) | value
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(content))
    assert sentence in refuse(capfd, "fit", "--config", path)


def test_configuration_that_is_no_yaml(capfd, tmp_path):
    (tmp_path / "bad.yaml").write_text("model: [unclosed\n  a: b: c")
    assert "not valid YAML" in refuse(capfd, "fit", "--config", tmp_path / "bad.yaml")


def test_a_key_twice_is_refused_by_its_name(config, capfd):
    """Oracle: hand-counted lines."""
    lines = config.read_text().splitlines()
    config.write_text("\n".join([*lines, "data:", "  batch_size: 4"]))
    first = lines.index("data:") + 1
    sentence = f"has the key 'data' twice, in line {first} and in line {len(lines) + 1}; keep one."
    assert sentence in refuse(capfd, "fit", "--config", config)


def test_configuration_cannot_run_code(capfd, tmp_path, config):
    path = tmp_path / "bad.yaml"
    path.write_text(f"trainer: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']\n")
    assert "not valid YAML" in refuse(capfd, "fit", "--config", path)
    assert not (tmp_path / "ran").exists()


def test_values_that_nothing_can_be_built_from(config, capfd):
    sentence = refuse(capfd, "fit", "--config", config, "--model.network.width", -1)
    assert "What the configuration describes cannot be built: " in sentence and sentence.endswith(
        "--debug shows where."
    )


def test_a_missing_package_is_named(root, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "inplace_abn", None)
    options = ["--data.root", root, "--model.network.norm_implementation", "compiled"]
    line = refuse(capfd, "fit", "--config", command_words.DEFAULT_CONFIG.parent / "configs/demo.yaml", *options)
    assert line.endswith("needs the inplace-abn package; install the extra 'inplace-abn' or choose 'in_place'.")


@pytest.mark.parametrize("subcommand", ["fit", "validate"])
def test_a_run_that_cannot_begin_leaves_no_folder(config, capfd, tmp_path, subcommand):
    assert "does not exist" in refuse(capfd, subcommand, "--config", config, "--data.root", tmp_path / "nowhere")
    assert not list(tmp_path.rglob("version_*"))


def test_sharding_is_refused(config, capfd):
    sentence = refuse(capfd, "fit", "--config", config, "--trainer.strategy", "fsdp")
    assert "trainer.strategy is fsdp, which shards weights over GPUs" in sentence


@pytest.mark.parametrize("choice", ["last", "best"])
def test_nothing_to_validate(config, capfd, choice):
    assert f"--ckpt_path {choice}: there is no such checkpoint below" in refuse(
        capfd, "validate", "--config", config, "--ckpt_path", choice
    )


@pytest.mark.parametrize("subcommand", ["fit", "predict"])
def test_truncated_checkpoint(trained, capfd, subcommand):
    os.truncate(trained, trained.stat().st_size // 2)
    assert "last.ckpt cannot be read: the file is truncated" in refuse(capfd, subcommand, "--ckpt_path", trained)


@pytest.mark.parametrize("subcommand", ["fit", "validate"])
def test_checkpoint_of_another_network(trained, capfd, subcommand):
    sentence = refuse(capfd, subcommand, "--ckpt_path", trained, "--model.network.width", 6)
    assert "is of another network than this one: 'network.backbone.0.bias' has the shape [4]" in sentence
    assert f"--model.init_from={trained}" in sentence


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("subcommand", ["fit", "predict"])
def test_hostile_checkpoint(trained, capfd, tmp_path, subcommand):
    content = torch.load(trained, weights_only=True)
    torch.save(content | {"hyper_parameters": Payload(str(tmp_path / "ran"))}, trained)
    assert "last.ckpt holds objects that are not tensors" in refuse(capfd, subcommand, "--ckpt_path", trained)
    assert not (tmp_path / "ran").exists()


def test_checkpoint_brings_no_configuration(trained):
    # Lightning's own command line takes hyper-parameters over from a checkpoint, classes to be made among them.
    content = torch.load(trained, weights_only=True)
    hostile = {"network": {"class_path": "os.abort"}, "init_from": "/nowhere.pt"}
    torch.save(content | {"hyper_parameters": hostile}, trained)
    assert isinstance(run("validate", "--ckpt_path", trained).model.network, TinyNetwork)


def test_damaged_image_seen_by_a_worker(config, root, capfd, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    image = next((copy / "leftImg8bit/train").rglob("*.png"))
    os.truncate(image, 100)
    sentence = refuse(capfd, "fit", "--config", config, "--data.root", copy, "--data.num_workers", 1)
    assert str(image) in sentence
    assert "Traceback" not in sentence
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_place_that_cannot_be_written_to(config, capfd, tmp_path):
    (tmp_path / "file").write_text("")
    sentence = refuse(capfd, "fit", "--config", config, "--trainer.default_root_dir", tmp_path / "file/runs")
    assert "Not a directory: " in sentence
    assert str(tmp_path / "file") in sentence


def test_no_permission(config, capfd, monkeypatch):
    def refuse_to_write(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "runs/version_0")

    monkeypatch.setattr(RunConfig, "setup", refuse_to_write)
    assert "No permission for runs/version_0; check who owns it" in refuse(capfd, "fit", "--config", config)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_debug_raises(config, monkeypatch, how):
    options = ["--debug"] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("EFFICIENTPS_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run("fit", "--config", config, "--data.root", "/nowhere", *options)


def test_programmers_errors_are_raised(config, monkeypatch):
    monkeypatch.setattr(TinyNetwork, "loss", lambda self, batch: None + 1)
    with pytest.raises(TypeError, match="unsupported operand"):
        run("fit", "--config", config)
