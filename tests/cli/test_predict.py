"""Predictions through the command line: every file is accounted for, whatever it holds."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.cli.train import LEFT_OUT_EXIT_CODE
from efficientps.data.formats.coco_json import read_panoptic_json
from tests.command_line import refuse, run

SIZE = (30, 45)


@pytest.fixture
def checkpoint(trained_run, tmp_path):
    """The last checkpoint of a copy of the shared run, whose configuration writes into the copy."""
    shutil.copytree(trained_run, tmp_path / "runs")
    saved = tmp_path / "runs/version_0/config.yaml"
    saved.write_text(saved.read_text().replace(str(trained_run), str(tmp_path / "runs")))
    return tmp_path / "runs/version_0/checkpoints/last.ckpt"


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def save(path, **options):
    """Save noise as an image of the kind that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(*SIZE, 3)).save(path, **options)
    return path


def predict(checkpoint, path, *options):
    out = checkpoint.parents[3] / "out"
    code = run(
        "predict", "--ckpt_path", checkpoint, "--data.predict_path", path, "--predictions.output_dir", out, *options
    )
    return code if isinstance(code, int) else 0, out


def names(out):
    """The names of the images in the JSON, which must be a whole one; each has a map of its size."""
    document = json.loads((out / "panoptic.json").read_text())
    sizes = {}
    for entry in read_panoptic_json(out / "panoptic.json"):
        with Image.open(out / "panoptic" / entry.map_file_name) as picture:
            sizes[entry.image_id] = (picture.height, picture.width)
    assert {str(image["id"]): (image["height"], image["width"]) for image in document["images"]} == sizes
    return sorted(image["file_name"] for image in document["images"])


def write_folder(root):
    """Write 20 files of many kinds; return the names of the images that can be read."""
    good = [save(root / name) for name in ("a.jpg", "a.png", "sub/b.webp", "sub_b.webp", "c.tif")]
    good.append(save(root / "d.jpg").rename(root / "d.JFIF"))
    exif = Image.Exif()
    exif[0x0112] = 6
    good.append(save(root / "turned.jpg", exif=exif))
    good.append(root / "deep.png")
    Image.fromarray(noise(*SIZE, dtype=np.uint16)).save(good[-1])
    good.append(root / "wrong_ending.png")
    save(root / "jpeg.jpg").rename(good[-1])
    good.append(root / "large.png")
    Image.new("L", (60, 50)).save(good[-1])
    whole = save(root / "whole.jpg").read_bytes()
    (root / "whole.jpg").unlink()
    bad = {
        "truncated.jpg": whole[:700],
        "empty.png": b"",
        "text.jpg": b"no image",
        "huge.ppm": b"P6 60000 60000 255\n",
        "._a.jpg": b"\x00\x05\x16\x07",
        ".hidden/a.jpg": whole,
        "photo.HEIC": b"ftypheic",
        "notes.txt": b"text",
        "Thumbs.db": b"thumbs",
        "clip.mp4": b"clip",
    }
    for name, content in bad.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    assert sum(path.is_file() for path in root.rglob("*")) == 20
    return sorted(path.relative_to(root).as_posix() for path in good)


def test_every_file_of_a_folder_is_accounted_for(checkpoint, tmp_path, capfd, monkeypatch):
    """Oracle: the files by hand. 10 are predicted, 5 left out, 5 no images; no library warns."""
    good = write_folder(tmp_path / "images")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow then warns of large.png
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        code, out = predict(checkpoint, tmp_path / "images", "--predictions.overlays=false", "--data.eval_batch_size=3")
    assert code == LEFT_OUT_EXIT_CODE
    assert names(out) == good
    printed = capfd.readouterr()
    assert f"10 predictions written to {out}.\n5 skipped:\n" in printed.out
    assert "5 left out, without a prediction:\n" in printed.err and "Warning" not in printed.err
    for name in ("truncated.jpg", "empty.png", "text.jpg", "huge.ppm", "photo.HEIC"):
        assert name in printed.err
    for name in ("._a.jpg", ".hidden/", "notes.txt", "Thumbs.db", "clip.mp4"):
        assert name in printed.out
    assert "2 of this kind" in printed.err and "an image of a kind that is not read (.heic)" in printed.err
    code, out = predict(checkpoint, tmp_path / "images/sub", "--predictions.overlays=false")
    assert code == 0 and names(out) == ["b.webp"]


