import numpy as np
import pytest
import torch

from efficientps.metrics.joint_areas import joint_runs
from efficientps.structures import segment_runs as module
from efficientps.structures.segment_runs import _runs_on_cpu, _runs_on_device
from tests.sweep import sweep


def joint_areas(rows, columns, row_ids, column_ids):
    (runs,) = joint_runs(rows, columns)
    return runs.areas(row_ids, column_ids)


def naive(rows, columns, row_ids, column_ids):
    areas = np.zeros((len(row_ids) + 1, len(column_ids) + 1), dtype=np.int64)
    for row, column in zip(rows.flatten().tolist(), columns.flatten().tolist(), strict=True):
        i = row_ids.index(row) if row in row_ids else len(row_ids)
        j = column_ids.index(column) if column in column_ids else len(column_ids)
        areas[i, j] += 1
    return areas


@sweep("size", [(1, 1), (1, 7), (6, 1), (9, 11)])
def test_counts_are_those_of_a_naive_loop(size):
    # Oracle: naive loop over the pixels; unlisted, negative and huge ids among them, lists out of order. The ids of
    # the rows lie near each other and those of the columns do not: they are looked up in different ways.
    rng = np.random.default_rng(0)
    ids = [0, 26001, 7, 16_777_215, -3, 999]
    for _ in range(20):
        rows = torch.from_numpy(rng.choice(ids, size).astype(np.int32))
        columns = torch.from_numpy(rng.choice(ids, size).astype(np.int32))
        got = joint_areas(rows, columns, [26001, 0, 7], [16_777_215, 7, -3, 0])
        assert got.dtype == torch.int64
        np.testing.assert_array_equal(got.numpy(), naive(rows, columns, [26001, 0, 7], [16_777_215, 7, -3, 0]))


def test_any_integer_type_and_layout():
    # Oracle: naive loop; a byte map (semantic) against a transposed, hence not contiguous, int32 map.
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.integers(0, 3, (8, 5)).astype(np.int32)).T
    columns = torch.from_numpy(rng.choice([0, 1, 255], (5, 8)).astype(np.uint8))
    got = joint_areas(rows, columns, [0, 1, 2], [0, 1, 255])
    np.testing.assert_array_equal(got.numpy(), naive(rows, columns, [0, 1, 2], [0, 1, 255]))


def test_empty_map_and_empty_lists():
    # Oracle: by hand; no pixels count nothing, and with no ids everything is unlisted.
    assert joint_areas(torch.zeros(0, 4).int(), torch.zeros(0, 4).int(), [1], [2]).sum() == 0
    assert joint_areas(torch.ones(2, 3).int(), torch.ones(2, 3).int(), [], []).tolist() == [[6]]


def test_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"one size \[h, w\], and are \[2, 3\] and \[3, 2\]"):
        joint_areas(torch.zeros(2, 3).int(), torch.zeros(3, 2).int(), [0], [0])


@sweep("pixels", [0, 1, 2, 500])
def test_both_ways_to_find_runs_agree(pixels):
    # Oracle: NumPy's way against torch's, on the CPU; lengths fill the map.
    rng = np.random.default_rng(3)
    rows = torch.from_numpy(np.repeat(rng.integers(0, 3, pixels), 4)[:pixels].astype(np.int32))
    columns = torch.from_numpy(np.repeat(rng.integers(0, 3, pixels), 3)[:pixels].astype(np.uint8))
    for numpy_way, torch_way in zip(_runs_on_cpu(rows, columns), _runs_on_device(rows, columns), strict=True):
        np.testing.assert_array_equal(numpy_way, torch_way)
    assert _runs_on_cpu(rows, columns)[2].sum() == pixels


@sweep("stretch", [1, 3, 39, 40, 41])
def test_counts_do_not_depend_on_where_the_pixels_are_cut(stretch, monkeypatch):
    # Oracle: naive loop; cuts before, at and after the last of 40 pixels.
    rng = np.random.default_rng(4)
    rows = torch.from_numpy(np.repeat(rng.integers(0, 3, 10), 4).astype(np.int32)).view(5, 8)
    columns = torch.from_numpy(np.repeat(rng.integers(0, 3, 8), 5).astype(np.int32)).view(5, 8)
    monkeypatch.setattr(module, "_STRETCH", stretch)
    got = joint_areas(rows, columns, [0, 1, 2], [2, 0])
    np.testing.assert_array_equal(got.numpy(), naive(rows, columns, [0, 1, 2], [2, 0]))


@pytest.mark.parametrize("find_runs", [_runs_on_cpu, _runs_on_device])
def test_a_map_beside_two_others(find_runs, monkeypatch):
    # Oracle: naive loop over each pair; what one of the others does changes nothing for the other.
    rng = np.random.default_rng(5)
    rows, first, second = (
        torch.from_numpy(np.repeat(rng.integers(0, 4, 60), length)[:60].astype(dtype)).view(6, 10)
        for length, dtype in ((5, np.int32), (4, np.int32), (3, np.uint8))
    )
    monkeypatch.setattr(module, "_runs_on_cpu", find_runs)
    for other, runs in zip((first, second), joint_runs(rows, first, second), strict=True):
        np.testing.assert_array_equal(runs.areas([0, 2], [3, 1]).numpy(), naive(rows, other, [0, 2], [3, 1]))


def test_ids_beyond_32_bits():
    # Oracle: naive loop; two ids that are one in their lower 32 bits, where runs are found as on a device.
    rows = torch.tensor([[5, 5, 5 + 2**32, 5]])
    columns = torch.tensor([[1, 1, 1, 2]], dtype=torch.int32)
    values, _, lengths = _runs_on_device(rows.flatten(), columns.flatten())
    assert (values.tolist(), lengths.tolist()) == ([5, 5 + 2**32, 5], [2, 1, 1])


@pytest.mark.gpu
def test_device_counts_what_the_cpu_counts():
    # Oracle: the CPU path.
    rng = np.random.default_rng(2)
    rows = torch.from_numpy(np.repeat(rng.integers(0, 9, (50, 16)), 8, axis=1).astype(np.int32))
    columns = torch.from_numpy(np.repeat(rng.integers(0, 9, (50, 32)), 4, axis=1).astype(np.int32))
    expected = joint_areas(rows, columns, list(range(8)), [8, 3, 0])
    got = joint_areas(rows.cuda(), columns.cuda(), list(range(8)), [8, 3, 0])
    assert got.device.type == "cpu"
    assert torch.equal(got, expected)


@pytest.mark.gpu
def test_a_map_on_the_host_goes_to_the_others():
    # Oracle: the CPU path; ground truth stays on the host.
    rng = np.random.default_rng(6)
    rows, columns = (torch.from_numpy(rng.integers(0, 3, (20, 30)).astype(np.int32)) for _ in range(2))
    expected = joint_areas(rows, columns, [0, 1], [2, 0])
    assert torch.equal(joint_areas(rows.pin_memory(), columns.cuda(), [0, 1], [2, 0]), expected)
    assert torch.equal(joint_areas(rows.cuda(), columns, [0, 1], [2, 0]), expected)
