"""A data set that is not Cityscapes, through the data module and through everything behind it."""

import inspect
import json
import shutil

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
from PIL import ExifTags, Image

from efficientps.cli.evaluation import evaluate
from efficientps.cli.train import main
from efficientps.data.formats.export import PanopticWriter
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.loading.targets import training_batch
from efficientps.data.sources.coco_panoptic import CocoPanopticDataModule, CocoPanopticSplit
from efficientps.structures import IGNORE_INDEX, PanopticSegmentation, Segment
from tests.command_line import refuse, run
from tests.sweep import sweep

PATHS = {
    "train": CocoPanopticSplit(images="images", annotations="train.json", maps="panoptic"),
    "val": CocoPanopticSplit(images="images", annotations="val.json", maps="panoptic"),
}


def data_of(root, stage="fit", **overrides):
    choices = {"image_size": (64, 64), "batch_size": 4, "num_workers": 0, **PATHS, **overrides}
    data = CocoPanopticDataModule(root=str(root), **choices)
    data.setup(stage)
    return data


def options(root):
    return [
        *("--data", "CocoPanopticDataModule", "--data.root", root, "--data.num_workers", 0),
        *("--data.train.images", "images", "--data.train.annotations", "train.json", "--data.train.maps", "panoptic"),
        *("--data.val.images", "images", "--data.val.annotations", "val.json", "--data.val.maps", "panoptic"),
        *("--data.image_size", "[96, 96]", "--data.batch_size", 2, "--trainer.accelerator", "cpu"),
        *("--trainer.devices", 1, "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    ]


def test_options_are_those_of_every_data_module():
    """Oracle: the signature of the base; what is added there must be added here."""
    base, ours = (inspect.signature(kind).parameters for kind in (PanopticDataModule, CocoPanopticDataModule))
    assert ours.keys() - base.keys() == {"train", "val", "upright"}
    assert base.keys() <= ours.keys()
    differing = {name for name in base.keys() & ours.keys() if base[name].default != ours[name].default}
    assert differing == {"root", "image_size"}


def test_classes_come_from_the_file(yard_root):
    document = json.loads((yard_root / "train.json").read_text())
    data = data_of(yard_root)
    assert {category.label_id for category in data.categories} == {item["id"] for item in document["categories"]}
    assert (data.categories.num_stuff, data.categories.num_things) == (6, 10)


def test_images_of_mixed_sizes_are_padded_with_void(yard_root):
    """Oracle: the map of each image, read again; what is outside is void, and the canvas is the largest image's."""
    data = data_of(yard_root, eval_size=(160, 160), eval_batch_size=4)
    (batch, *_) = list(data.val_dataloader())
    sizes = batch["image_sizes"]
    assert len(set(sizes)) > 1
    canvas = tuple(-(-max(extents) // 32) * 32 for extents in zip(*sizes, strict=True))
    assert tuple(batch["images"].shape[-2:]) == canvas
    targets = training_batch(data_of(yard_root).train_dataloader().collate_fn([data.train_dataset[0]]), 6)
    h, w = targets["image_sizes"][0]
    assert (targets["semantic"][0, h:] == IGNORE_INDEX).all() and (targets["semantic"][0, :, w:] == IGNORE_INDEX).all()
    for image, (h, w) in zip(batch["images"], sizes, strict=True):
        assert not image[:, h:].any() and not image[:, :, w:].any() and image[:, :h, :w].any()


def test_every_image_is_seen_whatever_its_kind(yard_root):
    kinds = {path.suffix for path in (yard_root / "images").rglob("*.*")}
    modes = {Image.open(path).mode for path in (yard_root / "images").rglob("*.*")}
    assert kinds == {".jpg", ".png"} and {"RGB", "L", "RGBA"} == modes
    data = data_of(yard_root, batch_size=1)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataset)
    assert all(batch["images"].shape == (1, 3, 64, 64) for batch in batches)


def test_training_batches_of_mixed_shapes_are_void_outside(yard_root):
    data = data_of(yard_root, scale_range=(0.5, 0.5))
    (batch, *_) = list(data.train_dataloader())
    targets = training_batch(batch, data.categories.num_stuff)
    for semantic, masks, (h, w) in zip(
        targets["semantic"], [i["masks"] for i in targets["instances"]], batch["image_sizes"], strict=True
    ):
        assert (h, w) < (64, 64)
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[:h, :w] = False
        assert (semantic[outside] == IGNORE_INDEX).all() and not masks[:, outside].any()
        assert (semantic[:h, :w] != IGNORE_INDEX).any()


def write_sideways(root, annotated):
    """Write a data set of one JPEG, stored as 40x60 (h x w) and to be turned to 60x40, with a map of the given size."""
    (root / "images").mkdir()
    (root / "a").mkdir()
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:20] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turn by 90 degrees clockwise: what is stored at the top comes to the right
    Image.fromarray(pixels).save(root / "images" / "a.jpg", exif=exif, quality=95)
    h, w = annotated
    Image.new("RGB", (w, h), (5, 0, 0)).save(root / "a" / "a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": h, "width": w}],
        "annotations": [
            {"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 5, "category_id": 2, "iscrowd": 0}]}
        ],
        "categories": [{"id": 2, "name": "earth", "isthing": 0}, {"id": 9, "name": "worker", "isthing": 1}],
    }
    (root / "a.json").write_text(json.dumps(document))
    split = CocoPanopticSplit(images="images", annotations="a.json")
    return {"train": split, "val": split, "batch_size": 1, "flip_prob": 0, "scale_range": (1, 1)}


def test_exif_orientation_is_followed_on_request(tmp_path):
    """Oracle: hand-worked; the white half is stored at the top and seen at the right."""
    data = data_of(tmp_path, upright=True, eval_size=(60, 60), **write_sideways(tmp_path, (60, 40)))
    image = data.eval_dataset[0]["image"]
    assert image.shape == (3, 60, 40)
    assert image[:, :, 25:].min() > 200 and image[:, :, :15].max() < 50


@pytest.mark.parametrize(("annotated", "upright"), [((60, 40), False), ((40, 60), True)])
def test_the_other_choice_of_orientation_is_pointed_out(tmp_path, annotated, upright):
    data = data_of(tmp_path, upright=upright, **write_sideways(tmp_path, annotated))
    with pytest.raises(ValueError, match=f"with upright={not upright} it has that size"):
        data.eval_dataset[0]


def test_stored_orientation_is_the_default(tmp_path):
    data = data_of(tmp_path, eval_size=(40, 60), **write_sideways(tmp_path, (40, 60)))
    image = data.eval_dataset[0]["image"]
    assert image.shape == (3, 40, 60) and image[:, :15].min() > 200


@sweep(
    "change, message",
    [
        (
            lambda d: d["categories"][0].update(name="other"),
            "calls category .* 'other' where the table of classes says",
        ),
        (
            lambda d: d["categories"][0].update(isthing=0),
            "has 0 as 'categories.0..isthing' where category .* is a thing",
        ),
        (lambda d: d.update(images=[], annotations=[]), "holds no image"),
    ],
)
def test_val_must_agree_with_train(yard_root, tmp_path, change, message):
    root = tmp_path / "yard"
    shutil.copytree(yard_root, root)
    document = json.loads((root / "val.json").read_text())
    assert document["categories"][0]["isthing"]
    change(document)
    (root / "val.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"val\.json' {message}"):
        data_of(root)


def recategorized(root, target, keep):
    """Copy the annotations of a yard with other classes, the images and maps staying where they are."""
    target.mkdir()
    for name in ("train.json", "val.json"):
        document = json.loads((root / name).read_text())
        document["categories"] = keep(document["categories"])
        ids = {item["id"] for item in document["categories"]}
        for annotation in document["annotations"]:
            annotation["segments_info"] = [s for s in annotation["segments_info"] if s["category_id"] in ids]
            image = np.array(Image.open(root / "panoptic" / annotation["file_name"]))
            kept = np.isin(image.astype(int) @ [1, 256, 65536], [s["id"] for s in annotation["segments_info"]])
            (target / "panoptic").mkdir(exist_ok=True)
            Image.fromarray(image * kept[..., None].astype(np.uint8)).save(
                target / "panoptic" / annotation["file_name"]
            )
        (target / name).write_text(json.dumps(document))
    (target / "images").symlink_to(root / "images")
    return target


def more(items):
    """48 thing and 16 stuff classes, ids in any order and up to a billion; most never occur."""
    things, stuff = (sum(item["isthing"] == kind for item in items) for kind in (1, 0))
    kinds = [1] * (48 - things) + [0] * (16 - stuff)
    extra = [{"id": 10**9 - 7 * n, "name": f"class {n}", "isthing": kind} for n, kind in enumerate(kinds)]
    return extra[::2] + items + extra[1::2]


def test_the_network_follows_the_data(yard_root, tmp_path):
    """Oracle: the classes of the file, which nobody has written anywhere else; ids of predictions fit the format."""
    root = recategorized(yard_root, tmp_path / "data", more)
    words = ["--config", "configs/demo_yard.yaml", *options(root), "--trainer.default_root_dir", tmp_path / "runs"]
    words += ["--trainer.max_steps", 1, "--trainer.max_epochs", 1, "--trainer.check_val_every_n_epoch", 1]
    cli = run("fit", *words)
    assert cli.trainer.global_step == 1
    table = cli.model.categories
    assert (table.num_stuff, table.num_things) == (16, 48)
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])
    checkpoint = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    run("predict", "--ckpt_path", checkpoint, "--predictions.output_dir", tmp_path / "out")
    result, _ = evaluate(
        root / "val.json", root / "panoptic", tmp_path / "out/panoptic.json", tmp_path / "out/panoptic"
    )
    assert 0 <= result.all.pq <= 1


