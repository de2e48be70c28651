"""Smoke tests of what runs whole networks, on the smallest preset and the smallest images."""

import sys

import pytest
import torch

from benchmarks import networks, peers, presets, training_step
from benchmarks.batches import street_batch

SIZE = (128, 256)


@pytest.fixture(scope="module")
def report():
    """The demo's, of random weights."""
    return networks.run(size=SIZE, names=("demo",), rounds=1, with_peers=False)


def test_model_counts_and_times(report):
    # Oracle: by hand; multiply-adds of a convolution, and as many instances as were put in.
    sides = ["demo", "demo, 30 instances", "demo, inference copy", "demo, inference copy, 30 instances"]
    assert [row.side for row in report.rows] == sides
    plain, crowded, _, crowded_copy = report.rows
    assert crowded_copy.figures["instances_fused"] == crowded.figures["instances_fused"] > 15
    assert [bar.claim for bar in report.bars] == ["time of the inference copy as a share of the network's"]
    parts = sum(value for name, value in plain.figures.items() if name.startswith("gmacs_"))
    assert 0 < parts <= plain.figures["gmacs"] * 1.001
    assert plain.figures["parameters_m"] > 1 and plain.figures["saved_activations_mb"] > 1


def test_trained_weights_are_timed(report, tmp_path):
    # Oracle: weights by hand that find the first thing class in every box, where random ones find nothing.
    state = presets.build("demo").state_dict()
    state["instance_head.box_branch.predictor.cls_score.bias"][1] = 20.0
    state["instance_head.mask_branch.predictor.bias"][1] = 20.0
    torch.save({"state_dict": state}, tmp_path / "weights.ckpt")
    shared = {"size": SIZE, "names": ("demo",), "rounds": 1, "with_peers": False}
    trained = networks.run(**shared, checkpoints=[tmp_path / "weights.ckpt"])
    assert trained.rows[0].figures["instances_fused"] > 0 == report.rows[0].figures["instances_fused"]
    assert trained.options["checkpoints"] == [str(tmp_path / "weights.ckpt")]
    torch.save({"state_dict": {"network.a": torch.ones(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt is of another network than the preset .*: \d+ tensors differ"):
        networks.run(**shared, checkpoints=[tmp_path / "other.ckpt"])
    with pytest.raises(ValueError, match="There are 2 checkpoints for 1 presets; give one for each"):
        networks.run(**shared, checkpoints=[tmp_path / "weights.ckpt"] * 2)


class Peer(torch.nn.Conv2d):
    """The smallest network that a benchmark can compare with."""

    def __init__(self):
        super().__init__(3, 1, 1)

    def predict(self, images):
        return self(images.float())

    def loss(self, batch):
        return self.predict(batch["images"]).sum()


@pytest.fixture
def one_peer(monkeypatch):
    monkeypatch.setattr(peers, "builders", lambda size, training: {"Mask2Former Swin-T": Peer})


def test_a_peer_is_counted_on_request_or_left_out_by_name(one_peer):
    # Oracle: by hand; the gradient of a convolution needs its input, 3 numbers of 4 bytes for each pixel.
    report = networks.run(size=SIZE, names=("demo",), rounds=1, peer_activations=True)
    assert report.rows[-1].figures["saved_activations_mb"] >= 3 * 4 * SIZE[0] * SIZE[1] / 1e6
    report = networks.run(size=SIZE, names=("demo",), rounds=1, without=["Mask2Former Swin-T"])
    assert report.rows[-1].side == "demo, inference copy, 30 instances" and "Mask2Former Swin-T" in report.skipped[0]
    with pytest.raises(ValueError, match="no peer 'Mask3Former' to leave out; the peers are Mask2Former Swin-T"):
        networks.run(size=SIZE, names=("demo",), rounds=1, without=["Mask3Former"])


def test_multiply_adds_of_a_convolution():
    # Oracle: by hand; 8 x 8 places, 3 x 3 x 2 inputs each, 4 outputs.
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1))
    counted = networks._multiply_adds(lambda: module(torch.zeros(1, 2, 8, 8)), module)
    assert counted == {"Global": 8 * 8 * 9 * 2 * 4, "0": 8 * 8 * 9 * 2 * 4}


def test_steps_change_the_weights_and_memory_options_do_not_change_the_step():
    # Oracle: invariance; the loss of a step is the same with each memory option.
    batch = street_batch(1, SIZE)
    losses = {}
    for option in training_step.MEMORY_OPTIONS:
        torch.manual_seed(0)
        network = training_step.network_with("demo", option)
        before = network.neck.outputs[0][0].weight.detach().clone()
        loss = training_step.network_loss(network)
        torch.manual_seed(1)
        losses[option] = loss(batch).item()
        training_step.training_step(network, loss, batch, "fp32", "cpu")()
        assert not torch.equal(network.neck.outputs[0][0].weight, before)
    assert losses["in-place"] == losses["checkpointed"]
    assert losses["eager"] == pytest.approx(losses["in-place"], rel=1e-3)


def test_unknown_memory_option_is_refused():
    with pytest.raises(ValueError, match="memory option is 'none'; it must be one of in-place"):
        training_step.network_with("demo", "none")


@pytest.mark.slow
def test_peers_predict_and_learn():
    # Oracle: smoke test; finite losses connected to the weights, and a result for each image.
    pytest.importorskip("transformers")
    batch = street_batch(1, SIZE)
    for name, build in peers.builders(SIZE, training=False).items():
        peer = build().eval()
        with torch.inference_mode():
            assert len(peer.predict(batch["images"])) == 1
        if name in peers.builders(SIZE, training=True):
            total = peer.train().loss(batch)
            total.backward()
            assert torch.isfinite(total)
            assert any(parameter.grad is not None for parameter in peer.parameters())


def test_missing_packages_are_named(monkeypatch):
    # Oracle: by contract; the rest is measured.
    monkeypatch.setitem(sys.modules, "inplace_abn", None)

    def missing():
        raise ImportError("No module named 'transformers'")

    monkeypatch.setattr(peers, "builders", lambda size, training: {"Mask2Former Swin-T": missing})
    report = training_step.run(size=SIZE, names=("demo",), memory_options=("in-place", "compiled"), rounds=1)
    assert [row.side for row in report.rows] == ["demo, in-place"]
    assert report.rows[0].figures["seconds_per_image"] > 0
    assert report.skipped == [
        "demo, compiled: The norm implementation 'compiled' needs the inplace-abn package; install the extra "
        "'inplace-abn' or choose 'in_place'.",
        "Mask2Former Swin-T: No module named 'transformers'; install it with: pip install -e '.[bench]'.",
    ]
