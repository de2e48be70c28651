"""The script that trains DETR's two steps on eight images, for an epoch each: it runs, and it can fail."""

import pytest
import torch

from tests.acceptance import detr_overfit


def test_an_epoch_is_not_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(detr_overfit, "EPOCHS", {"detector": 1, "masks": 1})
    folder = tmp_path / "new" / "detr"
    assert detr_overfit.main([str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "box AP 0." in printed
    assert "0 of the detector's" in printed
    assert sum(path.is_file() for path in (folder / "yard" / "images").rglob("*")) == detr_overfit.IMAGES


def test_a_changed_detector_is_a_failure(tmp_path, monkeypatch, capsys):
    """Oracle: figures above both bars, by hand; one bit of one tensor differs in the second of two cases."""
    figures = {"val/box_AP": 0.6, "val/PQ": 0.5, "val/PQ_things": 0.4, "val/PQ_stuff": 0.6}
    for change, outcome in ((0.0, 0), (1e-7, 1)):
        weights = {"detector": torch.ones(3), "masks": torch.ones(3) + torch.tensor([0, change, 0])}

        def fit(step, *_, weights=weights):
            return figures, {"network.detector.weight": weights[step]}, tmp_path / "last.ckpt"

        monkeypatch.setattr(detr_overfit, "fit", fit)
        monkeypatch.setattr(detr_overfit, "write_synthetic_yard", lambda *_, **__: ())
        assert detr_overfit.main([]) == outcome
        assert f"{outcome} of the detector's 1 tensors changed" in capsys.readouterr().out


def test_a_folder_that_exists_is_refused(tmp_path, capsys):
    assert detr_overfit.main([str(tmp_path)]) == 1
    assert "does not exist yet" in capsys.readouterr().err


def test_a_step_that_ends_early_is_named(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="The step 'masks' ended with exit code"):
        detr_overfit.fit("masks", tmp_path / "nowhere", tmp_path)
