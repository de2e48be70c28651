import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from functools import partial
import torch
from PIL import Image
from efficientps.backbones import EfficientNetBackbone
from efficientps.data.augmentation.geometry import resize_within
from efficientps.data.formats.export import PanopticWriter
from efficientps.data.formats.image_file import read_image
from efficientps.data.loading.collate import collate
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead

def peak():  # getrusage would begin with the peak of the process that started this one
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

torch.manual_seed(0)
backbone = partial(EfficientNetBackbone, variant="b0", pretrained=False)
network = EfficientPS(11, 8, backbone=backbone, instance_head=MaskRCNNHead).eval()
folder = sys.argv[1]

def predict(path):
    image = read_image(path, upright=True)
    size = tuple(image.shape[1:])
    sample = {"image": resize_within(image, (256, 384)), "image_id": "a", "original_size": size}
    del image
    with torch.inference_mode():
        (prediction,) = network.predict(collate([sample]))
    PanopticWriter(folder, CITYSCAPES_CATEGORIES).write("a", prediction.panoptic)
    prediction.panoptic.resize((256, 384))

pattern = Image.effect_mandelbrot((120, 80), (-2, -1, 1, 1), 60).convert("RGB")
pattern.save(f"{folder}/small.jpg")
predict(f"{folder}/small.jpg")
before = peak()
pattern.resize((12000, 8000)).save(f"{folder}/large.jpg")
del pattern
written = peak()
predict(f"{folder}/large.jpg")
print(json.dumps([before, written, peak()]))
"""


@pytest.mark.slow
def test_an_image_of_96_million_pixels_takes_little_memory(tmp_path):
    """Oracle: the peak of a process of its own, less that of a small image before.

    The maps of the fusion have 864 MB: the best logit and the code of each pixel with four bytes each, the class with
    one. Handled as a whole, the image took more than 3 GB.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    before, written, peak = json.loads(done.stdout)
    assert written < peak < before + 1300
