"""Writes procedural scenes as a genuine Cityscapes tree, with the official panoptic conversion."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

from efficientps.atomic_file import write_text
from efficientps.data.tools.in_order import in_order
from efficientps.synthetic.streets.camera import Array
from efficientps.synthetic.streets.scene import MIN_SIZE, render_scene

MARKER = "synthetic.json"
"""File in the root of a tree that records the arguments of the tree and whether it is finished."""

GENERATOR_VERSION = 3
"""Version of the scenes; increase it when a seed gives other scenes, so that older trees are written again."""

CITIES: dict[str, tuple[str, ...]] = {"train": ("ashford", "birkenau", "cloverfield"), "val": ("dunmore",)}
"""Invented cities of each split; apart from city names and seeds, the splits do not differ."""


def write_synthetic_cityscapes(
    root: Path,
    *,
    num_train: int = 240,
    num_val: int = 60,
    size: tuple[int, int] = (256, 512),
    seed: int = 0,
    num_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``root/leftImg8bit`` and ``root/gtFine`` as in Cityscapes, converted to the panoptic format.

    The files depend on the arguments only, not on the number of workers. If the folder holds a finished tree of the
    given arguments, nothing is written; a tree of other arguments, or an interrupted one, is written again.

    Args:
        root: directory of the tree; is created.
        num_train: scenes in the split ``train``.
        num_val: scenes in the split ``val``.
        size: (height, width) of the images, pixels.
        seed: seed of the whole data set.
        num_workers: processes; None is one per CPU core, 0 or 1 works in this process.
        progress: called with (scenes done, scenes in all).

    Raises:
        ValueError: if the root holds something else, or an argument is out of range.
    """
    root = Path(root)
    recipe = {
        "generator": GENERATOR_VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "size": list(size),
        "seed": seed,
    }
    _check(num_train, num_val, size, seed)
    made = _read_marker(root)
    if made == {**recipe, "finished": True}:
        return
    if made is None and root.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise ValueError(
            f"{root} is not empty and was not written by this generator (no {MARKER}): "
            "choose another directory for the synthetic scenes"
        )
    for name in ("leftImg8bit", "gtFine"):
        shutil.rmtree(root / name, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    _write_marker(root, {**recipe, "finished": False})
    jobs = [(split, index) for split, count in (("train", num_train), ("val", num_val)) for index in range(count)]
    for split, count in (("train", num_train), ("val", num_val)):
        for city in CITIES[split] if count else ():
            (root / "leftImg8bit" / split / city).mkdir(parents=True, exist_ok=True)
            (root / "gtFine" / split / city).mkdir(parents=True, exist_ok=True)
    _run(partial(_write_scene, root, size, seed), jobs, num_workers, progress or (lambda done, total: None))
    splits = [split for split, count in (("train", num_train), ("val", num_val)) if count]
    with contextlib.redirect_stdout(io.StringIO()):
        convert2panoptic(cityscapesPath=str(root / "gtFine"), setNames=splits)
    _write_marker(root, {**recipe, "finished": True})


def _check(num_train: int, num_val: int, size: tuple[int, int], seed: int) -> None:
    if num_train < 0 or num_val < 0 or num_train + num_val == 0:
        raise ValueError(
            f"the numbers of scenes must not be negative nor both 0, but are {num_train} (train) and {num_val} (val)"
        )
    if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1]:
        raise ValueError(
            f"a synthetic scene must be at least {MIN_SIZE[0]} × {MIN_SIZE[1]} pixels, not {size[0]} × {size[1]}"
        )
    if seed < 0:
        raise ValueError(f"the seed of the synthetic scenes must not be negative, but is {seed}")


def _run(
    write: partial[None],
    jobs: list[tuple[str, int]],
    num_workers: int | None,
    progress: Callable[[int, int], None],
) -> None:
    workers = _cpu_count() if num_workers is None else num_workers
    work = partial(_on_one_thread, write) if min(workers, len(jobs)) > 1 else write
    with closing(in_order(work, jobs, workers=workers, writes=True)) as written:
        for done, _ in enumerate(written, start=1):
            progress(done, len(jobs))


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_one_thread(write: partial[None], job: tuple[str, int]) -> None:
    """Write a scene in a process that is limited to one thread, so that processes do not compete for cores."""
    cv2.setNumThreads(1)
    write(job)


def _write_scene(root: Path, size: tuple[int, int], seed: int, job: tuple[str, int]) -> None:
    split, index = job
    scene = render_scene(scene_seed(seed, split, index), size)
    cities = CITIES[split]
    city = cities[index % len(cities)]
    stem = f"{city}_{index // len(cities):06d}_000019"
    _write_png(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", scene.image[..., ::-1])
    _write_png(root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png", scene.instance_ids)
    _write_png(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", scene.label_ids)


def scene_seed(seed: int, split: str, index: int) -> int:
    """Return the seed of one scene of a data set; 64 bits, different for each split and index."""
    state = np.random.SeedSequence([seed, list(CITIES).index(split), index]).generate_state(2, np.uint64)
    return int(state[0])


def _write_png(path: Path, array: Array) -> None:
    if not cv2.imwrite(str(path), array, [cv2.IMWRITE_PNG_COMPRESSION, 2]):
        raise OSError(f"could not write {path}: check the permissions and the free space there")


def _read_marker(root: Path) -> dict[str, object] | None:
    try:
        made = json.loads((root / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return made if isinstance(made, dict) else None


def _write_marker(root: Path, content: dict[str, object]) -> None:
    write_text(root / MARKER, json.dumps(content, indent=2) + "\n")