@pytest.mark.parametrize(("kind", "counts"), [(1, "0 and 10"), (0, "6 and 0")])
def test_a_network_without_things_or_stuff_is_refused(kind, counts, yard_root, tmp_path, capfd):
    root = recategorized(yard_root, tmp_path / "data", lambda items: [i for i in items if i["isthing"] == kind])
    words = ["--config", "configs/demo_yard.yaml", *options(root), "--trainer.default_root_dir", tmp_path / "runs"]
    sentence = refuse(capfd, "fit", *words)
    assert (
        f"EfficientPS needs stuff classes and thing classes, at least one of each; the data has {counts}." in sentence
    )


def test_missing_annotations_are_one_sentence(yard_root, capfd, tmp_path):
    sentence = refuse(capfd, "fit", *options(yard_root), "--data.train.annotations", "nowhere.json")
    assert "nowhere.json' does not exist" in sentence


def compare_with_official(root, json_file, maps):
    """Evaluate predictions of "val", and compare each count and quality with cityscapesscripts' core to 1e-9."""
    truth, found = (json.loads(path.read_text()) for path in (root / "val.json", json_file))
    categories = {item["id"]: item for item in truth["categories"]}
    found = {item["image_id"]: item for item in found["annotations"]}
    pairs = [(item, found[item["image_id"]]) for item in truth["annotations"]]
    counts = official.pq_compute_single_core(0, pairs, root / "panoptic", maps, categories)
    result, table = evaluate(root / "val.json", root / "panoptic", json_file, maps)
    # Only classes that occur have a quality there.
    per_class = {i: counts[i] for i in categories if counts[i].tp + counts[i].fp + counts[i].fn}
    for label_id, count in per_class.items():
        train_id = table.train_id(label_id)
        assert (count.tp, count.fp, count.fn) == (result.tp[train_id], result.fp[train_id], result.fn[train_id])
        assert count.iou == pytest.approx(result.iou[train_id], abs=1e-9)
    qualities = [c.iou / (c.tp + 0.5 * c.fp + 0.5 * c.fn) for c in per_class.values()]
    assert result.all.pq == pytest.approx(np.mean(qualities), abs=1e-9)
    assert result.all.n == len(per_class) >= 12
    return result


