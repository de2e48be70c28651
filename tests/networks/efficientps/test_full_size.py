"""The full presets at the sizes that they are made for, in processes of their own so that peak memory can be read."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, time
import torch
from benchmarks.memory import peak_bytes
from efficientps.backbones import EfficientNetBackbone
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead
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
result = {}

def train():
    optimizer = torch.optim.SGD(model.parameters(), lr=0.07, momentum=0.9, weight_decay=1e-4)
    before = [p.detach().clone() for p in model.parameters()]
    loss = sum(model.loss(batch(512, 1024)).values())
    loss.backward()
    optimizer.step()
    moved = sum(bool((a != b).any()) for a, b in zip(before, model.parameters()))
    result.update(loss=loss.item(), moved=moved, parameters=len(before))

def predict():
    with torch.no_grad():
        (prediction,) = model.eval().predict(batch(1024, 2048))
    result.update(shape=list(prediction.panoptic.segment_ids.shape), instances=len(prediction.instances))

begin = time.perf_counter()
peak = peak_bytes(train if sys.argv[1] == "train" else predict)
result["seconds"] = round(time.perf_counter() - begin, 1)
result["above_gib"] = None if peak is None else round(peak / 2**30, 2)
print(json.dumps(result))
"""

SOLOV2_SCRIPT = """
import json, time
import torch
from benchmarks.memory import peak_bytes
from efficientps.networks.efficientps import SOLOv2Head
from efficientps.structures import FeaturePyramid

torch.manual_seed(0)
head = SOLOv2Head(8, 256, detection_thresh=0.0, update_thresh=0.0).eval().to(memory_format=torch.channels_last)
torch.nn.init.normal_(head.kernel.weight, std=1.0)  # masks that differ, as those of a trained head
pyramid = FeaturePyramid(*(
    torch.randn(1, 256, 1024 // s, 2048 // s).contiguous(memory_format=torch.channels_last) for s in (4, 8, 16, 32)
))
found = []

def predict():
    with torch.no_grad():
        found.extend(head.predict(pyramid, [(1024, 2048)]))

begin = time.perf_counter()
peak = peak_bytes(predict)
print(json.dumps({
    "instances": len(found[0]), "shape": list(found[0].mask_logits.shape),
    "seconds": round(time.perf_counter() - begin, 1), "above_gib": round(peak / 2**30, 2)}))
"""


ACTIVATIONS_SCRIPT = (
    SCRIPT[: SCRIPT.index("result = {}")]
    + """
from benchmarks.saved_activations import saved_activation_bytes
if sys.argv[1] == "checkpointed":
    model.activation_checkpointing = {"backbone", "neck", "semantic_head", "instance_head"}

def loss():
    with torch.autocast("cpu", torch.bfloat16):
        return sum(model.loss(image).values())

image = batch(1024, 2048)
print(json.dumps({"gb": round(saved_activation_bytes(loss)[0] / 1e9, 2)}))
"""
)


LARGE_IMAGE_SCRIPT = """
import json, sys, time
import torch
from benchmarks.memory import peak_bytes
from benchmarks.scenes import semantic_logits, street_instances
from efficientps.networks.efficientps.panoptic_fusion import panoptic_fusion, semantic_maps
from efficientps.networks.image_logits import logits_of_image
from efficientps.networks.queries.post_processing import panoptic_map

seen_at, size = (1024, 2048), (4096, 8192)
logits = semantic_logits((256, 512))
found = street_instances(30, seen_at)
found.boxes[0] = found.mask_frames[0] = torch.tensor([0.0, 0.0, 2048.0, 1024.0])  # as large as the image
found.scores[0] = 0.501  # the last one, so that it covers no other
found = found.resize(seen_at, size)
result = {}

def fusion():
    enlarged = logits_of_image(logits, canvas=seen_at, image_size=seen_at, size=size)
    maps = semantic_maps(enlarged, 11)
    panoptic = panoptic_fusion(enlarged, found, num_stuff=11, maps=maps)
    result.update(shape=list(panoptic.segment_ids.shape), segments=len(panoptic.segments))
    return panoptic, maps.classes

def queries():
    sizes = {"canvas": seen_at, "image_size": seen_at, "size": size}
    panoptic = panoptic_map(logits, list(range(19)), [0.9] * 19, num_stuff=11, **sizes)
    result.update(shape=list(panoptic.segment_ids.shape), segments=len(panoptic.segments))
    return panoptic

begin = time.perf_counter()
peak = peak_bytes({"fusion": fusion, "queries": queries}[sys.argv[1]])
result["bytes_per_pixel"] = round(peak / (size[0] * size[1]), 1)
print(json.dumps(result | {"seconds": round(time.perf_counter() - begin, 1)}))
"""


def run(script: str, task: str) -> dict:
    process = subprocess.run([sys.executable, "-c", script, task], capture_output=True, text=True, timeout=550)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    print(f"{task}: {result}")
    return result


@pytest.mark.slow
def test_b5_trains_a_step_at_512x1024():
    """Oracle: definition; a finite loss moves every parameter. The measured time and memory are printed (-s)."""
    result = run(SCRIPT, "train")
    assert 0 < result["loss"] < 100
    assert result["moved"] == result["parameters"]


@pytest.mark.slow
def test_b5_predicts_at_1024x2048():
    """Oracle: contract; the map has the size of the image. The measured time and memory are printed (-s)."""
    result = run(SCRIPT, "predict")
    assert result["shape"] == [1024, 2048]


@pytest.mark.slow
def test_solov2_predicts_at_1024x2048_in_little_memory():
    """Oracle: 500 candidates and 100 results, the most there can be, in 1.5 GB above the weights and the pyramid."""
    result = run(SOLOV2_SCRIPT, "SOLOv2 predict")
    assert result["instances"] == 100
    assert result["shape"] == [100, 256, 512]
    assert result["above_gib"] <= 1.5e9 / 2**30


@pytest.mark.slow
def test_activations_of_a_full_image_in_bfloat16():
    """One 1024x2048 image with B5; the authors report 12 GB of GPU memory for it."""
    assert run(ACTIVATIONS_SCRIPT, "in place")["gb"] <= 4.5
    assert run(ACTIVATIONS_SCRIPT, "checkpointed")["gb"] <= 1.8


@pytest.mark.slow
@pytest.mark.parametrize(("task", "segments", "bar"), [("fusion", 25, 22), ("queries", 10, 14)])
def test_a_large_image_that_the_network_sees_smaller_takes_little_memory(task, segments, bar):
    """Oracle: the bars, in bytes for each pixel of the image file; 19 classes at its size would take 76 alone."""
    result = run(LARGE_IMAGE_SCRIPT, task)
    assert result["shape"] == [4096, 8192]
    assert result["segments"] >= segments
    assert result["bytes_per_pixel"] <= bar
