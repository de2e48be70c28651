"""The sentence for each kind of mistake in a configuration. Oracle: the keys, types and classes, by hand."""

import copy
import json
from argparse import ArgumentError

import pytest
import yaml

from efficientps.cli.errors import explain
from efficientps.cli.panoptic_cli import PanopticCLI
from efficientps.cli.parser_messages import innermost
from efficientps.cli.sections import SECTIONS
from efficientps.data.sources.cityscapes import CityscapesDataModule
from tests.command_line import refuse, run, write_config

COCO = {"class_path": "CocoPanopticDataModule"}
HEAD = {"class_path": "SOLOv2Head", "init_args": {"anchor_sizes": [32]}}
STOPPING = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/PQ", "patience": "long"}}
COSINE = {"class_path": "CosineAnnealingLR", "init_args": {"tmax": 5}}

MISTAKES = {
    "data.batch_size": [
        ("two", "data.batch_size: expected int, got 'two'."),
        ([2], "data.batch_size: expected int, got [2]."),
        (None, "data.batch_size: expected int, got null."),
        (-2, "batch_size is -2; it must be at least 1 (in the configuration: data.batch_size)."),
    ],
    "data.image_size": [
        (64, "data.image_size: expected [int, int], got 64."),
        ([64, 64, 64], "data.image_size: expected [int, int], got [64, 64, 64]."),
        ([-64, 64], "image_size is (-64, 64); give height and width, both positive (in the configuration: data.image_"),
    ],
    "data.on_bad_sample": [("ignore", "data.on_bad_sample: expected one of 'raise', 'skip', got 'ignore'.")],
    "data.seed": [(3, "data.seed has no effect: its value is that of seed_everything; leave it out.")],
    "data": [
        ([1, 2], "data: expected the name of a PanopticDataModule, or class_path and init_args, got [1, 2]."),
        (COCO | {"init_args": {}, "root": "x"}, "data: beside class_path stands root, which belongs below init_args."),
        ({"upright": True}, "no such key: 'upright' of CityscapesDataModule; CocoPanopticDataModule has it."),
        (COCO, "data: CocoPanopticDataModule needs a value for train.images, train.annotations, val.images, val.anno"),
        (COCO | {"init_args": {"train": "train.json"}}, "data.train: expected a block of keys, or the name of a YAML"),
    ],
    "model.lr": [(0.1, "no such key: 'model.lr'; did you mean model.optimizer.lr?")],
    "model.optimizer.init_args.lr": [
        ("fast", "model.optimizer.lr: expected float, got 'fast'."),
        (None, "model.optimizer.lr: expected float, got null."),
        (-1.0, "Invalid learning rate: -1.0 (in the configuration: model.optimizer.lr)."),
    ],
    "model.optimizer.init_args.learning_rate": [(1, "no such key: 'learning_rate'; SGD has lr, momentum, dampening,")],
    "model.schedule.init_args.warmup_iterations": [("a", "schedule.warmup_iterations: expected int, got 'a'.")],
    "model.schedule": [
        (COSINE, "model.schedule: there is no such key: 'tmax'; did you mean T_max?"),
        (COSINE | {"init_args": {}}, "model.schedule: CosineAnnealingLR needs a value for T_max."),
        ({"class_path": "torch.optim.lr_scheduler.CosineAnealingLR"}, "has no class 'CosineAnealingLR'; did you mean "),
    ],
    "model.network": [
        ({"class_path": "torch.nn.Linear"}, "network: torch.nn.Linear is not a subclass of PanopticNetwork."),
        ({"class_path": 3}, "model.network: expected the name of a class, got a number."),
        ({"class_path": "EfficientPS", "init_args": {"instance_head": HEAD}}, "of SOLOv2Head; MaskRCNNHead has it."),
    ],
    "trainer.batch_size": [(2, "no such key: 'trainer.batch_size'; did you mean data.batch_size?")],
    "trainer.max_epochs": [("many", "trainer.max_epochs: expected int or null, got 'many'.")],
    "trainer.accumulate_grad_batches": [(0, "trainer.accumulate_grad_batches is 0; give 1 or more.")],
    "trainer.accelerator": [("cuda:0", "trainer.accelerator is 'cuda:0', which there is not; give one of auto, ")],
    "trainer.callbacks": [
        ([STOPPING], "trainer.callbacks.patience: expected int, got 'long'."),
        ([STOPPING | {"init_args": {}}], "trainer.callbacks: EarlyStopping needs a value for monitor."),
    ],
    "trainer.logger": [({"class_path": "TensorBoardLogger"}, "trainer.logger: TensorBoardLogger needs a value for sa")],
    "trainer": [("gpu", "trainer: expected a block of keys, or the name of a YAML file, got 'gpu'.")],
    "optimizer": [({"class_path": "SGD"}, "no such key: 'optimizer.class_path'; did you mean model.optimizer?")],
    "ckpt_path": [(3, "ckpt_path: expected text or null, got 3.")],
}  # fmt: skip


