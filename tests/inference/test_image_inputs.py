"""Every kind of image a caller may have, and what is no image."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from efficientps.inference.image_inputs import check_input, read_input
from tests.sweep import sweep

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


def forms(folder):
    """Return the same picture in every form, and the same grey picture in every form."""
    Image.fromarray(PIXELS).save(folder / "a.png")
    Image.fromarray(GREY).save(folder / "grey.png")
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    colour = {
        "str": str(folder / "a.png"),
        "Path": folder / "a.png",
        "PIL file": Image.open(folder / "a.png"),
        "PIL": Image.fromarray(PIXELS),
        "array": PIXELS,
        "array, not contiguous": np.asfortranarray(PIXELS),
        "array with alpha": np.dstack([PIXELS, GREY]),
        "tensor": tensor.contiguous(),
        "tensor, channels last": tensor,
        "float32": (tensor / 255).requires_grad_(),
        "float64": tensor.double() / 255,
        "float16": (tensor / 255).half(),
    }
    grey = {
        "file": folder / "grey.png",
        "PIL": Image.fromarray(GREY),
        "array": GREY,
        "tensor": tensor[:1].expand(3, -1, -1),
    }
    return colour, grey


def test_all_forms_give_the_same_pixels(tmp_path):
    """Oracle: the array that the forms were made from; strides decide how resizing rounds, so they agree as well."""
    for given, expected in zip(forms(tmp_path), (PIXELS, np.dstack([GREY] * 3)), strict=True):
        for name, image in given.items():
            found = read_input(image, name)
            assert found.dtype == torch.uint8 and not found.requires_grad, name
            assert found.stride() == (1, 3 * 53, 3), name
            np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected, err_msg=name)


def test_files_and_pil_images_are_turned_upright(tmp_path):
    """Oracle: EXIF orientation 6, which asks for a turn by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(PIXELS, k=-1)
    for image in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        np.testing.assert_array_equal(read_input(image, "image").permute(1, 2, 0).numpy(), upright)


@sweep(
    "value, kind, message",
    [
        (None, TypeError, "images[2] is of type NoneType; give a path, a PIL image, an array or a tensor, or a list"),
        (b"photo.jpg", TypeError, "images[2] is of type bytes"),
        (
            np.zeros((3, 4, 5, 3), np.uint8),
            ValueError,
            "array of shape [3, 4, 5, 3]; give [h, w, 3], [h, w, 4] or [h, w]",
        ),
        (np.zeros((3, 20, 30), np.uint8), ValueError, "array of shape [3, 20, 30]"),
        (np.zeros((0, 20, 3), np.uint8), ValueError, "array of shape [0, 20, 3]"),
        (np.zeros((20, 30, 3)), ValueError, "array of float64; give uint8, values from 0 to 255"),
        (torch.zeros(1, 3, 20, 30), ValueError, "tensor of shape [1, 3, 20, 30]; give [3, h, w], or a list of these"),
        (torch.zeros(20, 30, 3), ValueError, "tensor of shape [20, 30, 3]; give [3, h, w]"),
        (torch.zeros(3, 20, 30, dtype=torch.int64), ValueError, "tensor of torch.int64; give uint8, or floating point"),
    ],
)
def test_what_is_no_image_is_refused_before_it_is_read(value, kind, message):
    """Oracle: the message; reading refuses it as well."""
    for function in (check_input, read_input):
        with pytest.raises(kind, match=re.escape(message)) as caught:
            function(value, "images[2]")
        assert str(caught.value).startswith("images[2] is ") and "\n" not in str(caught.value)


@sweep(
    "value, message",
    [
        (torch.full((3, 4, 5), 1.5), "values from 1.5 to 1.5; give values within [0, 1] that are not normalised"),
        (torch.full((3, 4, 5), -1.0), "values from -1 to -1"),
        (torch.full((3, 4, 5), float("nan")), "values from nan to nan"),
        (Image.new("F", (4, 5)), "has floating-point pixels; convert it to 8 or 16 bits per channel"),
    ],
)
def test_values_that_are_no_pixels_are_refused(value, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_input(value, "images[2]")
    assert str(caught.value).startswith("images[2] ")


def test_a_pil_image_with_half_a_file_is_refused(tmp_path):
    """Pillow decodes when the pixels are asked for."""
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    os.truncate(path, path.stat().st_size - 200)
    with Image.open(path) as image, pytest.raises(ValueError, match=r"^images\[2\] cannot be decoded \(.*truncated"):
        read_input(image, "images[2]")
