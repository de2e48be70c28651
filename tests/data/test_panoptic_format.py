import json

import numpy as np
import pytest
from PIL import Image

from efficientps.data.categories import Categories, Category
from efficientps.data.panoptic_format import (
    PanopticEntry,
    SegmentEntry,
    id_to_rgb,
    present_ids,
    read_id_map,
    read_panoptic_json,
    rgb_to_id,
    write_id_map,
    write_panoptic_json,
)

TABLE = Categories([Category(7, "road", (128, 64, 128), False), Category(26, "car", (0, 0, 142), True)])


def document(**changes):
    """Return a valid JSON document of one image, with changes to its top level."""
    return {
        "images": [{"id": "a", "file_name": "a.jpg", "height": 4, "width": 6}],
        "annotations": [
            {
                "image_id": "a",
                "file_name": "a.png",
                "segments_info": [{"id": 26001, "category_id": 26, "iscrowd": 1, "area": 5, "bbox": [0, 0, 1, 1]}],
            }
        ],
        "categories": [{"id": 7, "name": "road", "isthing": 0}, {"id": 26, "name": "car", "isthing": 1}],
        **changes,
    }


def annotation(**changes):
    return {**document()["annotations"][0], **changes}


def segment(**changes):
    return annotation(segments_info=[{"id": 1, "category_id": 7, **changes}])


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_ids_and_colours_are_inverse():
    """Oracle: the format's formula in Python integers."""
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]], dtype=np.int32)
    rgb = id_to_rgb(ids)
    assert rgb.dtype == np.uint8
    assert [[int(r) + 256 * int(g) + 65536 * int(b) for r, g, b in row] for row in rgb] == ids.tolist()
    assert np.array_equal(rgb_to_id(rgb), ids) and rgb_to_id(rgb).dtype == np.int32


@pytest.mark.parametrize("bad", [-1, 256**3])
def test_ids_that_no_colour_holds_are_refused(bad):
    with pytest.raises(ValueError, match=rf"0\.\.16777215 .*found {min(0, bad)}\.\.{max(0, bad)}"):
        id_to_rgb(np.array([[0, bad]], dtype=np.int32))


@pytest.mark.parametrize("alpha", [False, True])
def test_maps_survive_their_file(tmp_path, alpha):
    """Oracle: random ids over the whole range, and the formula beside the fast reader. Alpha is no part of an id."""
    ids = np.random.default_rng(0).integers(0, 256**3, (17, 23)).astype(np.int32)
    write_id_map(tmp_path / "map.png", ids)
    if alpha:
        Image.open(tmp_path / "map.png").convert("RGBA").save(tmp_path / "map.png")
    assert np.array_equal(read_id_map(tmp_path / "map.png"), ids)
    assert np.array_equal(rgb_to_id(np.asarray(Image.open(tmp_path / "map.png").convert("RGB"))), ids)
    assert read_id_map(tmp_path / "map.png").flags.writeable


def test_present_ids_are_unique_ids():
    """Oracle: np.unique."""
    ids = np.random.default_rng(0).choice([0, 7, 26001, 26002, 16_000_000], (40, 50)).astype(np.int32)
    assert present_ids(ids) == [i for i in np.unique(ids).tolist() if i]
    assert present_ids(np.zeros((3, 4), dtype=np.int32)) == []


def test_missing_map_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Panoptic map '.*b\.png' does not exist"):
        read_id_map(tmp_path / "b.png")


def test_a_map_that_is_no_png_is_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "map.jpg")
    with pytest.raises(ValueError, match=r"map\.jpg' is not a PNG file"):
        read_id_map(tmp_path / "map.jpg")


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_a_map_without_colours_is_named(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "map.png")
    with pytest.raises(ValueError, match=rf"map\.png' has '{mode}' pixels; segment ids need RGB"):
        read_id_map(tmp_path / "map.png")


def test_every_truncation_of_a_map_is_refused(tmp_path):
    """Oracle: a truncated file has lost pixels, so no prefix may be read."""
    write_id_map(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 40000, (16, 16)).astype(np.int32))
    whole = (tmp_path / "whole.png").read_bytes()
    for length in range(0, len(whole) - 12, 37):  # the last 12 bytes only say that the file ends
        (tmp_path / "map.png").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"map\.png' (is not a PNG file|cannot be decoded)"):
            read_id_map(tmp_path / "map.png")


