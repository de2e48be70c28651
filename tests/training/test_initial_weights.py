"""What a run starts from, without a network: pretrained weights are asked for where training begins, and not before."""

import time

import huggingface_hub
import pytest
import timm
import torch

from tests.command_line import refuse, run, write_config

NETWORK = [
    *("--model.network", "EfficientPS", "--model.network.backbone.variant", "b0"),
    *("--model.network.neck.out_channels", 32, "--model.network.semantic_head.channels", 32),
    *("--model.network.instance_head", "SOLOv2Head", "--model.network.instance_head.num_convs", 1),
    *("--model.network.instance_head.channels", 32, "--model.network.instance_head.kernel_channels", 32),
    *("--model.network.instance_head.mask_hidden", 32),
]


@pytest.fixture
def tries(monkeypatch, tmp_path):
    """The list of tries to reach the hub; all fail, and the cache is empty."""
    tries = []

    def refused(*arguments, **options):
        tries.append(arguments)
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, refused)
    return tries


@pytest.fixture
def options(cityscapes_root, tmp_path, tries):
    """A run of one step with ``pretrained: true``, which is the default."""
    config = write_config(tmp_path, cityscapes_root)
    limits = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--trainer.limit_val_batches", 1]
    return ["--config", config, *NETWORK, *limits]


def test_mistakes_are_named_before_the_hub_is_asked(options, tries, cityscapes_root, tmp_path, capfd):
    # Oracle: no try, and seconds of work; the hub's client takes minutes until it gives up.
    start = time.process_time()
    assert "nowhere" in refuse(capfd, "fit", *options, "--data.root", tmp_path / "nowhere")
    assert "there is no such key" in refuse(capfd, "fit", *options, "--model.network.backbone.varient", "b0")
    annotations = next(cityscapes_root.rglob("*train.json"))
    annotations.unlink()
    assert annotations.name in refuse(capfd, "fit", *options)
    assert time.process_time() - start < 3 * 5
    assert not tries


def test_training_without_the_hub_is_refused_in_one_sentence(options, tries, capfd):
    sentence = refuse(capfd, "fit", *options)
    assert "timm/tf_efficientnet_b0.aa_in1k are not in the local cache and could not be downloaded" in sentence
    assert "give a local file as weights, or set pretrained to false" in sentence
    assert "in the configuration: model.network.backbone.weights" in sentence
    assert len(tries) == 1


def test_runs_that_have_weights_never_ask_the_hub(options, tries, cityscapes_root, tmp_path, caplog):
    # Oracle: no try to reach the hub in any of them; the weights are those of the file.
    weights = tmp_path / "b0.pth"
    torch.save(timm.create_model("tf_efficientnet_b0").state_dict(), weights)
    trained = run("fit", *options, "--model.network.backbone.weights", weights)
    checkpoint = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    assert f"The backbone starts from the weight file {weights}." in caplog.messages
    weights.unlink()
    # The description of the weights stays in the configuration of a run whose weight file is gone.
    resumed = [*options, "--model.network.backbone.weights", weights, "--ckpt_path", checkpoint]
    assert run("fit", *resumed, "--trainer.max_epochs", 2).trainer.global_step == trained.trainer.global_step + 1
    for command in ("validate", "test"):
        run(command, *options, "--ckpt_path", checkpoint)
    images = next(cityscapes_root.rglob("leftImg8bit/val/*"))
    run("predict", *options, "--ckpt_path", checkpoint, "--data.predict_path", images)
    # A file that holds every tensor of the backbone leaves nothing to fetch.
    started = run("fit", *options, "--model.init_from", checkpoint, "--trainer.max_epochs", 0)
    for key, value in torch.load(checkpoint, weights_only=True)["state_dict"].items():
        assert torch.equal(started.model.state_dict()[key], value)
    assert not tries


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_without_weights_says_so_and_asks_no_hub(command, options, tries, capfd):
    run(command, *options)
    assert "Neither --ckpt_path nor --model.init_from is given: the network is untrained." in capfd.readouterr().out
    assert not tries


def test_weights_of_a_file_go_before_pretrained_ones(options, tmp_path):
    # Oracle: of the backbone, the file has the first convolution alone; the rest is the weight file's.
    pretrained = timm.create_model("tf_efficientnet_b0").state_dict()
    torch.save(pretrained, tmp_path / "b0.pth")
    own = {"network.backbone.network.conv_stem.weight": torch.full((32, 3, 3, 3), 7.0)}
    torch.save({"state_dict": own}, tmp_path / "own.pth")
    files = ["--model.network.backbone.weights", tmp_path / "b0.pth", "--model.init_from", tmp_path / "own.pth"]
    backbone = run("fit", *options, *files, "--trainer.max_epochs", 0).model.network.backbone.network
    assert (backbone.conv_stem.weight == 7).all()
    expected = pretrained["blocks.0.0.conv_dw.weight"]
    torch.testing.assert_close(backbone.blocks[0][0].conv_dw.weight.data.abs(), expected.abs())
