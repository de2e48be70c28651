"""The best checkpoints of a run that goes on are those of the whole run."""

import pytest
import torch

from efficientps.training.checkpoints.resolve import resolve_checkpoint
from tests.command_line import run, write_config
from tests.tiny_network import TinyNetwork  # noqa: F401 - the configuration names it


@pytest.fixture
def resume_with(cityscapes_root, tmp_path):
    """A function that trains an epoch, sets the qualities of the best files to those given, and trains another."""
    config = write_config(tmp_path, cityscapes_root)

    def resume(qualities, own):
        run("fit", "--config", config, "--trainer.max_epochs", 1)
        last = tmp_path / "runs/version_0/checkpoints/last.ckpt"
        content = torch.load(last, weights_only=True)
        (state,) = [state for name, state in content["callbacks"].items() if name.startswith("BestCheckpoints")]
        (first,) = state["best_k_models"]
        state["best_k_models"] = {path: torch.tensor(quality) for path, quality in ({first: own} | qualities).items()}
        torch.save(content, last)
        return first, run("fit", "--config", config, "--ckpt_path", last).trainer.checkpoint_callback

    return resume


@pytest.mark.parametrize(("quality", "is_best"), [(0.9, True), (-0.9, False)])
def test_best_of_the_whole_run(resume_with, tmp_path, quality, is_best):
    """Oracle: hand-made; the second epoch, of quality about 0, is better or worse than the first."""
    first, best = resume_with({}, quality)
    assert len(best.best_k_models) == 2 and first in best.best_k_models
    assert (best.best_model_path == first) == is_best
    assert resolve_checkpoint("best", tmp_path / "runs").parent == tmp_path / "runs/version_0/checkpoints"


def test_names_in_a_checkpoint_are_not_believed(resume_with, tmp_path):
    """Files outside the run, files of another kind and files that are gone do not count, and nothing is removed."""
    stranger, mine = tmp_path / "epoch000_PQ0.0001.ckpt", tmp_path / "runs/notes.txt"
    (tmp_path / "runs").mkdir()
    for path in (stranger, mine):
        path.write_text("precious")
    missing = tmp_path / "runs/version_0/checkpoints/epoch007_PQ0.0002.ckpt"
    first, best = resume_with({str(stranger): -3.0, str(mine): -2.0, str(missing): -1.0}, -0.5)
    assert set(best.best_k_models) == {first, best.best_model_path} and best.best_model_path != first
    assert stranger.read_text() == mine.read_text() == "precious"
