"""The report through the command line: of a training run, of a checkpoint of it, and of exported predictions."""

import json

import pytest

from efficientps.cli import evaluate
from tests.command_line import refuse, run, write_config
from tests.tiny_network import TinyNetwork  # noqa: F401 - the configuration names it


@pytest.fixture
def config(tmp_path, cityscapes_root):
    return write_config(tmp_path, cityscapes_root)


def test_validation_of_a_checkpoint_reports_on_request(config, tmp_path, capfd):
    """Oracle: the ids of the validation images, the JSON figures, and the log of the training run."""
    assert run("fit", "--config", config).trainer.global_step
    assert not list(tmp_path.rglob("report.html"))
    checkpoint = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    run("validate", "--ckpt_path", checkpoint, "--html_report.enabled", "true", "--html_report.num_worst", 2)
    folder = tmp_path / "runs/version_1/report"
    assert f"Report: {folder / 'report.html'}" in capfd.readouterr().out
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "per_class_pq.png", "loss.png", "pq.png"} <= names
    worst = sorted(name for name in names if name.startswith("worst"))
    assert len(worst) == 2 and all(
        name[9:-4] in "lindau_000000_000000 munster_000000_000000 frankfurt_000000_000000" for name in worst
    )
    figures = json.loads((tmp_path / "runs/version_1/evaluation/val.json").read_text())
    assert (
        f"<td><bdi>All</bdi></td><td>{100 * figures['panoptic_quality']['All']['pq']:.1f}</td>"
        in (folder / "report.html").read_text()
    )


def test_training_reports_its_last_validation(config, tmp_path):
    run("fit", "--config", config, "--html_report.enabled", "true")
    folder = tmp_path / "runs/version_0/report"
    assert (folder / "loss.png").is_file() and (folder / "pq.png").is_file()
    assert "epoch 1" in (folder / "report.html").read_text()


def test_a_negative_number_is_refused(config, capfd):
    assert "num_worst is -1; give 0 or more (in the configuration: html_report.num_worst)." in refuse(
        capfd, "validate", "--config", config, "--html_report.num_worst", -1
    )


def test_evaluation_of_folders_reports_on_request(yard_root, tmp_path):
    """Oracle: the ground truth as its own prediction is perfect."""
    truth = [str(yard_root / "val.json"), str(yard_root / "panoptic")]
    images = str(yard_root / "images")
    assert evaluate.main([*truth, *truth, "--report", str(tmp_path / "out"), "--images", images, "--worst", "3"]) == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "<td><bdi>All</bdi></td><td>100.0</td>" in page
    assert len(list((tmp_path / "out").glob("worst_*.png"))) == 3


def test_a_missing_log_is_one_sentence(yard_root, tmp_path, capsys):
    truth = [str(yard_root / "val.json"), str(yard_root / "panoptic")]
    assert evaluate.main([*truth, *truth, "--report", str(tmp_path / "out"), "--log", str(tmp_path / "x.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err
