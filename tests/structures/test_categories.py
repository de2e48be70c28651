import pickle

import pytest

from efficientps.structures.categories import Categories, Category
from tests.sweep import sweep

ROAD = Category(7, "road", (128, 64, 128), is_thing=False)
SKY = Category(23, "sky", (70, 130, 180), is_thing=False)
CAR = Category(26, "car", (0, 0, 142), is_thing=True)


def test_train_ids_follow_the_table():
    """Oracle: hand-worked example."""
    table = Categories([ROAD, SKY, CAR])
    assert (table.num_stuff, table.num_things, len(table)) == (2, 1, 3)
    assert [table.train_id(label_id) for label_id in (7, 23, 26)] == [0, 1, 2]
    assert table[2] is CAR and table[-1] is CAR and table[:2] == (ROAD, SKY)
    assert list(table) == [ROAD, SKY, CAR]


def test_only_stuff_or_only_things_are_tables_too():
    assert Categories([ROAD]).num_things == 0
    assert Categories([CAR]).num_stuff == 0


def test_tables_travel_to_workers_and_compare_by_content():
    table = Categories([ROAD, CAR])
    copy = pickle.loads(pickle.dumps(table))
    assert copy == table and hash(copy) == hash(table) and copy.train_id(26) == 1
    assert table != Categories([ROAD])


@sweep(
    "categories, message",
    [
        ([], "is empty"),
        ([CAR, ROAD], "Stuff class 'road' follows thing class 'car'"),
        ([ROAD, Category(7, "sky", (0, 0, 0), False)], r"Label id 7 occurs twice .*'sky'"),
        ([ROAD, Category(8, "road", (0, 0, 0), False)], "'road' occurs twice"),
        ([ROAD, Category(8, "road ", (0, 0, 0), False)], "'road ' occurs twice"),
        ([Category(7, " ", (0, 0, 0), False)], "Class 7 has the name ' '; give letters that a line can show"),
        ([Category(7, "ro\nad", (0, 0, 0), False)], r"Class 7 has the name 'ro\\nad'; give letters"),
        ([Category(-1, "road", (0, 0, 0), False)], "negative label id -1"),
        ([Category(7, "road", (0, 256, 0), False)], r"colour \(0, 256, 0\)"),
        ([Category(i, str(i), (0, 0, 0), False) for i in range(256)], "256 classes; at most 255"),
    ],
)
def test_bad_tables_are_refused(categories, message):
    with pytest.raises(ValueError, match=message):
        Categories(categories)


def test_an_unknown_label_id_is_named():
    with pytest.raises(ValueError, match=r"Category id 99 is not in the table of classes \(known ids: 7, 26\)"):
        Categories([ROAD, CAR]).train_id(99)
