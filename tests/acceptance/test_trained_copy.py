"""Inference copies of networks that have learnt a little, in float32."""

import numpy as np
import pytest
import torch
from PIL import Image

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.inference.inference_copy import inference_copy
from efficientps.layers.norm_act import set_norm_implementation
from efficientps.training.module import PanopticModule
from tests.command_line import run

CONFIGS = DEFAULT_CONFIG.parent / "configs"


def maps(network, batch):
    """Return the pyramid and the semantic logits of a batch."""
    pyramid = network.pyramid(batch["images"], batch["image_sizes"])
    return [*pyramid, network.semantic_head(pyramid)]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["demo", "demo_solov2"])
@pytest.mark.parametrize("variant", ["b0", "b5"])
def test_a_copy_of_a_trained_network_equals_it_in_float32(synthetic_root, tmp_path, preset, variant):
    """Oracle: the network; 1e-5 of the largest value, and 99.9 % of the panoptic maps' pixels.

    A network with random weights cannot take its place: rounding in float32 alone changes its maps by more than 1e-5.
    """
    options = {
        "data.root": synthetic_root, "data.image_size": "[128, 256]", "model.network.backbone.variant": variant,
        "trainer.max_steps": 40, "trainer.max_epochs": -1, "trainer.limit_val_batches": 0, "overlays.num_images": 0,
        "trainer.accelerator": "cpu", "trainer.default_root_dir": tmp_path, "trainer.enable_progress_bar": "false",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert not isinstance(run("fit", "--config", CONFIGS / f"{preset}.yaml", *words), int)
    network = PanopticModule.load_from_checkpoint(next(tmp_path.rglob("last.ckpt")), map_location="cpu").network.eval()
    files = sorted((synthetic_root / "leftImg8bit" / "val").rglob("*.png"))[:2]
    images = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files])
    sizes = [tuple(images.shape[1:3])] * len(files)
    batch = {"images": images.permute(0, 3, 1, 2), "image_sizes": sizes, "original_sizes": sizes}
    batch["image_ids"] = [file.stem for file in files]
    copy = inference_copy(network)
    for implementation in ("in_place", "eager", "triton"):
        set_norm_implementation(network, implementation)
        with torch.inference_mode():
            for found, expected in zip(maps(copy, batch), maps(network, batch), strict=True):
                difference = float((found - expected).abs().max() / expected.abs().max())
                assert difference <= 1e-5
                print(f"{preset} {variant} {implementation}: {difference:.1e}")
            pairs = zip(copy.predict(batch), network.predict(batch), strict=True)
            same = [(a.panoptic.segment_ids == b.panoptic.segment_ids).float().mean() for a, b in pairs]
        assert min(same) >= 0.999
