"""Points NMS."""

import torch

from efficientps.networks.efficientps.solov2.points_nms import suppress_neighbours


def test_neighbours_yield_as_published():
    """Oracle: hand-worked; up, left and up-left suppress, the others do not, and classes do not mix."""
    scores = torch.zeros(1, 2, 3, 3)
    scores[0, 0] = torch.tensor([[0.5, 0.4, 0.0], [0.3, 0.6, 0.0], [0.0, 0.0, 0.7]])
    scores[0, 1, 0, 1] = 0.1
    expected = torch.zeros(1, 2, 3, 3)
    expected[0, 0] = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.7]])
    expected[0, 1, 0, 1] = 0.1
    assert torch.equal(suppress_neighbours(scores), expected)
