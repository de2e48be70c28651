import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats import json_file
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.coco_json import read_panoptic_json
from efficientps.data.formats.id_map import id_to_rgb, read_id_map, rgb_to_id, write_id_map
from efficientps.data.formats.json_file import read_json
from efficientps.data.formats.panoptic_json import write_panoptic_json
from efficientps.data.formats.safe_path import inside
from efficientps.structures.categories import Categories, Category
from efficientps.structures.segment_runs import present_ids
from tests.sweep import sweep

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


def image(**changes):
    return document(images=[{**document()["images"][0], **changes}])


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


@sweep("mode", ["L", "P", "I;16"])
def test_a_map_without_colours_is_named(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "map.png")
    with pytest.raises(ValueError, match=rf"map\.png' has '{mode}' pixels; segment ids need RGB"):
        read_id_map(tmp_path / "map.png")


def test_every_truncation_of_a_map_is_refused(tmp_path):
    """Oracle: a truncated file has lost pixels, so no prefix may be read."""
    write_id_map(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 40000, (16, 16)).astype(np.int32))
    whole = (tmp_path / "whole.png").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "map.png").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"map\.png' (is not a PNG file|cannot be decoded)"):
            read_id_map(tmp_path / "map.png")


def test_entries_survive_their_file(tmp_path):
    entries = [
        PanopticEntry("a", "a.png", (SegmentEntry(26001, 26, True, 5), SegmentEntry(7, 7)), "a.jpg", (4, 6)),
        PanopticEntry("b", "b.png", (), "b.jpg", (5, 7)),
    ]
    write_panoptic_json(tmp_path / "out.json", entries, TABLE)
    assert list(read_panoptic_json(tmp_path / "out.json", TABLE)) == entries
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


