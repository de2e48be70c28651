import numpy as np
from pycocotools import mask as pycocotools_mask

from efficientps.structures.run_length import encode_segments, encode_window
from tests.sweep import sweep


def reference(mask):
    encoded = pycocotools_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@sweep("window", [(0, 0, 9, 7), (2, 1, 5, 6), (0, 0, 3, 7), (6, 3, 9, 7), (4, 0, 5, 1)])
@sweep("density", [0.0, 0.3, 0.8, 1.0])
def test_windows_equal_pycocotools_on_the_whole_image(window, density):
    # Oracle: pycocotools on the mask of the whole image; full columns, whose runs join, among them.
    rng = np.random.default_rng(0)
    x0, y0, x1, y1 = window
    for _ in range(5):
        mask = rng.random((y1 - y0, x1 - x0)) < density
        whole = np.zeros((7, 9), dtype=bool)
        whole[y0:y1, x0:x1] = mask
        assert encode_window(mask, window, (7, 9)) == reference(whole)


@sweep("size", [(1, 1), (1, 6), (6, 1), (8, 13)])
def test_segments_equal_pycocotools_one_by_one(size):
    # Oracle: pycocotools on the mask of each id.
    rng = np.random.default_rng(1)
    for _ in range(10):
        ids = rng.choice([0, 5, 26001, 16_777_215], size, p=[0.1, 0.6, 0.2, 0.1]).astype(np.int32)
        got = encode_segments(ids)
        assert got.keys() == set(np.unique(ids).tolist())
        for segment_id, encoded in got.items():
            assert encoded == reference(ids == segment_id)
