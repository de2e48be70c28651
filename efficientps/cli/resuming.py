"""Compare the configuration of a run with the one that a command line gives, before the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from efficientps.cli.arguments import CHECKPOINTS, CONFIG
from efficientps.data.hidden_files import visible
from efficientps.training.checkpoints.resolve import newest_first

FREE = (
    *("ckpt_path", "config", "checkpoint", "last_checkpoint", "non_finite", "report", "overlays", "html_report"),
    *("predictions", "data.root", "data.cache", "data.predict_path", "data.num_workers", "data.eval_batch_size"),
    *("data.on_bad_sample", "data.max_bad_samples", "trainer.accelerator", "trainer.strategy", "trainer.devices"),
    *("trainer.num_nodes", "trainer.logger", "trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps"),
    *("trainer.min_steps", "trainer.max_time", "trainer.fast_dev_run", "trainer.limit_test_batches"),
    *("trainer.limit_predict_batches", "trainer.num_sanity_val_steps", "trainer.log_every_n_steps"),
    *("trainer.enable_checkpointing", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.benchmark", "trainer.inference_mode", "trainer.profiler", "trainer.detect_anomaly"),
    *("trainer.default_root_dir", "trainer.enable_autolog_hparams", "trainer.model_registry", "model.inference_copy"),
)
"""Keys, or sections, that do not tell one run from another: length, devices, workers, logging and paths."""

FIXED = (
    *("model.optimizer", "model.schedule", "model.scale_lr", "model.weight_decay_norms", "model.backbone_lr_factor"),
    *(
        "model.schedule_interval",
        "model.backbone_layer_decay",
        "model.network.backbone.frozen_stages",
        "model.network.backbone.frozen_norms",
    ),
    *("data.batch_size", "trainer.accumulate_grad_batches", "seed_everything"),
)
"""Keys, or sections, that cannot change when a run goes on: its checkpoints hold the optimizer's groups and rates, and
the seed decides which images of the epoch are left."""

_IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
"""Arguments of torch's optimizers that choose how a step is computed, and not what."""

_STARTING_WEIGHTS = ("model.init_from", "model.network.backbone.weights")
"""Files that a resumed run does not read; whether one was given tells two runs apart, its path does not."""

_PASSING_CALLBACKS = (
    "EarlyStopping",
    "Timer",
    "Monitor",
    "ProgressBar",
    "ProgressLines",
    "Summary",
    "LearningRateFinder",
)
"""Ends of the names of callbacks about length and logging."""


class Difference(NamedTuple):
    """A value that differs between a run and a command line."""

    key: str
    saved: object
    given: object

    def __str__(self) -> str:
        """Say what the run has and what is given."""
        return f"{self.key} is {_shown(self.saved)} there and {_shown(self.given)} here"


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def flat(configuration: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return every value of a configuration by its dotted key.

    >>> flat({"model": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}}})
    {'model.optimizer': 'torch.optim.SGD', 'model.optimizer.lr': 0.1}
    """
    values: dict[str, object] = {}
    for name, value in configuration.items():
        key = prefix if name in ("class_path", "init_args") else f"{prefix}.{name}" if prefix else str(name)
        values |= flat(value, key) if isinstance(value, Mapping) and value else {key: _without_nulls(value)}
    return values


def _without_nulls(value: Any) -> Any:
    """Leave keys that are null out of the mappings in a list: whether they are written does not matter."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def differences(saved: Mapping[str, Any], given: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between the configurations of two runs, apart from what ``FREE`` names.

    A key that is left out is null.

    >>> first = {"data": {"batch_size": 2, "num_workers": 0}}
    >>> [str(found) for found in differences(first, {"data": {"batch_size": 4, "num_workers": 8}})]
    ['data.batch_size is 2 there and 4 here']
    >>> written = {"class_path": "Averaging", "init_args": {"decay": 0.9, "device": None}}
    >>> parsed = {"class_path": "Averaging", "init_args": {"decay": 0.9}}
    >>> differences({"trainer": {"callbacks": [written]}}, {"trainer": {"callbacks": [parsed]}})
    []
    """
    before, now = _telling(flat(saved)), _telling(flat(given))
    keys = [key for key in {**now, **before} if not _is_in(key, FREE)]
    pairs = [Difference(key, before.get(key), now.get(key)) for key in keys]
    return [pair for pair in pairs if pair.saved != pair.given]


def fixed(found: Iterable[Difference]) -> list[Difference]:
    """Return those differences that a checkpoint cannot follow."""
    return [pair for pair in found if _is_in(pair.key, FIXED)]


def _telling(values: dict[str, object]) -> dict[str, object]:
    """Leave out what does not tell two runs apart inside of values that are compared as a whole."""
    values = {key: value for key, value in values.items() if key.rpartition(".")[2] not in _IMPLEMENTATION}
    for key in _STARTING_WEIGHTS:
        if key in values:
            values[key] = "a file" if values[key] else None
    callbacks = values.get("trainer.callbacks")
    entries = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    kept = [entry for entry in entries if not _name_of(entry).endswith(_PASSING_CALLBACKS)]
    values["trainer.callbacks"] = kept or None
    return values


def _name_of(entry: Any) -> str:
    return str(entry.get("class_path", "")) if isinstance(entry, Mapping) else str(entry)


def _is_in(key: str, sections: Iterable[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def read_run(checkpoint: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the folder of the run that wrote a checkpoint, and its configuration; None if there is none beside it."""
    for folder in (checkpoint.parent.parent, checkpoint.parent):
        try:
            content = yaml.safe_load((folder / CONFIG).read_text())
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(content, dict):
            return folder, content
    return None


