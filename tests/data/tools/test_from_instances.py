"""Instances over each other and over what is behind them, and every way in which their file can be broken."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from efficientps.data.formats.coco_instances import read_instances
from efficientps.data.formats.coco_segmentation import decode_segmentation
from efficientps.data.problems import ProblemsError
from efficientps.data.tools.check_coco import check_coco_panoptic
from efficientps.data.tools.from_instances import convert_instances
from efficientps.data.tools.overlap import Instance, paint_instances
from tests.sweep import sweep

SCRIPT = Path(__file__).parents[3] / "datasets/from_coco_instances.py"
SIZE = (12, 17)
THINGS = frozenset({1, 2, 3})


def random_instances(seed, number=8):
    rng = np.random.default_rng(seed)
    instances = []
    for _ in range(number):
        mask = np.zeros(SIZE, dtype=bool)
        top, left = rng.integers(0, 10), rng.integers(0, 14)
        mask[top : top + rng.integers(1, 8), left : left + rng.integers(1, 9)] = True
        instances.append(Instance(int(rng.choice([1, 2, 3, 7])), mask, bool(rng.random() < 0.2)))
    return instances


@sweep("overlap", ["smaller", "later"])
@sweep("seed", range(8))
def test_each_pixel_belongs_to_the_topmost(overlap, seed):
    """Oracle: a loop over pixels that looks for the best claim, in the words of the rule."""
    instances = random_instances(seed)
    behind = np.random.default_rng(seed).choice([-1, -5, 0, 2, 7, 8], SIZE)
    segment_ids, segments = paint_instances(SIZE, instances, overlap=overlap, things=THINGS, behind=behind)
    kind = {segment.id: (segment.category_id, segment.is_crowd) for segment in segments}
    owners = {}
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            here = [(n, i) for n, i in enumerate(instances) if i.mask[row, column]]
            counted = [(n, i) for n, i in here if i.category_id in THINGS and not i.is_crowd]
            regions = [i for _, i in here if i.category_id not in THINGS or i.is_crowd]
            found = int(segment_ids[row, column])
            if counted:
                key = (lambda pair: (-pair[1].mask.sum(), pair[0])) if overlap == "smaller" else (lambda pair: pair[0])
                number, best = max(counted, key=key)
                assert kind[found] == (best.category_id, False)
                assert owners.setdefault(number, found) == found
            elif regions:
                label = regions[-1].category_id
                assert kind[found] == (label, label in THINGS)
            elif behind[row, column] >= 0:
                label = int(behind[row, column])
                assert kind[found] == (label, label in THINGS)
            else:
                assert found == 0
    assert len(set(owners.values())) == len(owners)
    assert sorted(kind) == list(range(1, len(segments) + 1))
    for segment in segments:
        rows, columns = np.nonzero(segment_ids == segment.id)
        assert segment.area == len(rows)
        assert segment.bbox == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)


@sweep("seed", range(6))
def test_run_lengths_as_numbers_and_as_text(seed):
    """Oracle: pycocotools' encoder."""
    rng = np.random.default_rng(seed)
    mask = (rng.random(SIZE) < 0.4) if seed else np.ones(SIZE, dtype=bool)
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    as_text = {"size": list(SIZE), "counts": encoded["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(as_text, SIZE), mask)
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [2]])
    borders = np.flatnonzero(np.diff(flat))
    runs = (
        np.diff(np.concatenate([[0], borders]))
        if mask.T.ravel()[0] == 0
        else np.diff(np.concatenate([[0, 0], borders[1:]]))
    )
    runs = [int(run) for run in runs]
    if sum(runs) < mask.size:
        runs.append(mask.size - sum(runs))
    np.testing.assert_array_equal(decode_segmentation({"size": list(SIZE), "counts": runs}, SIZE), mask)


def test_long_runs_as_text():
    """Oracle: pycocotools' encoder, with runs of several letters and differences below zero."""
    mask = np.zeros((300, 400), dtype=bool)
    mask[100:290, 3:390] = True
    mask[5, 200:] = True
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": [300, 400], "counts": encoded["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(text, (300, 400)), mask)


