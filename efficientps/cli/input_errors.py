"""Sentences for errors about files and values, for commands that start without PyTorch and Lightning."""

from __future__ import annotations

import errno


def explain_input(error: ValueError | OSError) -> str:
    r"""Return one sentence for an error of a file, or for one about what a user gave.

    >>> explain_input(FileNotFoundError(2, "No such file or directory", "a/b.json"))
    'No such file or directory: a/b.json.'
    >>> explain_input(PermissionError(13, "Permission denied", "a/b.json"))
    'No permission for a/b.json; check who owns it, or choose another path.'
    >>> explain_input(ValueError("The folder a/b is empty;\n give another."))
    'The folder a/b is empty; give another.'
    """
    if isinstance(error, PermissionError):
        return f"No permission for {error.filename or error}; check who owns it, or choose another path."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:
        return f"A file could not be written: {error.strerror}. Make room, and run the command again."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return " ".join(str(error).split()) or f"{type(error).__name__}."
