"""Objects of two processes meet in both. Oracle: hand-worked, in the order of ranks."""

import pytest
import torch.distributed
import torch.multiprocessing

from efficientps.training.gathering import gather, gather_items


def gather_in_process(rank, folder):
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    assert gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert gather_items(["first", "second"] if rank == 0 else ()) == ["first", "second"]
    (folder / str(rank)).touch()
    torch.distributed.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(gather_in_process, (tmp_path,), nprocs=2)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()
