import json
import random

import pytest

from efficientps.data.formats.coco_categories import read_categories
from efficientps.structures.categories import Category
from tests.sweep import sweep

ITEMS = [
    {"id": 90, "name": "crane", "isthing": 1, "color": [1, 2, 3]},
    {"id": 3, "name": "gravel", "isthing": 0, "color": [4, 5, 6]},
    {"id": 12, "name": "worker", "isthing": 1, "color": [7, 8, 9]},
    {"id": 40, "name": "sky", "isthing": 0, "color": [0, 0, 255]},
]


def write(tmp_path, items):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"categories": items}))
    return path


def test_stuff_comes_first_and_then_things_by_their_ids(tmp_path):
    """Oracle: hand-worked."""
    table = read_categories(write(tmp_path, ITEMS))
    assert [category.label_id for category in table] == [3, 40, 12, 90]
    assert table[3] == Category(90, "crane", (1, 2, 3), is_thing=True)
    assert (table.num_stuff, table.num_things) == (2, 2)


def test_the_order_of_the_file_does_not_matter(tmp_path):
    """Oracle: invariance, over 48 things and 16 stuff classes with gaps between their ids."""
    rng = random.Random(0)
    ids = rng.sample(range(1000), 64)
    items = [{"id": i, "name": f"class {i}", "isthing": int(n < 48), "color": [0, 0, n]} for n, i in enumerate(ids)]
    table = read_categories(write(tmp_path, items))
    rng.shuffle(items)
    assert read_categories(write(tmp_path, items)) == table
    assert (table.num_stuff, table.num_things) == (16, 48)
    assert [table.train_id(category.label_id) for category in table] == list(range(64))


def test_classes_without_a_color_get_different_ones(tmp_path):
    items = [{"id": number, "name": str(number), "isthing": 1} for number in range(64)]
    assert len({category.color for category in read_categories(write(tmp_path, items))}) == 64


@sweep(
    "items, message",
    [
        (None, "has no list 'categories' whose entries say 'id', 'name' and 'isthing'"),
        ([], "The table of classes is empty"),
        ([{"id": 1, "name": "a"}], "says of no class whether it is a thing; add 'isthing'"),
        ([{"id": 1, "name": "a", "is_thing": 1}], "says of no class .*; it has 'is_thing'"),
        ([*ITEMS, {"id": 1, "name": "a"}], r"has no 'isthing' of the class 'a' \(id 1\); it is 0 for stuff"),
        ([*ITEMS, {"id": 1, "name": "a", "isThing": 1}], "of the class 'a' .*; it has 'isThing'"),
        ([*ITEMS, {"id": 1, "name": "a"}, {"id": 2, "name": "b"}], "'a' .*and so in 2 entries of 6"),
        ([{"id": "1", "name": "a", "isthing": 1}], r"has '1' as 'categories\[0\]\.id'"),
        ([*ITEMS, {"label": "a", "isthing": 1}], r"has no 'categories\[4\]\.id'"),
        ([{"id": 1, "name": "a", "isthing": "no"}], "has 'no' as 'isthing' of the class 'a'"),
        ([{"id": 1, "name": "a", "isthing": 2}], "has 2 as 'isthing' of the class 'a'"),
        (["a"], r"has 'a' as 'categories\[0\]', where the COCO panoptic format has an object"),
        (
            [{"id": 1, "name": "a", "isthing": 1, "color": "red"}],
            "gives class 'a' the color 'red'; it is a list of red",
        ),
        ([{"id": 1, "name": "a", "isthing": 1, "color": [0, 0, 256]}], "has the colour .*; give"),
        ([{"id": -1, "name": "a", "isthing": 1}], "negative label id -1"),
        ([ITEMS[0], {**ITEMS[1], "id": 90}], "Label id 90 occurs twice"),
        ([ITEMS[0], {**ITEMS[1], "name": "crane"}], "Class name 'crane' occurs twice"),
    ],
)
def test_bad_tables_are_refused(tmp_path, items, message):
    with pytest.raises(ValueError, match=rf"a\.json'?.*{message}"):
        read_categories(write(tmp_path, items))
