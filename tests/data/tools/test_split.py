import json
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from efficientps.data.tools.split import split_annotations, stratified_choice
from tests.sweep import sweep

SCRIPT = Path(__file__).parents[3] / "datasets/split_panoptic.py"


def ids_and_files(path):
    document = json.loads(path.read_text())
    images = {image["id"]: image["file_name"] for image in document["images"]}
    assert [item["image_id"] for item in document["annotations"]] == list(images)
    return set(images), set(images.values())


def split(root, out, **choices):
    shares = split_annotations(root / "panoptic.json", out / "train.json", out / "val.json", **choices)
    return shares, *(ids_and_files(out / f"{name}.json") for name in ("train", "val"))


def test_no_image_is_on_both_sides_and_none_is_lost(yard_root, tmp_path):
    """Oracle: sets of ids and of file names."""
    _, train, val = split(yard_root, tmp_path)
    whole = ids_and_files(yard_root / "panoptic.json")
    for one, other, both in zip(train, val, whole, strict=True):
        assert one and other and not one & other and one | other == both


def test_the_table_counts_images(yard_root, tmp_path):
    """Oracle: counting in the written files."""
    shares, *_ = split(yard_root, tmp_path, val_fraction=0.3)
    for name, place in (("train", 1), ("val", 2)):
        document = json.loads((tmp_path / f"{name}.json").read_text())
        names = {item["id"]: item["name"] for item in document["categories"]}
        found = Counter(
            label
            for item in document["annotations"]
            for label in {names[segment["category_id"]] for segment in item["segments_info"]}
        )
        assert {share[0]: share[place] for share in shares} == {label: found[label] for label in names.values()}


def test_a_seed_gives_the_same_files_and_another_one_others(yard_root, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (_, *first), (_, *again), (_, *other) = (
        split(yard_root, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


def test_entries_of_one_file_stay_together(yard_root, tmp_path):
    document = json.loads((yard_root / "panoptic.json").read_text())
    for number, image in enumerate(list(document["images"])):
        twin = {**image, "id": f"twin {number}", "file_name": f"./{image['file_name']}"}
        annotation = next(item for item in document["annotations"] if item["image_id"] == image["id"])
        document["images"].append(twin)
        document["annotations"].append({**annotation, "image_id": twin["id"]})
    (tmp_path / "panoptic.json").write_text(json.dumps(document))
    split_annotations(tmp_path / "panoptic.json", tmp_path / "train.json", tmp_path / "val.json")
    (_, train), (_, val) = (ids_and_files(tmp_path / f"{name}.json") for name in ("train", "val"))
    assert not {name.removeprefix("./") for name in train} & {name.removeprefix("./") for name in val}


@sweep("seed", range(5))
def test_classes_keep_their_share(seed):
    """Oracle: the asked share, within 2 images or 8 %, where a random choice of images misses it by more."""
    rng = np.random.default_rng(seed)
    frequencies = [0.02, 0.05, 0.1, 0.3, 0.6, 1.0]
    classes = [{label for label, p in enumerate(frequencies) if rng.random() < p} for _ in range(300)]
    chosen = stratified_choice(classes, fraction=0.2, seed=seed)
    for label in range(len(frequencies)):
        total = sum(label in found for found in classes)
        ours = sum(label in classes[position] for position in chosen)
        assert abs(ours - 0.2 * total) <= max(2, 0.08 * total)
        assert total < 2 or 0 < ours < total


def test_rare_classes_are_on_both_sides():
    """Oracle: hand-worked; ten classes, each in 2 of 100 images, at a share of a tenth."""
    classes = [{number // 2} if number < 20 else {99} for number in range(100)]
    chosen = stratified_choice(classes, fraction=0.1, seed=0)
    assert all(sum(position in chosen for position in (2 * label, 2 * label + 1)) == 1 for label in range(10))


@sweep("classes", [[{1}, {1}], [set(), set()], [{1}, set()]])
@sweep("fraction", [0.01, 0.99])
def test_no_side_is_empty(classes, fraction):
    assert len(stratified_choice(classes, fraction=fraction, seed=0)) == 1


@sweep("fraction", [0, 1, -0.1])
def test_fractions_outside_are_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction of images for validation is .*; give one between 0 and 1"):
        stratified_choice([{1}, {1}], fraction=fraction, seed=0)


def test_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="There is nothing to split: 1 image file"):
        stratified_choice([{1}], fraction=0.5, seed=0)


def test_files_are_not_overwritten_unasked(yard_root, tmp_path):
    split(yard_root, tmp_path)
    with pytest.raises(FileExistsError, match=r"train\.json' exists already; give another name, or allow it"):
        split(yard_root, tmp_path)
    split(yard_root, tmp_path, overwrite=True)
    source = yard_root / "panoptic.json"
    with pytest.raises(ValueError, match="must be three different files"):
        split_annotations(source, source, tmp_path / "x.json", overwrite=True)


def test_command_line(yard_root, tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    words = [yard_root / "panoptic.json", "--train", tmp_path / "a", "--val", tmp_path / "b"]
    assert main([str(word) for word in words]) == 0
    output = capsys.readouterr().out
    assert "worker" in output and f"Written: {tmp_path / 'a'} and {tmp_path / 'b'}" in output
    assert main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
