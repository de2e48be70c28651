"""The comparison of two devices, with the CPU on both sides."""

import pytest
import torch

from benchmarks import device_parity
from benchmarks.agreement import agreement
from efficientps.structures import InstancePredictions, PanopticSegmentation, Prediction, Segment

SIZE = (64, 128)


class WrongGradient(torch.nn.Conv2d):
    """A convolution whose weight gets a tenth too much gradient; its results are right."""

    def forward(self, x):
        return self._conv_forward(x, 1.1 * self.weight - 0.1 * self.weight.detach(), self.bias)


def wrong_mask_gradient(network):
    network.instance_head.mask_branch.predictor.__class__ = WrongGradient


def wrong_logits(network):
    with torch.no_grad():
        network.semantic_head.classifier.bias[0] += 20


def missed(report):
    return [bar.claim for bar in report.bars if not bar.reached]


def test_a_device_agrees_with_itself_to_the_last_bit(tmp_path):
    # Oracle: invariance; and the file holds what was measured.
    path = tmp_path / "parity.json"
    report = device_parity.run(device="cpu", size=SIZE, kinds=["Mask R-CNN, in_place"], half_precisions=(), file=path)
    assert not report.skipped and not missed(report) and path.is_file()
    cases = {row.case: row.figures for row in report.rows}
    for case in ("fp64, cpu", "fp32, cpu", "the same twice, fp32"):
        figures = cases[case]
        assert figures["loss"] == figures["gradient"] == figures["worst"] == 0 and figures["finite"] == 1
    assert cases["prediction, cpu"]["segment"] == cases["prediction, cpu"]["class"] == 1
    assert cases["prediction, cpu"]["things_in_maps"] > 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (wrong_mask_gradient, ["fp64: relative difference of a parameter's gradient"]),
        (wrong_logits, ["loss term", "gradient", "segment", "class"]),
    ],
)
def test_a_wrong_side_is_seen(change, expected):
    # Oracle: what was changed on one side.
    kinds = ["Mask R-CNN, in_place"]
    report = device_parity.run(device="cpu", size=SIZE, kinds=kinds, half_precisions=(), change=change)
    claims = missed(report)
    assert claims and all(any(part in claim for claim in claims) for part in expected)


def test_unknown_networks_are_refused():
    with pytest.raises(ValueError, match="no network 'YOLO'; the networks are Mask R-CNN, in_place"):
        device_parity.run(device="cpu", kinds=["YOLO"])


def prediction(ids, train_ids):
    ids = torch.tensor(ids, dtype=torch.int32)
    segments = [Segment(id_, train_id, False) for id_, train_id in train_ids.items()]
    empty = InstancePredictions(*(torch.zeros(0, *rest) for rest in ((), (), (4,), (28, 28), (4,))))
    return Prediction(PanopticSegmentation(ids, segments), torch.zeros(ids.shape, dtype=torch.uint8), empty)


def test_segments_agree_by_class_and_pixels_whatever_their_ids_are():
    # Oracle: by hand; one of four pixels belongs to another segment, then all have another class.
    expected = prediction([[1, 1], [2, 0]], {1: 7, 2: 8})
    assert agreement([prediction([[9, 9], [4, 0]], {9: 7, 4: 8})], [expected])["segment"] == 1
    assert agreement([prediction([[1, 1], [0, 0]], {1: 7})], [expected])["segment"] == 0.75
    assert agreement([prediction([[1, 1], [2, 0]], {1: 6, 2: 8})], [expected])["segment"] == 0.5