def test_the_evaluation_equals_the_official_one(yard_root, tmp_path):
    """Oracle: cityscapesscripts' core; predictions are the truth, moved by a pixel or two, some of another class."""
    rng = np.random.default_rng(0)
    data = data_of(yard_root, "validate")
    table = data.categories
    with PanopticWriter(tmp_path / "out", table) as writer:
        for sample in data.eval_dataset:
            ids = torch.from_numpy(np.roll(sample["segment_ids"].numpy(), rng.integers(-2, 3, 2), axis=(0, 1)))
            segments = []
            for segment in sample["segments"]:
                train_id = segment.train_id if rng.random() < 0.8 else int(rng.integers(len(table)))
                segments.append(Segment(segment.id, train_id, table[train_id].is_thing))
            writer.write(sample["image_id"], PanopticSegmentation(ids, segments))
    result = compare_with_official(yard_root, tmp_path / "out/panoptic.json", tmp_path / "out/panoptic")
    assert 0.3 < result.all.pq < 0.9 and result.things.pq > 0.2 and result.fp.sum() > 3


SMALL_HEADS = {
    "MaskRCNNHead": {"box_hidden": 64, "rpn_proposals_train": 100, "rpn_proposals_test": 100},
    "SOLOv2Head": {"channels": 32, "kernel_channels": 32, "num_convs": 2},
}


