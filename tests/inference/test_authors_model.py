"""The authors' released file, made by a recipe, as a model that stands on its own."""

import zipfile

import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

import efficientps
from benchmarks import presets
from efficientps.inference.building import ModelFileError
from efficientps.inference.model_file import read_model_file
from efficientps.networks.efficientps import EfficientPS, authors_network
from efficientps.structures import ImageBatch
from tests.networks.efficientps.authors_network.recipe import authors_state, golden_numbers, image

THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with the file as mmcv writes it, and with the archive around it."""
    folder = tmp_path_factory.mktemp("published")
    meta = {"mmdet_version": "1.0", "CLASSES": THINGS, "epoch": 160, "config": "model = dict(type='EfficientPS')\n"}
    torch.save({"meta": meta, "state_dict": authors_state(golden_numbers())}, folder / "latest.pth")
    with zipfile.ZipFile(folder / "efficientPS_cityscapes.zip", "w") as archive:
        archive.write(folder / "latest.pth", "efficientPS_cityscapes/latest.pth")
    return folder


def test_is_the_network_of_the_preset():
    """Oracle: the preset, built by its configuration."""

    def options(network):
        assert isinstance(network, EfficientPS)
        return [
            (name, type(module), str(getattr(module, "convention", "")), str(getattr(module, "normalizer_scope", "")))
            for name, module in network.named_modules()
        ], network.normalization.__dict__

    ours, preset = options(authors_network()), options(presets.build("cityscapes_official"))
    assert ours == preset


@pytest.mark.parametrize("name", ["latest.pth", "efficientPS_cityscapes.zip"])
def test_predicts_what_their_code_does(published, name):
    """Oracle: the detections that the authors' code computed from the same weights and pixels."""
    golden = golden_numbers()
    model = read_model_file(published / name)
    assert [category.name for category in model.categories if category.is_thing] == list(THINGS)
    pixels = torch.from_numpy(image(256, 512).transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        pyramid = model.network.pyramid(pixels, [(256, 512)])
        (found,) = model.network.instance_head.predict(pyramid, [(256, 512)])
    boxes = torch.from_numpy(golden["det_boxes"]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    same_class = torch.from_numpy(golden["det_labels"])[:, None] == found.labels[None]
    assert (box_iou(boxes, found.boxes) * same_class).amax(dim=1).min() > 0.99


@pytest.mark.slow
def test_a_photo_becomes_a_map(published, tmp_path):
    """Oracle: the prediction of the network itself, without the inference copy."""
    Image.fromarray(image(256, 512)).save(tmp_path / "image.png")
    found = efficientps.load(published / "latest.pth", device="cpu", precision="32")(tmp_path / "image.png")
    network = read_model_file(published / "latest.pth").network
    pixels = torch.from_numpy(image(256, 512).transpose(2, 0, 1).copy())[None]
    size = [(256, 512)]
    with torch.inference_mode():
        (expected,) = network.predict(ImageBatch(images=pixels, image_sizes=size, original_sizes=size, image_ids=[""]))
    assert (found.segment_ids == expected.panoptic.segment_ids).float().mean() >= 0.999


def test_other_classes_are_refused(published, tmp_path):
    content = torch.load(published / "latest.pth", weights_only=True)
    content["meta"]["CLASSES"] = ("cat", "dog")
    torch.save(content, tmp_path / "pets.pth")
    with pytest.raises(ModelFileError, match=r"pets\.pth is of the authors' code, for the things cat, dog; "):
        efficientps.load(tmp_path / "pets.pth", device="cpu")


def test_another_network_is_refused(published, tmp_path):
    content = torch.load(published / "latest.pth", weights_only=True)
    del content["state_dict"]["mask_head.conv_logits.bias"]
    torch.save(content, tmp_path / "cut.pth")
    with pytest.raises(ModelFileError, match=r"do not fit the network .*mask_branch\.predictor\.bias"):
        efficientps.load(tmp_path / "cut.pth", device="cpu")


def test_a_foreign_class_in_its_meta_is_refused(published, tmp_path):
    content = torch.load(published / "latest.pth", weights_only=True)
    content["meta"]["env_info"] = ModelFileError("a class")
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(ModelFileError, match=r"foreign\.pth holds objects that are not tensors or plain types"):
        efficientps.load(tmp_path / "foreign.pth", device="cpu")
