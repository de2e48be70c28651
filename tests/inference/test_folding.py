"""Norms folded into layers against the layers and norms themselves, and pairs that must stay as they are."""

from copy import deepcopy

import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.ops import FrozenBatchNorm2d

from efficientps.inference.inference_copy import fold_norms, inference_copy
from efficientps.layers import InPlaceABN
from efficientps.networks.network import PanopticNetwork
from tests.sweep import sweep


def random_norms(module: nn.Module) -> nn.Module:
    """Give every norm weights of both signs and statistics away from their start."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if hasattr(layer, "running_var"):
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
            layer.bias.data.normal_(generator=generator)
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.3, 3, generator=generator)
    return module


class Body(PanopticNetwork):
    """A network that is any module; its output is kept."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def loss(self, batch):
        return {}

    def predict(self, batch):
        self.output = self.body(batch["images"].float() / 255)
        return []


def fold_and_compare(body: nn.Module, *, folded: int, kept: int) -> None:
    network = Body(random_norms(body)).eval()
    copy = deepcopy(network)
    with torch.no_grad():
        norms = fold_norms(copy)
        x = torch.rand(2, 3, 40, 48)
        expected, found = network.body(x), copy.body(x)
    assert (len(norms.folded), len(norms.kept)) == (folded, kept)
    assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()


LAYERS = {
    "plain": nn.Conv2d(3, 8, 3, bias=False),
    "bias": nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
    "grouped": nn.Conv2d(3, 9, 3, groups=3, padding=2, dilation=2),
    "same": Conv2dSame(3, 8, 3, stride=2),
    "transposed": nn.ConvTranspose2d(3, 8, 2, stride=2),
    "transposed, grouped": nn.ConvTranspose2d(3, 12, 3, stride=2, groups=3, bias=False),
}
NORMS = {
    "iabn": lambda c: InPlaceABN(c, eps=1e-3),
    "linear iabn": lambda c: InPlaceABN(c, slope=1.0),
    "batch norm": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
    "norm and act": lambda c: BatchNormAct2d(c, act_layer=nn.SiLU),
    "frozen norm and act": FrozenBatchNormAct2d,
}


@sweep("norm", NORMS)
@sweep("layer", LAYERS)
def test_every_layer_takes_every_norm(layer, norm):
    # Oracle: the layer and the norm, one after the other.
    conv = deepcopy(LAYERS[layer])
    fold_and_compare(nn.Sequential(conv, NORMS[norm](conv.out_channels), nn.Conv2d(conv.out_channels, 2, 1)),
                     folded=1, kept=0)  # fmt: skip


def test_linear_layers_take_norms():
    # Oracle: as above; on vectors, where the channels are the features.
    body = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8), InPlaceABN(8),
                         nn.Linear(8, 5, bias=False), nn.BatchNorm1d(5))  # fmt: skip
    fold_and_compare(body, folded=2, kept=0)


class Wired(nn.Module):
    """A convolution, then whatever is to be done with its output and a norm."""

    def __init__(self, wire):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(3, 4, 1)
        self.hidden = [self.norm]
        self.wire = wire

    def forward(self, x):
        return self.wire(self, x)


WIRES = {
    "output read beside the norm": lambda m, x: m.norm(y := m.conv(x)) + y,
    "a view of the output read": lambda m, x: m.norm(y := m.conv(x)) + y[:, :1],
    "operation between the two": lambda m, x: m.norm(m.conv(x) + 1),
    "operation in place between the two": lambda m, x: m.norm(m.conv(x).add_(1)),
    "norm of two layers": lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)),
    "norm of something else as well": lambda m, x: m.norm(m.conv(x)) + m.norm(x[:, [0, 1, 2, 0]]),
    "layer with and without norm": lambda m, x: m.norm(m.conv(x)) + m.conv(2 * x),
    "weights read elsewhere": lambda m, x: m.norm(m.conv(x)) + m.conv.weight.sum(),
    "norm without a layer": lambda m, x: m.norm(x[:, [0, 1, 2, 0]]),
    "norm that is not reached": lambda m, x: m.conv(x),
    "norm reached before the layer": lambda m, x: m.conv(m.norm(x[:, [0, 1, 2, 0]])[:, :3]),
}


@sweep("wire", WIRES)
def test_pairs_that_data_flow_forbids_stay(wire):
    # Oracle: by hand; folding any of these would give other numbers.
    fold_and_compare(Wired(WIRES[wire]), folded=0, kept=1)


def test_layers_in_a_wrapper_and_layers_called_often_are_folded():
    # Oracle: by hand; registration order differs from the order of calls, and the pair is used twice.
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrapped_norm, self.unused = nn.Sequential(InPlaceABN(3)), nn.BatchNorm2d(3)
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.wrapped_norm(self.conv(self.wrapped_norm(self.conv(x))))

    fold_and_compare(Twice(), folded=1, kept=1)


@pytest.mark.parametrize("conv", [lambda: StdConv2d(3, 4, 3), lambda: spectral_norm(nn.Conv2d(3, 4, 3))])
def test_weights_that_are_computed_anew_stay(conv):
    # Oracle: by hand; their layers do more to the weights than a convolution does.
    fold_and_compare(nn.Sequential(conv(), nn.BatchNorm2d(4)), folded=0, kept=1)


def test_hooked_norms_stay():
    # Oracle: by hand; whoever hooked in wants the norm's input.
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    body[1].register_forward_hook(lambda *_: None)
    fold_and_compare(body, folded=0, kept=1)


def test_norms_reached_by_another_way_undo_all(caplog):
    # Oracle: the network itself; a list of Python goes round what is registered.
    network = Body(random_norms(Wired(lambda m, x: m.hidden[0](m.conv(x))))).eval()
    copy = inference_copy(network)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(copy.body(x), network.body(x), rtol=1e-6, atol=1e-6)
    assert "a norm is still called after it was folded" in caplog.text


def test_weights_beyond_a_type_stay():
    # Oracle: by hand; 1 / sqrt(1e-10) = 1e5 is more than float16 holds.
    network = Body(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-10))).eval()
    network.body[1].running_var.zero_()
    nn.init.ones_(network.body[0].weight)
    with torch.no_grad():
        assert not fold_norms(deepcopy(network), dtype=torch.float16).folded
        assert fold_norms(deepcopy(network), dtype=torch.bfloat16).folded
