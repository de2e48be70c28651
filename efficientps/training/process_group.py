"""Leave the group of a distributed training before the interpreter ends."""

from __future__ import annotations

import atexit

import torch.distributed


def leave_at_exit() -> None:
    """Have this process destroy its process group when it exits; a second call changes nothing.

    A thread of Gloo that still frees a tensor while Python ends would abort the process, after a training without any
    error (pytorch/pytorch, pull request 179291). Lightning destroys the group for NCCL alone.
    """
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
