import numpy as np
import pytest

from benchmarks.panoptic_quality import official_core, run
from benchmarks.scenes import segments_pair

NAMES = ("tp", "fp", "fn", "iou")


def test_core_on_decoded_ids_counts_what_it_counts_on_files(tmp_path, monkeypatch):
    # Oracle: the same function of cityscapesscripts, reading PNG files.
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
    from PIL import Image

    prediction, target = segments_pair(12, (128, 256))
    annotations = []
    for name, side in (("target", target), ("prediction", prediction)):
        ids = side.segment_ids.numpy()
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(tmp_path / f"{name}.png")
        infos = [
            {"id": s.id, "category_id": s.train_id, "iscrowd": 0, "area": int((ids == s.id).sum())}
            for s in side.segments
        ]
        annotations.append({"image_id": "a", "file_name": f"{name}.png", "segments_info": infos})
    categories = {train_id: {"id": train_id, "isthing": int(train_id >= 11)} for train_id in range(19)}
    from_files = official.pq_compute_single_core(0, [annotations], str(tmp_path), str(tmp_path), categories)
    decoded = official_core(prediction, target)()
    assert sum(decoded[train_id].tp for train_id in range(19)) > 3
    for train_id in range(19):
        for name in NAMES:
            assert getattr(decoded[train_id], name) == getattr(from_files[train_id], name)


def test_the_counts_are_those_of_cityscapesscripts():
    # Oracle: the claim itself; our numbers are those of cityscapesscripts.
    report = run(size=(128, 256), segments=12, rounds=1)
    assert [row.side for row in report.rows] == ["EfficientPS", "cityscapesscripts", "torchmetrics"]
    assert report.rows[0].figures["largest_difference"] == pytest.approx(0, abs=1e-9)
    assert report.bars[2].reached
