"""Train, evaluate and run a panoptic network: ``python train_net.py [fit | validate | test | predict] [options]``.

Without any argument it trains what ``config.yaml`` describes. Every value of the configuration is an option as well,
for instance ``--data.root path/to/cityscapes`` or ``--model.network.instance_head=SOLOv2Head``.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

import efficientps.backbones
import efficientps.data.sources.coco_panoptic
import efficientps.networks.detr
import efficientps.networks.efficientps  # noqa: F401 - a configuration can name their classes without a module
from efficientps.cli.device_errors import check_bfloat16, explain_device, unused_gpu
from efficientps.cli.errors import explain
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.cityscapes import CityscapesDataModule
from efficientps.training.callbacks.cudnn_autotuning import CudnnAutotuning
from efficientps.training.callbacks.evaluation_report import EvaluationReport
from efficientps.training.callbacks.html_report import HtmlReport
from efficientps.training.callbacks.non_finite import NonFiniteGuard
from efficientps.training.callbacks.overlays import ValidationOverlays
from efficientps.training.callbacks.predictions import PredictionWriter
from efficientps.training.callbacks.throughput import ThroughputMonitor
from efficientps.training.checkpoints.best import BestCheckpoints
from efficientps.training.checkpoints.last import LastCheckpoint
from efficientps.training.checkpoints.random_states import RandomStates
from efficientps.training.checkpoints.read import check_checkpoint, read_checkpoint
from efficientps.training.checkpoints.resolve import CHECKPOINT_NAME, resolve_checkpoint
from efficientps.training.checkpoints.write import AtomicCheckpointIO
from efficientps.training.module import PanopticModule
from efficientps.training.run_files import RunConfig, run_loggers

DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "config.yaml"

SHARDING_STRATEGIES = ("fsdp", "deepspeed", "model_parallel")
"""Strategies of Lightning that are refused."""


class PanopticCLI(LightningCLI):
    """The command line: options of module, data, trainer and callbacks, by their constructors."""

    def init_parser(self, **kwargs: object) -> LightningArgumentParser:
        """Let errors be raised, to be explained in one sentence; and take no option for the beginning of another."""
        return super().init_parser(exit_on_error=False, allow_abbrev=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks, and tell the module what the data knows."""
        parser.add_lightning_class_args(BestCheckpoints, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(NonFiniteGuard, "non_finite")
        parser.add_lightning_class_args(EvaluationReport, "report")
        parser.add_lightning_class_args(ValidationOverlays, "overlays")
        parser.add_lightning_class_args(HtmlReport, "html_report")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/PQ",
                "checkpoint.mode": "max",
                "checkpoint.save_top_k": 2,
                "checkpoint.filename": CHECKPOINT_NAME,
                "checkpoint.auto_insert_metric_name": False,
                "data": {"class_path": CityscapesDataModule.__name__},
            }
        )
        parser.link_arguments("data.categories", "model.categories", apply_on="instantiate")
        parser.link_arguments("data.batch_size", "model.batch_size", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Leave out the arguments of the trainer's methods that have one right value here."""
        fixed = {"model", "datamodule", "weights_only", "verbose", "return_predictions"}
        return {
            "fit": fixed | {"train_dataloaders", "val_dataloaders"},
            "validate": fixed | {"dataloaders"},
            "test": fixed | {"dataloaders"},
            "predict": fixed | {"dataloaders"},
        }

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, without the base class's warning about a program that has a command line of its own."""
        self.config = parser.parse_args(args) if isinstance(args, list) else parser.parse_object(args)

    def _parse_ckpt_path(self) -> None:
        """Do not take over configuration from inside a checkpoint, as the base class does: it is an untrusted file."""

    def instantiate_classes(self) -> None:
        """Build what the configuration describes; what a constructor chokes on is a value of the configuration."""
        try:
            super().instantiate_classes()
        except (RuntimeError, TypeError, ArithmeticError) as error:
            if explain_device(error):
                raise
            first_line = str(error).partition("\n")[0]
            raise ValueError(
                f"What the configuration describes cannot be built: {first_line}; --debug shows where."
            ) from error

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        """Add the loggers and the progress bar of the run; leave out the checkpoint callback where none is wanted.

        What was not chosen and depends on the device is decided here: cuDNN's autotuning.
        """
        settings = self.config_init[self.subcommand].trainer
        if str(settings.strategy).startswith(SHARDING_STRATEGIES):
            raise ValueError(
                f"trainer.strategy is {settings.strategy}, which shards weights over GPUs: here they take 0.2 GB, and "
                "what fills a GPU are activations, which it does not shard. Use ddp, and "
                "model.network.activation_checkpointing where memory is short."
            )
        if settings.logger in (None, True) and not settings.fast_dev_run:
            kwargs["logger"] = run_loggers(settings.default_root_dir)
        callbacks: list[pl.Callback] = []
        if settings.enable_progress_bar is not False:
            # Painted at every step, it would cost a tenth of the time of a small network on a CPU.
            callbacks.append(RichProgressBar(refresh_rate=settings.log_every_n_steps or 10))
        if settings.benchmark is None and not settings.deterministic:
            callbacks.append(CudnnAutotuning())
        kwargs["callbacks"] = [*(settings.callbacks or []), *callbacks]
        if settings.enable_checkpointing is False or settings.fast_dev_run:
            for key in ("checkpoint", "last_checkpoint"):
                self._parser(self.subcommand).callback_keys.remove(key)
        kwargs["plugins"] = [*_as_list(settings.plugins), AtomicCheckpointIO()]
        trainer = super().instantiate_trainer(**kwargs)
        check_bfloat16(trainer)
        if str(settings.accelerator) == "auto" and trainer.strategy.root_device.type == "cpu":
            if sentence := unused_gpu():
                print(sentence, file=sys.stderr)
        return trainer

    def fit(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Train, from the start or from a checkpoint."""
        path = self._resolve(ckpt_path)
        if ckpt_path == "last" and path is None:
            print(f"There is no last.ckpt below {self.trainer.default_root_dir} yet: training from the start.")
        try:
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
        except Exception as error:
            if self.trainer.is_global_zero and explain_device(error):
                print(self._what_is_kept(path), file=sys.stderr)
            raise

    def _what_is_kept(self, resumed: Path | None) -> str:
        """Return what of the run survives an error, as one sentence."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined] # set outside the class
            if isinstance(callback, LastCheckpoint) and callback.path.is_file():
                steps = read_checkpoint(callback.path)["global_step"]
                return f"{callback.path} holds the run up to step {steps}; --ckpt_path last goes on from there."
        return f"This run had written no checkpoint yet{f'; {resumed} is as it was' if resumed else ''}."

    def validate(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Evaluate on the validation images."""
        path = self._resolve(ckpt_path, needed=True)
        self.trainer.validate(model, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True)

    def test(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Evaluate on the test images."""
        path = self._resolve(ckpt_path, needed=True)
        self.trainer.test(model, datamodule=datamodule, ckpt_path=path, verbose=False, weights_only=True)

    def predict(self, model: PanopticModule, datamodule: pl.LightningDataModule, ckpt_path: str | None) -> None:
        """Predict on images and write the results; nothing is kept in memory."""
        path = self._resolve(ckpt_path, needed=True)
        if path is None and model.init_from is None:
            print("Neither --ckpt_path nor --model.init_from is given: predicting with an untrained network.")
        self.trainer.predict(model, datamodule=datamodule, ckpt_path=path, return_predictions=False, weights_only=True)

    def _resolve(self, ckpt_path: str | None, *, needed: bool = False) -> Path | None:
        """Find and check the checkpoint before anything is set up, so that a bad one leaves no traces."""
        if ckpt_path is None:
            return None
        root = self.trainer.default_root_dir
        path = resolve_checkpoint(str(ckpt_path), root)
        if path is None and needed:
            raise FileNotFoundError(f"--ckpt_path {ckpt_path}: there is no such checkpoint below {root}.")
        if path is not None:
            check_checkpoint(path, resume=self.subcommand == "fit")
        return path


def with_default_config(arguments: Sequence[str]) -> list[str]:
    """Complete a command line: without a subcommand it means ``fit``, and without ``--config`` a default one is taken.

    The default is the configuration of the run that the checkpoint in ``--ckpt_path`` comes from, if it lies beside
    it, otherwise the project's ``config.yaml``. Configurations go first, so that every option overrides them.

    >>> with_default_config(["validate", "--data.root", "here", "--config", "a.yaml"])
    ['validate', '--config', 'a.yaml', '--data.root', 'here']
    """
    arguments = list(arguments)
    if arguments and arguments[0] in ("-h", "--help"):
        return arguments
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, "fit")
    subcommand, *options = arguments
    configs: list[str] = []
    others: list[str] = []
    while options:
        option = options.pop(0)
        if option in ("-c", "--config") and options:
            configs += ["--config", options.pop(0)]
        else:
            (configs if option.startswith("--config=") else others).append(option)
    return [subcommand, *(configs or ["--config", str(_run_config(others) or DEFAULT_CONFIG)]), *others]


def _run_config(arguments: Sequence[str]) -> Path | None:
    """Return the configuration beside the checkpoint of a command line, if there is one."""
    for index, option in enumerate(arguments):
        if option.startswith("--ckpt_path"):
            checkpoint = Path(option.partition("=")[2] or "".join(arguments[index + 1 : index + 2]))
            for folder in (checkpoint.parent, checkpoint.parent.parent):
                if checkpoint.is_file() and (folder / "config.yaml").is_file():
                    print(f"Taking the configuration of that run, {folder / 'config.yaml'}.")
                    return folder / "config.yaml"
    return None


def _as_list(plugins: Any) -> list[Any]:
    return list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins else []


def _silence_what_says_nothing() -> None:
    for message in (
        "Experiment logs directory .* exists and is not empty",  # two loggers share the folder of a run
        "You're resuming from a checkpoint that ended before the epoch ended",  # the data module goes on exactly
        "Detected call of `lr_scheduler.step",  # a first step that overflows 16 bits is left out, and counts
        r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # Lightning's own code
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()


def main(args: ArgsType = None) -> PanopticCLI | int:
    """Run a command line.

    Args:
        args: words of the command line; ``None`` takes the program's own.

    Returns:
        What has run, with its ``trainer``, ``model`` and ``datamodule``; or a non-zero exit code after one sentence on
        stderr. The option ``--debug``, or the environment variable ``EFFICIENTPS_DEBUG=1``, raises the error instead.
    """
    debug = os.environ.get("EFFICIENTPS_DEBUG", "0") not in ("", "0")
    if args is None or isinstance(args, list):
        arguments = sys.argv[1:] if args is None else args
        debug = debug or "--debug" in arguments
        args = with_default_config([argument for argument in arguments if argument != "--debug"])
    _silence_what_says_nothing()
    torch.set_float32_matmul_precision("high")  # TF32 on CUDA under 32-true: fine for training, not for comparisons
    try:
        return PanopticCLI(
            PanopticModule,
            PanopticDataModule,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            trainer_defaults={
                "callbacks": [ThroughputMonitor(), RandomStates()],
                "default_root_dir": "runs",
                "use_distributed_sampler": False,  # the data module shards, so that no image is counted twice
                "log_every_n_steps": 10,
            },
            parser_kwargs={"description": "Train, evaluate and run a panoptic network."},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except Exception as error:
        sentence = explain(error)
        if debug or sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1


def run() -> int:
    """Run the program's own command line; return its exit code."""
    outcome = main()
    return outcome if isinstance(outcome, int) else 0
