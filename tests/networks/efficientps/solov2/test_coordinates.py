"""Coordinates as channels."""

import math

import torch

from efficientps.networks.efficientps.solov2.coordinates import (
    append_maps,
    coordinates,
    fourier_features,
    is_channels_last,
)
from tests.sweep import sweep


def with_coordinates(x):
    return append_maps(x, coordinates(*x.shape[-2:], x.dtype, is_channels_last(x), device=x.device))


def with_fourier_features(x, octaves):
    return append_maps(x, fourier_features(*x.shape[-2:], octaves, x.dtype, is_channels_last(x), device=x.device))


def test_features_stay_and_corners_are_the_unit_square():
    """Oracle: definition; x grows along a row, y along a column."""
    x = torch.randn(2, 3, 5, 7)
    result = with_coordinates(x)
    assert torch.equal(result[:, :3], x)
    assert torch.equal(result[0, 3:, 0, 0], torch.tensor([-1.0, -1.0]))
    assert torch.equal(result[1, 3:, -1, -1], torch.tensor([1.0, 1.0]))
    assert (result[:, 3].diff(dim=2) > 0).all()
    assert (result[:, 4].diff(dim=1) > 0).all()


def test_type_is_kept():
    """Oracle: contract; half precision stays half."""
    assert with_coordinates(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_waves_follow_their_formula():
    """Oracle: loops over cells; sine before cosine, slow before fast, x before y."""
    x = torch.randn(2, 3, 4, 6)
    result = with_fourier_features(x, 3)
    assert result.shape == (2, 3 + 12, 4, 6)
    assert torch.equal(result[:, :3], x)
    for row in range(4):
        for column in range(6):
            angles = [math.pi * 2**k * place for place in ((column + 0.5) / 6, (row + 0.5) / 4) for k in range(3)]
            waves = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
            torch.testing.assert_close(result[1, 3:, row, column], torch.tensor(waves), atol=1e-6, rtol=0)


def test_no_octaves_change_nothing():
    x = torch.randn(1, 3, 4, 6)
    assert torch.equal(with_fourier_features(x, 0), x)


def test_waves_keep_type_and_layout():
    x = torch.zeros(1, 2, 2, 2, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    result = with_fourier_features(x, 1)
    assert result.dtype == torch.bfloat16
    assert result.is_contiguous(memory_format=torch.channels_last)


@sweep("row, column", [(0, 0), (7, 15), (3, 9)])
def test_the_waves_of_a_cell_as_a_kernel_point_at_its_place(row, column):
    """Oracle: cos(a - b) = cos a cos b + sin a sin b; the maps of different sizes share their places."""
    kernel = with_fourier_features(torch.zeros(1, 0, 8, 16), 4)[0, :, row, column]
    response = torch.einsum("k,khw->hw", kernel, with_fourier_features(torch.zeros(1, 0, 24, 48), 4)[0])
    assert divmod(int(response.argmax()), 48) == (3 * row + 1, 3 * column + 1)
