"""Thousands of files with random damage: each is refused in one sentence, or read as what it was, and nothing runs."""

import json
import os
import random
import time

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from efficientps.cli.data import from_coco_instances, from_masks
from efficientps.data.formats.coco_json import read_panoptic_json
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import read_image
from efficientps.structures.categories import Categories, Category
from efficientps.training.checkpoints.read import read_checkpoint
from tests.command_line import run, write_config
from tests.tiny_network import TinyNetwork  # noqa: F401 - the configuration names it

SLOWEST = 5.0
"""Seconds that any of the files may take; more is a hang."""

TABLE = Categories([Category(7, "road", (128, 64, 128), False), Category(26, "car", (0, 0, 142), True)])


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Flip, insert, remove, double or cut bytes, in up to four places."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 1, 1, 4, 64))
        match rng.randrange(5):
            case 0 if place < len(changed):
                changed[place] ^= rng.randrange(1, 256)
            case 1:
                changed[place:place] = rng.randbytes(length)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)


def outcome(read, path):
    """Return what reading gives, or the error; nothing else than the two types of a user's error may come."""
    begin = time.perf_counter()
    try:
        result = read(path)
    except (ValueError, OSError) as error:
        result = error
    assert time.perf_counter() - begin < SLOWEST
    return result


def is_one_sentence(error: Exception) -> bool:
    text = str(error)
    return len(text) > 20 and text.isprintable() and "\n" not in text and len(text) < 1000


@pytest.fixture
def counts(request):
    """Numbers of files that were refused and that were read, printed at the end (``pytest -s``)."""
    found = {"refused": 0, "read": 0}
    yield found
    print(request.node.name, found)


def test_a_changed_png_is_refused_or_has_the_same_pixels(tmp_path, counts):
    """Oracle: a PNG with any change is refused, because its checksums say so, or has the pixels of the whole one."""
    rng = random.Random(0)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    expected = [read(path) for read in (read_image, read_id_map)]
    for _ in range(400):
        path.write_bytes(mutate(whole, rng))
        for read, right in zip((read_image, read_id_map), expected, strict=True):
            result = outcome(read, path)
            if isinstance(result, Exception):
                counts["refused"] += 1
                assert is_one_sentence(result) and "a.png" in str(result)
            else:
                counts["read"] += 1
                assert np.array_equal(np.asarray(result), np.asarray(right))


def document():
    return {
        "images": [{"id": "a", "file_name": "a.png", "height": 16, "width": 24}],
        "annotations": [
            {
                "image_id": "a",
                "file_name": "a_panoptic.png",
                "segments_info": [
                    {"id": 7, "category_id": 7, "area": 300, "iscrowd": 0, "bbox": [0, 0, 24, 13]},
                    {"id": 26001, "category_id": 26, "area": 84, "iscrowd": 0, "bbox": [0, 12, 24, 4]},
                ],
            }
        ],
        "categories": [
            {"id": 7, "name": "road", "color": [128, 64, 128], "isthing": 0},
            {"id": 26, "name": "car", "color": [0, 0, 142], "isthing": 1},
        ],
    }


VALUES = [None, True, -1, 0, 1.5, 2**70, float("nan"), "", "a", "../b", "a\0b", [], [1], {}, {"x": 1}, "x" * 10_000]


