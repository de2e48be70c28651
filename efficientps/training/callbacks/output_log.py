"""Keep what a run prints as a file in its folder."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from efficientps.training.loggers.metrics_csv import MetricsCsv
from efficientps.training.run_folder import is_first_process
from efficientps.training.terminal_lines import TerminalLines

FILE_NAME = "output.log"

_MOST_WAITING = 10_000
"""Lines that are kept until the run has its folder."""


class OutputLog(Callback):
    """Writes what the first process of a run prints into ``output.log``, without colours and drawings of progress bars.

    Each part of the run adds to the file: a line with time and command, then all that Python prints to standard output
    and standard error from the start of the command on, errors at its end included. A line that cannot be written is
    left out, because a log must not end a training.
    """

    def __init__(self) -> None:
        """Begin without a file."""
        self._process: int | None = None  # that records
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._file: int | None = None

    @contextmanager
    def recording(self, words: Sequence[str] = ()) -> Iterator[None]:
        """Record what is printed inside a ``with`` statement; on other processes than the first of a run, do nothing.

        Args:
            words: words of the command line.
        """
        if not is_first_process():
            yield
            return
        self._process = os.getpid()
        self.note(f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}: {shlex.join(words)}")
        before = sys.stdout, sys.stderr
        copies = _Copied(sys.stdout, self), _Copied(sys.stderr, self)
        sys.stdout, sys.stderr = copies
        handlers = [handler for handler in _stream_handlers() if handler.stream is before[1]]
        for handler in handlers:
            handler.stream = copies[1]
        try:
            yield
        finally:
            for handler in handlers:
                handler.stream = before[1]
            if sys.stdout is copies[0]:
                sys.stdout = before[0]
            if sys.stderr is copies[1]:
                sys.stderr = before[1]
            for copy in copies:
                copy.close_copy()
            self._end()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the file, and write what has been printed before."""
        folder = next((logger.folder for logger in trainer.loggers if isinstance(logger, MetricsCsv)), None)
        if self._process != os.getpid() or self._file is not None or folder is None:
            return
        self._file = os.open(folder.path / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if os.fstat(self._file).st_size:
            self.note("")
        while self._waiting:
            self.note(self._waiting.popleft())

    def note(self, line: str) -> None:
        """Write a line, now or when the run has its folder; this process alone does, not those that it starts."""
        if self._process != os.getpid():
            return
        if self._file is None:
            self._waiting.append(line)
            return
        with suppress(OSError):
            os.write(self._file, f"{line}\n".encode(errors="replace"))

    def _end(self) -> None:
        self._process = None
        self._waiting.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _Copied:
    """A stream that writes as before, and gives a log the lines that stay on the terminal."""

    def __init__(self, stream: TextIO, log: OutputLog) -> None:
        self._stream = stream
        self._lines: TerminalLines | None = TerminalLines(log.note)
        self._process = os.getpid()
        self._lock = threading.RLock()  # a progress bar draws from a thread of its own

    def write(self, text: str) -> int:
        """Write a text to both; a process that this one has started writes to the stream alone."""
        written = self._stream.write(text)
        if self._lines is not None and os.getpid() == self._process:
            with self._lock:
                self._lines.write(text)
        return written

    def writelines(self, texts: Sequence[str]) -> None:
        """Write some texts."""
        for text in texts:
            self.write(text)

    def close_copy(self) -> None:
        """Give the log the last lines; from now on write to the stream alone."""
        with self._lock:
            if self._lines is not None:
                self._lines.close()
            self._lines = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    """Return the handlers of all loggers that write to a stream; they took it when they were made."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]
