"""The report: figures from results, curves from logs, the worst images, and a page that needs nothing else."""

import base64
import errno
import io
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from efficientps.metrics.panoptic_matching import PanopticCounts
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.reporting.class_chart import class_figure
from efficientps.reporting.curves import curve_figure, read_curves
from efficientps.reporting.html import write_report
from efficientps.reporting.worst_images import ScoredImage, WorstImages, image_quality
from tests.sweep import sweep

NAMES = ["sky", "earth <b>", "worker", "crane"]
COLORS = [(10, 20, 30), (200, 100, 0), (0, 255, 0), (9, 9, 9)]


def result():
    return PanopticQualityResult.from_counts(
        np.array([1.8, 0.6, 0.0, 0.0]),
        np.array([2, 1, 0, 0]),
        np.array([0, 1, 2, 0]),
        np.array([0, 0, 0, 0]),
        num_stuff=2,
    )


def counts(iou, tp, fp, fn):
    return PanopticCounts(torch.tensor(iou).double(), torch.tensor(tp), torch.tensor(fp), torch.tensor(fn))


def test_bars_are_the_qualities_of_the_classes_that_occur():
    """Oracle: hand-worked; 100, 0.9 = 1.8 / 2, 0.4 = 0.6 / 1.5, 0; the crane does not occur."""
    axes = class_figure(result(), NAMES, COLORS).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worker", "earth <b>", "sky"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0, 40, 90])
    assert [tuple(np.round(255 * np.array(bar.get_facecolor()[:3])).astype(int)) for bar in axes.patches] == [
        COLORS[2],
        COLORS[1],
        COLORS[0],
    ]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(130 / 3)


def test_no_class_at_all_is_a_figure_too():
    nothing = PanopticQualityResult.from_counts(*(np.zeros(4, dtype=int) for _ in range(4)), num_stuff=2)
    assert list(class_figure(nothing, NAMES, COLORS).axes[0].patches) == []


def test_curves_are_the_columns_of_the_log(tmp_path):
    """Oracle: hand-worked."""
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/PQ\n0,9,2.5,\n0,19,nan,\n0,19,,0.25\n1,29,1.5,\n1,29,,0.5\n")
    curves = read_curves(path)
    assert curves["train/loss"] == [(9, 2.5), (29, 1.5)]
    assert curves["val/PQ"] == [(19, 0.25), (29, 0.5)]
    line = curve_figure({"PQ": curves["val/PQ"]}, "PQ", scale=100).axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [(19, 25), (29, 50)])


def test_long_curves_get_a_running_mean():
    """Oracle: a loop; the mean over the last twentieth."""
    values = np.random.default_rng(0).random(100)
    axes = curve_figure({"loss": list(enumerate(values))}, "Loss").axes[0]
    raw, mean = axes.lines
    np.testing.assert_allclose(raw.get_ydata(), values)
    np.testing.assert_allclose(mean.get_ydata(), [values[end - 5 : end].mean() for end in range(5, 101)])
    assert list(mean.get_xdata()) == list(range(4, 100))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss"]