def test_entries_survive_their_file(tmp_path):
    entries = [
        PanopticEntry("a", "a.png", (SegmentEntry(26001, 26, True, 5), SegmentEntry(7, 7)), "a.jpg", (4, 6)),
        PanopticEntry("b", "b.png", (), "b.jpg", (5, 7)),
    ]
    write_panoptic_json(tmp_path / "out.json", entries, TABLE)
    assert read_panoptic_json(tmp_path / "out.json", TABLE) == entries
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_failing_write_leaves_nothing(tmp_path):
    def entries():
        yield PanopticEntry("a", "a.png", ())
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_panoptic_json(tmp_path / "out.json", entries(), TABLE)
    entry = PanopticEntry("a", "a.png", (SegmentEntry(1, object()),))
    with pytest.raises(TypeError):
        write_panoptic_json(tmp_path / "out.json", [entry], TABLE)
    assert list(tmp_path.iterdir()) == []


def test_numeric_image_ids_are_written_out(tmp_path):
    """COCO's own files number their images."""
    changed = document(
        images=[{"id": 139, "file_name": "000000000139.jpg", "height": 4, "width": 6}],
        annotations=[annotation(image_id=139)],
    )
    assert read_panoptic_json(write(tmp_path / "a.json", changed))[0].image_id == "139"


def test_predictions_need_no_images(tmp_path):
    path = write(tmp_path / "a.json", {"annotations": [annotation()]})
    (entry,) = read_panoptic_json(path, TABLE, require_images=False)
    assert entry == PanopticEntry("a", "a.png", (SegmentEntry(26001, 26, True, 5),), "", None)
    with pytest.raises(ValueError, match=r"a\.json' has no list 'images'"):
        read_panoptic_json(path, TABLE)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Annotation file '.*b\.json' does not exist"):
        read_panoptic_json(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"annotations": [', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\udcff\udcfe".encode("utf-8", "surrogateescape").decode("latin-1"), "is not valid JSON"),
        ([], "has no list 'categories'"),
        (document(annotations=None), "has no list 'annotations'"),
        (document(annotations=["a"]), "has None as 'image_id'|has no list"),
        (document(annotations=[annotation(segments_info={})]), "has no list 'segments_info'"),
        (document(annotations=[annotation(image_id=None)]), "has None as 'image_id' of an entry"),
        (document(annotations=[annotation(file_name=3)]), "has 3 as 'file_name' of an entry"),
        (document(annotations=[segment(id="1")]), "has '1' as 'id' of an entry"),
        (document(annotations=[segment(id=0)]), r"image 'a' a segment with id 0; ids lie in 1\.\.16777215"),
        (document(annotations=[segment(id=256**3)]), "a segment with id 16777216"),
        (document(annotations=[segment(category_id=True)]), "has True as 'category_id'"),
        (document(annotations=[segment(category_id=99)]), "image 'a': Category id 99 is not in the table"),
        (document(annotations=[segment(iscrowd="yes")]), "segment 1 of image 'a' iscrowd = 'yes'; it is 0 or 1"),
        (
            document(annotations=[annotation(segments_info=[{"id": 1, "category_id": 7}] * 2)]),
            "gives image 'a' the segment id 1 twice",
        ),
        (document(annotations=[annotation(), annotation()]), "has the image id 'a' twice"),
        (document(images=document()["images"] * 2), "has the image id 'a' twice"),
        (document(images=[]), "has no entry in 'images' for the image id 'a'"),
        (document(annotations=[]), "has no annotation for the image id 'a'"),
        (document(images=[{"id": "a", "file_name": "a.jpg", "height": 4.5, "width": 6}]), "has 4.5 as 'height'"),
        (
            document(categories=[{"id": 7, "name": "traffic sign"}]),
            "calls category 7 'traffic sign' where the table of classes says 'road'",
        ),
    ],
)
def test_bad_json_is_refused_in_one_sentence(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_panoptic_json(write(tmp_path / "bad.json", content), TABLE)
    assert "bad.json" in str(caught.value) and "\n" not in str(caught.value)
