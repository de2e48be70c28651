"""Bad training samples: a sample that cannot be read is an error, or another sample takes its place."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

OnBadSample: TypeAlias = Literal["raise", "skip"]
"""The policy: end the run with the sentence that names the file, or go on without the sample."""

MAX_BAD_SHARE = 0.01
"""Share of a data set that may be bad by default, but at least one sample. More bad samples mean a damaged data set."""

_MET, _NAMED = 0, 1


class TooManyBadSamplesError(ValueError):
    """More samples are bad than the policy allows."""


@dataclass(frozen=True, kw_only=True)
class BadSamplePolicy:
    """Whether a training sample that cannot be read is an error or is skipped.

    Attributes:
        on_bad_sample: "raise" ends the run, "skip" names the sample and takes the next in order instead.
        max_bad_samples: how many may be skipped; by default one in a hundred, and at least one.
    """

    on_bad_sample: OnBadSample = "raise"
    max_bad_samples: int | None = None

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            ValueError: if ``on_bad_sample`` has another value, or the limit is negative.
        """
        if self.on_bad_sample not in get_args(OnBadSample):
            raise ValueError(f"on_bad_sample is {self.on_bad_sample!r}; give 'raise' or 'skip'.")
        if self.max_bad_samples is not None and self.max_bad_samples < 0:
            raise ValueError(f"max_bad_samples is {self.max_bad_samples}; it must be at least 0.")

    def watch(self, length: int) -> BadSamples | None:
        """Return the record of the bad samples of a data set of this length; None where they raise."""
        return BadSamples(length, limit=self.max_bad_samples) if self.on_bad_sample == "skip" else None


class BadSamples:
    """The samples of a data set that were found bad, shared by all loading processes.

    The memory is shared by the process that makes this object and the workers that it starts, so that each file is
    named once and the limit holds for all of them together. Each rank counts only the samples that it reads itself,
    starting from 0.

    Attributes:
        limit: how many may be bad.
    """

    def __init__(self, length: int, *, limit: int | None = None) -> None:
        """Begin with no bad sample.

        Args:
            length: number of samples of the data set.
            limit: how many may be bad; ``MAX_BAD_SHARE`` of them, and at least one, if not given.
        """
        self.limit = max(1, int(length * MAX_BAD_SHARE)) if limit is None else limit
        self._flags = torch.zeros(2, length, dtype=torch.bool)
        self._flags.share_memory_()  # type: ignore[no-untyped-call] # of torch

    @property
    def positions(self) -> list[int]:
        """The samples found bad so far, in the order of the data set."""
        positions: list[int] = self._flags[_MET].nonzero().flatten().tolist()
        return positions

    def note(self, position: int, reason: Exception, *, asked_for: bool) -> None:
        """Count a bad sample and, the first time that it is asked for itself, name it on stderr.

        A bad sample found while searching for a replacement is counted but not named, because another process may name
        it: the one that the sampler sends it to.

        Args:
            position: its place in the data set.
            reason: what reading it raised.
            asked_for: whether the sampler asked for this very sample.

        Raises:
            TooManyBadSamplesError: if the limit is exceeded.
        """
        self._flags[_MET, position] = True
        count = len(self.positions)
        if count > self.limit:
            raise TooManyBadSamplesError(
                f"{count} of {self._flags.shape[1]} samples cannot be read, more than the {self.limit} that "
                f"may be skipped (max_bad_samples); the last of them: {reason}"
            )
        if asked_for and not self._flags[_NAMED, position]:
            self._flags[_NAMED, position] = True
            sentence = f"Skipped a bad sample ({count} met so far, {self.limit} allowed): {reason}\n"
            sys.stderr.write(sentence)  # in one piece: workers write at the same time
            sys.stderr.flush()
