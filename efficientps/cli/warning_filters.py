"""Suppress warnings and log lines of libraries that mean nothing in this project."""

from __future__ import annotations

import logging
import threading
import warnings

MEANINGLESS = (
    "Experiment logs directory .* exists and is not empty",  # two loggers share the folder of a run
    "Checkpoint directory .* exists and is not empty",  # a run goes on in its folder
    "You're resuming from a checkpoint that ended before the epoch ended",  # the data module resumes inside an epoch
    "Detected call of `lr_scheduler.step",  # a first step that overflows 16 bits is skipped, but counted
    r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # a call inside Lightning
)
"""Regular expressions of warnings."""


def suppress_meaningless_warnings() -> None:
    """Ignore these from now on in this process, Lightning's advertisement, and errors that TensorBoard tells twice."""
    for message in MEANINGLESS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_not_advertisement)
    threading.excepthook = _show_error_of_thread


def _is_not_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()


def _show_error_of_thread(error: threading.ExceptHookArgs) -> None:
    """Show the error of a thread, but not that of TensorBoard's writer, which the main thread raises again."""
    if not type(error.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(error)
