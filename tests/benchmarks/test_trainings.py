import math

import pytest

from benchmarks.training_runs import Metrics
from benchmarks.trainings import run


def test_metrics_are_columns_without_their_empty_cells(tmp_path):
    # Oracle: by hand.
    run_folder = tmp_path / "version_0"
    run_folder.mkdir()
    (run_folder / "metrics.csv").write_text("step,train/loss,val/PQ\n0,4.0,\n1,2.0,\n1,,0.25\n2,1.0,\n")
    metrics = Metrics.of(tmp_path)
    assert metrics.columns["train/loss"] == [4, 2, 1] and metrics.last("val/PQ") == 0.25
    assert metrics.mean_of_last("train/loss", 2) == 1.5
    assert math.isnan(metrics.last("val/AP")) and not Metrics.of(tmp_path / "nothing").columns


@pytest.mark.slow
def test_a_training_that_fails_is_named_with_what_it_said(tmp_path):
    # Oracle: the sentence of train_net.py about data that is not there.
    report = run(names=["demo_bf16"], scenes=tmp_path / "none", folder=tmp_path, workers=0, steps=1)
    assert len(report.skipped) == 1 and "train_net.py ended with exit code 1" in report.skipped[0]
    assert "none" in report.skipped[0]
    assert report.rows[0].figures["exit_code"] == 1 and "val/PQ" not in report.rows[0].figures


def test_unknown_trainings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no training 'all'; the trainings are demo_bf16"):
        run(names=["all"], scenes=tmp_path, folder=tmp_path)