def test_polygons_are_united():
    """Oracle: hand-worked; two rectangles of whole pixels."""
    expected = np.zeros(SIZE, dtype=bool)
    expected[2:5, 3:8] = expected[6:9, 10:12] = True
    polygons = [[3, 2, 8, 2, 8, 5, 3, 5], [10.0, 6.0, 12.0, 6.0, 12.0, 9.0, 10.0, 9.0]]
    np.testing.assert_array_equal(decode_segmentation(polygons, SIZE), expected)


@sweep(
    "segmentation, message",
    [
        (None, "has no 'segmentation': a box does not say which pixels"),
        ("text", "neither a list of polygons nor run lengths"),
        ([], "an empty list of polygons"),
        ([[]], "a polygon of fewer than three points"),
        ([[1, 2, 3, 4]], "a polygon of fewer than three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon with an x that lacks its y"),
        ([[1, 2, 3, 4, 5, "6"]], "a polygon with a coordinate that is no number"),
        ([[1, 2, 3, 4, 5, 1e9]], "a polygon with a coordinate that is no number, or is out of range"),
        ([[1, 2, 3, 4, 5, float("nan")]], "a polygon with a coordinate that is no number"),
        ([1, 2, 3, 4, 5, 6], "a polygon that is not a list of x, y"),
        ({"size": [17, 12], "counts": [204]}, r"run lengths for the size \[17, 12\] where the image has \[12, 17\]"),
        ({"size": [12, 17], "counts": [205]}, "run lengths that do not add up to the 204 pixels"),
        ({"size": [12, 17], "counts": [210, -6]}, "run lengths that do not add up"),
        ({"size": [12, 17], "counts": "oooooooo"}, "run lengths that do not add up"),
        ({"size": [12, 17], "counts": "Zé"}, "run lengths that do not add up"),
        ({"size": [12, 17]}, "run lengths that do not add up"),
    ],
)
def test_broken_masks_have_their_sentence(segmentation, message):
    with pytest.raises(ValueError, match=message):
        decode_segmentation(segmentation, SIZE)


class Site:
    """Two images with three instances, semantic maps, and a file of stuff classes."""

    def __init__(self, root):
        self.root = root
        self.out = root / "out"
        self.document = {
            "images": [
                {"id": 5, "file_name": "north/a.jpg", "height": 12, "width": 17},
                {"id": 8, "file_name": "b.png", "height": 12, "width": 17},
            ],
            "annotations": [
                {"image_id": 5, "category_id": 3, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]], "iscrowd": 0},
                {"image_id": 5, "category_id": 9, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]], "iscrowd": 0},
                {"image_id": 5, "category_id": 9, "segmentation": {"size": [12, 17], "counts": [200, 4]}, "iscrowd": 1},
            ],
            "categories": [{"id": 3, "name": "worker"}, {"id": 9, "name": "helmet"}],
        }
        self.stuff = {"categories": [{"id": 20, "name": "earth"}, {"id": 21, "name": "sky"}]}
        (root / "semantic/north").mkdir(parents=True)
        (root / "images/north").mkdir(parents=True)
        values = np.full(SIZE, 20, dtype=np.uint8)
        values[:6] = 21
        values[:, 15] = 255
        for name in ("north/a", "b"):
            Image.fromarray(values).save(root / f"semantic/{name}.png")
        for image in self.document["images"]:
            Image.new("RGB", (17, 12)).save(root / "images" / image["file_name"])

    def convert(self, **choices):
        (self.root / "instances.json").write_text(json.dumps(self.document))
        (self.root / "stuff.json").write_text(json.dumps(self.stuff))
        return list(convert_instances(read_instances(self.root / "instances.json"), self.out, **choices))

    def semantic(self, **choices):
        return self.convert(semantic_root=self.root / "semantic", stuff_file=self.root / "stuff.json", **choices)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def classes_of_pixels(site, number):
    document = json.loads((site.out / "panoptic.json").read_text())
    annotation = document["annotations"][number]
    ids = np.array(Image.open(site.out / "panoptic" / annotation["file_name"])).astype(int) @ [1, 256, 65536]
    names = {item["id"]: item["name"] for item in document["categories"]}
    table = {segment["id"]: names[segment["category_id"]] for segment in annotation["segments_info"]}
    return np.vectorize(lambda value: table.get(value, "void"))(ids), annotation["segments_info"]


