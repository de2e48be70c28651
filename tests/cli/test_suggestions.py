"""What a misspelt class or key is answered with. Oracle: the classes and constructors of the package, by hand."""

import sys

import pytest

from efficientps.cli.errors import explain
from efficientps.cli.sections import SECTIONS
from efficientps.cli.suggestions import kinds_at, known_classes, near_keys
from tests.command_line import refuse, write_config
from tests.sweep import sweep

EFFICIENTPS = "Namespace(class_path='efficientps.networks.efficientps.EfficientPS')"


@pytest.mark.parametrize(
    ("keys", "name", "near", "kind", "known"),
    [
        ("model.network", "EficientPS", "EfficientPS", "PanopticNetwork", "DETRPanoptic"),
        ("model.network.backbone", "efficientnetbakbone", "EfficientNetBackbone", "Backbone", "EfficientNetBackbone"),
        ("model.network.instance_head", "SOLOHead", "SOLOv2Head", "InstanceHead", "MaskRCNNHead"),
        ("model.schedule", "WarmupDecai", "WarmupDecay", "LRScheduler", "WarmupSteps, those of torch.optim.lr_sch"),
        ("model.schedule", "CosineAnealingLR", "CosineAnnealingLR", "Schedule or LRScheduler", "WarmupPlateau"),
        ("model.optimizer", "AdamWW", "AdamW", "Optimizer", None),
        ("data", "CocoPanoptikDataModule", "CocoPanopticDataModule", "DataModule", "CityscapesDataModule"),
        ("trainer.callbacks", "EarlyStoping", "EarlyStopping", "Callback", None),
        ("model.network.neck", "TwoWayFNP", "TwoWayFPN", "", ""),
        ("model.network.semantic_head", "SemanticHaed", "SemanticHead", "", ""),
    ],
)
def test_misspelt_class(config, capfd, keys, name, near, kind, known):
    """Lists and optional unions are among the kinds; a long list of known classes is left out."""
    value = f"[{{class_path: {name}}}]" if keys == "trainer.callbacks" else name
    network = () if not keys.startswith("model.network.") else ("--model.network", "EfficientPS")
    sentence = refuse(capfd, "fit", "--config", config, *network, f"--{keys}", value)
    assert f"In the configuration, {keys}: '{name}' is no " in sentence and f"{kind}; did you mean {near}" in sentence
    listed = sentence.partition("Known: ")[2]
    assert not listed if known is None else known in listed
    assert "my_file.My" in sentence and len(sentence) < 600


@pytest.fixture
def config(tmp_path, cityscapes_root):
    return write_config(tmp_path, cityscapes_root)


@sweep(
    "key, keys, near",
    [
        ("model.netwrk", [], ["model.network"]),
        ("modl.a", [], ["model"]),
        ("ckpt_pth", [], ["ckpt_path"]),
        ("overlays.num_image", [], ["overlays.num_images"]),
        ("trainer.max_epoch", [], ["trainer.max_epochs"]),
        ("bakbone", ["model.network"], ["backbone"]),
        ("anchor_size", ["model.network", "instance_head"], []),  # of which head, the message does not say
        ("quite_another", ["model.network"], []),
    ],
)
def test_misspelt_key(key, keys, near):
    assert near_keys(key, keys, EFFICIENTPS, SECTIONS)[:1] == near


def test_the_chosen_class_decides_about_its_keys():
    message = f"{EFFICIENTPS} Problem with given class_path 'efficientps.networks.efficientps.MaskRCNNHead': Option"
    assert near_keys("anchor_size", ["model.network", "instance_head"], message, SECTIONS) == ["anchor_sizes"]


def test_abstract_classes_are_not_offered():
    (kind,) = kinds_at(["model", "network"], "", SECTIONS)
    assert "EfficientPS" in known_classes(kind) and kind.__name__ not in known_classes(kind)


@pytest.mark.parametrize(
    ("source", "name", "sentence"),
    [
        (None, "B", "there is no module 'strange_none', neither in the working directory nor among the installed"),
        ("import no_such_package\nclass B: pass", "B", "its module needs 'no_such_package', which is not installed."),
        ("class B: pass", "C", "'strange_{}' has no class 'C'."),
        ("class B(:", "B", "strange_{}.py, line 1 is not valid Python: invalid syntax."),
        ("class B: pass", "B", "strange_{}.B is not a subclass of "),
    ],
    ids=["none", "needs", "lacks", "syntax", "kind"],
)
def test_files_of_strangers(config, capfd, tmp_path, monkeypatch, request, source, name, sentence):
    stem = request.node.callspec.id
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    if source:
        (tmp_path / f"strange_{stem}.py").write_text(source)
    assert sentence.format(stem) in refuse(
        capfd, "fit", "--config", config, "--model.network", f"strange_{stem}.{name}"
    )


def test_a_syntax_error_is_told_with_its_place():
    with pytest.raises(SyntaxError) as caught:
        compile("a = (\n1 +", "my_file.py", "exec")
    assert explain(caught.value).startswith("The file my_file.py, line ")
