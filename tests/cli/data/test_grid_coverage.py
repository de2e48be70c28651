"""The script that counts the objects without a cell."""

import pytest
import torch

from efficientps.cli.data.grid_coverage import DEFAULT, PUBLISHED, left_out, main, parse_grids, table
from efficientps.structures import InstanceTargets
from tests.sweep import sweep

ONE_CELL = ((1, 1),) * 5


def squares(corners, side=8, size=(64, 128)):
    """Squares with their upper left corners there, in that order."""
    masks = torch.zeros(len(corners), *size, dtype=torch.bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + side, x : x + side] = True
    boxes = torch.tensor([[x, y, x + side, y + side] for y, x in corners], dtype=torch.float32).reshape(-1, 4)
    return InstanceTargets(labels=torch.zeros(len(corners), dtype=torch.int64), boxes=boxes, masks=masks)


def test_of_three_objects_in_one_cell_two_are_left_out():
    # Oracle: by hand; only the first level is in charge of objects so small.
    options = {"sigma": 0.2, "conflict": "smaller", "short_side": 64}
    three = squares([(0, 0), (20, 60), (50, 100)])
    assert left_out(three, ONE_CELL, **options) == 2
    assert left_out(three, ((4, 8), *ONE_CELL[1:]), **options) == 0
    assert left_out(squares([]), ONE_CELL, **options) == 0


def test_the_table_counts_objects_without_a_cell():
    # Oracle: by hand; five objects, of which two, or none, are left out. The best grids come last.
    fine = ((16, 32), *ONE_CELL[1:])
    images = [squares([(0, 0), (20, 60), (50, 100)]), squares([]), squares([(4, 4)]), squares([(40, 40)])]
    lines = table(images, [fine, ONE_CELL], sigma=0.2).splitlines()
    assert lines[0] == "5 objects in 4 images"
    assert [line.split(" | ")[1:] for line in lines[-2:]] == [
        ["5", "40.00 %", "40.00 % |"],
        ["516", "0.00 %", "0.00 % |"],
    ]


def test_command_line(synthetic_root, tmp_path, capsys):
    # Oracle: order; the default has finer grids than the published one, and small images lose more objects.
    config = tmp_path / "config.yaml"
    config.write_text("data: {root: nowhere, image_size: [128, 256], scale_range: [0.5, 2.0]}")
    shares = {}
    for scale in ("1", "0.25"):
        assert main([str(config), "--root", str(synthetic_root), "--scale", scale]) == 0
        published, default = capsys.readouterr().out.splitlines()[-2:]
        cells = [sum(rows * columns for rows, columns in grids) for grids in (PUBLISHED, DEFAULT)]
        assert [int(line.split(" | ")[1]) for line in (published, default)] == cells
        shares[scale] = [float(line.split(" | ")[2].rstrip(" %")) for line in (published, default)]
        assert shares[scale] == sorted(shares[scale], reverse=True)
    assert shares["0.25"][0] > shares["1"][0]


@sweep(
    "content, sentence",
    [
        ("model: {}", "has no section 'data'"),
        ("data: {rot: nowhere}", "there is no such key: 'rot'"),
        ("data: {root: nowhere, image_size: [128, 256]}", "'nowhere' does not exist"),
    ],
)
def test_bad_configurations(tmp_path, capsys, content, sentence):
    (tmp_path / "config.yaml").write_text(content)
    assert main([str(tmp_path / "config.yaml")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error


@sweep("text", ["40x80,20x40", "a,b,c,d,e", "1x2x3,4,5,6,7", "0,1,2,3,4"])
def test_bad_grids(text, capsys):
    with pytest.raises(SystemExit):
        main(["config.yaml", "--grids", text])
    assert "--grids" in capsys.readouterr().err
    assert parse_grids("9,8,7,6,5x4")[0] == (9, 9)
