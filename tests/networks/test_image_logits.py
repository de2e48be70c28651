"""Logits of a canvas at the size of the image file, against a loop over pixels in float64."""

import pytest
import torch

from efficientps.networks import image_logits
from efficientps.networks.image_logits import CanvasLogits, DenseLogits, logits_of_image
from tests.sweep import sweep

CASES = {
    "twice as large": ((6, 8), (24, 32), (24, 32), (48, 64)),
    "odd sizes and padding": ((8, 16), (32, 64), (27, 50), (61, 97)),
    "another ratio of height and width": ((8, 16), (32, 64), (32, 40), (33, 200)),
    "smaller than the network's": ((8, 8), (32, 32), (30, 32), (7, 11)),
    "one pixel high": ((8, 16), (32, 64), (1, 64), (1, 130)),
    "one pixel wide": ((16, 8), (64, 32), (64, 1), (131, 1)),
    "one cell": ((1, 1), (4, 4), (3, 2), (9, 5)),
    "stride 8": ((4, 8), (32, 64), (20, 64), (45, 128)),
}
"""Cells of the grid, canvas, size of the image on it, and size of the image file."""


def naive(logits, canvas, image_size, size):
    """Interpolate pixel by pixel, in float64; nothing is cropped, for each pixel is looked up by itself."""
    (_, m, n), (height, width) = logits.shape, size
    grid, result = logits.double(), torch.zeros(len(logits), height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            y = (row + 0.5) / height * image_size[0] / canvas[0] * m - 0.5
            x = (column + 0.5) / width * image_size[1] / canvas[1] * n - 0.5
            y, x = min(max(y, 0.0), m - 1.0), min(max(x, 0.0), n - 1.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, m - 1), min(x0 + 1, n - 1)
            top = grid[:, y0, x0] * (1 - x + x0) + grid[:, y0, x1] * (x - x0)
            bottom = grid[:, y1, x0] * (1 - x + x0) + grid[:, y1, x1] * (x - x0)
            result[:, row, column] = top * (1 - y + y0) + bottom * (y - y0)
    return result


@sweep("case", CASES)
def test_every_way_to_read_logits_equals_a_loop_over_pixels(case):
    """Oracle: the definition of bilinear interpolation, written as a loop in float64."""
    cells, canvas, image_size, size = CASES[case]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, *cells, generator=generator)
    read = logits_of_image(logits, canvas=canvas, image_size=image_size, size=size)
    assert isinstance(read, CanvasLogits) and read.size == size and len(read) == 3
    expected = naive(logits, canvas, image_size, size).float()
    whole = torch.cat([stripe for _, stripe in read.stripes()], dim=1)
    torch.testing.assert_close(whole, expected, rtol=0, atol=2e-6)
    height, width = size
    channel = torch.randint(3, (200,), generator=generator, dtype=torch.int32)
    y = torch.randint(height, (200,), generator=generator, dtype=torch.int32)
    x = torch.randint(width, (200,), generator=generator, dtype=torch.int32)
    assert torch.equal(read.at(channel, y, x), whole[channel, y, x])  # to the last bit
    for x0, y0, x1, y1 in ((0, 0, width, height), (width // 2, height // 3, width, height), (0, 0, 1, 1)):
        assert torch.equal(read.window(1, (x0, y0, x1, y1)), whole[1, y0:y1, x0:x1])


@sweep("case", CASES)
def test_an_image_at_its_own_size_is_enlarged_as_a_whole(case):
    """Oracle: ``interpolate`` to the canvas and a crop, to the last bit; and the loop over pixels."""
    cells, canvas, image_size, _ = CASES[case]
    logits = torch.randn(2, *cells, generator=torch.Generator().manual_seed(1))
    read = logits_of_image(logits, canvas=canvas, image_size=image_size, size=image_size)
    assert isinstance(read, DenseLogits)
    ((rows, whole),) = read.stripes()
    expected = torch.nn.functional.interpolate(logits[None], size=canvas, mode="bilinear")[0]
    assert torch.equal(whole, expected[:, : image_size[0], : image_size[1]])
    torch.testing.assert_close(whole, naive(logits, canvas, image_size, image_size).float(), rtol=0, atol=2e-6)
    assert rows == slice(0, image_size[0]) and read.size == image_size


@pytest.mark.parametrize("values_at_once", [1, 1000])
def test_stripes_give_what_one_stripe_gives(values_at_once, monkeypatch):
    """Oracle: the image in one stripe, to the last bit."""
    cells, canvas, image_size, size = CASES["odd sizes and padding"]
    logits = torch.randn(3, *cells, generator=torch.Generator().manual_seed(2))
    read = logits_of_image(logits, canvas=canvas, image_size=image_size, size=size)
    ((_, whole),) = read.stripes()
    monkeypatch.setattr(image_logits, "_VALUES_ON_CPU", values_at_once)
    stripes = list(read.stripes())
    assert len(stripes) == {1: 61, 1000: 21}[values_at_once]  # 97 columns of 3 channels: 3 rows have 873 values
    assert torch.equal(torch.cat([stripe for _, stripe in stripes], dim=1), whole)
    assert [rows.start for rows, _ in stripes] == [0, *(rows.stop for rows, _ in stripes)][:-1]


def test_pixels_of_a_large_image_are_told_apart():
    """Oracle: hand-worked; a ramp of one per cell rises by 1/64 from one pixel to the next, 60000 pixels wide."""
    ramp = torch.arange(1000.0).expand(1, 1, 1000)
    read = logits_of_image(ramp, canvas=(4, 4000), image_size=(4, 4000), size=(1, 64000))
    values = read.window(0, (60000, 0, 60008, 1))[0].double()
    expected = (torch.arange(60000, 60008, dtype=torch.float64) + 0.5) / 64 - 0.5
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4)