def test_a_semantic_map_is_behind_the_instances(site):
    """Oracle: hand-worked."""
    site.semantic()
    pixels, segments = classes_of_pixels(site, 0)
    assert pixels[3, 3] == "helmet" and pixels[8, 8] == "worker" and pixels[1, 12] == "sky"
    assert pixels[8, 12] == "earth" and pixels[0, 15] == "void" and pixels[11, 16] == "helmet"
    assert [(s["category_id"], s["iscrowd"]) for s in segments if s["category_id"] in (3, 9)] == [
        (9, 1),
        (3, 0),
        (9, 0),
    ]
    pixels, _ = classes_of_pixels(site, 1)
    assert set(pixels.ravel()) == {"earth", "sky", "void"}


def test_a_background_class_fills_the_rest(site):
    site.convert(background="ground")
    pixels, _ = classes_of_pixels(site, 0)
    assert set(pixels.ravel()) == {"worker", "helmet", "ground"}
    document = json.loads((site.out / "panoptic.json").read_text())
    assert {item["name"]: item["isthing"] for item in document["categories"]} == {"worker": 1, "helmet": 1, "ground": 0}
    assert [image["id"] for image in document["images"]] == [5, 8]


def test_without_a_background_the_rest_is_void_and_hidden_instances_are_counted(site):
    """Oracle: hand-worked; with "later" a worker over the helmet hides it."""
    site.document["annotations"][:2] = reversed(site.document["annotations"][:2])
    conversions = site.convert(overlap="later")
    assert [conversion.hidden for conversion in conversions] == [1, 0]
    pixels, _ = classes_of_pixels(site, 0)
    assert pixels[3, 3] == "worker" and pixels[11, 12] == "void"


def test_what_is_written_is_a_good_data_set(site):
    """Oracle: the check of data sets."""
    site.semantic(background="rest")
    report = check_coco_panoptic(site.out / "panoptic.json", site.out / "panoptic", site.root / "images")
    assert not report.problems and report.images == 2 and report.void == 0


def spoiled(change):
    return lambda site: change(site.document)


