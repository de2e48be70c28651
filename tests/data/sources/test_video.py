"""Videos to predict on; PyAV, the package that reads them, also writes the clips."""

import builtins
from fractions import Fraction

import numpy as np
import pytest
import torch

from efficientps.data.sources.images_at import images_at

av = pytest.importorskip("av")


def write(path, frames=20, rate=25):
    """Write frames of noise, of 48x64 pixels."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(frames):
            frame = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_are_read_in_any_order(tmp_path):
    """Oracle: PyAV's own decoding from the start."""
    path = write(tmp_path / "a.b.mkv", frames=9, rate=Fraction(30000, 1001))
    dataset = images_at(str(path))
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(dataset) == len(frames) == 9 and not dataset.left_out
    assert dataset.frames_per_second == Fraction(30000, 1001)
    for number in (0, 1, 5, 2, 8, 8):
        sample = dataset[number]
        assert sample["image_id"] == f"a.b_{number:06d}"
        assert torch.equal(sample["image"].permute(1, 2, 0), torch.from_numpy(frames[number]))


def test_a_video_that_is_cut_off_is_reported(tmp_path):
    """Oracle: the header of the file, which still has the whole duration."""
    path = write(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    dataset = images_at(str(path))
    assert 0 < len(dataset) < 18
    (problem,) = dataset.left_out
    assert f"has {len(dataset)} frames where its duration makes 20" in problem.kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text.mp4", r"text\.mp4' is not a video that can be read \(Invalid data found when processing input\)"),
        ("empty.mov", r"empty\.mov' is not a video that can be read"),
        ("cut.mp4", r"cut\.mp4' is not a video that can be read"),
        ("sound.mp4", r"sound\.mp4' has sound and no video"),
    ],
)
def test_what_is_no_video_is_refused(name, message, tmp_path):
    path = tmp_path / name
    path.write_bytes({"text.mp4": b"no video", "empty.mov": b""}.get(name, b""))
    if name == "cut.mp4":  # the table of an MP4 file stands at its end
        path.write_bytes(write(tmp_path / "a.mp4").read_bytes()[:-3000])
    if name == "sound.mp4":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            sound.rate = 8000
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
    with pytest.raises(ValueError, match=message):
        images_at(str(path))


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    """Oracle: by hand; the import of PyAV fails."""
    path = write(tmp_path / "a.mp4", frames=1)
    found = builtins.__import__

    def without(name, *arguments, **options):
        if name == "av":
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package av \(PyAV\), which is not installed; install it"):
        images_at(str(path))
