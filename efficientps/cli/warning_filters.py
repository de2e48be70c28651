"""Suppress warnings and log lines of libraries that mean nothing in this project."""

from __future__ import annotations

import logging
import warnings

MEANINGLESS = (
    "Experiment logs directory .* exists and is not empty",  # two loggers share the folder of a run
    "You're resuming from a checkpoint that ended before the epoch ended",  # the data module resumes inside an epoch
    "Detected call of `lr_scheduler.step",  # a first step that overflows 16 bits is skipped, but counted
    r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # a call inside Lightning
)
"""Regular expressions of warnings."""


def suppress_meaningless_warnings() -> None:
    """Ignore these warnings, and Lightning's advertisement, from now on in this process."""
    for message in MEANINGLESS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_not_advertisement)


def _is_not_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
