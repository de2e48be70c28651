"""Every kind of fault that the check knows, made in a good data set, with its sentence."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from efficientps.cli.data import check
from efficientps.data.tools.check_coco import check_coco_panoptic
from efficientps.data.tools.check_files import FileCheck
from efficientps.structures.segment_runs import areas_of
from efficientps.synthetic.yards import write_synthetic_yard

SCRIPT = Path(__file__).parents[3] / "datasets/check_panoptic.py"


class Folder:
    """A copy of a yard that a test may spoil."""

    def __init__(self, source, root):
        shutil.copytree(source, root)
        self.root = root
        self.json = root / "panoptic.json"
        self.document = json.loads(self.json.read_text())

    @property
    def image(self):
        """The first image as its JSON has it."""
        return self.document["images"][0]

    @property
    def annotation(self):
        """The first annotation."""
        return self.document["annotations"][0]

    @property
    def segment(self):
        """The first segment of the first image."""
        return self.annotation["segments_info"][0]

    @property
    def image_file(self):
        return self.root / "images" / self.image["file_name"]

    @property
    def map_file(self):
        return self.root / "panoptic" / self.annotation["file_name"]

    def check(self, **choices):
        self.json.write_text(json.dumps(self.document))
        return check_coco_panoptic(self.json, self.root / "panoptic", self.root / "images", **choices)


@pytest.fixture
def folder(yard_root, tmp_path):
    return Folder(yard_root, tmp_path / "yard")


def test_a_good_data_set_is_counted(folder):
    """Oracle: numpy on each map, class by class."""
    report = folder.check()
    assert (len(report.problems), len(report.remarks), report.bad_images) == (0, 0, 0)
    assert report.images == len(folder.document["images"])
    segments, crowds, images, area = Counter(), Counter(), Counter(), Counter()
    void = 0
    for annotation in folder.document["annotations"]:
        ids = np.array(Image.open(folder.root / "panoptic" / annotation["file_name"])).astype(int) @ [1, 256, 65536]
        void += (ids == 0).sum()
        for segment in annotation["segments_info"]:
            segments[segment["category_id"]] += 1
            crowds[segment["category_id"]] += segment["iscrowd"]
            area[segment["category_id"]] += (ids == segment["id"]).sum()
        images.update({segment["category_id"] for segment in annotation["segments_info"]})
    assert report.void == void > 0 and report.area == void + sum(area.values())
    names = {item["name"]: item["id"] for item in folder.document["categories"]}
    assert {count.name for count in report.classes} == set(names)
    for name, is_thing, *counts in report.classes:
        label = names[name]
        assert counts == [segments[label], crowds[label], images[label], area[label]]
        assert is_thing == next(item["isthing"] for item in folder.document["categories"] if item["id"] == label)


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def paint(path, change):
    image = np.array(Image.open(path))
    change(image)
    Image.fromarray(image).save(path)


def vanish(folder):
    """Paint a segment over in the map."""

    def change(image):
        image[image.astype(int) @ [1, 256, 65536] == folder.segment["id"]] = 0

    paint(folder.map_file, change)


def as_float(folder):
    path = folder.image_file.with_suffix(".tiff")
    Image.fromarray(np.zeros((folder.image["height"], folder.image["width"]), dtype=np.float32)).save(path)
    folder.image["file_name"] = str(path.relative_to(folder.root / "images"))


def as_png(folder, mode):
    with Image.open(folder.map_file) as image:
        image.convert(mode).save(folder.map_file)


PROBLEMS = {
    "image missing": (lambda f: f.image_file.unlink(), r"Image '.*' does not exist\."),
    "image in other capitals": (
        lambda f: f.image.update(file_name=str(f.image_file.relative_to(f.root / "images").with_suffix(".JPG"))),
        r"Image '.*' does not exist; its folder has '.*', and capitals matter\.",
    ),
    "image truncated": (lambda f: cut(f.image_file), r"Image '.*' cannot be decoded"),
    "image is no image": (lambda f: f.image_file.write_text("x"), r"Image '.*' is not an image file of a known kind"),
    "image of another size": (
        lambda f: Image.new("RGB", (9, 7)).save(f.image_file),
        r"Image '.*' is 7x9 pixels \(height x width\) where its annotation says \d+x\d+\.",
    ),
    "image of floats": (as_float, r"Image '.*' has floating-point pixels"),
    "map missing": (lambda f: f.map_file.unlink(), r"Panoptic map '.*' does not exist\."),
    "map truncated": (lambda f: cut(f.map_file), r"Panoptic map '.*' cannot be decoded"),
    "map is no PNG": (
        lambda f: shutil.copy(next(f.root.rglob("*.jpg")), f.map_file),
        r"Panoptic map '.*' is not a PNG file",
    ),
    "map is grey": (lambda f: as_png(f, "L"), r"Panoptic map '.*' has 'L' pixels; segment ids need RGB pixels"),
    "map of another size": (
        lambda f: Image.open(f.map_file).crop((0, 0, f.image["width"], f.image["height"] - 1)).save(f.map_file),
        r"Panoptic map '.*' is \d+x\d+ pixels \(height x width\) where its annotation says \d+x\d+\.",
    ),
    "segment only in the map": (
        lambda f: f.annotation["segments_info"].pop(0),
        r"Panoptic map '.*' has \d+ pixels of segment \d+, which the annotation file does not list for image '100'\.",
    ),
    "segment only in the file": (
        vanish, r"Panoptic map '.*' has no pixel of segment \d+, which the annotation file lists for image '100'\."
    ),
    "unknown category": (
        lambda f: f.segment.update(category_id=77),
        r"gives segment \d+ of image '100' the category 77, which is not in 'categories'\.",
    ),
    "segment id twice": (
        lambda f: f.annotation["segments_info"].append(dict(f.segment)), r"gives image '100' the segment id \d+ twice"
    ),
    "segment id 0": (lambda f: f.segment.update(id=0), r"has 0 as 'annotations\[0\]\.segments_info\[0\]\.id'; it must"),
    "segment id too large": (lambda f: f.segment.update(id=256**3), r"has 16777216 as .*id'; it must lie in 1\.\.1677"),
    "crowd flag": (lambda f: f.segment.update(iscrowd=2), r"iscrowd = 2; it is 0 or 1"),
    "no category": (lambda f: f.segment.pop("category_id"), r"has no 'annotations\[0\]\..*\.category_id'"),
    "no segments": (lambda f: f.annotation.pop("segments_info"), r"has no list 'annotations\[0\]\.segments_info'"),
    "annotation without an image": (
        lambda f: f.annotation.update(image_id=99), r"has no entry in 'images' for the image id '99'\."
    ),
    "image without an annotation": (
        lambda f: f.document["annotations"].pop(0), r"has no annotation for the image id '100'\."
    ),
    "two annotations": (
        lambda f: f.document["annotations"].append(f.annotation), r"has two annotations for the image id '100'\."
    ),
    "image id twice": (
        lambda f: f.document["images"].append(f.image), r"has the image id '100' twice in 'images'\."
    ),
    "image listed twice": (
        lambda f: f.document["images"].append({**f.image, "id": "twin"}),
        r"names the image '.*' 2 times, under other ids\.",
    ),
    "map used twice": (
        lambda f: f.document["annotations"][1].update(file_name=f.annotation["file_name"]),
        r"gives the images '100' and '103' the same map 'yard_00000\.png'\.",
    ),
    "no size": (lambda f: f.image.pop("height"), r"has no 'images\[0\]\.height'"),
    "image outside": (lambda f: f.image.update(file_name="../x.jpg"), r"names the file '\.\./x\.jpg', which is not"),
    "map outside": (lambda f: f.annotation.update(file_name="/x.png"), r"names the file '/x\.png', which is not"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_every_problem_has_its_sentence(case, folder, capsys):
    spoil, message = PROBLEMS[case]
    spoil(folder)
    report = folder.check()
    with pytest.raises(ValueError, match=message):
        raise ValueError("\n".join(report.problems))
    assert all(problem.count("\n") == 0 and problem.rstrip().endswith((".", "'", "1")) for problem in report.problems)
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(["--images", str(folder.root / "images"), "--annotations", str(folder.json)]) == 1
    output = capsys.readouterr()
    assert f"{len(report.problems)} problems in" in output.out
    said = [line.removeprefix("error: ") for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(said) == len(report.problems.counts) and set(said) <= set(report.problems)


def tag(folder):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    with Image.open(folder.image_file) as image:
        image.save(folder.image_file, exif=exif)


def blank(folder):
    paint(folder.map_file, lambda image: image.fill(0))
    folder.annotation["segments_info"] = []


def split_stuff(folder):
    ids = np.array(Image.open(folder.map_file)).astype(int) @ [1, 256, 65536]
    top = np.nonzero(ids == folder.segment["id"])[0].min()
    image = np.array(Image.open(folder.map_file))
    image[top][ids[top] == folder.segment["id"]] = (1, 2, 3)
    Image.fromarray(image).save(folder.map_file)
    folder.annotation["segments_info"].append({**folder.segment, "id": 1 + 2 * 256 + 3 * 65536, "area": 0})
    folder.segment["area"] = 0


def crowds_alone(folder):
    thing = next(item["id"] for item in folder.document["categories"] if item["isthing"])
    for annotation in folder.document["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = int(segment["category_id"] == thing or segment["iscrowd"])


REMARKS = {
    "exif": (tag, r"Image '.*' has the EXIF orientation 3 and is taken as it is stored."),
    "all void": (blank, r"Panoptic map '.*' is void everywhere\."),
    "area": (
        lambda f: f.segment.update(area=1),
        r"The area of segment \d+ of image '100' is 1 in the annotation file and \d+ in the map\.",
    ),
    "crowds alone": (
        crowds_alone,
        r"Class '\w+' has crowd regions alone, \d+ of them: no instance can be learned\.",
    ),
    "stuff crowd": (
        lambda f: f.segment.update(iscrowd=1),
        r"calls segment \d+ of image '100' a crowd, but 'sky' is stuff\.",
    ),
    "stuff twice": (
        split_stuff,
        r"has 2 segments of the stuff class 'sky' in image '100'; the format has one, and .* counts each\.",
    ),
    "unused map": (
        lambda f: shutil.copy(f.map_file, f.root / "panoptic/extra.png"),
        r"Maps that no annotation names: 1, the first is '.*extra\.png'\.",
    ),
    "unused class": (
        lambda f: f.document["categories"].append({"id": 3, "name": "roof", "isthing": 0}),
        r"Class 'roof' has no segment\.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REMARKS)
def test_every_remark_has_its_sentence_and_is_no_problem(case, folder):
    spoil, message = REMARKS[case]
    spoil(folder)
    report = folder.check()
    assert not report.problems and report.bad_images == 0
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}$"):
        raise ValueError("\n".join(report.remarks))


FATAL = {
    "no file": (lambda f: f.json.unlink(), "does not exist"),
    "no JSON": (lambda f: f.json.write_text("{"), "is not valid JSON"),
    "no object": (lambda f: f.json.write_text("[]"), "has no list 'categories'"),
    "no categories": (lambda f: f.json.write_text('{"images": []}'), "has no list 'categories'"),
    "no images": (
        lambda f: f.json.write_text('{"categories": [{"id": 1, "name": "a", "isthing": 1}]}'),
        "has no list 'images' where",
    ),
    "no folder": (lambda f: shutil.rmtree(f.root / "images"), "Folder '.*images' does not exist"),
    "no folder of maps": (lambda f: shutil.rmtree(f.root / "panoptic"), "Folder '.*panoptic' does not exist"),
}


@pytest.mark.parametrize("case", FATAL)
def test_what_cannot_be_looked_through_is_one_sentence(case, folder, capsys):
    spoil, message = FATAL[case]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_coco_panoptic(folder.json, folder.root / "panoptic", folder.root / "images")
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(["--images", str(folder.root / "images"), "--annotations", str(folder.json)]) == 1
    assert capsys.readouterr().err.count("error: ") == 1


def test_every_fault_is_listed_at_once(folder):
    """Oracle: the faults that were made, in four images."""
    cut(folder.image_file)
    cut(folder.map_file)
    (folder.root / "panoptic" / folder.document["annotations"][1]["file_name"]).unlink()
    for segment in folder.document["annotations"][2]["segments_info"][:2]:
        segment["category_id"] = 78
    folder.document["annotations"][3]["segments_info"].clear()
    missing = json.loads((folder.root / "panoptic.json").read_text())["annotations"][3]["segments_info"]
    report = folder.check()
    assert len(report.problems) == 2 + 1 + 2 + len(missing)
    assert report.bad_images == 4 and report.images == len(folder.document["images"])


def test_several_processes_find_what_one_finds(folder, monkeypatch):
    """Oracle: the check in this process; faults and remarks lie in the parts of all processes."""
    monkeypatch.setattr("efficientps.data.tools.check_coco._PART", 2)
    names = [item["file_name"] for item in folder.document["annotations"]]
    for name in names[1::3]:
        cut(folder.root / "panoptic" / name)
    paint(folder.root / "panoptic" / names[6], lambda image: image.fill(0))
    tag(folder)
    found = [folder.check(workers=workers).as_dict() for workers in (1, 3)]
    assert found[0] == found[1] and found[0]["bad_images"] == len(names[1::3]) + 1 and found[0]["remarks"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes there are")
def test_ctrl_c_ends_all_processes_with_one_sentence(folder):
    """Oracle: definition; the signal goes to all processes, as a terminal sends it."""
    numbers = range(1000, 21_000)
    folder.document["images"] = [{**folder.image, "id": number, "file_name": f"{number}.jpg"} for number in numbers]
    entry = {**folder.annotation, "segments_info": []}
    folder.document["annotations"] = [{**entry, "image_id": number} for number in numbers]
    folder.json.write_text(json.dumps(folder.document))
    words = ["check", "--images", folder.root / "images", "--annotations", folder.json, "--workers", "2"]
    command = [sys.executable, "-m", "efficientps", *map(str, words)]
    # A shell starts commands in the background with SIGINT ignored, and these tests may be one of them.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heeds
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(workers := children.read_text().split()) < 2:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        begin = time.monotonic()
        assert process.communicate(timeout=60)[1].splitlines() == ["Interrupted."]
    assert process.returncode == 130 and time.monotonic() - begin < 10
    assert not any(Path("/proc", worker).exists() for worker in workers)


def test_a_killed_process_is_explained(folder, monkeypatch, capsys):
    """Oracle: definition; the signal is the one that the kernel sends when memory is short."""
    monkeypatch.setattr("efficientps.data.tools.check_coco._PART", 2)
    monkeypatch.setattr(FileCheck, "__call__", lambda self, entry: os.kill(os.getpid(), signal.SIGKILL))
    words = ["--images", folder.root / "images", "--annotations", folder.json, "--workers", "2"]
    assert check.main([str(word) for word in words]) == 1
    assert capsys.readouterr().err == (
        "error: A process of this command was killed, most often because the machine is out of memory; give fewer of "
        "them with --workers.\n"
    )


def test_turned_images_are_pointed_out(folder):
    """A photograph that is stored on its side, with annotations drawn on the upright image."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    number = next(i for i, image in enumerate(folder.document["images"]) if image["height"] != image["width"])
    image = folder.document["images"][number]
    path = folder.root / "images" / image["file_name"]
    with Image.open(path) as picture:
        picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert [p for p in folder.check().problems if p.endswith("; with upright=True it has that size.")]
    report = folder.check(upright=True)
    assert not report.problems and "is turned so" in next(iter(report.remarks))


