"""Check every sample of a data set of any format for faults that would stop a training.

Training stops at the first sample that it cannot read; this check reads every sample and lists the fault of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from efficientps.data.dataset import PanopticDataset
from efficientps.data.entries import SegmentEntry
from efficientps.data.grey_values import GreyValues, grey_values, remark_on_range
from efficientps.data.tools.report import ClassCounts, DatasetReport
from efficientps.structures.segment_runs import areas_of


def check_dataset(
    dataset: PanopticDataset,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read every sample as training would, without augmentation.

    Args:
        dataset: the data set; its cache, if it has one, is what is read.
        workers: how many samples are read at a time; by default one for each core.
        progress: called with (images done, images in all).
    """
    report = DatasetReport(images=len(dataset))
    counts = ClassCounts(dataset.categories)

    grey: list[GreyValues] = []

    def look(index: int) -> tuple[list[SegmentEntry], dict[int, int]] | str:
        try:
            reading = dataset.checked(index)
            for segment in reading.segments:
                dataset.categories.train_id(segment.category_id)
        except (OSError, ValueError) as error:
            return f"Image '{dataset.entries[index].image_id}': {error}"
        files = dataset.entries[index].files
        if files and (values := grey_values(files[0])):
            grey.append(values)
        return list(reading.segments), areas_of(reading.segment_ids.numpy())

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        try:
            for done, found in enumerate(pool.map(look, range(len(dataset))), start=1):
                if isinstance(found, str):
                    report.problems.add(found)
                    report.bad_images += 1
                else:
                    counts.add(*found)
                    report.count(found[1])
                if progress is not None:
                    progress(done, len(dataset))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C would wait for all samples
            raise
    report.classes = counts.result()
    report.remark_on_classes()
    if remark := remark_on_range(grey, grey_range=dataset.options.grey_range):
        report.remarks.add(remark)
    return report