def damage(value, rng):
    """Put another value somewhere into a document, or take one out."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {other: item for other, item in value.items() if other != key}
        return value | {key: damage(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:place] + value[place + 1 :]
        return [*value[:place], damage(value[place], rng), *value[place + 1 :]]
    return rng.choice(VALUES)


def test_annotations(tmp_path, counts):
    """Oracle: what is read has the ids, classes and flags of the document, which were valid in it; fields and bytes."""
    rng = random.Random(1)
    path = tmp_path / "a.json"
    for number in range(800):
        if number % 2:
            content = json.dumps(damage(document(), rng)).encode()
        else:
            content = mutate(json.dumps(document()).encode(), rng)
        path.write_bytes(content)
        result = outcome(lambda path: read_panoptic_json(path, TABLE), path)
        if isinstance(result, Exception):
            counts["refused"] += 1
            assert is_one_sentence(result) and "a.json" in str(result), result
        else:
            counts["read"] += 1
            given = json.loads(content)
            for entry in result:
                (annotation,) = [a for a in given["annotations"] if str(a["image_id"]) == str(entry.image_id)]
                assert len(entry.segments) == len(annotation["segments_info"])


def instances():
    mask = {"size": [16, 24], "counts": [100, 50, 234]}
    text = coco_mask.frPyObjects(mask, 16, 24)["counts"].decode()
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 16, "width": 24}],
        "annotations": [
            {"image_id": 1, "category_id": 0, "segmentation": [[2, 2, 12, 2, 12, 9.5, 2, 9.5]], "iscrowd": 0},
            {"image_id": 1, "category_id": 4, "segmentation": mask, "iscrowd": 0},
            {"image_id": 1, "category_id": 4, "segmentation": mask | {"counts": text}, "iscrowd": 1},
        ],
        "categories": [{"id": 0, "name": "worker", "supercategory": "none"}, {"id": 4, "name": "car", "isthing": 1}],
    }


def is_whole(folder):
    """Return whether a conversion is a data set: each map has the segments that its JSON file lists."""
    for entry in read_panoptic_json(folder / "panoptic.json"):
        ids = read_id_map(folder / "panoptic" / entry.map_file_name)
        assert ids.shape == entry.size
        assert set(np.unique(ids).tolist()) - {0} == {segment.id for segment in entry.segments}
    return True


def test_instances(tmp_path, counts, capsys):
    """Oracle: each kind of problem once on stderr and exit code 1, or a whole data set in the panoptic format."""
    rng = random.Random(4)
    (tmp_path / "a.json").write_text(json.dumps(instances()))
    assert from_coco_instances.main([str(tmp_path / "a.json"), "--output", str(tmp_path / "whole")]) == 0
    for number in range(400):
        whole = json.dumps(instances())
        content = json.dumps(damage(instances(), rng)).encode() if number % 2 else mutate(whole.encode(), rng)
        (tmp_path / "a.json").write_bytes(content)
        output = tmp_path / f"out_{number}"
        skip = ["--skip-invalid"] if number % 4 > 1 else []
        capsys.readouterr()
        begin = time.perf_counter()
        try:
            code = from_coco_instances.main([str(tmp_path / "a.json"), "--output", str(output), *skip])
            assert code == 1 or is_whole(output)
        except Exception as error:
            error.add_note(repr(content))
            raise
        assert time.perf_counter() - begin < SLOWEST
        counts["refused" if code else "read"] += 1
        error = capsys.readouterr().err
        if code:
            assert not (output / "panoptic.json").exists()
            assert 1 <= error.count("error: ") <= 3 and len(error) < 3000, error


def test_masks_and_their_classes(tmp_path, counts, capsys):
    """Oracle: for a changed PNG, the conversion of the whole files; for a changed table, a whole data set."""
    rng = random.Random(5)
    pixels = np.random.default_rng(5).choice([0, 7, 26, 255], (16, 24)).astype(np.uint8)
    for folder in ("images", "classes", "numbers"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    table = "id,name,isthing\n7,road,0\n26,car,1\n"
    yaml_table = yaml.safe_dump(document()["categories"])
    files = {
        tmp_path / "classes/a.png": (tmp_path / "classes/a.png").read_bytes(),
        tmp_path / "numbers/a.png": (tmp_path / "numbers/a.png").read_bytes(),
        tmp_path / "table.csv": table.encode(),
        tmp_path / "table.yaml": yaml_table.encode(),
        tmp_path / "table.json": json.dumps(document()["categories"]).encode(),
    }
    for path, content in files.items():
        path.write_bytes(content)
    words = ["--images", "images", "--semantic", "classes", "--instances", "numbers", "--workers", "1"]

    def convert(name, table):
        options = [word if word.startswith("--") or word == "1" else str(tmp_path / word) for word in words]
        return from_masks.main([*options, "--output", str(tmp_path / name), "--classes", str(table)])

    assert convert("whole", tmp_path / "table.csv") == 0
    expected = read_id_map(tmp_path / "whole/panoptic/a.png")
    for number in range(500):
        path = list(files)[number % 5]
        if number % 10 > 6:
            path.write_text(json.dumps(damage(document()["categories"], rng)))  # which is YAML, too
        else:
            path.write_bytes(mutate(files[path], rng))
        capsys.readouterr()
        begin = time.perf_counter()
        try:
            code = convert(str(number), path if path.stem == "table" else tmp_path / "table.csv")
            assert code == 1 or is_whole(tmp_path / str(number))
        except Exception as error:
            error.add_note(repr(path.read_bytes()))
            raise
        assert time.perf_counter() - begin < SLOWEST
        counts["refused" if code else "read"] += 1
        error = capsys.readouterr().err
        if code:
            assert not (tmp_path / str(number) / "panoptic.json").exists()
            assert 1 <= error.count("error: ") <= 4 and len(error) < 3000, error
        elif path.suffix == ".png":
            assert np.array_equal(read_id_map(tmp_path / str(number) / "panoptic/a.png"), expected)
        path.write_bytes(files[path])


CODE = b"\x80\x02cos\nsystem\nX\x20\x00\x00\x00touch "
"""The beginning of a pickle that would run a program."""


def test_checkpoints(tmp_path, counts):
    """Oracle: whatever is done to the file, it is refused or is a dictionary, and the program in it leaves no trace."""
    rng = random.Random(2)
    path, trace = tmp_path / "a.ckpt", tmp_path / "trace"
    content = {"state_dict": {"weight": torch.arange(200.0), "bias": torch.ones(3)}, "epoch": 3, "loops": {"x": [1, 2]}}
    torch.save(content, path)
    whole = path.read_bytes()
    payload = CODE + os.fsencode(trace)
    for number in range(600):
        changed = mutate(whole, rng)
        if number % 3 == 0:
            place = rng.randrange(len(changed) + 1)
            changed = changed[:place] + payload + changed[place:]
        path.write_bytes(changed)
        result = outcome(read_checkpoint, path)
        if isinstance(result, Exception):
            counts["refused"] += 1
            assert is_one_sentence(result) and "a.ckpt" in str(result)
        else:
            counts["read"] += 1
            assert isinstance(result, dict)
    assert not trace.exists()


@pytest.mark.slow
def test_configurations(cityscapes_root, tmp_path, counts, capfd):
    """Oracle: one line on stderr and a non-zero exit, or a run of one step; a file outside the runs never appears."""
    rng = random.Random(3)
    whole = write_config(tmp_path, cityscapes_root).read_text()
    options = ["--trainer.fast_dev_run", "true", "--trainer.default_root_dir", tmp_path / "runs"]
    for number in range(250):
        path = tmp_path / f"{number}.yaml"
        if number % 2:
            content = yaml.safe_dump(damage(yaml.safe_load(whole), rng))
        else:
            content = mutate(whole.encode(), rng).decode("latin-1")
        path.write_text(content)
        capfd.readouterr()
        begin = time.perf_counter()
        try:
            result = run("fit", "--config", path, *options)
        except Exception as error:
            error.add_note(content)
            raise
        assert time.perf_counter() - begin < 30
        if isinstance(result, int):
            counts["refused"] += 1
            lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
            assert result != 0 and len(lines) == 1, content
        else:
            counts["read"] += 1
