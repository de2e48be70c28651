"""Print names of classes in any alphabet, whatever the encoding of the output."""

from __future__ import annotations

import io
import sys


def escape_what_cannot_be_encoded() -> None:
    """Let standard output and standard error write characters that their encoding lacks as escapes.

    Python would raise an error instead, which ends a training at its first table with such a name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
