"""Masks of classes and instances to panoptic annotations: hand-worked images, naive loops, and broken files."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from efficientps.cli.data.from_masks import main
from efficientps.data.formats.class_table import class_table, read_class_table
from efficientps.data.formats.coco_json import read_panoptic_json
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.tools.check_coco import check_coco_panoptic
from efficientps.data.tools.from_masks import convert_masks
from efficientps.data.tools.masks import MaskFiles, MaskRules
from efficientps.data.tools.segments_of_masks import components, segments_of_masks
from tests.sweep import sweep

CLASSES = np.array([[7, 7, 7, 255], [26, 26, 7, 255], [26, 26, 24, 24], [26, 0, 24, 26]], dtype=np.uint8)
"""Road (7), car (26), person (24) and void (0, 255); the last car touches no other."""
NUMBERS = np.array([[0, 9, 0, 4], [1, 1, 0, 4], [1, 2, 1, 0], [2, 2, 1, 0]], dtype=np.uint8)
"""Cars 1 and 2, person 1; one person pixel and one car pixel have no number; numbers of road and void mean nothing."""
IDS = np.array(
    [[7, 7, 7, 255], [26001, 26001, 7, 255], [26001, 26002, 24001, 24], [26002, 0, 24001, 26]], dtype=np.uint16
)
"""The same in the way of Cityscapes."""
EXPECTED = [
    ["road", "road", "road", "void"],
    ["car 1", "car 1", "road", "void"],
    ["car 1", "car 2", "person 1", "persons"],
    ["car 2", "void", "person 1", "cars"],
]
CONNECTED = [
    ["road", "road", "road", "void"],
    ["car 1", "car 1", "road", "void"],
    ["car 1", "car 1", "person 1", "person 1"],
    ["car 1", "void", "person 1", "car 2"],
]
TABLE = class_table([(26, "car"), (24, "person")], [(7, "road")])
WORDS = ["--things", "26=car", "24=person", "--stuff", "7=road"]
KINDS = {"pair": EXPECTED, "channels": EXPECTED, "ids": EXPECTED, "components": CONNECTED}


class Site:
    """Images in two folders, and their masks of every kind."""

    def __init__(self, root):
        self.root, self.out = root, root / "out"
        masks = {
            "classes": CLASSES,
            "numbers": NUMBERS,
            "ids": IDS,
            "channels": np.dstack([CLASSES, NUMBERS, np.zeros_like(CLASSES)]),
        }
        for name in ("a", "sub/b"):
            self.save(f"images/{name}.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
            for folder, pixels in masks.items():
                self.save(f"{folder}/{name}.png", pixels)

    def save(self, name, pixels):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    def words(self, kind):
        """The options that name the masks of a kind."""
        folders = {
            "pair": ["--semantic", "classes", "--instances", "numbers"],
            "channels": ["--channels", "channels"],
            "ids": ["--instance-ids", "ids"],
            "components": ["--components", "classes"],
        }[kind]
        return [word if word.startswith("--") else str(self.root / word) for word in folders]

    def run(self, kind, *words, classes=WORDS):
        """Run the command in this process; return its exit code."""
        given = ["--images", self.root / "images", "--output", self.out, "--workers", 1, *self.words(kind), *classes]
        return main([str(word) for word in (*given, *words)])

    def document(self):
        return json.loads((self.out / "panoptic.json").read_text())

    def names(self, number=0):
        """The segments of an image by name: instances are numbered in the order in which they are met."""
        document = self.document()
        annotation = document["annotations"][number]
        ids = np.array(Image.open(self.out / "panoptic" / annotation["file_name"])).astype(int) @ [1, 256, 65536]
        classes = {item["id"]: item for item in document["categories"]}
        names, met = {0: "void"}, {}
        for segment_id in dict.fromkeys(ids.ravel().tolist()):
            for segment in annotation["segments_info"]:
                if segment["id"] == segment_id:
                    category = classes[segment["category_id"]]
                    if not category["isthing"]:
                        names[segment_id] = category["name"]
                    elif segment["iscrowd"]:
                        names[segment_id] = category["name"] + "s"
                    else:
                        met[category["id"]] = met.get(category["id"], 0) + 1
                        names[segment_id] = f"{category['name']} {met[category['id']]}"
        return [[names[value] for value in row] for row in ids.tolist()]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@sweep("kind", KINDS)
def test_every_kind_of_mask(kind, site):
    """Oracle: hand-worked, 4x4 pixels; then the check of data sets, which counts every pixel."""
    site.out = site.root / kind
    assert site.run(kind) == 0
    assert site.names(0) == site.names(1) == KINDS[kind]
    assert [(image["id"], image["file_name"]) for image in site.document()["images"]] == [
        ("a", "a.jpg"),
        ("sub_b", "sub/b.jpg"),
    ]
    report = check_coco_panoptic(site.out / "panoptic.json", site.out / "panoptic", site.root / "images")
    assert not report.problems and not report.remarks and report.void == 2 * 3


def test_pixels_without_an_instance_as_void(site):
    """Oracle: hand-worked; the crowd regions of the other rule are void, and nothing else changes."""
    assert site.run("pair", "--uncounted", "void") == 0
    assert site.names() == [["void" if name in ("cars", "persons") else name for name in row] for row in EXPECTED]


def test_small_parts_are_no_instances(site):
    """Oracle: hand-worked; the car of one pixel is a crowd region."""
    assert site.run("components", "--min-area", "2") == 0
    assert site.names() == [["cars" if name == "car 2" else name for name in row] for row in CONNECTED]


def naive_segments(classes, numbers, things, uncounted):
    """The class, the number and the pixels of each segment, pixel by pixel, in the words of the rule."""
    found = {}
    for row in range(classes.shape[0]):
        for column in range(classes.shape[1]):
            label, number = int(classes[row, column]), int(numbers[row, column])
            if label == -1 or (label in things and number == -1 and uncounted == "void"):
                continue
            found.setdefault((label, number if label in things else -1), set()).add((row, column))
    return found


@sweep("uncounted", ["crowd", "void"])
@sweep("seed", range(6))
def test_segments_of_random_masks(uncounted, seed):
    """Oracle: a loop over pixels; numbers occur in several classes, and class 0 is a class."""
    rng = np.random.default_rng(seed)
    classes = rng.choice([-1, 0, 3, 2**31], (9, 11)).astype(np.int64)
    numbers = rng.choice([-1, 0, 1, 65535], (9, 11)).astype(np.int64)
    things = frozenset({3, 2**31})
    ids, segments = segments_of_masks(classes, numbers, things=things, uncounted=uncounted)
    expected = naive_segments(classes, numbers, things, uncounted)
    pixels = {s.id: set(zip(*(axis.tolist() for axis in np.nonzero(ids == s.id)), strict=True)) for s in segments}
    assert set(np.unique(ids).tolist()) - {0} == pixels.keys()
    assert sorted((s.category_id, s.is_crowd, sorted(pixels[s.id])) for s in segments) == sorted(
        (label, label in things and number == -1, sorted(where)) for (label, number), where in expected.items()
    )
    for segment in segments:
        rows, columns = np.array(sorted(pixels[segment.id])).T
        assert segment.area == len(rows)
        assert segment.bbox == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)


@sweep("seed", range(6))
def test_components_are_those_of_scipy(seed):
    """Oracle: ``scipy.ndimage.label`` with all eight neighbours, class by class."""
    rng = np.random.default_rng(seed)
    classes = np.kron(rng.choice([0, 3, 5, 7], (6, 7), p=[0.4, 0.2, 0.2, 0.2]), np.ones((2, 3))).astype(np.int64)
    numbers = components(classes, {3, 5}, min_area=7)
    assert (numbers[~np.isin(classes, [3, 5])] == -1).all()
    for label in (3, 5):
        parts, count = ndimage.label(classes == label, structure=np.ones((3, 3)))
        for part in range(1, count + 1):
            here = parts == part
            (value,) = np.unique(numbers[here])
            assert (value == -1) == (here.sum() < 7)
            if value != -1:
                assert ((numbers == value) & (classes == label)).sum() == here.sum()


def test_an_empty_mask_is_void(site):
    for name in ("a", "sub/b"):
        site.save(f"classes/{name}.png", np.zeros((4, 4), dtype=np.uint8))
    assert site.run("pair") == 0
    assert site.names() == [["void"] * 4] * 4


def test_class_0_is_a_class_where_the_table_has_it(site):
    """Oracle: hand-worked; 0 is void only where no class has this id."""
    assert site.run("pair", classes=[*WORDS, "0=ground"]) == 0
    assert site.names()[3] == ["car 2", "ground", "person 1", "cars"] and site.names()[0][3] == "void"


def test_instance_0_of_ids_is_an_instance(site):
    """Cityscapes numbers instances from 0: 26000 is a car, 26 are cars."""
    for name in ("a", "sub/b"):
        site.save(f"ids/{name}.png", np.array([[26000, 26001], [26, 7]], dtype=np.uint16))
        site.save(f"images/{name}.jpg", np.zeros((2, 2, 3), dtype=np.uint8))
    assert site.run("ids") == 0
    assert site.names() == [["car 1", "car 2"], ["cars", "road"]]


def test_names_with_dots(site):
    """Two names that differ behind a dot are two images."""
    (site.root / "images/sub/b.jpg").rename(site.root / "images/a.2.jpg")
    (site.root / "ids/sub/b.png").rename(site.root / "ids/a.2.png")
    assert site.run("ids") == 0
    assert [image["id"] for image in site.document()["images"]] == ["a.2", "a"] and site.names(0) == EXPECTED


def test_more_than_255_instances(site):
    """Green + 256 blue, and maps of 16 bits."""
    for name in ("a", "sub/b"):
        pixels = np.array([[[26, 1, 0], [26, 1, 1], [26, 0, 1]]], dtype=np.uint8)
        site.save(f"channels/{name}.png", pixels)
        site.save(f"classes/{name}.png", pixels[..., 0])
        site.save(f"numbers/{name}.png", np.array([[1, 257, 256]], dtype=np.uint16))
        site.save(f"images/{name}.jpg", np.zeros((1, 3, 3), dtype=np.uint8))
    for kind in ("channels", "pair"):
        site.out = site.root / kind
        assert site.run(kind) == 0
        assert site.names() == [["car 1", "car 2", "car 3"]]


def segments_of(entry, folder):
    """The class, the crowd flag and the pixels of each segment of a panoptic map."""
    ids = read_id_map(folder / entry.map_file_name)
    return {(segment.category_id, segment.is_crowd, (ids == segment.id).tobytes()) for segment in entry.segments}


def test_instance_ids_are_converted_as_cityscapes_does_it(shared_cityscapes_root, tmp_path):
    """Oracle: the official converter of cityscapesscripts, on a tree in the layout of Cityscapes."""
    labels = shared_cityscapes_root / "gtFine"
    official = labels / "cityscapes_panoptic_train.json"
    files = MaskFiles(
        images=shared_cityscapes_root / "leftImg8bit/train",
        kind="ids",
        masks=labels / "train",
        image_suffix="_leftImg8bit",
        mask_suffix="_gtFine_instanceIds",
    )
    list(convert_masks(files, read_class_table(official), tmp_path, rules=MaskRules(unlisted_is_void=True)))
    expected, made = read_panoptic_json(official), read_panoptic_json(tmp_path / "panoptic.json")
    assert len(made) == len(expected) == 7
    assert sum(segment.is_crowd for entry in expected for segment in entry.segments) > 0
    for entry, other in zip(sorted(made), sorted(expected), strict=True):
        assert segments_of(entry, tmp_path / "panoptic") == segments_of(other, official.with_suffix(""))


def test_names_with_suffixes_and_files_beside_them(tmp_path):
    """The layout of Cityscapes; and masks that lie beside their images are no images, nor are hidden twins."""
    site = Site(tmp_path)
    for kind, pixels in (("images", np.zeros((4, 4, 3), dtype=np.uint8)), ("ids", IDS)):
        site.save(f"c/bonn/bonn_1_{'leftImg8bit' if kind == 'images' else 'instanceIds'}.png", pixels)
    (tmp_path / "c/bonn/._bonn_1_leftImg8bit.png").write_bytes(b"\0\5\x16\7")
    words = ["--images", "c", "--instance-ids", "c", "--image-suffix", "_leftImg8bit", "--mask-suffix", "_instanceIds"]
    paths = [str(tmp_path / word) if word == "c" else word for word in words]
    assert main([*paths, "--output", str(site.out), *WORDS]) == 0
    assert site.names() == EXPECTED
    assert site.document()["images"][0]["file_name"] == "bonn/bonn_1_leftImg8bit.png"
    beside = MaskFiles(images=tmp_path / "c", kind="ids", masks=tmp_path / "c", mask_suffix="_mask")
    site.save("c/bonn/bonn_1_leftImg8bit_mask.png", IDS)
    assert [source.image.name for source in beside.sources()] == ["bonn_1_instanceIds.png", "bonn_1_leftImg8bit.png"]


TABLES = {
    "list.json": json.dumps([{"id": 26, "name": "car", "isthing": 1}, {"id": 7, "name": "road", "isthing": 0}]),
    "coco.json": json.dumps(
        {"categories": [{"id": 7, "name": "road", "isthing": 0}, {"id": 26, "name": "car", "isthing": 1}]}
    ),
    "a.yaml": "- {id: 26, name: car, isthing: true}\n- {id: 7, name: road, isthing: 0}\n",
    "b.yml": "categories:\n  - {id: 26, name: car, isthing: 1}\n  - {id: 7, name: road, isthing: false}\n",
    "a.csv": "\ufeffid,name,isthing\n26, car, thing\n7,road,0\n",
    "B.CSV": "name,isthing,id\ncar,1,26\nroad,false,7\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_classes(name, tmp_path):
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    found = [(item.label_id, item.name, item.is_thing) for item in read_class_table(tmp_path / name)]
    assert found == [(7, "road", False), (26, "car", True)]


BROKEN_TABLES = {
    "a.txt": ("7 road", "is none of .json, .yaml, .yml and .csv"),
    "a.csv": ("7,road,0\n", "is no CSV with the columns id, name and isthing"),
    "b.csv": ("id,name,isthing\nx,road,0\n", "is no CSV with the columns"),
    "c.csv": ("id,name,isthing\n7,road\n", "is no CSV with the columns"),
    "d.csv": ('id,name,isthing\n7,"road,0\n', "is no CSV with the columns"),
    "a.yaml": ("- {id: 7, name: road", "is no YAML"),
    "b.yaml": ("[" * 1500, "is no YAML"),
    "c.yaml": ("!!python/object/apply:os.system ['true']", "is no YAML"),
    "d.yaml": ("road", "has no list 'categories'"),
    "e.json": ('[{"id": 7, "name": "road"}]', "says of no class whether it is a thing"),
    "f.csv": ("id,name,isthing\n7,road,0\n7,car,1\n", "Label id 7 occurs twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_TABLES)
def test_broken_tables_are_one_sentence(name, site, capsys):
    text, message = BROKEN_TABLES[name]
    path = site.root / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_table(path)
    assert site.run("pair", classes=["--classes", path]) == 1
    assert capsys.readouterr().err.count("error: ") == 1 and not site.out.exists()


def break_class(site):
    pixels = CLASSES.copy()
    pixels[0, 0], pixels[1, 2] = 8, 9
    site.save("classes/a.png", pixels)
    site.save("classes/sub/b.png", pixels)


FAULTS = {
    "unknown classes": ("pair", break_class, [r"a\.png' has 2 pixels of classes that the table .* lacks: 8, 9\."]),
    "mask missing": (
        "pair", lambda s: (s.root / "numbers/a.png").unlink(), [r"Image '.*a\.jpg' has no mask '.*numbers.a\.png'"]
    ),
    "mask truncated": (
        "ids",
        lambda s: (s.root / "ids/a.png").write_bytes((s.root / "ids/a.png").read_bytes()[:60]),
        [r"Mask '.*a\.png' cannot be decoded"],
    ),
    "mask in colours": (
        "ids", lambda s: Image.new("RGB", (4, 4)).save(s.root / "ids/a.png"), [r"a\.png' has 'RGB' pixels; one number"]
    ),
    "mask without channels": (
        "channels",
        lambda s: Image.new("L", (4, 4)).save(s.root / "channels/a.png"),
        [r"a\.png' has 'L' pixels; it needs a channel for the class and one for the instance"],
    ),
    "mask of another size": (
        "pair",
        lambda s: Image.new("L", (4, 3)).save(s.root / "numbers/a.png"),
        [r"Mask of instances '.*a\.png' is 3x4 pixels \(height x width\) where its image is 4x4"],
    ),
    "mask is a JPEG": (
        "ids",
        lambda s: Image.new("L", (4, 4)).save(s.root / "ids/a.png", format="JPEG"),
        [r"Mask '.*a\.png' is not a PNG file"],
    ),
    "image damaged": (
        "pair", lambda s: (s.root / "images/a.jpg").write_text("x"), [r"Image '.*a\.jpg' is not an image file of a"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_faulty_masks_are_listed_and_left_out_on_request(case, site, capsys):
    """Oracle: the fault that was made; without its image the rest is converted."""
    kind, spoil, messages = FAULTS[case]
    spoil(site)
    assert site.run(kind) == 1
    error = capsys.readouterr().err
    assert not (site.out / "panoptic.json").exists() and error.count("error: ") == len(messages)
    for message in messages:
        with pytest.raises(ValueError, match=message):
            raise ValueError(error)
    if case == "unknown classes":
        assert site.run(kind, "--unlisted", "void") == 0
        assert site.names()[0] == ["void", "road", "road", "void"]
        return
    assert site.run(kind, "--skip-invalid") == 0
    assert [image["id"] for image in site.document()["images"]] == ["sub_b"] and site.names() == EXPECTED
    assert "1 images cannot be converted, and were left out:" in capsys.readouterr().out
    assert site.run(kind) == 1
    assert "panoptic.json' exists already; choose another folder" in capsys.readouterr().err


REFUSALS = {
    "no image": (lambda s: [path.unlink() for path in s.root.rglob("*.jpg")], [], "holds no image whose name ends in"),
    "two images of one name": (lambda s: s.save("images/a.png", CLASSES), [], "would both be called 'a'; rename one"),
    "void class": (lambda s: None, ["--void", "7"], "The value 7 is both void and a class of the table"),
    "no folder": (lambda s: (s.root / "numbers").rename(s.root / "x"), [], "Folder '.*numbers' does not exist"),
    "no class": (lambda s: None, ["--things", "car"], "A class is given as ID=NAME, 26=car for instance; 'car' is"),
    "class twice": (lambda s: None, ["--stuff", "26=road"], "Label id 26 occurs twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_other_refusals(case, site, capsys):
    spoil, words, message = REFUSALS[case]
    spoil(site)
    assert site.run("pair", *words) == 1
    error = capsys.readouterr().err
    with pytest.raises(ValueError, match=f"error: .*{message}"):
        raise ValueError(error)
    assert error.count("error: ") == 1 and not (site.out / "panoptic.json").exists()


def test_ids_read_as_classes_are_said_once(site, capsys):
    """Masks of Cityscapes' kind as maps of classes: thousands of values, and one message with the way out."""
    for name in ("a", "sub/b"):
        site.save(f"images/{name}.jpg", np.zeros((50, 60, 3), dtype=np.uint8))
        site.save(f"classes/{name}.png", np.arange(26000, 29000, dtype=np.uint16).reshape(50, 60))
    assert site.run("components") == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and len(error.splitlines()) == 5
    assert "has 3000 pixels of classes" in error and "lacks: 26000, 26001, 26002, 26003, 26004 and 2995 more." in error
    assert "What to do: values from 1000 on are instances" in error and "2 of this kind" in error


def test_masks_without_numbers_are_said(site, capsys):
    """A class whose pixels lie outside of all instances has none, which is probably a mistake."""
    for name in ("a", "sub/b"):
        site.save(f"numbers/{name}.png", np.zeros((4, 4), dtype=np.uint8))
    assert site.run("pair") == 0
    done = capsys.readouterr()
    assert "2 images with 0 instances and 4 crowd regions" in done.out
    assert (
        "Class 'car' has no instance: its pixels have no instance number, and are crowd regions in 2 images."
        in done.err
    )


@pytest.mark.slow
def test_processes_make_the_same_files(tmp_path):
    """Oracle: the same conversion in one process."""
    site = Site(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(70):
        site.save(f"images/{number}.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
        site.save(f"classes/{number}.png", rng.choice([7, 24, 26], (4, 4)).astype(np.uint8))
    files = MaskFiles(images=tmp_path / "images", kind="components", masks=tmp_path / "classes")
    for workers in (1, 2):
        list(convert_masks(files, TABLE, tmp_path / str(workers), workers=workers))
    made = [{file.name: file.read_bytes() for file in (tmp_path / n).rglob("*.*")} for n in ("1", "2")]
    assert made[0] == made[1] and len(made[0]) == 73
