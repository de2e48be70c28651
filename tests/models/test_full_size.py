"""The full B5 preset at the sizes that it is made for, in a process of its own so that its peak memory can be read."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys, time
import torch
from efficientps.models import EfficientNetBackbone, EfficientPS, MaskRCNNHead
from efficientps.structures import ImageBatch, InstanceTargets, TrainingBatch

def batch(height, width):
    torch.manual_seed(0)
    boxes = torch.tensor([[x, 100.0, x + 60, 180.0] for x in range(0, 900, 90)])
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = True
    instances = InstanceTargets(labels=torch.arange(len(boxes)) % 8, boxes=boxes, masks=masks)
    return TrainingBatch(
        images=torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8), image_sizes=[(height, width)],
        original_sizes=[(height, width)], image_ids=["0"], segment_ids=[], segments=[],
        semantic=torch.randint(0, 19, (1, height, width)), instances=[instances])

torch.manual_seed(0)
model = EfficientPS(11, 8, backbone=EfficientNetBackbone(pretrained=False), instance_head=MaskRCNNHead)
model.to(memory_format=torch.channels_last)
begin = time.perf_counter()
if sys.argv[1] == "train":
    optimizer = torch.optim.SGD(model.parameters(), lr=0.07, momentum=0.9, weight_decay=1e-4)
    before = [p.detach().clone() for p in model.parameters()]
    loss = sum(model.loss(batch(512, 1024)).values())
    loss.backward()
    optimizer.step()
    moved = sum(bool((a != b).any()) for a, b in zip(before, model.parameters()))
    result = {"loss": loss.item(), "moved": moved, "parameters": len(before)}
else:
    with torch.no_grad():
        (prediction,) = model.eval().predict(batch(1024, 2048))
    result = {"shape": list(prediction.panoptic.segment_ids.shape), "instances": len(prediction.instances)}
result["seconds"] = round(time.perf_counter() - begin, 1)
result["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
print(json.dumps(result))
"""


def run(task: str) -> dict:
    process = subprocess.run([sys.executable, "-c", SCRIPT, task], capture_output=True, text=True, timeout=550)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    print(f"B5 {task}: {result}")
    return result


@pytest.mark.slow
def test_b5_trains_a_step_at_512x1024():
    """Oracle: definition; a finite loss moves every parameter. The measured time and memory are printed (-s)."""
    result = run("train")
    assert 0 < result["loss"] < 100
    assert result["moved"] == result["parameters"]


@pytest.mark.slow
def test_b5_predicts_at_1024x2048():
    """Oracle: contract; the map has the size of the image. The measured time and memory are printed (-s)."""
    result = run("predict")
    assert result["shape"] == [1024, 2048]