@sweep("head", SMALL_HEADS)
def test_a_network_of_the_right_size_trains_and_its_predictions_score_as_its_validation(
    head, yard_root, tmp_path, capfd
):
    """Oracle: cityscapesscripts' core on the exported files, to 1e-9; and the figures of the validation."""
    small = ["--model.network.backbone.variant", "b0", "--model.network.backbone.pretrained", "false"]
    small += ["--model.network.neck.out_channels", 32, "--model.network.instance_head", head]
    for name, value in SMALL_HEADS[head].items():
        small += [f"--model.network.instance_head.{name}", value]
    config = tmp_path / "empty.yaml"
    config.write_text("{}")
    words = ["--config", config, *options(yard_root), *small, "--model.network.min_stuff_area", 1]
    words += ["--trainer.default_root_dir", tmp_path / "runs", "--trainer.max_epochs", 1]
    fitted = run("fit", *words)
    assert fitted.model.categories.num_things == 10 and fitted.model.categories.num_stuff == 6
    folder = tmp_path / "runs/version_0"
    assert list((folder / "overlays").rglob("*.jpg"))

    checkpoint = folder / "checkpoints/last.ckpt"
    validated = run("validate", "--ckpt_path", checkpoint).trainer.callback_metrics
    run("predict", "--ckpt_path", checkpoint, "--predictions.output_dir", tmp_path / "out")
    assert len(list((tmp_path / "out/overlays").glob("*.png"))) == len(data_of(yard_root, "validate").eval_dataset)
    result = compare_with_official(yard_root, tmp_path / "out/panoptic.json", tmp_path / "out/panoptic")
    assert float(validated["val/PQ"]) == pytest.approx(result.all.pq, abs=1e-6)


def test_predictions_on_a_photo_of_any_kind(yard_root, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (71, 133), dtype=np.uint8)).save(photo)
    words = ["--config", "configs/demo_yard.yaml", *options(yard_root), "--data.predict_path", photo]
    main([str(word) for word in ["predict", *words, "--predictions.output_dir", tmp_path / "out"]])
    document = json.loads((tmp_path / "out/panoptic.json").read_text())
    assert [item["image_id"] for item in document["annotations"]] == ["photo"]
    assert {item["id"] for item in document["categories"]} >= {5, 12, 80}
