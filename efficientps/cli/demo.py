"""Train a small network on street scenes that are drawn first, evaluate it, and predict: ``efficientps demo``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.data import synthetic_streets
from efficientps.cli.presets import presets


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the demo; return 0, or the exit code of the step that failed."""
    parser = CommandParser(
        prog,
        "Draw street scenes, train the preset 'demo' on them on a CPU or a GPU, print its panoptic quality "
        "and predict on the scenes that were held out. All other options are those of 'fit', such as "
        "--seed_everything 1.",
    )
    parser.add_argument("--scenes", default="datasets/synthetic", help="folder of the scenes")
    parser.add_argument("--num-train", type=int, default=240, help="scenes to train on")
    parser.add_argument("--num-val", type=int, default=60, help="scenes to evaluate on")
    options, words = parser.parse_known_args(arguments)
    parser.refuse_misspelt(words)  # training would refuse the word only after the scenes are drawn
    begin = time.monotonic()
    counts = ["--num-train", str(options.num_train), "--num-val", str(options.num_val)]
    if code := synthetic_streets.main(["--root", options.scenes, *counts]):
        return code
    # Imported after the scenes are drawn, because the processes that draw them need no Lightning.
    from efficientps.cli.train import main as train
    from efficientps.training.checkpoints.last import LastCheckpoint

    preset = ["--config", str(presets()["demo"]), "--data.root", options.scenes]
    outcome = train(["fit", *preset, *words], prog="efficientps")
    if isinstance(outcome, int):
        return outcome
    callbacks = outcome.trainer.callbacks  # type: ignore[attr-defined] # set outside the class
    written = [callback.path for callback in callbacks if isinstance(callback, LastCheckpoint)]
    for checkpoint in filter(Path.is_file, written):  # none with --trainer.fast_dev_run
        folder = checkpoint.parent.parent
        places = ["--data.predict_path", "val", "--predictions.output_dir", str(folder / "predictions")]
        outcome = train(["predict", "--ckpt_path", str(checkpoint), *places], prog="efficientps")
        if isinstance(outcome, int):
            return outcome
        print(f"The run is {folder}: its pictures are in overlays/ and predictions/overlays/.")
    print(f"The demo took {time.monotonic() - begin:.0f} seconds.")
    return 0
