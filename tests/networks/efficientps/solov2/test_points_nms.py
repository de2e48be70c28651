"""Points NMS."""

import torch

from efficientps.networks.efficientps.solov2.points_nms import suppress_neighbours
from tests.sweep import sweep


def test_neighbours_yield_as_published():
    """Oracle: hand-worked; up, left and up-left suppress, the others do not, and classes do not mix."""
    scores = torch.zeros(1, 2, 3, 3)
    scores[0, 0] = torch.tensor([[0.5, 0.4, 0.0], [0.3, 0.6, 0.0], [0.0, 0.0, 0.7]])
    scores[0, 1, 0, 1] = 0.1
    expected = torch.zeros(1, 2, 3, 3)
    expected[0, 0] = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.7]])
    expected[0, 1, 0, 1] = 0.1
    assert torch.equal(suppress_neighbours(scores), expected)


@sweep("window", [1, 2, 3, 4])
def test_windows_of_any_size(window):
    """Oracle: the highest score in each cell's window, by a loop."""
    scores = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    suppressed = suppress_neighbours(scores, window)[0, 0]
    for row in range(6):
        for column in range(7):
            top, left = row - window // 2, column - window // 2
            seen = scores[0, 0, max(0, top) : top + window, max(0, left) : left + window]
            score = scores[0, 0, row, column]
            assert suppressed[row, column] == (score if score == seen.max() else 0)
