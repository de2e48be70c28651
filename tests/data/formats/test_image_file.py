import errno

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from efficientps.data.formats.image_file import MAX_PIXELS, MAX_SIDE, UnusableImageError, read_image
from tests.sweep import sweep


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def test_png_is_read_exactly(tmp_path):
    array = pixels(5, 7, 3)
    Image.fromarray(array).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", size=(5, 7))
    assert image.shape == (3, 5, 7) and image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0), array)


@sweep("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_pixels_become_rgb(tmp_path, mode):
    """Oracle: Pillow's own conversion of the same image; alpha is dropped."""
    source = Image.fromarray(pixels(5, 7, 3)).convert(mode)
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source.save(name)
    assert np.array_equal(read_image(name).permute(1, 2, 0), np.asarray(source.convert("RGB")))


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path):
    array = pixels(5, 7, dtype=np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", upright=True)
    assert all(np.array_equal(channel, array >> 8) for channel in image)


def test_exif_turns_only_upright_images(tmp_path):
    """Oracle: orientation 6 means that the camera was turned: a quarter turn clockwise puts it right."""
    array = np.zeros((4, 8, 3), dtype=np.uint8)
    array[:, :2] = 255  # bright at the left as stored, at the top when upright
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0), array)
    upright = read_image(tmp_path / "a.png", upright=True)
    assert upright.shape == (3, 8, 4) and (upright[:, :2] == 255).all() and (upright[:, 2:] == 0).all()


def test_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Image '.*a\.png' does not exist"):
        read_image(tmp_path / "a.png")


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png' is not an image file of a known kind"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path, kind):
    Image.fromarray(pixels(64, 64, 3)).save(tmp_path / f"a.{kind}")
    whole = (tmp_path / f"a.{kind}").read_bytes()
    for part in (0.5, 0.9, 0.99):
        (tmp_path / f"a.{kind}").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(ValueError, match=rf"a\.{kind}' cannot be decoded .*; replace the file"):
            read_image(tmp_path / f"a.{kind}")


def test_another_size_than_annotated_is_named(tmp_path):
    Image.fromarray(pixels(5, 7, 3)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"is 5x7 pixels .* says 7x5; image and label must have one size"):
        read_image(tmp_path / "a.png", size=(7, 5))


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif' has floating-point pixels"):
        read_image(tmp_path / "a.tif")


def test_an_absurdly_large_image_is_refused_undecoded(tmp_path, monkeypatch):
    """Oracle: hand-worked; 8 x 8 = 64 pixels. Decoding fails the test."""
    Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=64).shape == (3, 8, 8)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(UnusableImageError, match=r"a\.png' is 8x8 pixels .* and 63 in all are read; cut it into tiles"):
        read_image(tmp_path / "a.png", max_pixels=63)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnusableImageError, match=r"a\.png' has more pixels than Pillow reads, and at most 64 are read"):
        read_image(tmp_path / "a.png", max_pixels=64)


def test_the_limits_leave_room_for_real_data():
    """Oracle: sizes of Cityscapes, and of the largest tiles of iSAID (aerial) and Potsdam."""
    for height, width in ((1024, 2048), (6000, 6000), (4000, 13000)):
        assert height * width <= MAX_PIXELS and max(height, width) <= MAX_SIDE
    assert MAX_PIXELS <= 2 * Image.MAX_IMAGE_PIXELS, "Pillow refuses before"


@sweep("kind", ["GIF", "EPS", "ICNS", "TGA"])
def test_other_formats_than_the_listed_ones_are_refused(tmp_path, kind):
    """An EPS file is a program, which Pillow would hand to Ghostscript."""
    Image.fromarray(pixels(16, 16, 3)).save(tmp_path / "a.png", format=kind)
    with pytest.raises(UnusableImageError, match=r"a\.png' is not an image file of a known kind"):
        read_image(tmp_path / "a.png")


def test_every_flipped_byte_of_a_png_is_found(tmp_path):
    """Oracle: checksums cover every byte of a PNG up to its last chunk, 12 bytes without content."""
    Image.fromarray(pixels(9, 9, 3)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for place in range(len(whole) - 12):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (tmp_path / "a.png").write_bytes(changed)
        with pytest.raises(UnusableImageError, match=r"a\.png' (is not an image|cannot be decoded|is \d+x|has more)"):
            read_image(tmp_path / "a.png")


def test_a_failing_disk_is_no_bad_image(tmp_path, monkeypatch):
    """Oracle: the error of the system comes through with its number and the name of the file."""

    def fail(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error")

    Image.fromarray(pixels(4, 4, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*a\.png'") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.errno == errno.EIO
