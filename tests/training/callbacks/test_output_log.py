"""What a run prints, as a file in its folder."""

import io
import logging
import pickle
import sys

import pytest
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import Progress
from tqdm import tqdm

from efficientps.training.callbacks.output_log import OutputLog
from efficientps.training.terminal_lines import TerminalLines
from tests.command_line import run, write_config


def lines_of(text):
    kept = []
    lines = TerminalLines(kept.append)
    lines.write(text)
    lines.close()
    return kept


@pytest.mark.parametrize("num_bars", [1, 2, 3])
def test_bars_that_are_drawn_anew_leave_their_end(num_bars):
    """Oracle: the sentences that are printed, and rich's own drawing of the bars at their end."""
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=60)
    with Progress(console=console, auto_refresh=False) as progress:
        bars = [progress.add_task(f"bar {number}", total=3) for number in range(num_bars)]
        for step in range(3):
            for bar in bars:
                progress.update(bar, advance=1)
            progress.refresh()
            console.print(f"\n[red]sentence {step}[/red]\nand more")
    lines = lines_of(drawn.getvalue())
    sentences = [line for step in range(3) for line in ("", f"sentence {step}", "and more")]
    assert lines[:-num_bars] == sentences
    assert [line.split(" ━")[0] for line in lines[-num_bars:]] == [f"bar {number}" for number in range(num_bars)]


def test_a_bar_of_one_line_leaves_its_end():
    """Oracle: hand-counted; tqdm writes over its line after a carriage return."""
    drawn = io.StringIO()
    for _ in tqdm(range(5), file=drawn, mininterval=0, ascii=True):
        pass
    (line,) = lines_of(drawn.getvalue())
    assert line.startswith("100%|##########| 5/5")


def test_plain_text_is_kept_as_it_is():
    text = "a\n\n  b\twith a tab\r\nlink \x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\\nno end"
    assert lines_of(text) == ["a", "", "  b\twith a tab", "link here", "no end"]


class Speaks(Callback):
    """Prints, warns and logs in the first step, and fails in the fourth."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 0:
            print("\x1b[1mprinted\x1b[0m")
            print("to stderr", file=sys.stderr)
            logging.getLogger("speaks").warning("logged")
        if trainer.global_step == 3:
            raise self.error


SPEAKS = "--trainer.callbacks+=tests.training.callbacks.test_output_log.Speaks"


def test_the_log_of_a_run_in_two_parts(shared_cityscapes_root, tmp_path, monkeypatch):
    """Oracle: hand-made; the handler took its stream before the log began, as Lightning's does."""
    logger, handler = logging.getLogger("speaks"), logging.StreamHandler()
    monkeypatch.setattr(logger, "handlers", [handler])
    streams = sys.stdout, sys.stderr, handler.stream
    config = write_config(tmp_path, shared_cityscapes_root)
    monkeypatch.setattr(Speaks, "error", ValueError("The image is bad;\n give another."), raising=False)
    assert run("fit", "--config", config, SPEAKS, "--ckpt_path", "last") == 1
    monkeypatch.setattr(Speaks, "error", TypeError("a mistake of a programmer"))
    with pytest.raises(TypeError):
        run("fit", "--config", config, SPEAKS, "--ckpt_path", "last")
    assert (sys.stdout, sys.stderr, handler.stream) == streams
    (path,) = (tmp_path / "runs").rglob("output.log")
    first, second = path.read_text().split(" UTC: fit --config ")[1:]
    for words in (
        "\nThere is no last.ckpt below ",
        "\nprinted\nto stderr\nlogged\n",
        "\nval_epoch000\n",
        "\nerror: The image is bad; g",
    ):
        assert first.count(words) == 1
    assert "--ckpt_path last\n" in second and "printed" not in second
    assert "Traceback (most recent call last):\n" in second and "\nTypeError: a mistake of a programmer\n" in second


def test_a_log_that_cannot_be_written_does_not_end_a_run(shared_cityscapes_root, tmp_path):
    """Oracle: a device that is always full."""
    config = write_config(tmp_path, shared_cityscapes_root)
    run("fit", "--config", config, "--trainer.max_epochs", 1)
    log = tmp_path / "runs/version_0/output.log"
    log.unlink()
    log.symlink_to("/dev/full")
    assert run("fit", "--config", config, "--ckpt_path", "last").trainer.global_step == 6


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_records(tmp_path, monkeypatch, rank):
    monkeypatch.setattr("efficientps.training.run_folder.rank_zero_only.rank", rank)
    log, before = OutputLog(), sys.stdout
    with log.recording(["fit"]):
        assert (sys.stdout is before) == (rank == 1)
        pickle.dumps(log)  # as strategies do that start processes with a copy of the trainer
    assert sys.stdout is before
