"""The benchmark of scores and ids that are enlarged."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import presets
from benchmarks.ceilings import IDS, SCORES, run
from scripts.benchmark import main

ROAD, SKY, VOID, CAR, CAR_CROWD = 7, 23, 0, 26_000, 26


def tree(root, ids):
    """A tree of one map and one grey image."""
    for folder, name, image in (
        ("gtFine", "a_0_0_gtFine_instanceIds.png", Image.fromarray(ids.astype(np.uint16))),
        ("leftImg8bit", "a_0_0_leftImg8bit.png", Image.fromarray(np.full((*ids.shape, 3), 99, dtype=np.uint8))),
    ):
        (root / folder / "val/a").mkdir(parents=True)
        image.save(root / folder / "val/a" / name)
    return root


def ceiling(root, stride=4):
    report = run(root=str(root), input_size=(32, 64), strides=(stride,), rounds=0)
    assert not report.skipped
    return {row.side: row.figures["PQ"] for row in report.rows}


def test_columns_of_whole_cells_are_exact(tmp_path):
    """Oracle: hand-worked; edges of columns lie on edges of cells, and void and crowds count for nothing."""
    columns = np.repeat([ROAD, VOID, CAR + 1, CAR + 2, CAR_CROWD, SKY, SKY, ROAD], 16)
    assert ceiling(tree(tmp_path, np.tile(columns, (64, 1)))) == {IDS: 100, SCORES: 100}


def test_a_diagonal_edge_is_better_where_scores_are_enlarged(tmp_path):
    """Oracle: hand-worked at stride 1: a cell is 2x2 pixels, of which the edge leaves 1 to the sky or takes it from it.

    Ids that are enlarged give the whole cell of the edge to one side, a pixel too many in each of its 32 cells.
    """
    y, x = np.mgrid[:64, :128]
    quality = ceiling(tree(tmp_path, np.where(x > y, SKY, ROAD)), stride=1)
    road, sky = 64 * 65 // 2, 64 * 128 - 64 * 65 // 2
    assert quality[IDS] == pytest.approx(50 * (road / (road + 32) + (sky - 32) / sky), abs=1e-3)
    assert quality[SCORES] > quality[IDS] + 0.5


def test_the_command_measures_a_network(tmp_path, capsys):
    """Oracle: contract; both sides of the network and of its time are in the table, and nothing was left out."""
    root = str(tree(tmp_path, np.tile(np.repeat([ROAD, SKY], 64), (64, 1))))
    weights = {f"network.{name}": value for name, value in presets.build("demo").state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "demo.ckpt")
    options = ["--root", root, "--input", "64", "128", "--size", "128", "256", "--checkpoint", f"{tmp_path}/demo.ckpt"]
    options += ["--preset", "demo", "--rounds", "1", "--instances", "3", "--strides", "4", "--threads", "1"]
    assert main(["ceilings", *options]) == 0
    table = capsys.readouterr().out
    assert "skipped" not in table
    assert "demo, ids enlarged" in table and "demo, scores enlarged" in table
    assert len(re.findall(r"1 images, demo.*(?:ids|scores) enlarged.*PQ \d", table)) == 2


def test_a_folder_without_maps_is_named(tmp_path, capsys):
    assert main(["ceilings", "--root", str(tmp_path)]) == 1
    assert "gtFine/val' has no folder with files *_gtFine_instanceIds.png" in capsys.readouterr().err