FAULTS = {
    "no categories": (spoiled(lambda d: d.pop("categories")), "has no list 'categories' whose entries say 'id' and"),
    "category -1": (spoiled(lambda d: d["categories"][1].update(id=-1)), r"'id': -1.* as 'categories\[1\]'; each"),
    "category too large": (spoiled(lambda d: d["categories"][0].update(id=2**70)), r"as 'categories\[0\]'; each of"),
    "category as text": (spoiled(lambda d: d["categories"][0].update(id="0")), r"as 'categories\[0\]'; each of them"),
    "300 categories": (
        spoiled(lambda d: d["categories"].extend({"id": n, "name": f"{n}"} for n in range(100, 400))),
        r"instances\.json': .*classes",
    ),
    "category twice": (lambda s: s.stuff["categories"][0].update(id=9), "have one id or one name"),
    "no images": (spoiled(lambda d: d.update(images=[])), "has no image in a list 'images'"),
    "no size": (spoiled(lambda d: d["images"][0].pop("width")), r"has no 'images\[0\]\.width'"),
    "too large": (spoiled(lambda d: d["images"][0].update(width=65000, height=65000)), "cut it into tiles"),
    "image twice": (spoiled(lambda d: d["images"][1].update(id=5)), "has the image id '5' twice"),
    "image outside": (spoiled(lambda d: d["images"][0].update(file_name="../a.jpg")), "not a relative path inside"),
    "no annotations": (spoiled(lambda d: d.pop("annotations")), "has no list 'annotations'"),
    "unknown image": (
        spoiled(lambda d: d["annotations"][1].update(image_id=6)), r"annotations\[1\] is of no image of the file"
    ),
    "unknown category": (
        spoiled(lambda d: d["annotations"][1].update(category_id=6)),
        r"annotations\[1\] of image '5' is of the category 6, which is not",
    ),
    "broken mask": (
        spoiled(lambda d: d["annotations"][1].update(segmentation=[])),
        r"1 of 3 annotations of .* cannot be used; .*json': annotations\[1\] of image '5' has an empty list of poly",
    ),
    "no semantic map": (lambda s: (s.root / "semantic/b.png").unlink(), r"Semantic map '.*b\.png' does not exist"),
    "semantic map in colours": (
        lambda s: Image.new("RGB", (17, 12)).save(s.root / "semantic/b.png"),
        r"Semantic map '.*b\.png' has 'RGB' pixels; one number for each pixel is read",
    ),
    "semantic map of another size": (
        lambda s: Image.new("L", (17, 13)).save(s.root / "semantic/b.png"),
        r"Semantic map '.*b\.png' is 13x17 pixels \(height x width\) where its image is 12x17",
    ),
    "unknown class in the map": (
        lambda s: s.stuff["categories"].pop(),
        r"Semantic map '.*a\.png' has pixels of the class 21, which no file names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_bad_input_is_one_sentence(case, site, capsys):
    spoil, message = FAULTS[case]
    spoil(site)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        site.semantic()
    assert not (site.out / "panoptic.json").exists()
    words = [site.root / "instances.json", "--output", site.out, "--semantic", site.root / "semantic"]
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main([*map(str, words), "--stuff", str(site.root / "stuff.json")]) == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and error.rstrip().endswith(".")


def run(*words):
    """Run the command in this process; return its exit code."""
    return runpy.run_path(str(SCRIPT))["main"]([str(word) for word in words])


INVALID = {
    "has an empty list of polygons": {"segmentation": []},
    "has a polygon of fewer than three points": {"segmentation": [[1, 2, 3, 4]]},
    "has a polygon with an x that lacks its y": {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    "has no '…': a box does not say which pixels are the object's": {"segmentation": None},
    "has run lengths for the size […, …] where the image has […, …]": {"segmentation": {"size": [3, 4], "counts": []}},
    "is of no image of the file": {"image_id": 77},
    "is of the category …, which is not in '…'": {"category_id": 77},
    "has iscrowd = …, where it is … or …": {"iscrowd": 2},
}  # fmt: skip


def test_unusable_annotations_are_counted_by_kind_and_left_out_on_request(site, capsys):
    """Oracle: the faults that were made; each kind in another number of annotations, then the result without them."""
    site.convert()
    expected = (site.out / "panoptic/5.png").read_bytes(), (site.out / "panoptic.json").read_bytes()
    good = site.document["annotations"]
    bad = [good[0] | change for times, change in enumerate(INVALID.values(), start=1) for _ in range(times)]
    site.document["annotations"] = [*bad, *good]
    site.out = site.root / "refused"
    with pytest.raises(ProblemsError, match=r"36 of 39 annotations of .* cannot be used; the first: "):
        site.convert()
    words = (site.root / "instances.json", "--output", site.root / "again")
    assert run(*words) == 1
    assert not (site.root / "again/panoptic.json").exists()
    error = capsys.readouterr().err
    assert error.count("error: ") == len(INVALID) and "leave them out with --skip-invalid" in error
    assert "8 of this kind" in error
    assert run(*words, "--skip-invalid") == 0
    output = capsys.readouterr().out
    assert "36 of 39 annotations have a fault" in output
    lines = [f"  {times}  {kind}" for times, kind in enumerate(INVALID, start=1)]
    assert [line for line in output.splitlines() if line.startswith("  ")] == lines[::-1]
    again = site.root / "again"
    assert ((again / "panoptic/5.png").read_bytes(), (again / "panoptic.json").read_bytes()) == expected


def test_the_good_polygons_of_an_annotation_stay(site):
    """Oracle: the result of the same annotation without its bad polygon."""
    site.convert()
    expected = (site.out / "panoptic/5.png").read_bytes()
    site.document["annotations"][0]["segmentation"].insert(0, [1, 1, 2, 2])
    site.out = site.root / "again"
    site.convert(skip_invalid=True)
    assert (site.out / "panoptic/5.png").read_bytes() == expected


def test_crowds_of_masks_are_said_and_taken_as_instances(site, capsys):
    """Oracle: hand-worked; all helmets and workers say iscrowd 1, as masks exported from CVAT do."""
    for annotation in site.document["annotations"]:
        annotation["iscrowd"] = 1
    assert [conversion.crowds for conversion in site.convert()] == [3, 0]
    words = (site.root / "instances.json", "--output")
    assert run(*words, site.root / "crowds") == 0
    done = capsys.readouterr()
    assert "2 images with 0 instances" in done.out and "3 annotations are crowd regions" in done.out
    assert "Class 'worker' has no instance: each of its 1 annotations says iscrowd 1." in done.err
    assert "2 of this kind" in done.err and "give --crowd-as-instances" in done.err
    assert run(*words, site.root / "instances", "--crowd-as-instances") == 0
    done = capsys.readouterr()
    assert "2 images with 3 instances" in done.out and "iscrowd" not in done.err
    site.out = site.root / "instances"
    _, segments = classes_of_pixels(site, 0)
    assert [(s["category_id"], s["iscrowd"]) for s in segments] == [(3, 0), (9, 0), (9, 0)]


def test_a_class_of_crowds_beside_another_is_said(site, capsys):
    """Polygons are instances and masks are crowds, as CVAT exports them together."""
    site.document["annotations"].pop(1)
    site.convert()
    assert run(site.root / "instances.json", "--output", site.root / "again") == 0
    error = capsys.readouterr().err
    assert "Class 'helmet' has no instance" in error and "worker" not in error


def test_names_with_backslashes(site, capsys):
    """Read with "/" where there is such an image, refused at once where there is none."""
    site.document["images"][0]["file_name"] = "north\\a.jpg"
    with pytest.raises(ValueError, match=r"names the file 'north\\\\a.jpg' with backslashes, and no folder of images"):
        site.convert()
    words = (site.root / "instances.json", "--output")
    assert run(*words, site.root / "found") == 0  # in the folder 'images' beside the JSON
    document = json.loads((site.root / "found/panoptic.json").read_text())
    assert document["images"][0]["file_name"] == "north/a.jpg"
    assert not check_coco_panoptic(
        site.root / "found/panoptic.json", site.root / "found/panoptic", site.root / "images"
    ).problems
    assert run(*words, site.root / "given", "--images", site.root / "images") == 0
    capsys.readouterr()
    assert run(*words, site.root / "nowhere", "--images", site.root / "semantic") == 1
    assert "with backslashes" in capsys.readouterr().err and not (site.root / "nowhere").exists()


NAMES = {
    "drive": ("C:\\data\\b.png", "with backslashes"),
    "up and back": ("..\\images\\b.png", "with backslashes"),
    "absolute": ("/data/upload/b.png", "is not a relative path inside"),
    "drive with slashes": ("C:/data/b.png", "is not a relative path inside"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_nothing_would_read_are_refused_at_once(case, site):
    name, message = NAMES[case]
    site.document["images"][1]["file_name"] = name
    with pytest.raises(ValueError, match=message):
        site.convert()
    assert not site.out.exists()


def test_a_folder_of_images_must_hold_each(site, capsys):
    site.convert()
    (site.root / "images/b.png").unlink()
    words = (site.root / "instances.json", "--output", site.root / "again", "--images", site.root / "images")
    assert run(*words) == 1
    assert "b.png', which annotation file" in (error := capsys.readouterr().err) and "does not exist" in error


def test_category_0(site):
    """Oracle: hand-worked; the check of data sets, and the classes of pixels."""
    site.document["categories"][0]["id"] = site.document["annotations"][0]["category_id"] = 0
    site.semantic()
    pixels, segments = classes_of_pixels(site, 0)
    assert (
        pixels[8, 8] == "worker" and pixels[0, 15] == "void" and [s["category_id"] for s in segments][2:] == [9, 0, 9]
    )
    assert not check_coco_panoptic(site.out / "panoptic.json", site.out / "panoptic", site.root / "images").problems


def test_category_0_of_a_semantic_map_is_no_void(site):
    """Oracle: hand-worked; the file of the stuff classes has a class 0, and so 0 is that class in the maps."""
    site.stuff["categories"][0]["id"] = 0
    for name in ("north/a", "b"):
        with Image.open(site.root / f"semantic/{name}.png") as image:
            values = np.array(image)
        Image.fromarray(np.where(values == 20, 0, values)).save(site.root / f"semantic/{name}.png")
    site.semantic()
    pixels, _ = classes_of_pixels(site, 1)
    assert pixels[8, 12] == "earth" and pixels[1, 12] == "sky" and pixels[0, 15] == "void"


@pytest.mark.parametrize("name", ["protection", "helmet"])
def test_the_unused_parent_of_all_classes_is_left_out(name, site, capsys):
    """Roboflow writes a class 0 that heads the others; it may have the name of one of them."""
    for item in site.document["categories"]:
        item["supercategory"] = name
    site.document["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})
    site.convert()
    document = json.loads((site.out / "panoptic.json").read_text())
    assert [item["id"] for item in document["categories"]] == [3, 9]
    assert run(site.root / "instances.json", "--output", site.root / "again") == 0
    assert f"Class '{name}' was left out: it is the parent of other classes" in capsys.readouterr().err
    site.document["annotations"][0]["category_id"] = 0
    if name != "helmet":
        site.out = site.root / "used"
        site.convert()
        document = json.loads((site.out / "panoptic.json").read_text())
        assert [item["id"] for item in document["categories"]] == [0, 3, 9]


def test_command_line_and_its_refusal_to_overwrite(site, capsys):
    site.convert()
    words = [str(site.root / "instances.json"), "--output", str(site.root / "again"), "--background", "ground"]
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(words) == 0
    assert (
        "2 images with 2 instances written to" in (output := capsys.readouterr().out)
        and "0 instances have no visible pixel" in output
    )
    assert main(words) == 1
    assert "panoptic.json' exists already; choose another folder" in capsys.readouterr().err


SQUARE = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 8, 1, 8, 8, 1, 8]]}
TWICE = [{"id": 2, "file_name": "a.png", "width": 20, "height": 10}]


@pytest.mark.parametrize(
    ("image", "more", "sentence"),
    [
        ({"width": 10, "height": 20}, [], r"a\.png' is 10x20 pixels \(height x width\) where .* says 20x10"),
        ({}, TWICE, r"names the image 'a\.png' twice, under the ids '1' and '2'"),
        ({"file_name": "A.PNG"}, [], r"Image '.*A\.PNG', which annotation file '.*' names, does not exist"),
    ],
)
def test_what_a_check_of_the_result_would_refuse(tmp_path, image, more, sentence):
    """Oracle: the image, 20 pixels wide and 10 high."""
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 20, "height": 10, **image}, *more]
    document = {"images": images, "annotations": [SQUARE], "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "i.json").write_text(json.dumps(document))
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        read_instances(tmp_path / "i.json", image_roots=[tmp_path], must_exist=True)


def test_polygons_as_parts_of_the_size_are_no_instances():
    """Oracle: the same square in pixels and as parts of 20x10 pixels, which would be one pixel in the corner."""
    pixels = SQUARE["segmentation"][0]
    parts = [value / (20, 10)[number % 2] for number, value in enumerate(pixels)]
    assert decode_segmentation([pixels], (10, 20)).sum() == 49
    with pytest.raises(ValueError, match="inside of one pixel, as parts of the image's size are; give coordinates in"):
        decode_segmentation([parts], (10, 20))
