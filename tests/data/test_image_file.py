import numpy as np
import pytest
import torch
from PIL import Image

from efficientps.data.image_file import read_image


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def test_png_is_read_exactly(tmp_path):
    array = pixels(5, 7, 3)
    Image.fromarray(array).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", size=(5, 7))
    assert image.shape == (3, 5, 7) and image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0), array)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
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
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png' cannot be decoded .*exceeds limit"):
        read_image(tmp_path / "a.png")
