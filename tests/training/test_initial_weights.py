"""What a run starts from, without a network: pretrained weights are asked for where training begins, and not before."""

import os
import subprocess
import sys
import time

import huggingface_hub
import pytest
import timm
import torch
import torch.distributed
import torch.multiprocessing
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.training.initial_weights import start_network
from tests.command_line import refuse, run, write_config
from tests.tiny_network import TinyNetwork

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


# ------------------------------------------------------------------------------------------------------ two processes


def start_in_process(rank, folder, files):
    """Start a network from a file of its own in one of two processes, which nothing but ``start_network`` connects."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    strategy = DDPStrategy(cluster_environment=LightningEnvironment())
    strategy.cluster_environment.set_global_rank(rank)
    torch.manual_seed(rank)
    network = TinyNetwork(3, 2)
    try:
        start_network(network, strategy, file=files[rank], pretrained=True)
        torch.save(network.state_dict(), folder / f"{rank}.pt")
    except FileNotFoundError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    torch.distributed.destroy_process_group()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_each_process_loads_the_file_itself(tmp_path):
    """Oracle: the file; the processes begin with other weights than it, and than each other."""
    weights = TinyNetwork(3, 2).state_dict()
    torch.save({"state_dict": {f"network.{key}": value for key, value in weights.items()}}, tmp_path / "a.ckpt")
    torch.multiprocessing.spawn(start_in_process, (tmp_path, [tmp_path / "a.ckpt"] * 2), nprocs=2)
    for rank in (0, 1):
        started = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert all(torch.equal(started[key], value) for key, value in weights.items())


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_an_error_of_the_first_process_is_raised_in_both(tmp_path):
    """Oracle: the sentence about the file of the first process, which the second one could have started without."""
    torch.save({"state_dict": {f"network.{k}": v for k, v in TinyNetwork(3, 2).state_dict().items()}}, tmp_path / "a")
    torch.multiprocessing.spawn(start_in_process, (tmp_path, [tmp_path / "nowhere.ckpt", tmp_path / "a"]), nprocs=2)
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in (0, 1))
    assert "nowhere.ckpt" in first and second == first


class Witness(Callback):
    """Writes what each process has in its backbone, right after its weights were loaded and before a step.

    Args:
        folder: gets a file for each rank.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def on_train_start(self, trainer, pl_module):
        torch.save(pl_module.network.backbone.network.state_dict(), f"{self.folder}/{trainer.global_rank}.pt")


def train_in_two(cityscapes_root, tmp_path, weights, *options):
    """Train one step in two processes, started by the program; return its exit code and its lines on stderr."""
    words = [sys.executable, DEFAULT_CONFIG.with_name("train_net.py"), "fit"]
    words += ["--config", write_config(tmp_path, cityscapes_root), *NETWORK]
    words += ["--model.network.backbone.weights", weights, "--data.batch_size", 1, "--trainer.max_steps", 1]
    words += ["--trainer.limit_val_batches", 0, "--trainer.devices", 2, "--trainer.strategy", "ddp", *options]
    environment = os.environ | {"PYTHONPATH": str(DEFAULT_CONFIG.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.slow
def test_two_processes_start_from_one_file(cityscapes_root, tmp_path):
    """Oracle: the first convolution is the weight file's, and every tensor is the same in both processes."""
    weights = timm.create_model("tf_efficientnet_b0").state_dict()
    torch.save(weights, tmp_path / "b0.pth")
    witness = ["--trainer.callbacks+=tests.training.test_initial_weights.Witness"]
    witness += [f"--trainer.callbacks.folder={tmp_path}"]
    code, lines = train_in_two(cityscapes_root, tmp_path, tmp_path / "b0.pth", *witness)
    assert code == 0, lines[-5:]
    assert sum("The backbone starts from the weight file" in line for line in lines) == 1
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first["conv_stem.weight"], weights["conv_stem.weight"])
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_a_file_that_cannot_be_read_ends_two_processes(cityscapes_root, tmp_path):
    """Oracle: one sentence, said by both; neither waits for the other longer than the time limit."""
    (tmp_path / "b0.pth").write_bytes(b"no weights")
    code, lines = train_in_two(cityscapes_root, tmp_path, tmp_path / "b0.pth")
    said = [line for line in lines if line.startswith("error: ")]
    assert code == 1
    assert len(set(said)) == 1 and "b0.pth" in said[0], lines[-5:]
