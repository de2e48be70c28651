"""The images that a COCO JSON lists, for a prediction."""

import json

import pytest

from efficientps.data.sources.listed_images import ListedImages

GOOD = {"id": 7, "file_name": "a/b.jpg", "height": 5, "width": 9}
FAULTS = [
    ({}, "has no list 'images' with one image at least"),
    ({"images": {}}, "has no list 'images' with one image at least"),
    ({"images": []}, "has no list 'images' with one image at least"),
    ([GOOD], "has no list 'images' with one image at least"),
    ({"images": [GOOD, {**GOOD, "id": "7"}]}, "has the image id '7' twice"),
    ({"images": [GOOD, {"id": 8}]}, r"has no 'images\[1\]\.height'"),
    ({"images": [{**GOOD, "file_name": "../b.jpg"}]}, "names the file '../b.jpg', which is not"),
]


def listed(folder, document):
    (folder / "list.json").write_text(json.dumps(document))
    return ListedImages(path=folder / "list.json")


def test_ids_names_and_sizes_are_those_of_the_file(tmp_path):
    """Oracle: hand-worked; annotations of any kind are not looked at."""
    images = [GOOD, {**GOOD, "id": "x", "url": ""}, {**GOOD, "id": "8"}]
    dataset = listed(tmp_path, {"annotations": [{"bbox": None}], "images": images})
    assert dataset.text_ids == {"x", "8"}
    assert [(entry.image_id, entry.image_name, entry.size) for entry in dataset.entries] == [
        ("7", "a/b.jpg", (5, 9)),
        ("x", "a/b.jpg", (5, 9)),
        ("8", "a/b.jpg", (5, 9)),
    ]


@pytest.mark.parametrize(("document", "sentence"), FAULTS)
def test_a_fault_of_the_list_is_named(tmp_path, document, sentence):
    with pytest.raises(ValueError, match=sentence):
        listed(tmp_path, document)