@sweep(
    "content, message",
    [
        ('{"annotations": [', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\udcff\udcfe".encode("utf-8", "surrogateescape").decode("latin-1"), "is not valid JSON"),
        ([], "has no list 'categories'"),
        (document(annotations=None), "has no list 'annotations'"),
        (document(annotations=["a"]), r"has 'a' as 'annotations\[0\]', where the COCO panoptic format has an object"),
        (document(annotations=[annotation(segments_info={})]), r"has no list 'annotations\[0\]\.segments_info'"),
        (document(annotations=[annotation(image_id=None)]), r"has None as 'annotations\[0\]\.image_id'"),
        (document(annotations=[annotation(file_name=3)]), r"has 3 as 'annotations\[0\]\.file_name'"),
        (document(annotations=[segment(id="1")]), r"has '1' as 'annotations\[0\]\.segments_info\[0\]\.id'"),
        (document(annotations=[segment(id=0)]), r"has 0 as '.*segments_info\[0\]\.id'; it must lie in 1\.\.16777215"),
        (document(annotations=[segment(id=256**3)]), r"has 16777216 as '.*segments_info\[0\]\.id'; it must"),
        (document(annotations=[segment(category_id=True)]), r"has True as '.*\[0\]\.category_id'"),
        (document(annotations=[segment(category_id=99)]), "image 'a': Category id 99 is not in the table"),
        (document(annotations=[segment(iscrowd="yes")]), "segment 1 of image 'a' iscrowd = 'yes'; it is 0 or 1"),
        (
            document(annotations=[annotation(segments_info=[{"id": 1, "category_id": 7}] * 2)]),
            "gives image 'a' the segment id 1 twice",
        ),
        (document(annotations=[annotation(), annotation()]), "has two annotations for the image id 'a'"),
        (document(images=document()["images"] * 2), "has the image id 'a' twice"),
        (document(images=[]), "has no entry in 'images' for the image id 'a'"),
        (document(annotations=[]), "has no annotation for the image id 'a'"),
        (image(height=4.5), r"has 4\.5 as 'images\[0\]\.height'"),
        (image(height=0), r"has 0 as 'images\[0\]\.height'; it must lie in 1\.\.65535"),
        (image(width=10**9), r"has 1000000000 as 'images\[0\]\.width'; it must lie in 1\.\.65535"),
        (image(width="6"), r"has '6' as 'images\[0\]\.width'"),
        (image(file_name=[[[[["a"]]]]]), r"has \[\[\[\.\.\.\]\]\] as 'images\[0\]\.file_name'"),
        (document(annotations=[segment(id=-1)]), r"has -1 as '.*segments_info\[0\]\.id'; it must lie in 1"),
        (document(annotations=[segment(id=10**4000)]), r"has 10+\.\.\.0+ as '.*segments_info\[0\]\.id'; it must"),
        (
            document(annotations=[segment(category_id=10**40)]),
            r"has 10+\.\.\.0+ as '.*\.category_id'; it must lie in -",
        ),
        (document(annotations=[segment(area="5")]), r"has '5' as 'annotations\[0\]\.segments_info\[0\]\.area'"),
        (document(annotations=[segment(area=-5)]), r"has -5 as '.*\.area'; it must lie in 0"),
        (document(annotations=[segment(area=1e300)]), r"has 1e\+300 as '.*\.area'; it must lie in 0"),
        (document(annotations=[segment(iscrowd=[[0]])]), r"iscrowd = \[\[0\]\]; it is 0 or 1"),
        (document(annotations=[{**annotation(), "file_name": "a" * 10**6}]), r"has 'aaa.*\.\.\..*a' as 'annot"),
        (
            document(categories=[{"id": 7, "name": "traffic sign"}]),
            "calls category 7 'traffic sign' where the table of classes says 'road'",
        ),
    ],
)
def test_bad_json_is_refused_in_one_sentence(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_panoptic_json(write(tmp_path / "bad.json", content), TABLE)
    assert "bad.json" in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 500


FOREIGN_NAMES = [
    "",
    ".",
    "..",
    "x/..",
    "../b",
    "x/../../b",
    "/b",
    "//b",
    "C:b",
    "C:/b",
    "..\\b",
    "x\\b",
    "b\0",
    "b\nc",
]


@pytest.mark.parametrize("name", [*FOREIGN_NAMES, "b" * 5000], ids=lambda name: repr(name[:9]))
def test_names_that_leave_their_folder_are_refused(tmp_path, name):
    with pytest.raises(
        ValueError,
        match=r"bad\.json' has 'bbb" if len(name) > 1000 else r"bad\.json' names the file .*not a relative path inside",
    ) as caught:
        read_panoptic_json(write(tmp_path / "bad.json", document(annotations=[annotation(file_name=name)])), TABLE)
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


@sweep("name", ["b.png", "x/b.png", "x/../b.png", "./b.png", "x//b.png", "..b/c..png", "12:30 ü.png"])
def test_plain_names_stay(name):
    """Oracle: the system's own idea of the path's end."""
    assert inside("root", name, "a.json") == os.path.join("root", os.path.normpath(name))


@sweep("image_id", ["", ".", "..", "../a", "x/a", "x\\a", "a\0", "a\n", "a" * 201, -1, 10**30, 1.5, True])
def test_image_ids_that_cannot_name_a_file_are_refused(tmp_path, image_id):
    """Predictions and overlays are called after the image id: it must not lead out of the folder of the run."""
    changed = document(annotations=[annotation(image_id=image_id)])
    with pytest.raises(ValueError, match=r"bad\.json' has .* as 'annotations\[0\]\.image_id'") as caught:
        read_panoptic_json(write(tmp_path / "bad.json", changed), TABLE, require_images=False)
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


@pytest.mark.parametrize(("key", "escape"), [("file_name", "\ud800"), ("image_id", "a\udfff"), ("image_id", "\ud83dx")])
def test_half_of_a_character_is_refused_with_its_field(tmp_path, key, escape):
    """Oracle: Python writes and reads half of a surrogate pair; UTF-8, and so the name of a file, has none."""
    text = json.dumps(document(annotations=[annotation(**{key: escape})]))
    assert json.loads(text)["annotations"][0][key] == escape
    with pytest.raises(
        ValueError, match=rf"not valid JSON \(half of a character, .* in the text of '{key}', byte \d+\)"
    ):
        read_panoptic_json(write(tmp_path / "bad.json", text), TABLE)


def test_json_is_read_as_the_standard_has_it(tmp_path):
    """Oracle: hand-made files that Python's own reader takes."""
    for text, message in {
        '{"a": NaN}': "NaN is no number",
        '{"a": -Infinity}': "-Infinity is no number",
        '{"a": 1e400}': "'1e400' is out of range",
        '{"a": 1, "b": {"c": 1, "c": 2}}': "an object has the name 'c' twice",
    }.items():
        json.loads(text)
        with pytest.raises(ValueError, match=rf"a\.json' is not valid JSON \(.*{message}\); make it again"):
            read_json(write(tmp_path / "a.json", text))
    assert read_json(write(tmp_path / "a.json", '{"a": [1, 2.5e3, "ü", null, true]}')) == {
        "a": [1, 2500.0, "ü", None, True]
    }


def test_a_byte_order_mark_is_read_over(tmp_path):
    """Oracle: the same text without the mark. Other encodings that editors offer are named."""
    text = json.dumps(document())
    (tmp_path / "plain.json").write_text(text)
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(read_panoptic_json(tmp_path / "marked.json")) == list(read_panoptic_json(tmp_path / "plain.json"))
    assert read_json(tmp_path / "marked.json") == json.loads(text)
    for encoding, reason in {"utf-16": "it is in UTF-16", "latin-1": "'utf-8' codec can't decode"}.items():
        (tmp_path / "other.json").write_bytes(text.replace("road", "chaussée").encode(encoding))
        if encoding == "latin-1":
            (tmp_path / "other.json").write_bytes(json.dumps("chaussée", ensure_ascii=False).encode(encoding))
        with pytest.raises(ValueError, match=rf"other\.json' is not valid JSON \(.*{reason}"):
            read_json(tmp_path / "other.json")
    (tmp_path / "twice.json").write_bytes(b"\xef\xbb\xbf" * 2 + text.encode())
    with pytest.raises(ValueError, match=r"twice\.json' is not valid JSON"):
        read_json(tmp_path / "twice.json")


def test_annotations_that_are_no_file_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is not a regular file"):
        read_json(tmp_path)
    path = write(tmp_path / "a.json", document())
    monkeypatch.setattr(json_file, "MAX_JSON_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"a\.json' has \d+ bytes where at most \d+ are read; split it"):
        read_json(path)


def test_a_map_of_sixteen_bits_is_refused(tmp_path):
    """Pillow would keep the upper bytes alone. Oracle: a PNG written by hand."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes(range(12)))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "map.png").write_bytes(png)
    assert Image.open(tmp_path / "map.png").convert("RGB").size == (2, 1)
    with pytest.raises(ValueError, match=r"map\.png' has 16-bit colours"):
        read_id_map(tmp_path / "map.png")


def test_every_flipped_byte_of_a_map_is_found(tmp_path):
    """Oracle: checksums cover all but the last chunk; decoding alone would return other ids for one in seven."""
    ids = np.repeat(np.random.default_rng(0).integers(0, 40000, (8, 8)), 8, axis=1).astype(np.int32)
    write_id_map(tmp_path / "whole.png", ids)
    whole = (tmp_path / "whole.png").read_bytes()
    for place in range(len(whole) - 12):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (tmp_path / "map.png").write_bytes(changed)
        with pytest.raises(ValueError, match=r"map\.png' (is not a PNG|cannot be decoded|is \d+x|has)"):
            read_id_map(tmp_path / "map.png")
