"""Callbacks that are refused before the first step, and those that are not."""

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint

from efficientps.training.callback_checks import check_callbacks


class LogsItsOwn(Callback):
    """A callback of a user, which may log anything."""


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([EarlyStopping("val/QP", mode="max")], "EarlyStopping waits for the metric val/QP, .* did you mean .*val/PQ"),
        ([EarlyStopping("PQ", mode="max")], "never logged; did you mean val/PQ"),
        ([EarlyStopping("accuracy")], "never logged; there are val/PQ, val/SQ, "),
        ([ModelCheckpoint(monitor="train/los")], "ModelCheckpoint waits .* did you mean train/loss"),
        ([EarlyStopping("val/PQ")], "EarlyStopping has mode min, and more of val/PQ is better; give it mode max"),
        ([ModelCheckpoint(monitor="train/loss", mode="max")], "less of train/loss is better; give it mode min"),
        ([EarlyStopping("train/loss_box", mode="max")], "less of train/loss_box is better"),
    ],
)
def test_what_a_callback_waits_for_in_vain(callbacks, message):
    with pytest.raises(ValueError, match=message):
        check_callbacks(callbacks, validates=True)


def test_no_validation_means_no_metric():
    with pytest.raises(ValueError, match=r"waits for val/PQ, and this run makes no validation \(limit_val_batches"):
        check_callbacks([EarlyStopping("val/PQ", mode="max")], validates=False)


@pytest.mark.parametrize(
    "callbacks",
    [
        [EarlyStopping("val/PQ_things", mode="max"), ModelCheckpoint(monitor="train/loss_semantic")],
        [EarlyStopping("mine"), LogsItsOwn()],
        [EarlyStopping("mine", strict=False)],
        [ModelCheckpoint(), LearningRateFinder(update_attr=False)],
    ],
)
def test_what_is_taken(callbacks):
    check_callbacks(callbacks, validates=True)