class Resumption:
    """Knows which runs a command line can go on.

    Args:
        given: the configuration of the command line.
        normalize: gives an older configuration the keys and class paths of today; raises what the parser raises.
    """

    def __init__(self, given: Mapping[str, Any], normalize: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Store both."""
        self.given = given
        self._normalize = normalize
        self._known: dict[Path, list[Difference]] = {}

    def differences(self, checkpoint: Path) -> list[Difference]:
        """Return what differs from the run that wrote a checkpoint; nothing where it has no configuration beside it."""
        run = read_run(checkpoint)
        if run is None:
            return []
        folder, saved = run
        if folder not in self._known:
            found = differences(saved, self.given)
            if any(None in pair or _are_classes(pair) for pair in found):  # perhaps of an older edition
                try:
                    found = differences(self._normalize(saved), self.given)
                except Exception:  # of the parser, whose types of errors are many
                    pass  # a configuration that only another edition can read differs
            self._known[folder] = found
        return self._known[folder]

    def fits(self, checkpoint: Path) -> bool:
        """Return whether the run that wrote a checkpoint has this configuration."""
        return not self.differences(checkpoint)

    def has_this_model(self, checkpoint: Path) -> bool:
        """Return whether the run that wrote a checkpoint trained the model of this configuration."""
        return not any(_is_in(pair.key, ("model",)) for pair in self.differences(checkpoint))

    def without_checkpoint(self, root: str | Path) -> Path | None:
        """Return the newest folder of a training with this configuration that stopped before its first checkpoint."""
        folders = [path.parent for path in Path(root).rglob(CHECKPOINTS) if (path.parent / CONFIG).is_file()]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
            if not any(visible(folder.rglob("*.ckpt"), folder)) and self.fits(folder / CHECKPOINTS / "last.ckpt"):
                return folder
        return None

    def beginning(self, root: str | Path, begun: Path | None) -> str:
        """Say why no run goes on, without a full stop.

        Args:
            root: the folder of the runs.
            begun: the one below it that ``without_checkpoint`` gives.
        """
        if begun is not None:
            return f"The run {begun} stopped before its first checkpoint and begins again in its folder"
        others = newest_first(root)
        return self._comparison(others[0], root) if others else f"There is no last.ckpt below {root} yet"

    def _comparison(self, newest: Path, root: str | Path) -> str:
        run = read_run(newest)
        return (
            f"No run below {root} has this configuration. In the newest one, {run[0] if run else newest.parent}, "
            f"{_listed(self.differences(newest))}"
        )

    def refusal(self, newest: Path, root: str | Path) -> str:
        """Say why no run below the root can go on, and the ways out."""
        return (
            f"--ckpt_path last: {self._comparison(newest, root)}. Give its values back to go on with it; or start a "
            "new run, with --ckpt_path auto or without it, or from its weights with "
            f"--model.init_from={newest}; or name its file, --ckpt_path {newest}, for changes that a run can take."
        )

    def check(self, checkpoint: Path) -> None:
        """Refuse what cannot change when a checkpoint is resumed.

        Raises:
            ValueError: the run that wrote it has another optimizer, schedule, batch size or parameter groups.
        """
        if found := fixed(self.differences(checkpoint)):
            raise ValueError(
                f"A run cannot go on from {checkpoint} with these changes: {_listed(found)}. Give its values back, or "
                f"start a new run from its weights with --model.init_from={checkpoint}."
            )


def _are_classes(pair: Difference) -> bool:
    return any(isinstance(value, str) and "." in value for value in (pair.saved, pair.given))


def _listed(found: list[Difference], most: int = 3) -> str:
    more = f", and {len(found) - most} more keys differ" if len(found) > most + 1 else ""
    return ", ".join(map(str, found[: most if more else most + 1])) + more
