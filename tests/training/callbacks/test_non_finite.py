"""Losses and gradients that are not finite change nothing, and are named."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from efficientps.training.callbacks.non_finite import _Copies
from efficientps.training.checkpoints.read import read_checkpoint
from tests.acceptance.kills import difference
from tests.command_line import refuse, run, write_config
from tests.layers.test_norm_act import Operations
from tests.tiny_network import TinyNetwork


@pytest.fixture
def config(cityscapes_root, tmp_path):
    return write_config(tmp_path, cityscapes_root)


class Poison(Callback):
    """Makes a loss, a gradient or what the network sees not finite in some steps.

    Args:
        what: ``loss``, ``gradient`` or ``images``.
        first: the first step.
        last: the last step.
    """

    def __init__(self, what: str, first: int, last: int):
        self.what, self.first, self.last = what, first, last

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        network: TinyNetwork = pl_module.network
        poisoned = self.first <= trainer.global_step <= self.last
        network.loss = type(network).loss.__get__(network)
        if poisoned and self.what == "images":
            batch["images"] = batch["images"] * torch.nan
        if poisoned and self.what == "loss":
            network.loss = lambda batch: type(network).loss(network, batch) | {"loss_weight": torch.tensor(torch.inf)}

    def on_after_backward(self, trainer, pl_module):
        if self.what == "gradient" and self.first <= trainer.global_step <= self.last:
            pl_module.network.head.bias.grad[0] = torch.nan


def poison(what, first, last):
    return [
        "--trainer.callbacks+=tests.training.callbacks.test_non_finite.Poison",
        *(f"--trainer.callbacks.what={what}", f"--trainer.callbacks.first={first}", f"--trainer.callbacks.last={last}"),
    ]


def last_state(folder):
    (path,) = folder.rglob("last.ckpt")
    checkpoint = read_checkpoint(path)
    return {"weights": checkpoint["state_dict"], "optimizer": checkpoint["optimizer_states"][0]["state"]}


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("loss", "it has loss_weight that is not finite, with the images aachen_"),
        ("images", "it has loss_semantic that is not finite, with the images aachen_"),
        ("gradient", "it has a gradient that is not finite"),
    ],
)
def test_a_step_that_is_left_out_changes_nothing(config, tmp_path, what, said, batches):
    """Oracle: the run that ended before; weights, momentum and running statistics."""
    options = ["--config", config, "--trainer.accumulate_grad_batches", batches, "--overlays.num_images", 0]
    run("fit", *options, "--trainer.max_steps", 1, "--trainer.default_root_dir", tmp_path / "before")
    with pytest.warns(UserWarning, match=r"Step 1 was left out, number 1: .*") as warned:
        run("fit", *options, "--trainer.max_steps", 2, *poison(what, 1, 1))
    assert any(said in str(warning.message) for warning in warned)
    assert difference(last_state(tmp_path / "before"), last_state(tmp_path / "runs")) is None


def test_training_goes_on(config, tmp_path):
    with pytest.warns(UserWarning, match="Step 2 was left out, number 2"):
        cli = run("fit", "--config", config, *poison("loss", 1, 2))
    assert cli.trainer.global_step == 6
    (path,) = (tmp_path / "runs").rglob("last.ckpt")
    (state,) = [state for name, state in read_checkpoint(path)["callbacks"].items() if "NonFiniteGuard" in name]
    assert state == {"skipped": 2}


@pytest.mark.filterwarnings("ignore:Step . was left out")
def test_too_many_skipped_steps_end_the_run(config, capfd, tmp_path):
    sentence = refuse(capfd, "fit", "--config", config, "--non_finite.max_skipped", 2, *poison("loss", 1, 9))
    assert "Step 3 has loss_weight that is not finite, with the images aachen_" in sentence
    assert "this is number 3, and max_skipped is 2. The batch is in " in sentence
    assert "(in the configuration: non_finite.max_skipped)." in sentence
    (path,) = (tmp_path / "runs").rglob("non_finite_batch.pt*")
    (batch,) = torch.load(path, weights_only=True)
    assert batch["loss_terms"]["loss_weight"] == torch.inf and torch.isfinite(batch["loss_terms"]["loss_semantic"])
    assert batch["images"].shape == (2, 3, 32, 64) and len(batch["image_ids"]) == len(batch["instances"]) == 2


def test_copies_are_taken_by_one_operation_for_each_type():
    """Oracle: the operations that PyTorch executes, and the values before."""
    tensors = [torch.ones(3), torch.ones(2, 2), torch.ones((), dtype=torch.long), torch.ones(5), torch.ones(0)]
    copies = _Copies()
    copies.keep(tensors)
    memory = [copy.data_ptr() for group in copies._copies.values() for copy in group]
    tensors[0] += 1
    with Operations() as operations:
        copies.keep(tensors)
    assert operations.names == ["_foreach_copy_", "_foreach_copy_"]
    assert [copy.data_ptr() for group in copies._copies.values() for copy in group] == memory
    for tensor in tensors:
        tensor.fill_(7)
    copies.restore(tensors)
    assert [tensor.unique().tolist() for tensor in tensors] == [[2], [1], [1], [1], []]


def test_negative_number(config, capfd):
    sentence = refuse(capfd, "fit", "--config", config, "--non_finite.max_skipped", -1)
    assert "max_skipped is -1; give 0 or more (in the configuration: non_finite.max_skipped)." in sentence
