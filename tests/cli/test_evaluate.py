import json
import subprocess
import sys

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
from PIL import ExifTags, Image

from efficientps.cli.evaluate import main
from efficientps.cli.evaluation import evaluate

# Ids with gaps, things between stuff, and a class (92) that no map has.
CATEGORIES = [
    {"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]},
    {"id": 26, "name": "car", "isthing": 1},
    {"id": 23, "name": "sky", "isthing": 0},
    {"id": 24, "name": "person", "isthing": 1},
    {"id": 92, "name": "banner", "isthing": 0},
]


def save(path, ids):
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(path)


def annotation(image_id, ids, classes, crowds=()):
    segments = [
        {"id": i, "category_id": classes[i], "iscrowd": int(i in crowds), "area": int((ids == i).sum())}
        for i in np.unique(ids).tolist()
        if i
    ]
    return {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments}


class Folders:
    """A ground truth and predictions on disk: 8 images of 32 x 48."""

    def __init__(self, root):
        rng = np.random.default_rng(0)
        self.documents = {"gt": {"categories": list(CATEGORIES), "annotations": []}, "pred": {"annotations": []}}
        self.dirs = {side: root / side for side in self.documents}
        self.jsons = {side: root / f"{side}.json" for side in self.documents}
        for directory in self.dirs.values():
            directory.mkdir()
        for number in range(8):
            truth = np.zeros((32, 48), dtype=np.int64)
            ids = np.unique(rng.integers(1, 2**24, 9)).tolist()
            classes = {i: int(rng.choice([7, 26, 23, 24])) for i in ids}
            for i in ids:
                top, left = rng.integers(0, 28), rng.integers(0, 44)
                truth[top : top + rng.integers(4, 20), left : left + rng.integers(4, 26)] = i
            prediction = np.roll(truth, rng.integers(-1, 2, 2), axis=(0, 1))
            predicted = {i: c if rng.random() < 0.8 else 26 for i, c in classes.items()}
            crowds = {i for i, c in classes.items() if c in (24, 26) and rng.random() < 0.2}
            self.documents["gt"]["annotations"].append(annotation(f"image_{number}", truth, classes, crowds))
            self.documents["pred"]["annotations"].append(annotation(f"image_{number}", prediction, predicted))
            save(self.dirs["gt"] / f"image_{number}.png", truth)
            save(self.dirs["pred"] / f"image_{number}.png", prediction)
        self.write()

    def write(self):
        for side, document in self.documents.items():
            self.jsons[side].write_text(json.dumps(document))

    @property
    def arguments(self):
        return [str(p) for p in (self.jsons["gt"], self.dirs["gt"], self.jsons["pred"], self.dirs["pred"])]


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def test_equals_cityscapesscripts(folders, tmp_path, capsys):
    # Oracle: cityscapesscripts on the same folders; classes with gaps in their ids, one of them absent.
    pairs = list(zip(*(folders.documents[side]["annotations"] for side in ("gt", "pred")), strict=True))
    categories = {item["id"]: item for item in CATEGORIES}
    counts = official.pq_compute_single_core(0, pairs, folders.dirs["gt"], folders.dirs["pred"], categories)
    expected = official.average_pq(counts, categories)
    capsys.readouterr()

    assert main([*folders.arguments, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    for name in ("All", "Things", "Stuff"):
        assert figures[name] == pytest.approx(expected[name], abs=1e-9)
    for label_id, quality in expected["per_class"].items():
        ours = figures["per_class"][categories[label_id]["name"]]
        assert {key: ours[key] for key in ("pq", "sq", "rq")} == pytest.approx(quality, abs=1e-9)
    assert list(figures["per_class"]) == ["road", "sky", "banner", "person", "car"]
    assert 0.2 < figures["All"]["pq"] < 0.9 and figures["Stuff"]["n"] == 2

    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == ["PQ", "SQ", "RQ", "N"]
    assert printed[1] == ["All", *(f"{100 * expected['All'][key]:.1f}" for key in ("pq", "sq", "rq")), "4"]


def test_module_runs_from_the_shell(folders):
    # Oracle: the function's own table; the command is the one that a user types.
    command = [sys.executable, "-m", "efficientps.cli.evaluate", *folders.arguments, "--per-class"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    result, categories = evaluate(*folders.arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == result.table([category.name for category in categories]) + "\n"
    assert "banner" in done.stdout


def edit(side, change):
    """A change to one side's document."""

    def apply(folders):
        change(folders.documents[side])
        folders.write()

    return apply


def first(document):
    return document["annotations"][0]


def truncate(folders):
    path = folders.dirs["pred"] / "image_3.png"
    path.write_bytes(path.read_bytes()[:-40])


def shrink(folders):
    path = folders.dirs["pred"] / "image_3.png"
    Image.open(path).crop((0, 0, 48, 31)).save(path)


def extra_id(folders):
    ids = np.full((32, 48), 5)
    save(folders.dirs["gt"] / "image_0.png", ids)
    folders.documents["gt"]["annotations"][0] = annotation("image_0", ids, {5: 7})
    folders.documents["pred"]["annotations"][0] = annotation("image_0", ids, {5: 7})
    folders.write()
    ids[0, 0] = 77
    save(folders.dirs["pred"] / "image_0.png", ids)


BAD = {
    "no prediction": (
        edit("pred", lambda d: d["annotations"].pop(2)),
        r"pred\.json' has no prediction for the image 'image_2' \(1 are missing\)",
    ),
    "image twice": (
        edit("pred", lambda d: d["annotations"].append(first(d))),
        r"has two annotations for the image id 'image_0'",
    ),
    "unknown category": (
        edit("pred", lambda d: first(d)["segments_info"][0].update(category_id=93)),
        r"pred\.json', image 'image_0': Category id 93 is not in the table",
    ),
    "id only in the JSON": (
        edit("pred", lambda d: first(d)["segments_info"].append({"id": 4, "category_id": 7})),
        r"Image 'image_0': The prediction lists segment 4, of which its map has no pixel",
    ),
    "id only in the PNG": (extra_id, r"Image 'image_0': The map of the prediction has pixels of segment 77"),
    "other size": (shrink, r"Image 'image_3': The prediction has the size \(31, 48\) and the target \(32, 48\)"),
    "truncated PNG": (truncate, r"image_3\.png' cannot be decoded .*; replace the file"),
    "no PNG": (lambda f: (f.dirs["gt"] / "image_1.png").unlink(), r"image_1\.png' does not exist"),
    "no JSON": (lambda f: f.jsons["pred"].unlink(), r"pred\.json' does not exist"),
    "no ground truth": (lambda f: f.jsons["gt"].unlink(), r"gt\.json' does not exist"),
    "broken JSON": (lambda f: f.jsons["gt"].write_text('{"categories": ['), r"gt\.json' is not valid JSON"),
    "no categories": (edit("gt", lambda d: d.pop("categories")), r"gt\.json' has no list 'categories' whose entries"),
    "no isthing": (
        edit("gt", lambda d: d.update(categories=[{"id": 7, "name": "road"}])),
        r"says of no class whether it is a thing",
    ),
    "category twice": (
        edit("gt", lambda d: d["categories"].append(d["categories"][0])),
        r"gt\.json': Label id 7 occurs twice",
    ),
    "nothing": (edit("gt", lambda d: d.update(annotations=[])), r"gt\.json' has no annotations"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(case, folders, tmp_path, capsys):
    spoil, message = BAD[case]
    spoil(folders)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate(*folders.arguments)
    assert main([*folders.arguments, "--json", str(tmp_path / "figures.json")]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ") and output.err.count("\n") == 1
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize(
    ("truth", "name", "predicted", "hinted"),
    [
        (1, "000000000001.jpg", "000000000001", True),  # COCO's number, and the stem of its file
        ("a", "street/left.png", "street_left", True),  # the name of a file in a folder
        ("a.png", "x.png", "a", True),  # an id with the ending of a file
        (1, "000000000001.jpg", "000000000002", False),
    ],
)
def test_predictions_under_names_of_files_are_hinted_at(folders, truth, name, predicted, hinted, capsys):
    """Oracle: the names that ``predict`` gives for a folder: those of the files, without their ending."""
    first(folders.documents["gt"])["image_id"] = truth
    others = [{"id": f"image_{number}", "file_name": f"{number}.png"} for number in range(1, 8)]
    images = [{"id": truth, "file_name": name}, *others]
    folders.documents["gt"]["images"] = [image | {"height": 32, "width": 48} for image in images]
    first(folders.documents["pred"])["image_id"] = predicted
    folders.write()
    assert main(folders.arguments) == 2
    said = capsys.readouterr().err
    assert f"has no prediction for the image '{truth}'" in said
    assert (f"; one for '{predicted}' seems to be of the image '{truth}': predictions for a folder" in said) == hinted


def test_output_that_cannot_be_written_is_one_sentence(folders, tmp_path, capsys):
    assert main([*folders.arguments, "--json", str(tmp_path / "missing" / "figures.json")]) == 2
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_report_of_a_set_that_is_read_upright(orientation, folders, tmp_path, capsys):
    """Images that lie on their side in the file, and whose annotations were drawn on the upright ones."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    folders.documents["gt"]["images"] = []
    (tmp_path / "images").mkdir()
    for number in range(8):
        picture = Image.new("RGB", (48, 32))
        stored = picture if orientation == 1 else picture.transpose(Image.Transpose.ROTATE_90)
        stored.save(tmp_path / f"images/{number}.jpg", exif=exif)
        folders.documents["gt"]["images"].append(
            {"id": f"image_{number}", "file_name": f"{number}.jpg", "height": 32, "width": 48}
        )
    folders.write()
    words = [*folders.arguments, "--report", str(tmp_path / "report"), "--images", str(tmp_path / "images")]
    assert main([*words, "--upright"]) == 0 and (tmp_path / "report/report.html").is_file()
    capsys.readouterr()
    if orientation == 1:
        assert main(words) == 0
        return
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "with upright=True it has that size. To take it so, give --upright." in error and error.count("\n") == 1
    for number in range(8):
        Image.new("RGB", (48, 32)).save(tmp_path / f"images/{number}.jpg", exif=exif)
    assert main([*words, "--upright"]) == 2
    assert "with upright=False it has that size. To take it so, leave --upright out." in capsys.readouterr().err
