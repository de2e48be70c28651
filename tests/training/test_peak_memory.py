"""A validation never needs more memory than the training beside it; in processes of their own, so that peaks show."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import torch
from benchmarks.memory import peak_bytes
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.backbones import EfficientNetBackbone
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead, SOLOv2Head
from efficientps.structures import ImageBatch, InstanceTargets, PanopticBatch, Segment, TrainingBatch
from efficientps.training.module import PanopticModule

stage, head, variant, height, width = *sys.argv[1:4], *map(int, sys.argv[4:])
torch.manual_seed(0)
corners = torch.cartesian_prod(torch.arange(10) * width // 10, torch.arange(10) * height // 10)
boxes = torch.cat([corners, corners + torch.tensor([60, 40])], dim=1)
labels = torch.arange(100) % 8
segment_ids = torch.ones(height, width, dtype=torch.int32)
masks = torch.zeros(100, height, width, dtype=torch.bool)
for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
    masks[index, y0:y1, x0:x1] = True
    segment_ids[y0:y1, x0:x1] = index + 2
things = [Segment(i + 2, 11 + int(label), is_thing=True) for i, label in enumerate(labels)]
images = ImageBatch(images=torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8),
    image_sizes=[(height, width)], original_sizes=[(height, width)], image_ids=["0"])

def network(num_stuff, num_things):
    backbone = EfficientNetBackbone(variant=variant, pretrained=False)
    # Random weights find a hundred instances where every score is high enough.
    if head == "MaskRCNNHead":
        return EfficientPS(num_stuff, num_things, backbone=backbone,
            instance_head=lambda *sizes: MaskRCNNHead(*sizes, score_thresh=0.0))
    return EfficientPS(num_stuff, num_things, backbone=backbone,
        instance_head=lambda *sizes: SOLOv2Head(*sizes, detection_thresh=0.0, update_thresh=0.0, score_thresh=0.0))

module = PanopticModule(network=network, categories=CITYSCAPES_CATEGORIES, channels_last=True)
if head == "SOLOv2Head":
    torch.nn.init.normal_(module.network.instance_head.kernel.weight, std=1.0)  # masks that differ
found = []

def train():
    targets = InstanceTargets(labels=labels, boxes=boxes.float(), masks=masks)
    semantic = torch.randint(0, 19, (1, height, width))
    batch = TrainingBatch(**images, segment_ids=[], segments=[], semantic=semantic, instances=[targets])
    sum(module.network.loss(batch).values()).backward()
    found.append(100)

def validate():
    batch = PanopticBatch(**images, segment_ids=[segment_ids], segments=[[Segment(1, 0, is_thing=False), *things]])
    with torch.no_grad():
        (prediction,) = module.eval().validation_step(batch, 0)["predictions"]
    found.append(len(prediction.instances))
    module.evaluator.compute()

# The most that this process has held: not the figure of getrusage, which begins with what its parent held.
peak = peak_bytes(train if stage == "train" else validate)
print(json.dumps({"found": found, "peak": None if peak is None else round(peak / 2**20)}))
"""


def peak(stage, head, variant, size):
    words = [sys.executable, "-c", SCRIPT, stage, head, variant, *map(str, size)]
    process = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["found"] == [100]
    return result["peak"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(512, 1024), (1024, 2048)], ids=str)
@pytest.mark.parametrize("head", ["MaskRCNNHead", "SOLOv2Head"])
def test_validation_needs_less_than_training(head, size):
    """One image with a hundred instances. The smallest backbone is the hardest case: it saves memory in training."""
    training, validation = (peak(stage, head, "b0", size) for stage in ("train", "validate"))
    print(f"{head} {size}: training {training} MiB, validation {validation} MiB above the weights")
    assert validation <= training