@pytest.fixture(scope="module")
def parser():
    """The parser of the command line, which takes longer to make than to use."""
    made = []

    def keep(self, parser, args):
        made.append(parser)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PanopticCLI, "parse_arguments", keep)
        run("fit")
    return made[0]


@pytest.mark.parametrize("key", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(key, parser, shared_cityscapes_root, tmp_path, capfd):
    path = write_config(tmp_path, shared_cityscapes_root)
    right = yaml.safe_load(path.read_text())
    for value, sentence in MISTAKES[key]:
        content = copy.deepcopy(right)
        *above, last = key.split(".")
        block = content
        for part in above:
            block = block[part]
        block[last] = value
        path.write_text(yaml.safe_dump(content))
        try:
            parser.parse_object({"subcommand": "fit", "fit": content})
        except ArgumentError as error:
            said = explain(error, SECTIONS)
        else:  # it is refused before or after that
            said = refuse(capfd, "fit", "--config", path)
        assert sentence in said and len(said) < 300
        assert not [word for word in ("Namespace", "Union", "subtypes", "compute_fn", "NoneType") if word in said]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model:\n\tchannels_last: true\n", "line 2 is indented with a tab; use spaces."),
        ("model:\n  channels_last: true\n data: 3\n", "line 3, column 2: did not find expected key, while parsing a"),
    ],
)
def test_a_file_that_is_no_yaml_is_told_with_its_line(text, reason, tmp_path, capfd):
    (tmp_path / "a.yaml").write_text(text)
    assert f"a.yaml is not valid YAML: {reason}" in refuse(capfd, "fit", "--config", tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("categories", "reason"),
    [
        ([{"id": 3, "name": "car"}], "says of no class whether it is a thing; add 'isthing' to each entry"),
        ([{"id": -3, "name": "car", "isthing": 1}], "Class 'car' has the negative label id -3."),
        ([], "The table of classes is empty; give at least one class."),
        (None, "has no list 'categories' whose entries say 'id', 'name' and 'isthing'"),
    ],
)
def test_a_broken_table_of_classes_is_told_in_the_words_of_the_data(categories, reason, yard_root, tmp_path, capfd):
    """The table goes from the data to the model, through the parser."""
    document = json.loads((yard_root / "train.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(document | {"categories": categories}))
    path = write_config(tmp_path, yard_root)
    options = ["--config", path, "--data", "CocoPanopticDataModule", "--data.root", yard_root]
    for split in ("train", "val"):
        options += [f"--data.{split}.images=images", f"--data.{split}.annotations={tmp_path / 'a.json'}"]
        options += [f"--data.{split}.maps=panoptic"]
    said = refuse(capfd, "fit", *options)
    assert said.startswith(f"error: Annotation file '{tmp_path / 'a.json'}'") and reason in said and len(said) < 400


def test_a_function_between_two_keys_is_not_named(shared_cityscapes_root, tmp_path, capfd, monkeypatch):
    """Oracle: the sentences of the functions; one is called while the words are parsed, one when objects are built."""
    path = write_config(tmp_path, shared_cityscapes_root)

    def refused(self):
        raise TypeError("The classes are strange.")

    with monkeypatch.context() as patch:
        patch.setattr(CityscapesDataModule, "categories", property(refused, lambda self, value: None))
        said = refuse(capfd, "fit", "--config", path)
    assert said == (
        "error: What the configuration describes cannot be built: The classes are strange; --debug shows where."
    )


def test_the_deepest_branch_of_a_union_counts():
    """Oracle: by hand; the first branch is about the value itself, the second about a key below it."""
    message = (
        'Parser key "a":\n  Does not validate against any of the Union subtypes\n  Subtypes: [A, B]\n  Errors:\n'
        "    - Expected a <class 'int'>\n    - Problem with given class_path 'x.B':\n        Parser key \"c\":\n"
        "          Expected a <class 'float'>. Got value: d\n  Given value type: <class 'dict'>\n  Given value: {}"
    )
    complaint = innermost(message, len)
    assert complaint.keys == ("a", "c") and complaint.value == "d"
