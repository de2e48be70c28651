"""The folder of one run: made by one process, used by one training at a time."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities import rank_zero_only

LOCK = ".lock"
"""Name of the file that the process of a run keeps locked; it holds the process' number and its machine."""


class RunInUseError(ValueError):
    """Another process is writing into the folder of a run."""


class RunFolder:
    """The folder of a run: a new ``version_N`` below ``root``, or that of the run that goes on.

    A new folder is made when its path is first asked for, so that a run that cannot begin leaves nothing behind.

    Args:
        root: the folder of the runs.
    """

    def __init__(self, root: str | Path) -> None:
        """Store the root."""
        self.root = Path(root)
        self._path: Path | None = None
        self._lock: int | None = None
        self._is_new = False

    @property
    def path(self) -> Path:
        """The folder; processes other than the first know it from ``share`` on, and give ``root`` until then.

        Raises:
            OSError: it cannot be made.
        """
        if self._path is None:
            if not is_first_process():
                return self.root
            self._path = new_folder(self.root)
            self._lock = lock(self._path)
            self._is_new = True
        return self._path

    def resume(self, path: Path) -> None:
        """Take the folder of a run that goes on.

        Raises:
            RunInUseError: another process is writing into it.
            OSError: it cannot be written to.
        """
        if is_first_process():
            self._lock = lock(path)
        self._path = path

    def share(self, strategy: Strategy) -> None:
        """Tell every process the folder of the first; all of them must call this."""
        self._path = Path(strategy.broadcast(str(self.path)))

    def discard(self) -> None:
        """Remove the folder if this object has made it, because its run could not begin."""
        if self._is_new and self._path is not None:
            self.release()
            shutil.rmtree(self._path, ignore_errors=True)
            self._path, self._is_new = None, False

    def release(self) -> None:
        """Let other processes use the folder; the end of this process does the same."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def is_first_process() -> bool:
    """Return whether this is the first process of a training, as Lightning numbers them."""
    return getattr(rank_zero_only, "rank", 0) == 0


def new_folder(root: str | Path) -> Path:
    """Make the next folder ``version_N`` below ``root``; two processes never get the same one.

    Raises:
        OSError: it cannot be made.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    numbers = [path.name.removeprefix("version_") for path in root.glob("version_*")]
    number = max((int(text) for text in numbers if text.isdecimal()), default=-1) + 1
    while True:
        try:
            (root / f"version_{number}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return root / f"version_{number}"


def lock(folder: Path) -> int | None:
    """Lock a folder for this process; return the file descriptor, whose closing unlocks it.

    The lock is one of POSIX: it ends with the process, however that dies, and the processes that it starts do not
    inherit it. Returns None on a file system without locks.

    Raises:
        RunInUseError: another process has locked it.
        OSError: the folder cannot be written to.
    """
    import fcntl

    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(file)
        raise RunInUseError(
            f"The run {folder} is in use by {owner}; wait until it ends, or stop it, and resume then."
        ) from None
    except OSError:
        os.close(file)
        return None
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return file
