"""From exceptions to sentences: real exceptions of data workers, of the operating system and of the argument parser."""

import argparse
import errno

import pytest
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from efficientps.cli.configuration_errors import explain_configuration
from efficientps.cli.errors import explain, note_keys
from efficientps.data.cache import CacheError
from efficientps.data.sources.split_files import MissingCityscapesError, MissingMapsError
from efficientps.training.checkpoints.read import NoTrainingStateError
from tests.sweep import sweep


class Broken(Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@sweep("num_workers", [0, 1])
@sweep(
    "error, sentence",
    [
        (ValueError("Image 'a.png' is damaged; copy it again."), "Image 'a.png' is damaged; copy it again."),
        (FileNotFoundError("Image 'a: b.png' is gone."), "Image 'a: b.png' is gone."),
        (ValueError("Two lines:\n  one sentence."), "Two lines: one sentence."),
    ],
)
def test_data_errors_read_the_same_from_workers(error, sentence, num_workers):
    # Oracle: the sentence itself, whichever process raised it.
    with pytest.raises(type(error)) as caught:
        list(DataLoader(Broken(error), num_workers=num_workers))
    assert explain(caught.value) == sentence


def test_system_error_from_a_worker():
    with pytest.raises(OSError, match="No space left") as caught:
        list(DataLoader(Broken(OSError(errno.ENOSPC, "No space left on device")), num_workers=1))
    assert explain(caught.value) == "No space left on device"


def test_programmers_error_from_a_worker_is_none_of_the_users():
    with pytest.raises(TypeError) as caught:
        list(DataLoader(Broken(TypeError("unsupported operand")), num_workers=1))
    assert explain(caught.value) is None


@sweep(
    "error, sentence",
    [
        (FileNotFoundError("The folder x is missing."), "The folder x is missing."),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.json"), "No such file or directory: a.json."),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "Not a directory: a/b."),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "No permission for runs; check who owns it, or "),
        (MisconfigurationException("`Trainer(devices=0)` is wrong."), "`Trainer(devices=0)` is wrong."),
        (ValueError(), "ValueError."),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "The GPU is out of memory; lower data.batch_size"),
        (torch.distributed.DistBackendError("NCCL error in: ..."), "connection to another process of this run is gone"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error"), "--ckpt_path last continues"),
        (argparse.ArgumentError(None, "unrecognized arguments: --foo"), "there is no such argument: --foo."),
    ],
)
def test_sentences(error, sentence):
    assert sentence in explain(error)


@sweep("error", [RuntimeError("shape"), KeyError("a"), AttributeError("b"), AssertionError()])
def test_programmers_errors_are_left_alone(error):
    assert explain(error) is None


@sweep(
    "message, sentence",
    [
        (
            'Parser key "model.network":\n  Type Callable expects a class: Parser key "backbone":\n    Problem with '
            "class_path 'x.EfficientNetBackbone':\n      Option 'varian' is not accepted. Got value: Namespace(a=1)",
            "In the configuration, model.network.backbone: there is no such key: 'varian'.",
        ),
        (
            'Parser key "model.network":\n  Type Callable expects a class: Parser key "backbone":\n    Problem with '
            "class:\n      Parser key \"variant\":\n        Expected a typing.Literal['b0', 'b1']. Got value: b9. "
            "Got value: Namespace(init_args=1)",
            "In the configuration, model.network.backbone.variant: expected one of 'b0', 'b1', got 'b9'.",
        ),
        (
            'Parser key "model.network":\n  Type Callable expects a class: the following arguments are required: '
            "backbone, instance_head. Got value: Namespace(class_path='x')",
            "In the configuration, model.network: it needs a value for backbone, instance_head.",
        ),
        (
            "argument subcommand: invalid choice: 'fti' (choose from 'fit', 'test')",
            "In the configuration: 'fti' is not one of 'fit', 'test'.",
        ),
        ("something new", "In the configuration: something new"),
    ],
)
def test_messages_of_the_parser(message, sentence):
    # Oracle: messages of jsonargparse 4.53, shortened.
    assert explain_configuration(message) == sentence


def test_unknown_message_is_cut_to_a_readable_length():
    assert len(explain_configuration("x" * 10_000)) < 400


CONFIGURATION = {
    "data.init_args.cache": "c",
    "data.init_args.root": "r",
    "data.init_args.max_bad_samples": 3,
    "data.init_args.num_workers": 1,
    "model.network.init_args.detector.init_args.num_queries": 9,
    "trainer.max_epochs": 2,
}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ValueError("4 segments need num_queries of 5."),
            "5 (in the configuration: model.network.detector.num_queries).",
        ),
        (
            ValueError("num_queries and max_epochs."),
            "(in the configuration: model.network.detector.num_queries, trainer.",
        ),
        (ValueError("The file a/num_queries.json or 'max_epochs' is bad."), "or 'max_epochs' is bad."),
        (ValueError("trainer.max_epochs is 0."), "trainer.max_epochs is 0."),
        (
            MissingCityscapesError("No folder 'r'."),
            "'r' (in the configuration: data.root). The page 'Data sets' of the documentation says how to get it; 'eff",
        ),
        (MissingMapsError("No maps.", "r"), "No maps. Make them with: efficientps convert cityscapes r"),
        (CacheError("It is old."), "old (in the configuration: data.cache). The command is efficientps cache."),
        (NoTrainingStateError("Weights.", "a.ckpt"), "Weights. Start from its weights with --model.init_from=a.ckpt."),
    ],
)
def test_keys_and_commands_are_added(error, sentence):
    """Oracle: by hand, from the configuration above."""
    note_keys(error, CONFIGURATION)
    assert explain(error).endswith(sentence) or sentence in explain(error)
    assert explain(error).count("in the configuration") <= 1


def test_the_traceback_of_a_worker_names_no_keys():
    error = ValueError("Of the samples, max_bad_samples cannot be read.")
    with pytest.raises(ValueError, match="Traceback") as caught:
        list(DataLoader(Broken(error), num_workers=1))
    note_keys(
        caught.value,
        CONFIGURATION
        | {"data.original_name": 1, "data.exc_type": 1, "data._utils": 1, "data.fetch": 1, "data.worker_id": 1},
    )
    assert explain(caught.value) == f"{str(error)[:-1]} (in the configuration: data.max_bad_samples)."


@pytest.mark.parametrize("size", [(1, 8, 1, 1), (1, 8)])
def test_a_norm_with_one_value_names_the_options(size):
    """Oracle: what PyTorch raises for a batch of one image and one cell, or for one region."""
    with pytest.raises(ValueError, match="Expected more than 1 value") as caught:
        torch.nn.functional.batch_norm(torch.zeros(size), None, None, training=True)
    assert "Give data.batch_size 2 or more, or a larger data.image_size" in explain(caught.value)