@sweep("text", ["a,b\n1,2\n", "step,x\n1,two\n", "step,x\n,2\n"])
def test_another_file_is_no_log(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv' is not the metrics\.csv of a run"):
        read_curves(tmp_path / "metrics.csv")
    with pytest.raises(FileNotFoundError, match=r"Log '.*nowhere\.csv' does not exist"):
        read_curves(tmp_path / "nowhere.csv")


def test_quality_of_one_image():
    """Oracle: hand-worked; 0.9, 0.4 and 0 over the three classes that occur."""
    assert image_quality(counts([1.8, 0.6, 0, 0], [2, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0])) == pytest.approx(1.3 / 3)
    assert math.isnan(image_quality(counts([0, 0], [0, 0], [0, 0], [0, 0])))


@sweep("number", [0, 1, 3, 50])
def test_the_worst_images_are_those_of_a_sorted_list(number):
    """Oracle: sorting all; pictures are painted only of images that are kept at that time."""
    qualities = np.random.default_rng(0).permutation(20) / 20
    worst = WorstImages(number)
    painted = []
    for place, quality in enumerate(qualities):
        worst.offer(
            f"{place}",
            counts([quality], [1], [0], [0]),
            lambda place=place: painted.append(place) or np.full((2, 2, 3), place, dtype=np.uint8),
        )
    expected = sorted(range(20), key=lambda place: qualities[place])[:number]
    assert [int(image.image_id) for image in worst.images] == expected
    assert all(image.picture[0, 0, 0] == int(image.image_id) for image in worst.images)
    assert set(expected) <= set(painted) and (number != 1 or len(painted) < 10)


def test_images_without_any_segment_are_never_shown():
    worst = WorstImages(3)
    worst.offer("empty", counts([0.0], [0], [0], [0]), lambda: pytest.fail("painted"))
    assert worst.images == []


def test_the_page_needs_nothing_else(tmp_path):
    """Oracle: the page loads nothing, and the pictures in it are the files beside it."""
    pictures = [np.full((4, 6, 3), value, dtype=np.uint8) for value in (10, 200)]
    worst = [ScoredImage("a<script>", 0.125, pictures[0]), ScoredImage("b", 0.5, pictures[1])]
    curves = {"train/loss": [(1, 2.0), (2, 1.0)], "val/PQ": [(2, 0.5)], "train/lr": [(1, 0.1)]}
    html = write_report(
        tmp_path / "report", title="A & B", result=result(), names=NAMES, colors=COLORS, curves=curves, worst=worst
    )
    page = html.read_text()
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script>" not in page and "earth <b>" not in page
    assert "A &amp; B" in page and "1. <bdi>a&lt;script&gt;</bdi>: PQ 12.5" in page and "<td>43.3</td>" in page
    embedded = [base64.b64decode(data) for data in re.findall(r'data:image/png;base64,([^"]+)"', page)]
    files = ["per_class_pq.png", "loss.png", "pq.png", "worst_01_a<script>.png", "worst_02_b.png"]
    assert embedded == [(tmp_path / "report" / name).read_bytes() for name in files]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(embedded[-1]))), pictures[1])
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted([*files, "report.html"])


def test_names_of_all_alphabets(tmp_path):
    """Oracle: the names; each is isolated, because one from right to left would move the numbers beside it."""
    names = ["crème & brûlée", "улица", "δρόμος", "街道 通り", "شارع (12)", "x" * 300]
    counts = np.ones((4, 6))
    image = ScoredImage("شارع 12 (a)", 0.5, np.zeros((4, 6, 3), dtype=np.uint8))
    found = PanopticQualityResult.from_counts(*counts, num_stuff=2)
    html = write_report(tmp_path, title="улица", result=found, names=names, colors=COLORS + COLORS, worst=[image])
    page = html.read_bytes().decode("utf-8")
    assert page.startswith('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>улица</title>')
    assert re.findall("<td><bdi>(.*?)</bdi></td>", page)[3:] == ["crème &amp; brûlée", *names[1:]]
    assert "1. <bdi>شارع 12 (a)</bdi>: PQ 50.0" in page


@sweep("name", ["x" * 300, "улица " * 50, "شارع" * 60])
def test_long_names_leave_room_for_the_bars(name):
    """Oracle: the bars of a chart with short names are at most twice as long."""
    widths = []
    for last in (name, "crane"):
        found = PanopticQualityResult.from_counts(*np.ones((4, 4)), num_stuff=2)
        figure = class_figure(found, [*NAMES[:3], last], COLORS)
        figure.draw_without_rendering()
        widths.append(figure.axes[0].get_window_extent().width)
    assert widths[0] > widths[1] / 2


def test_a_report_without_curves_and_images(tmp_path):
    write_report(tmp_path, title="x", result=result(), names=NAMES, colors=COLORS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["per_class_pq.png", "report.html"]


def test_a_full_disk_leaves_the_last_report_whole(tmp_path, monkeypatch):
    """Oracle: the files of the report before; half a picture is written when the disk is full."""
    worst = [ScoredImage("a", 0.5, np.zeros((4, 6, 3), dtype=np.uint8))]
    report = partial(write_report, tmp_path, title="x", result=result(), names=NAMES, colors=COLORS, worst=worst)
    report()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def save(self, file, *arguments, **options):
        file.write(b"half") if hasattr(file, "write") else Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space left"):
        report()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
