"""Modules, networks and predictors that are copied and pickled after a training has run on them."""

from copy import deepcopy
from functools import partial
from pickle import dumps, loads

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import SGD
from torch.utils.data import DataLoader

from efficientps.backbones import ResNetBackbone
from efficientps.data.loading.targets import training_batch
from efficientps.inference.predictor import Predictor
from efficientps.structures import PanopticBatch, Segment
from efficientps.training.module import PanopticModule
from tests.inference.networks import NUM_STUFF
from tests.inference.test_model_file import CATEGORIES, FAMILIES, everything

UNTRAINED = partial(ResNetBackbone, variant="resnet10t", frozen_norms=False, pretrained=False)


def batch():
    """Two images of noise with stuff and one thing."""
    segment_ids = torch.ones(64, 96, dtype=torch.int32)
    segment_ids[10:40, 20:60] = 2
    segments = [Segment(1, 0, is_thing=False), Segment(2, NUM_STUFF, is_thing=True)]
    size, noise = (64, 96), torch.Generator().manual_seed(0)
    return PanopticBatch(
        images=torch.randint(256, (2, 3, *size), dtype=torch.uint8, generator=noise),
        image_sizes=[size] * 2,
        original_sizes=[size] * 2,
        image_ids=["a", "b"],
        segment_ids=[segment_ids] * 2,
        segments=[segments] * 2,
    )


def loader(content):
    return DataLoader([content, content], batch_size=None, collate_fn=lambda given: given)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_trained_is_copied_and_pickled(family, tmp_path):
    """Oracle: the predictions of the original, bit by bit; and each copy can be trained."""
    network = partial(FAMILIES[family], backbone=UNTRAINED) if family == "detr" else FAMILIES[family]
    module = PanopticModule(network=network, categories=CATEGORIES, optimizer=partial(SGD, lr=1e-4))
    module.network.train()
    targets = training_batch(batch(), NUM_STUFF)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(default_root_dir=tmp_path, enable_checkpointing=False, max_epochs=1, **quiet)
    trainer.fit(module, loader(targets), loader(batch()))
    predictor = Predictor(module.network, CATEGORIES, device="cpu")
    image = torch.randint(256, (3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    expected, result = everything(module.network.eval()), predictor(image)
    assert any(segments for _, segments, *_ in expected)
    for copied in (deepcopy, lambda value: loads(dumps(value))):
        for again in (copied(module).network, copied(module.network)):
            torch.testing.assert_close(everything(again.eval()), expected, rtol=0, atol=0)
            sum(again.train().loss(targets).values()).backward()
        found = copied(predictor)(image)
        assert torch.equal(found.segment_ids, result.segment_ids) and found.segments == result.segments
