"""Checkpoints that say what they are: written by any training, and read as files that nobody trusts."""

from functools import partial

import pytest
import torch

from efficientps.backbones import ResNetBackbone
from efficientps.inference.building import ModelFileError, UntrustedClassError
from efficientps.inference.model_file import KEY, NotSelfDescribedError, read_model_file
from efficientps.networks.detr import Detector, DETRPanoptic
from efficientps.structures import Categories, Category, ImageBatch
from efficientps.training.module import PanopticModule
from tests.inference.networks import HEADS, NUM_STUFF, NUM_THINGS, ready_network
from tests.inference.networks import network as small_network
from tests.strangers.stranger_backbone import ConvNeXt
from tests.tiny_network import TinyNetwork

CATEGORIES = Categories(
    Category(id_ + 1, f"class {id_}", (id_, 2 * id_, 255), id_ >= NUM_STUFF) for id_ in range(NUM_STUFF + NUM_THINGS)
)
SMALL_DETECTOR = partial(
    Detector, num_queries=7, channels=32, num_heads=8, feed_forward=16, encoder_layers=1, decoder_layers=1
)
SMALL_DETR = partial(
    DETRPanoptic,
    backbone=partial(ResNetBackbone, variant="resnet10t", frozen_norms=False),
    detector=SMALL_DETECTOR,
    score_thresh=0.0,
)


def saved(path, network, **options):
    """Write a checkpoint of a network as a training does; return the module."""
    module = PanopticModule(network=network, categories=CATEGORIES, **options)
    module.eval_size = (64, 96)
    write(path, module)
    return module


def write(path, module, **changes):
    """Write the checkpoint of a module, with parts of its description changed."""
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    checkpoint[KEY] |= changes
    torch.save(checkpoint, path)


def everything(network):
    """All tensors and values of a network's predictions of two images of noise."""
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    sizes = [(64, 96), (50, 70)]
    batch = ImageBatch(images=images, image_sizes=sizes, original_sizes=[(91, 137), (50, 70)], image_ids=["a", "b"])
    with torch.no_grad():
        found = network.predict(batch)
    return [
        [p.panoptic.segment_ids, p.panoptic.segments, p.semantic, p.instances.scores, p.instances.mask_logits]
        for p in found
    ]


FAMILIES = {
    "mask_rcnn": lambda *_: ready_network("mask_rcnn"),
    "solov2": lambda *_: ready_network("solov2"),
    "detr": SMALL_DETR,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_model_is_read_as_it_was_saved(family, channels_last, tmp_path):
    """Oracle: the predictions of the network that was saved, bit for bit."""
    module = saved(tmp_path / "a.ckpt", FAMILIES[family], channels_last=channels_last)
    model = read_model_file(tmp_path / "a.ckpt")
    expected, found = everything(module.network.eval()), everything(model.network)
    torch.testing.assert_close(
        [[v for v in image if isinstance(v, torch.Tensor)] for image in found],
        [[v for v in image if isinstance(v, torch.Tensor)] for image in expected],
        rtol=0,
        atol=0,
    )
    assert [image[1] for image in found] == [image[1] for image in expected]
    assert any(image[1] for image in expected)  # there is something to compare
    assert (model.categories, model.eval_size, model.network.training) == (CATEGORIES, (64, 96), False)


def test_what_depends_on_the_machine_of_the_training_stays_there(tmp_path):
    """The norms of ``compiled`` need a package that the reading machine may lack; here they are the default's."""
    options = {"norm_implementation": "eager", "activation_checkpointing": ["neck"]}
    saved(tmp_path / "a.ckpt", lambda *_: small_network("solov2", **options))
    network = read_model_file(tmp_path / "a.ckpt").network
    assert network.activation_checkpointing == frozenset()
    assert network.neck.outputs[0][-1].implementation == "in_place"


def test_classes_of_strangers_need_trust(tmp_path):
    saved(tmp_path / "a.ckpt", partial(TinyNetwork, width=5))
    with pytest.raises(UntrustedClassError, match=r"tests\.tiny_network\.TinyNetwork.*trust=\('tests',\)"):
        read_model_file(tmp_path / "a.ckpt")
    assert read_model_file(tmp_path / "a.ckpt", trust=["tests"]).network.head.in_channels == 5
    saved(tmp_path / "b.ckpt", _stranger(HEADS["mask_rcnn"]))
    with pytest.raises(UntrustedClassError, match="ConvNeXt"):
        read_model_file(tmp_path / "b.ckpt", trust=["tests.tiny_network"])
    read_model_file(tmp_path / "b.ckpt", trust=["tests.strangers.stranger_backbone"])


def _stranger(head):
    from efficientps.networks.efficientps import EfficientPS

    return partial(EfficientPS, backbone=ConvNeXt, instance_head=head)


def test_what_cannot_be_described_is_saved_and_said(tmp_path):
    network = partial(_stranger(HEADS["mask_rcnn"]), backbone=lambda: ConvNeXt())
    with pytest.warns(UserWarning, match="the argument backbone of EfficientPS is a lambda"):
        saved(tmp_path / "a.ckpt", network)
    with pytest.raises(NotSelfDescribedError, match="the argument backbone of EfficientPS is a lambda"):
        read_model_file(tmp_path / "a.ckpt", trust=["tests"])


def test_a_file_without_description_and_one_of_the_future(tmp_path):
    module = saved(tmp_path / "a.ckpt", SMALL_DETR)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "b.ckpt")
    with pytest.raises(NotSelfDescribedError, match="does not say what network its weights are of"):
        read_model_file(tmp_path / "b.ckpt")
    write(tmp_path / "c.ckpt", module, format=2)
    with pytest.raises(ModelFileError, match=r"format 2, and this version of the package.*up to 1"):
        read_model_file(tmp_path / "c.ckpt")
