"""Train, evaluate and run a panoptic network: ``efficientps fit | validate | test | predict``, or ``train_net.py``.

Without arguments it trains the network that ``config.yaml`` describes. Every value of the configuration is also an
option, for instance ``--data.root path/to/cityscapes`` or ``--model.network.instance_head=SOLOv2Head``.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import torch
from pytorch_lightning.cli import ArgsType

from efficientps.cli.arguments import with_default_config
from efficientps.cli.errors import explain
from efficientps.cli.output_encoding import escape_what_cannot_be_encoded
from efficientps.cli.panoptic_cli import PanopticCLI
from efficientps.cli.sections import SECTIONS
from efficientps.cli.warning_filters import suppress_meaningless_warnings
from efficientps.lettering import check_fonts
from efficientps.training.callbacks.continued_log import ContinuedLog
from efficientps.training.callbacks.output_log import OutputLog
from efficientps.training.callbacks.predictions import PredictionWriter
from efficientps.training.callbacks.throughput import ThroughputMonitor
from efficientps.training.checkpoints.last import INTERRUPTED_EXIT_CODE, Preempted
from efficientps.training.checkpoints.optimizer_states import ResumedOptimizer
from efficientps.training.checkpoints.position import ExactPosition
from efficientps.training.checkpoints.random_states import RandomStates
from efficientps.training.process_group import leave_at_exit

LEFT_OUT_EXIT_CODE = 3
"""Exit code of a prediction that is complete but for images that cannot be read, which it has named."""


def main(
    args: ArgsType = None, *, prog: str | None = None, default_config: Path | None = None, said: str | None = None
) -> PanopticCLI | int:
    """Run a command line.

    Args:
        args: words of the command line, or a mapping with the configuration; ``None`` takes the program's own words.
        prog: name of the program in its help; by default the file that Python runs.
        default_config: the user's configuration, for a command line that names none; ``None`` takes the project's
            reference, or to evaluate or predict that of the run which wrote the checkpoint.
        said: the sentence of an error that has been printed, and is not repeated.

    Returns:
        The command line object, with its ``trainer``, ``model`` and ``datamodule``; or a non-zero exit code, after an
        error has been printed to stderr as one sentence, or ``LEFT_OUT_EXIT_CODE``. With the option ``--debug``, or the
        environment variable ``EFFICIENTPS_DEBUG=1``, the error is raised instead.
    """
    if os.getcwd() not in sys.path:  # a configuration can name classes of files in the working directory
        sys.path.append(os.getcwd())
    debug = os.environ.get("EFFICIENTPS_DEBUG", "0") not in ("", "0")
    if args is None or isinstance(args, list):
        arguments = sys.argv[1:] if args is None else args
        debug = debug or "--debug" in arguments
        args = [argument for argument in arguments if argument != "--debug"]
    escape_what_cannot_be_encoded()
    suppress_meaningless_warnings()
    leave_at_exit()
    torch.set_float32_matmul_precision("high")  # TF32 on CUDA under 32-true: fine for training, not for comparisons
    log = OutputLog()
    with log.recording(args if isinstance(args, list) else ()):
        try:
            if isinstance(args, list):
                args = with_default_config(args, default_config)
            cli = _command_line(args, prog, log)
            return LEFT_OUT_EXIT_CODE if _left_out(cli) else cli
        except Preempted as exit_:
            print("Continue the run with --ckpt_path last.", file=sys.stderr)
            return exit_.code if isinstance(exit_.code, int) else 1
        except KeyboardInterrupt:
            return INTERRUPTED_EXIT_CODE
        except SystemExit as exit_:
            if isinstance(exit_.__context__, KeyboardInterrupt):  # Lightning ends with code 1
                return INTERRUPTED_EXIT_CODE
            return exit_.code if isinstance(exit_.code, int) else 1
        except Exception as error:
            sentence = explain(error, SECTIONS)
            if debug or sentence is None:
                log.note(traceback.format_exc())
                raise
            if sentence != said:
                print(f"error: {sentence}", file=sys.stderr)
            return 1


def _left_out(cli: PanopticCLI) -> bool:
    """Return whether a prediction had to leave out images; only the first process knows."""
    callbacks = cli.trainer.callbacks  # type: ignore[attr-defined] # set outside the class
    return any(callback.left_out for callback in callbacks if isinstance(callback, PredictionWriter))


def _command_line(args: ArgsType, prog: str | None, log: OutputLog) -> PanopticCLI:
    """Build the command line and run its command."""
    check_fonts()
    own = [ThroughputMonitor(), RandomStates(), ResumedOptimizer(), ExactPosition(), ContinuedLog(), log]
    return PanopticCLI(args, prog=prog, callbacks=own)
