"""The loggers of a run; its configuration is tested through ``tests/cli/test_train.py``."""

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from efficientps.training import run_files
from efficientps.training.run_files import run_loggers


def test_both_loggers_share_a_folder(tmp_path):
    (tmp_path / "version_4").mkdir()
    tensorboard, csv = run_loggers(tmp_path)
    assert isinstance(tensorboard, TensorBoardLogger)
    assert isinstance(csv, CSVLogger)
    assert tensorboard.log_dir.rstrip("/") == csv.log_dir.rstrip("/") == str(tmp_path / "version_5")


def test_without_tensorboard(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_files, "find_spec", lambda name: None)
    (logger,) = run_loggers(tmp_path)
    assert isinstance(logger, CSVLogger)
    assert logger.log_dir.rstrip("/") == str(tmp_path / "version_0")
