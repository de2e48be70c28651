"""Train both steps of a small DETR on eight images until it knows them, and check what the steps promise.

    python tests/acceptance/detr_overfit.py             in a temporary folder
    python tests/acceptance/detr_overfit.py FOLDER      and keep the data, the runs and their pictures

The first step learns the boxes of things and stuff of eight construction yards from random weights, the second the
masks on the frozen detector. The exit code is that of success only if box AP is at least 0.5 after the first step, PQ
at least 40 after the second, and every bit of the detector is in the second checkpoint as it was in the first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.small_networks import small_detr_arguments  # noqa: E402
from efficientps.cli.train import main as train_net  # noqa: E402
from efficientps.synthetic.yards import write_synthetic_yard  # noqa: E402
from efficientps.training.checkpoints.read import read_checkpoint  # noqa: E402

BOX_AP, PQ = 0.5, 0.4
IMAGES = 8
EPOCHS = {"detector": 300, "masks": 1000}  # of two batches


def settings(step: str, data: Path, runs: Path) -> dict[str, Any]:
    """Return what differs from the step's configuration."""
    annotated = {"images": "images", "annotations": "panoptic.json", "maps": "panoptic"}
    return {
        "model": {
            "network": {
                "class_path": "DETRPanoptic",
                "init_args": {"step": step, **small_detr_arguments(num_queries=40)},
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "weight_decay": 1e-4}},
            "schedule": {"class_path": "WarmupDecay", "init_args": {"warmup_iterations": 50}},
        },
        "data": {
            "class_path": "CocoPanopticDataModule",
            "init_args": {
                "root": str(data),
                "train": annotated,
                "val": annotated,
                "image_size": [256, 256],
                "scale_range": [1, 1],
                "flip_prob": 0.0,
                "batch_size": 4,
                "num_workers": 0,
            },
        },
        "trainer": {
            "accelerator": "auto",
            "devices": 1,
            "max_epochs": EPOCHS[step],
            "check_val_every_n_epoch": EPOCHS[step],
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 20,
            "gradient_clip_val": 1,
            "default_root_dir": str(runs / step),
        },
    }


def fit(step: str, data: Path, runs: Path, *options: str) -> tuple[dict[str, float], dict[str, torch.Tensor], Path]:
    """Train a step; returns the figures of its last validation, its weights and its last checkpoint."""
    changes = runs / f"{step}.yaml"
    changes.write_text(yaml.safe_dump(settings(step, data, runs)))
    base = ROOT / f"configs/detr_panoptic_{step}.yaml"
    cli = train_net(["fit", "--config", str(base), "--config", str(changes), *options])
    if isinstance(cli, int):
        raise RuntimeError(f"The step '{step}' ended with exit code {cli}; its last line says why.")
    (last,) = (runs / step).rglob("last.ckpt")
    figures = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    return figures, read_checkpoint(last)["state_dict"], last


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="for data, runs and pictures; must not exist yet")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "detr"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            reason = f"'{folder}' cannot be made ({error.strerror}); name a folder that does not exist yet."
            print(f"error: {reason}", file=sys.stderr)
            return 1
        for _ in write_synthetic_yard(folder / "yard", num_images=IMAGES, size=256):
            pass
        boxes, before, detector = fit("detector", folder / "yard", folder)
        masks, after, _ = fit("masks", folder / "yard", folder, "--model.init_from", str(detector))
    changed = [key for key, tensor in before.items() if not torch.equal(tensor, after[key])]
    trained = sum(tensor.numel() for key, tensor in after.items() if key not in before)
    print(f"detector: box AP {boxes['val/box_AP']:.3f} (at least {BOX_AP})")
    pq, things, stuff = (100 * masks[f"val/{name}"] for name in ("PQ", "PQ_things", "PQ_stuff"))
    print(f"masks:    PQ {pq:.1f} (at least {100 * PQ:.0f}), things {things:.1f}, stuff {stuff:.1f}")
    print(f"          {trained} new numbers; {len(changed)} of the detector's {len(before)} tensors changed")
    return 0 if boxes["val/box_AP"] >= BOX_AP and masks["val/PQ"] >= PQ and not changed else 1


if __name__ == "__main__":
    sys.exit(main())
