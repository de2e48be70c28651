"""Weights in bfloat16 and float64, and the precisions that are refused, on the tiny network and EfficientPS."""

from functools import partial

import pytest
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader

from efficientps.backbones import EfficientNetBackbone
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead, SemanticHead, SOLOv2Head, TwoWayFPN
from efficientps.training.checkpoints.read import read_checkpoint
from tests.command_line import refuse, run, write_config
from tests.training.test_module import batch, module, targets, trainer

SMALL = {
    "backbone": partial(EfficientNetBackbone, variant="b0", pretrained=False),
    "neck": partial(TwoWayFPN, out_channels=64),
    "semantic_head": partial(SemanticHead, channels=64),
}


def loader(batches):
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)


@pytest.mark.parametrize("head", [MaskRCNNHead, pytest.param(SOLOv2Head, marks=pytest.mark.slow)])
def test_weights_in_bfloat16_train_and_predict(tmp_path, head, caplog):
    """Oracle: by hand: dtypes of weights, gradients' states and statistics; the loss of bf16-mixed, to 1 %."""
    losses = {}
    for precision in ("bf16-mixed", "bf16-true"):
        model = module(
            network=partial(EfficientPS, **SMALL, instance_head=head), optimizer=partial(AdamW, lr=1e-3, fused=True)
        )
        fit = trainer(tmp_path, precision=precision, max_steps=1, gradient_clip_val=1.0)
        fit.fit(model, loader([targets()]), loader([batch()]))
        losses[precision] = float(fit.callback_metrics["train/loss"])
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.ndim > 1}
    assert dtypes == {torch.bfloat16}
    assert {p.dtype for p in model.parameters() if p.ndim <= 1} == {torch.float32}
    assert torch.bfloat16 not in {buffer.dtype for buffer in model.buffers()}
    states = fit.optimizers[0].state
    assert all(state["exp_avg"].dtype == parameter.dtype for parameter, state in states.items())
    assert losses["bf16-true"] == pytest.approx(losses["bf16-mixed"], rel=0.01)
    assert "Predictions are slower" not in caplog.text  # norms are folded from bfloat16 weights
    (found,) = trainer(tmp_path, precision="bf16-true").predict(model, loader([batch(1)]))
    assert found[0].panoptic.segment_ids.shape == (32, 64)


@pytest.mark.usefixtures("one_thread")
def test_a_run_in_bfloat16_goes_on_exactly(shared_cityscapes_root, tmp_path):
    """Oracle: the run that was not interrupted."""
    options = ["fit", "--config", write_config(tmp_path, shared_cityscapes_root), "--trainer.precision", "bf16-true"]
    options += ["--overlays.num_images", 0, "--trainer.default_root_dir"]
    whole = run(*options, tmp_path / "whole")
    run(*options, tmp_path / "parts", "--trainer.max_steps", 4)
    resumed = run(*options, tmp_path / "parts", "--ckpt_path", "last")
    assert resumed.trainer.global_step == whole.trainer.global_step == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    saved = read_checkpoint(tmp_path / "parts/version_0/checkpoints/last.ckpt")["state_dict"]
    assert saved["network.head.weight"].dtype == torch.bfloat16


def test_weights_in_float16_are_refused(shared_cityscapes_root, tmp_path, capfd):
    config = write_config(tmp_path, shared_cityscapes_root)
    for command in ("fit", "validate"):
        sentence = refuse(capfd, command, "--config", config, "--trainer.precision", "16-true")
        assert "weights in float16" in sentence and "bf16-mixed, bf16-true or 64-true." in sentence
    assert not list((tmp_path / "runs").glob("*"))


def test_training_in_double_precision(tmp_path):
    """Oracle: the loss in float32, of which three digits agree: this random network amplifies rounding."""
    losses = {}
    for precision in ("32-true", "64-true"):
        torch.manual_seed(0)
        model = module(network=partial(EfficientPS, **SMALL, instance_head=MaskRCNNHead))
        fit = trainer(tmp_path, precision=precision, max_steps=1)
        torch.manual_seed(0)
        fit.fit(model, loader([targets()]))
        losses[precision] = fit.callback_metrics["train/loss"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert float(losses["32-true"]) == pytest.approx(float(losses["64-true"]), rel=1e-3)