def test_a_prediction_without_a_readable_image_fails(checkpoint, tmp_path, capfd):
    """Oracle: by hand; one file, and a folder of two."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_text("no image")
    for path, more in ((tmp_path / "images/a.jpg", ""), (tmp_path / "images", " None of the 2 images can be read.")):
        options = ["--data.predict_path", path, "--predictions.output_dir", tmp_path / "out"]
        sentence = refuse(capfd, "predict", "--ckpt_path", checkpoint, *options)
        image = tmp_path / "images/a.jpg"
        assert sentence == f"error: Image '{image}' is not an image file of a known kind.{more}"
    assert not (tmp_path / "out/panoptic.json").exists()


def test_images_of_a_json_without_annotations_keep_ids_and_names(checkpoint, tmp_path, capfd):
    """Oracle: the JSON itself; one image is missing, and one has the size that it states only upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "photos/000000000139.jpg")
    save(tmp_path / "photos/more/x.jpg", exif=exif)
    images = [
        {"id": 139, "file_name": "000000000139.jpg", "height": SIZE[0], "width": SIZE[1]},
        {"id": "7", "file_name": "more/x.jpg", "height": SIZE[1], "width": SIZE[0]},
        {"id": 8, "file_name": "gone.jpg", "height": 3, "width": 3},
    ]
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"info": {}, "images": images, "categories": []}))
    code, out = predict(checkpoint, path, "--data.predict_images", tmp_path / "photos")
    assert code == LEFT_OUT_EXIT_CODE and "gone.jpg' does not exist" in capfd.readouterr().err
    document = json.loads((out / "panoptic.json").read_text())
    assert sorted(document["images"], key=lambda image: -int(image["id"])) == images[:2]
    assert {item["image_id"] for item in document["annotations"]} == {139, "7"}
    options = ["--data.predict_path", tmp_path / "photos", "--data.predict_images", tmp_path]
    assert "is no JSON that lists images of that folder" in refuse(
        capfd, "predict", "--ckpt_path", checkpoint, *options
    )


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_a_video_gives_a_video(rate, checkpoint, tmp_path):
    """Oracle: PyAV, which wrote the clip and counts the frames of the result; a shift of the frames would show."""
    av = pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        for number in range(7):
            frame = np.full((48, 80, 3), 30 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    code, out = predict(checkpoint, clip, "--predictions.instances=results")
    assert code == 0 and names(out) == [f"clip_{number:06d}.png" for number in range(7)]
    with av.open(str(out / "clip_overlay.mp4")) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(frames) == 7 and stream.average_rate == rate
    means = [frame.mean() for frame in frames]
    assert means == sorted(means) and means[-1] > means[0] + 20
    assert not (out / "overlays").exists()
    assert json.loads((out / "instance_results.json").read_text()) == []  # the tiny network draws no things


def predict_by_two(checkpoint, path, out, *options):
    """Predict with two processes; return the exit code and what they wrote to stderr."""
    environment = os.environ | {"PYTHONPATH": str(DEFAULT_CONFIG.parent), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(DEFAULT_CONFIG.with_name("train_net.py")), "predict", "--ckpt_path", str(checkpoint)]
    words += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.predict_path", str(path)]
    words += ["--predictions.output_dir", str(out), "--predictions.instances", "annotations", *options]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_two_processes_leave_out_the_same_and_keep_the_good_ones_of_a_failure(checkpoint, tmp_path):
    """Oracle: the names by hand. The second process meets the bad image at last, when the first has written all."""
    for number in range(7):
        save(tmp_path / f"images/{number}.png")
    (tmp_path / "images/7.png").write_text("no image")
    code, printed = predict_by_two(checkpoint, tmp_path / "images", tmp_path / "kept")
    assert code == LEFT_OUT_EXIT_CODE and "1 left out, without a prediction:" in printed
    assert names(tmp_path / "kept") == [f"{number}.png" for number in range(7)]
    code, printed = predict_by_two(checkpoint, tmp_path / "images", tmp_path / "strict", "--predictions.strict=true")
    assert code not in (0, LEFT_OUT_EXIT_CODE) and "7.png' is not an image file of a known kind" in printed
    found = names(tmp_path / "strict")
    assert set(found) >= {"1.png", "3.png", "5.png"} and len(found) >= 5
    assert len(json.loads((tmp_path / "strict/instances.json").read_text())["images"]) == len(found)
    code, _ = predict_by_two(checkpoint, tmp_path / "images", tmp_path / "strict")
    assert not list((tmp_path / "strict").glob("*.partial"))