@pytest.mark.parametrize("size", [(31, 47), (5, 7), (0, 3)])
def test_areas_equal_counting_every_pixel(size):
    """Oracle: numpy.unique over pixels."""
    ids = np.random.default_rng(0).integers(0, 5, size).astype(np.int32) * 4000000
    values, counts = np.unique(ids, return_counts=True)
    assert list(areas_of(ids).items()) == list(zip(values.tolist(), counts.tolist(), strict=True))


def test_command_line_writes_what_it_found(folder, tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    words = ["--images", folder.root / "images", "--annotations", folder.json, "--json", tmp_path / "found.json"]
    assert main([str(word) for word in words]) == 0
    assert "worker" in (output := capsys.readouterr().out) and " a second): 0 problems in 0 images" in output
    assert json.loads((tmp_path / "found.json").read_text()) == folder.check().as_dict()


@pytest.mark.slow
def test_ten_thousand_images(tmp_path):
    """A bound far above what an idle core takes; the measured time is in datasets/README.md."""
    list(write_synthetic_yard(tmp_path / "yard", num_images=10_000, size=160))
    begin = time.perf_counter()
    report = check_coco_panoptic(tmp_path / "yard/panoptic.json", tmp_path / "yard/panoptic", tmp_path / "yard/images")
    assert (report.images, len(report.problems)) == (10_000, 0)
    assert time.perf_counter() - begin < 300


def test_a_configuration_names_both_splits(folder, capfd):
    """Oracle: the faults that were made: a class of "val" has another name; then a map of both is cut."""
    for split in ("train", "val"):
        shutil.copy(folder.json, folder.root / f"{split}.json")
    config = folder.root / "config.yaml"
    places = ", ".join(f"{s}: {{images: images, annotations: {s}.json, maps: panoptic}}" for s in ("train", "val"))
    config.write_text(f"data: {{class_path: CocoPanopticDataModule, init_args: {{root: '{folder.root}', {places}}}}}")
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(["--config", str(config)]) == 0
    folder.document["categories"][0]["name"] = "other"
    (folder.root / "val.json").write_text(json.dumps(folder.document))
    capfd.readouterr()
    assert main(["--config", str(config)]) == 1
    assert "'other'" in (output := capfd.readouterr().err) and output.count("error: ") == 1
    cut(folder.map_file)
    assert main(["--config", str(config)]) == 1
    assert len([line for line in capfd.readouterr().err.splitlines() if str(folder.map_file) in line]) == 2
