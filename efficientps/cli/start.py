"""Begin a training command: ``efficientps fit | validate | test | predict``, or ``train_net.py``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from efficientps.cli.imports import uncollected
from efficientps.cli.input_errors import explain_missing_data
from efficientps.cli.missing_data import missing_data
from efficientps.cli.output_encoding import escape_what_cannot_be_encoded
from efficientps.cli.presets import REFERENCE


def run(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command line; return its exit code.

    A wrong path of the data is named at once. The imports and the parser follow all the same: they name what else is
    wrong, or end the command.

    Args:
        arguments: words of the command ``efficientps``, whose default is ``config.yaml`` of the working directory, and
            where there is none the reference of the package; ``None`` takes those of ``train_net.py``, whose default is
            the reference.
        prog: name of the program and of its command: ``efficientps fit``.
    """
    words, here = list(sys.argv[1:] if arguments is None else arguments), Path("config.yaml")
    config = here if arguments is not None and here.is_file() else None
    escape_what_cannot_be_encoded()
    debug = os.environ.get("EFFICIENTPS_DEBUG", "0") not in ("", "0")
    said = None
    if not debug and (error := missing_data(words, config or REFERENCE)):
        said = explain_missing_data(error)
        print(f"error: {said}", file=sys.stderr, flush=True)
    with uncollected():
        from efficientps.cli.train import main
    outcome = main(
        words,
        prog=prog.partition(" ")[0] if prog else None,
        default_config=REFERENCE if arguments is None else config,
        said=said,
    )
    return outcome if isinstance(outcome, int) else 0
