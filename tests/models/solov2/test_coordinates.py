"""Coordinates as channels."""

import torch

from efficientps.models.solov2.coordinates import with_coordinates


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
