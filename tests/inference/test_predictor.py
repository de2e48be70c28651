"""Predictions from Python against those of a trainer, whatever the images are and in which batches they come."""

import json
import re
import shutil

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from efficientps import Predictor, load, write_coco
from efficientps.cli.evaluation import evaluate
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES, CityscapesDataModule
from efficientps.inference.predictor import find_device
from efficientps.structures import Categories
from efficientps.training.module import PanopticModule
from efficientps.visualization import overlay
from tests.command_line import run, write_config
from tests.inference.networks import ready_network
from tests.inference.test_image_inputs import forms
from tests.sweep import sweep
from tests.tiny_network import TinyNetwork

EVAL_SIZE = (96, 128)
SIZES = [(333, 517), (120, 160), (64, 300), (90, 120), (300, 64), (240, 320), (33, 31)]


@pytest.fixture(scope="module")
def network():
    return ready_network("mask_rcnn")


@pytest.fixture(scope="module")
def predictor(network):
    return Predictor(network, CITYSCAPES_CATEGORIES, eval_size=EVAL_SIZE, device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """JPEG files of several sizes with something in them."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = []
    for number, (height, width) in enumerate(SIZES):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"image_{number}.jpg")
        paths.append(folder / f"image_{number}.jpg")
    return paths


def assert_same(found, expected):
    assert torch.equal(found.segment_ids, expected.segment_ids)
    assert torch.equal(found.semantic, expected.semantic)
    assert found.segments == expected.segments


def test_predictions_are_those_of_a_trainer(predictor, network, images, synthetic_root):
    """Oracle: ``Trainer.predict`` on the same file; bit by bit, since both run an inference copy."""
    module = PanopticModule(network=lambda num_stuff, num_things: network, categories=CITYSCAPES_CATEGORIES)
    data = CityscapesDataModule(
        root=str(synthetic_root), image_size=(32, 64), eval_size=EVAL_SIZE, predict_path=str(images[0]), num_workers=0
    )
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    (((expected,),),) = [trainer.predict(module, datamodule=data)]
    result = predictor(images[0])
    assert result.segment_ids.shape == (333, 517)
    assert torch.equal(result.segment_ids, expected.panoptic.segment_ids)
    assert torch.equal(result.semantic, expected.semantic)
    assert result.panoptic.segments == expected.panoptic.segments
    assert len({segment.is_thing for segment in result.segments}) == 2
    assert (result.image_id, result.file_name) == ("image_0", "image_0.jpg")


def test_a_checkpoint_predicts_as_the_command_does(images, synthetic_root, tmp_path):
    """Oracle: the files of ``train_net.py predict``; the checkpoint is alone in a folder."""
    run("fit", "--config", write_config(tmp_path, synthetic_root), "--data.eval_size", "[96, 128]")
    checkpoint = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    options = ["--data.predict_path", images[0], "--predictions.output_dir", tmp_path / "command"]
    run("predict", "--ckpt_path", checkpoint, *options)
    (tmp_path / "alone").mkdir()
    alone = shutil.move(checkpoint, tmp_path / "alone")
    predictor = load(alone, device="cpu", trust=("tests.tiny_network",))
    assert (predictor.categories, predictor.eval_size) == (CITYSCAPES_CATEGORIES, (96, 128))
    written = write_coco([predictor(images[0])], tmp_path / "python")
    maps = [
        np.asarray(Image.open(tmp_path / f"{side}/panoptic/image_0_panoptic.png")) for side in ("command", "python")
    ]
    assert maps[0].shape == (333, 517, 3) and len(np.unique(maps[0])) > 2
    assert np.array_equal(*maps)
    expected = json.loads((tmp_path / "command/panoptic.json").read_text())
    assert json.loads(written.read_text())["annotations"] == expected["annotations"]


def test_a_device_that_is_not_there_is_named_before_the_file_is_read():
    with pytest.raises(ValueError, match="device is 'cuda:97', and PyTorch finds"):
        load("none.ckpt", device="cuda:97")
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        load("none.ckpt", device="cpu")


def test_segments_say_what_the_map_shows(predictor, images):
    """Oracle: naive masks, and the table of classes."""
    result = predictor(images[0])
    assert {segment.id for segment in result.segments} == set(result.segment_ids.unique().tolist()) - {0}
    for segment in result.segments:
        rows, columns = np.nonzero((result.segment_ids == segment.id).numpy())
        category = CITYSCAPES_CATEGORIES[segment.train_id]
        assert segment.area == len(rows)
        assert segment.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        named = (segment.name, segment.label_id, segment.is_thing)
        assert named == (category.name, category.label_id, category.is_thing)
        assert 0 < segment.score <= 1


def test_every_form_of_an_image_gives_the_same_result(predictor, tmp_path):
    """Oracle: the result of the file."""
    for given in forms(tmp_path):
        first, *others = [predictor(image) for image in given.values()]
        for other in others:
            assert_same(other, first)


def test_a_list_gives_the_results_of_its_images_in_order(network, predictor, images):
    """Oracle: one by one. Another batch may round otherwise, so that single pixels change their class."""
    alone = [predictor(path) for path in images]
    sequence = predictor(images)
    assert isinstance(sequence, list) and predictor([]) == []
    for found, expected in zip(sequence, alone, strict=True):
        assert_same(found, expected)
    calls = []
    batched = Predictor(network, CITYSCAPES_CATEGORIES, eval_size=EVAL_SIZE, device="cpu", batch_size=2)
    predict = batched._network.predict
    batched._network.predict = lambda batch: calls.append(batch["image_ids"]) or predict(batch)
    for found, expected in zip(batched(iter(images)), alone, strict=True):
        assert (found.image_id, found.segment_ids.shape) == (expected.image_id, expected.segment_ids.shape)
        assert torch.equal(found.image, expected.image)
        assert (found.semantic == expected.semantic).float().mean() > 0.999
        assert abs(len(found.segments) - len(expected.segments)) <= 1
    # Fitted into 96x128, they have 82x128, 96x128, 27x128, 96x128, 96x20, 96x128 and 96x90 pixels.
    groups = [["0", "1"], ["3", "5"], ["2"], ["4"], ["6"]]
    assert calls == [[f"image_{number}" for number in group] for group in groups]


def test_a_bad_image_in_a_list_is_named_before_anything_is_predicted(predictor, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor._network, "predict", lambda batch: pytest.fail("a prediction was made"))
    (tmp_path / "text.jpg").write_text("no image")
    for bad, kind, message in (
        (tmp_path / "text.jpg", ValueError, "text.jpg' is not an image file of a known kind"),
        (tmp_path / "none.jpg", FileNotFoundError, "none.jpg' does not exist"),
        (tmp_path, ValueError, "is not a regular file"),
        (np.zeros((4, 4)), ValueError, r"^images\[7\] is an array of float64"),
        (7, TypeError, r"^images\[7\] is of type int"),
    ):
        with pytest.raises(kind, match=message):
            predictor([*images, bad, images[0]])
    with pytest.raises(TypeError, match=r"^The image is of type int; give a path, a PIL image"):
        predictor(7)


def test_a_stream_gives_the_results_before_a_bad_image(predictor, images, tmp_path):
    """A truncated JPEG is found out when it is decoded."""
    (tmp_path / "half.jpg").write_bytes(images[0].read_bytes()[:2000])
    stream = predictor.stream(iter([images[1], tmp_path / "half.jpg", images[2]]))
    assert_same(next(stream), predictor(images[1]))
    with pytest.raises(ValueError, match=r"half.jpg' cannot be decoded"):
        next(stream)


def test_a_stream_leaves_out_bad_images_on_request(predictor, images, tmp_path):
    """Oracle: by hand; the names are those that the caller gave."""
    (tmp_path / "half.jpg").write_bytes(images[0].read_bytes()[:2000])
    unreadable = []
    given = [images[1], tmp_path / "half.jpg", images[2], tmp_path / "none.jpg"]
    results = list(predictor.stream(given, unreadable=unreadable))
    assert [result.path for result in results] == [str(images[1]), str(images[2])]
    assert [(item.file_name, item.kind) for item in unreadable] == [
        (str(tmp_path / "half.jpg"), "is damaged"),
        (str(tmp_path / "none.jpg"), "does not exist"),
    ]
    with pytest.raises(TypeError, match=r"images\[0\] is of type int"):  # an error of the caller's own
        list(predictor.stream([7], unreadable=unreadable))


def test_files_of_one_name_are_written_beside_each_other(predictor, tmp_path):
    """Oracle: by hand."""
    paths = [tmp_path / "in" / name for name in ("a.jpg", "a.png", "sub/a.png", "sub/b.webp")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (90, 60, 30)).save(path)

    def written(out, **options):
        document = json.loads(write_coco(predictor.stream(paths), out, **options).read_text())
        assert len(list((out / "panoptic").glob("*.png"))) == len(paths)
        return [(image["id"], image["file_name"]) for image in document["images"]]

    ids = ["a", "a_png", "a_png_2", "b"]
    names = ["a.jpg", "a.png", paths[2].as_posix(), "b.webp"]
    assert written(tmp_path / "x", instances="results") == list(zip(ids, names, strict=True))
    assert (tmp_path / "x/instance_results.json").is_file()
    ids, names = ["a", "a_png", "sub_a", "sub_b"], ["a.jpg", "a.png", "sub/a.png", "sub/b.webp"]
    assert written(tmp_path / "y", root=tmp_path / "in") == list(zip(ids, names, strict=True))
    with pytest.raises(ValueError, match=r"Image '.*a\.jpg' lies outside of '.*sub'"):
        written(tmp_path / "z", root=tmp_path / "in/sub")


def test_the_network_of_the_caller_is_left_alone(images):
    """Later changes of the network do not reach the predictor; its results are the caller's to change."""
    network = TinyNetwork(11, 8).train()
    predictor = Predictor(network, CITYSCAPES_CATEGORIES, device="cpu")
    before = predictor(images[1])
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    network.head.bias.data[3] += 100
    assert_same(predictor(images[1]), before)
    assert before.segment_ids.shape == before.semantic.shape == SIZES[1]
    before.segment_ids[before.segment_ids == 1] = 0
    before.semantic.add_(1)
    assert not before.segment_ids.is_inference()


def test_the_overlay_is_painted_at_the_size_of_the_image(predictor, images):
    """Oracle: ``visualization.overlay`` on the decoded file."""
    result = predictor(images[0])
    image = np.asarray(Image.open(images[0]))
    colors = [category.color for category in CITYSCAPES_CATEGORIES]
    names = [category.name for category in CITYSCAPES_CATEGORIES]
    assert np.array_equal(np.asarray(result.overlay()), overlay(image, result.panoptic, colors, names))
    assert np.array_equal(
        np.asarray(result.overlay(alpha=0.2, names=False)), overlay(image, result.panoptic, colors, alpha=0.2)
    )


def test_written_results_are_read_back(predictor, images, tmp_path):
    """Oracle: the evaluation, which finds each segment of a file in itself, and the pixels of the PNG files."""
    results = predictor(images[:3])
    path = write_coco(results, tmp_path / "out")
    table, categories = evaluate(path, path.parent / "panoptic", path, path.parent / "panoptic")
    assert table.all.pq == 1 and categories == CITYSCAPES_CATEGORIES
    document = json.loads(path.read_text())
    assert [entry["file_name"] for entry in document["images"]] == ["image_0.jpg", "image_1.jpg", "image_2.jpg"]
    for result, entry in zip(results, document["annotations"], strict=True):
        ids = np.asarray(Image.open(path.parent / "panoptic" / entry["file_name"]), dtype=np.int64) @ [1, 256, 65536]
        assert len(entry["segments_info"]) == len(result.segments)
        for written, segment in zip(entry["segments_info"], result.segments, strict=True):
            assert np.array_equal(ids == written["id"], (result.segment_ids == segment.id).numpy())
            found = (written["category_id"], written["area"], written["score"])
            assert found == (segment.label_id, segment.area, segment.score)
    renamed = write_coco(predictor.stream([np.asarray(Image.open(images[1]))]), tmp_path / "b", image_ids=["street"])
    assert json.loads(renamed.read_text())["images"][0]["file_name"] == "street.png"
    with pytest.raises(ValueError, match="Image id 'image_0' is written twice"):
        write_coco([results[0], results[0]], tmp_path / "c")
    for ids, message in (("a", "more results than the 1 image_ids"), ("abc", "2 results for 3 image_ids")):
        with pytest.raises(ValueError, match=message):
            write_coco(results[:2], tmp_path / "d", image_ids=list(ids))
    with pytest.raises(ValueError, match="There is no result to write to"):
        write_coco([], tmp_path / "e")


@sweep(
    "options, message",
    [
        ({"device": "gpu"}, "device is 'gpu'; give 'auto', 'cpu', 'cuda' or 'cuda:1'."),
        ({"device": "cuda:97"}, "device is 'cuda:97', and PyTorch finds "),
        ({"device": "meta"}, "device is 'meta', which PyTorch does not find here; give 'auto' or 'cpu'."),
        ({"precision": "fp16"}, "precision is 'fp16'; give 'auto', '32', 'bf16' or '16'."),
        ({"eval_size": (0, 64)}, "eval_size is (0, 64); give height and width, both positive."),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more."),
    ],
)
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Predictor(TinyNetwork(11, 8), CITYSCAPES_CATEGORIES, **{"device": "cpu"} | options)


def test_a_table_of_too_few_classes_is_noticed(images):
    few = Categories(CITYSCAPES_CATEGORIES[:1])
    network = TinyNetwork(11, 8)
    network.head.bias.data[5] += 100
    with pytest.raises(ValueError, match="predicts class 5, and there are 1 categories; give the categories"):
        Predictor(network, few, device="cpu")(images[0])


def test_precisions(network, images):
    """Oracle: float32. On a CPU, "auto" is float32; bfloat16 keeps most pixels of random weights."""
    expected = Predictor(network, CITYSCAPES_CATEGORIES, eval_size=EVAL_SIZE, device=torch.device("cpu"))
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert expected.precision == "32"
    assert (
        repr(expected) == "Predictor(EfficientPS, Categories(num_stuff=11, num_things=8), eval_size=(96, 128), "
        "device='cpu', precision='32')"
    )
    rough = Predictor(network, CITYSCAPES_CATEGORIES, eval_size=EVAL_SIZE, device="cpu", precision="bf16")
    assert any(parameter.dtype == torch.bfloat16 for parameter in rough._network.parameters())
    assert (rough(images[0]).semantic == expected(images[0]).semantic).float().mean() > 0.8
